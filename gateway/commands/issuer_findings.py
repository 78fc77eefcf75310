"""Whom the gateway trusts, examined: the policy's weak spots, and whether each issuer's keys can be had now."""

import asyncio
from collections.abc import Iterator

from gateway.admission import configured_issuers, configured_policy, fixed_keys
from gateway.commands.findings import Finding, Mark, attempt, broken, doubtful, good
from gateway.errors import SettingsError
from gateway.identity.discovery import discover_jwks_uri
from gateway.identity.fetching import FetchError, HttpsReader
from gateway.identity.issue import is_development_issuer
from gateway.identity.keysets import KeySet, load_remote_keyset
from gateway.identity.policy_file import IssuerConfig
from gateway.settings import GatewaySettings


def issuer_findings(settings: GatewaySettings) -> Iterator[Finding]:
    """Each warning about the policy, and each issuer with its usable keys; fetched ones are fetched once."""
    try:
        warnings, configs = configured_policy(settings).warnings, configured_issuers(settings)
    except SettingsError as exc:
        yield broken("policy", exc)
        return
    for warning in warnings:
        yield doubtful("policy", warning)
    for config in configs:
        if is_development_issuer(config.issuer):
            yield doubtful(
                config.issuer, "is a development issuer: no production gateway trusts it"
            )
        yield from _keys(config, settings)


def _keys(config: IssuerConfig, settings: GatewaySettings) -> Iterator[Finding]:
    if config.jwks_file is not None:
        found = attempt(config.issuer, lambda: fixed_keys(config, settings).current())
        yield found if isinstance(found, Finding) else _usable(config, found)
        return
    try:
        keyset, left_out = load_remote_keyset(asyncio.run(_fetch(config)))
    except FetchError as exc:
        said = f"its keys cannot be fetched: {exc.message}; until they are, its tokens are refused"
        yield Finding(config.issuer, Mark.BROKEN, said)
    except SettingsError as exc:
        yield broken(config.issuer, exc)
    else:
        yield _usable(config, keyset)
        for key in left_out:
            yield doubtful(config.issuer, f"a key is left out: {key.cause_and_fix}")


async def _fetch(config: IssuerConfig) -> bytes:
    reader = HttpsReader(ca_file=config.ca_file)
    try:
        url = config.jwks_url or await discover_jwks_uri(reader, issuer=config.issuer)
        return await reader.get(url)
    finally:
        await reader.aclose()


def _usable(config: IssuerConfig, keyset: KeySet) -> Finding:
    return good(config.issuer, f"trusted for {config.audience!r}, keys {', '.join(keyset.keys)}")
