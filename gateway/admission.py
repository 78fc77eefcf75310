"""Builds the door from the settings: who is trusted, what they may do, how much, and whose tokens are denied.

Rules: whatever is missing or wrong ends the start with a message that names the fix. The deny list is read before this
returns; keys that are fetched come later, and until then the gateway is not ready.
"""

import asyncio
import hashlib
import logging
import os
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from gateway.errors import Code, IdentityUnavailableError, SettingsError
from gateway.identity.access import Access
from gateway.identity.authenticate import Authenticator
from gateway.identity.cache import ProvenTokens, TokenCache
from gateway.identity.deny_list import DenyList
from gateway.identity.dpop import DpopVerifier
from gateway.identity.issue import is_development_issuer
from gateway.identity.key_sources import FixedKeys, KeySource
from gateway.identity.keysets import MAX_KEYSET_BYTES, KeySet, load_keyset
from gateway.identity.policy_file import IssuerConfig, PolicyFile, read_policy
from gateway.identity.quota_limits import PrincipalLimits, QuotaPlan, parse_rate
from gateway.identity.quotas import Quotas, open_quotas
from gateway.identity.roles import ClaimMapping, roles_of
from gateway.identity.suppression import Suppression
from gateway.identity.tokens import MAX_CLOCK_SKEW_SECONDS, TrustedIssuer
from gateway.metrics import GatewayMetrics
from gateway.sealing.public_files import why_changeable, why_replaceable
from gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from gateway.identity.remote_keys import RemoteKeys

log = logging.getLogger(__name__)

MAX_POLICY_BYTES = 1 << 20
MAX_PROVEN_TOKENS = 65_536
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104  (what is warned of)
# Makes an issuer's keys durable in the ledger: its name, and the digest of each key by its id.
RecordKeys = Callable[[str, Mapping[str, str]], Awaitable[None]]
_ISSUER_SETTINGS = ("issuer", "audience", "jwks_file", "jwks_url", "jwks_ca_file")


@dataclass(frozen=True, slots=True)
class Door:
    """What guards the gateway, and what keeps it up to date.

    file_keys: by issuer, the digests of those that were read from a file. policy_sha256: of the policy file, None
    without one.
    """

    access: Access
    issuers: tuple[str, ...]
    remote_keys: tuple["RemoteKeys", ...]
    deny_list: DenyList
    quotas: Quotas
    file_keys: Mapping[str, Mapping[str, str]]
    policy_sha256: str | None

    def is_ready(self) -> bool:
        """Whether the keys of every issuer are known, and none so old that its tokens are refused."""
        try:
            for keys in self.remote_keys:
                keys.current()
        except IdentityUnavailableError:
            return False
        return True

    async def run(self) -> None:
        """Keep keys and deny list fresh until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.deny_list.run())
            for keys in self.remote_keys:
                tasks.create_task(keys.run())


def build_door(
    settings: GatewaySettings,
    *,
    public_url: str,
    store: Engine,
    metrics: GatewayMetrics,
    clock: Callable[[], datetime],
    record_keys: RecordKeys,
) -> Door:
    """The door that the settings describe. public_url: the origin that callers use.

    record_keys: called before fetched keys are used; for those in files the caller does it.

    Raises SettingsError for a wrong file or contradicting settings, OperatorError if the deny list cannot be read.
    """
    policy, policy_sha256 = _policy_and_digest(settings)
    cache = TokenCache(max_entries=settings.token_cache_entries)
    configs = policy.issuers or (_issuer_of_settings(settings),)
    _warn(policy, configs, settings)
    remote = {
        config.issuer: _remote_keys(
            config, settings, record=record_keys, on_change=cache.clear, metrics=metrics
        )
        for config in configs
        if config.jwks_file is None
    }
    trusted = {
        config.issuer: _trusted(config, settings, remote.get(config.issuer)) for config in configs
    }
    deny_list = DenyList(
        engine=store,
        clock=clock,
        max_age_seconds=settings.deny_list_max_age_seconds,
        on_change=cache.clear,
    )
    deny_list.load()
    plan = quota_plan(settings)
    quotas = open_quotas(plan, engine=store, on_store_failure=metrics.quota_store_failures.inc)
    _start_gauges(metrics, deny_list, remote)
    return Door(
        access=Access(
            authenticator=Authenticator(
                issuers=trusted,
                cache=cache,
                proven=ProvenTokens(max_entries=MAX_PROVEN_TOKENS),
                deny_list=deny_list,
                dpop=DpopVerifier(public_url=public_url, random=os.urandom),
            ),
            policy=policy.policy,
            quotas=quotas,
            usual_limits=plan.principal,
            suppression=Suppression(),
        ),
        issuers=tuple(trusted),
        remote_keys=tuple(remote.values()),
        deny_list=deny_list,
        quotas=quotas,
        file_keys=_digests_of_files(trusted, remote),
        policy_sha256=policy_sha256,
    )


def _digests_of_files(
    trusted: Mapping[str, TrustedIssuer], remote: Mapping[str, "RemoteKeys"]
) -> dict[str, Mapping[str, str]]:
    # Those that are fetched are told of when they come.
    return {
        name: issuer.keys.current().digests()
        for name, issuer in trusted.items()
        if name not in remote
    }


def token_lifetimes(settings: GatewaySettings) -> dict[str, int]:
    """The trusted issuers, and how many seconds a token of each may live. Raises SettingsError."""
    configs = configured_issuers(settings)
    return {config.issuer: _max_lifetime_seconds(config, settings) for config in configs}


def configured_issuers(settings: GatewaySettings) -> tuple[IssuerConfig, ...]:
    """The issuers of the policy file, or the one of the settings. Raises SettingsError."""
    return configured_policy(settings).issuers or (_issuer_of_settings(settings),)


def _max_lifetime_seconds(config: IssuerConfig, settings: GatewaySettings) -> int:
    return config.max_lifetime_seconds or settings.token_max_lifetime_seconds


def quota_plan(settings: GatewaySettings) -> QuotaPlan:
    """The limits that the settings say."""
    return QuotaPlan(
        address_rate=parse_rate(settings.address_rate),
        address_failure_rate=parse_rate(settings.address_failure_rate),
        address_concurrency=settings.address_concurrency,
        principal=PrincipalLimits(
            rate=parse_rate(settings.principal_rate),
            concurrency=settings.principal_concurrency,
            daily_images=settings.daily_images,
        ),
        store=settings.quota_store,
    )


def configured_policy(settings: GatewaySettings) -> PolicyFile:
    """The policy file's content, or what holds without one. Raises SettingsError."""
    return _policy_and_digest(settings)[0]


def _policy_and_digest(settings: GatewaySettings) -> tuple[PolicyFile, str | None]:
    # Of the same bytes: read twice, the ledger could name another policy than the one that holds.
    if not settings.policy_file:
        return read_policy(""), None
    file, fix = Path(settings.policy_file), "docs/policy.toml is one to start from"
    content = _read_trusted(file, "GATEWAY_POLICY_FILE", MAX_POLICY_BYTES, fix=fix)
    try:
        policy = read_policy(content.decode("utf-8"))
    except UnicodeDecodeError as exc:
        message = f"GATEWAY_POLICY_FILE: {settings.policy_file} is not UTF-8; save it as such"
        raise SettingsError(Code.SETTINGS_INVALID, message) from exc
    both = [name for name in _ISSUER_SETTINGS if name in settings.model_fields_set]
    if policy.issuers and both:
        # Which of the two is meant, nobody can tell, and the other would be trusted by mistake.
        names = ", ".join(settings.variable_name(name) for name in both)
        message = f"GATEWAY_POLICY_FILE names issuers, and so do {names}: keep one of the two"
        raise SettingsError(Code.SETTINGS_INVALID, message)
    return policy, hashlib.sha256(content).hexdigest()


def _issuer_of_settings(settings: GatewaySettings) -> IssuerConfig:
    is_discovered = settings.jwks_url == "discover"
    is_remote = bool(settings.jwks_url)
    return IssuerConfig(
        issuer=settings.issuer,
        audience=settings.audience,
        jwks_file=None if is_remote else settings.jwks_file,
        jwks_url=settings.jwks_url if is_remote and not is_discovered else None,
        is_discovered=is_discovered,
        ca_file=Path(settings.jwks_ca_file) if settings.jwks_ca_file else None,
        max_lifetime_seconds=None,
        clock_skew_seconds=MAX_CLOCK_SKEW_SECONDS,
        is_sender_constrained=False,
        mapping=ClaimMapping(),
    )


def _trusted(
    config: IssuerConfig, settings: GatewaySettings, remote: KeySource | None
) -> TrustedIssuer:
    return TrustedIssuer(
        issuer=config.issuer,
        audience=config.audience,
        keys=remote or fixed_keys(config, settings),
        max_lifetime_seconds=_max_lifetime_seconds(config, settings),
        clock_skew_seconds=config.clock_skew_seconds,
        must_be_bound=config.is_sender_constrained,
        read_roles=partial(roles_of, mapping=config.mapping),
        source_claim=settings.source_claim,
    )


def fixed_keys(config: IssuerConfig, settings: GatewaySettings) -> FixedKeys:
    """The keys of an issuer that has them in a file. Raises SettingsError naming setting and file."""
    if config.jwks_file is None:
        raise RuntimeError("internal: an issuer has no keys")
    is_of_policy = bool(settings.policy_file) and config.jwks_file != settings.jwks_file
    name = f"GATEWAY_POLICY_FILE, {config.issuer}" if is_of_policy else "GATEWAY_JWKS_FILE"
    fix = "put the identity provider's key set there, or name the address of its keys"
    content = _read_trusted(config.jwks_file, name, MAX_KEYSET_BYTES, fix=fix)
    try:
        return FixedKeys(load_keyset(content))
    except SettingsError as exc:
        raise SettingsError(exc.code, f"{name}: {config.jwks_file}: {exc.message}") from exc


def _remote_keys(
    config: IssuerConfig,
    settings: GatewaySettings,
    *,
    record: RecordKeys,
    on_change: Callable[[], None],
    metrics: GatewayMetrics,
) -> "RemoteKeys":
    # A gateway whose keys lie in files starts without the HTTP client.
    from gateway.identity.fetching import HttpsReader
    from gateway.identity.remote_keys import RemoteKeys

    def record_keyset(keyset: KeySet) -> Awaitable[None]:
        return record(config.issuer, keyset.digests())

    return RemoteKeys(
        issuer=config.issuer,
        jwks_url=config.jwks_url,
        reader=HttpsReader(ca_file=config.ca_file),
        refresh_seconds=settings.jwks_refresh_seconds,
        max_stale_seconds=settings.jwks_max_stale_seconds,
        record=record_keyset,
        on_change=on_change,
        on_fetched=lambda outcome: metrics.jwks_fetches.labels(config.issuer, outcome).inc(),
        rng=random.Random(),
    )


def _read_trusted(file: Path, name: str, max_bytes: int, *, fix: str) -> bytes:
    # Whoever can change it decides whose tokens are believed.
    try:
        with file.open("rb") as opened:
            fault = why_changeable(os.fstat(opened.fileno()), safe_mode=0o644)
            if fault is not None:
                raise SettingsError(Code.SETTINGS_INVALID, f"{name}: {file} {fault}")
            content = opened.read(max_bytes + 1)
        # Whoever may put another file in its place needs no right to change this one.
        fault = why_replaceable(file)
        if fault is not None:
            raise SettingsError(Code.SETTINGS_INVALID, f"{name}: {file} {fault}")
    except OSError as exc:
        message = f"{name}: cannot read {file}: {exc.strerror}; {fix}"
        raise SettingsError(Code.SETTINGS_INVALID, message) from exc
    return content


def _warn(policy: PolicyFile, configs: Iterable[IssuerConfig], settings: GatewaySettings) -> None:
    for warning in policy.warnings:
        log.warning("policy_weak %s", warning)
    if settings.host in EVERYWHERE and not settings.public_url:
        log.warning(
            "public_url_missing host=%s: callers cannot reach that address, so DPoP proofs for it cannot be made; "
            "name the gateway's origin in GATEWAY_PUBLIC_URL",
            settings.host,
        )
    if settings.host in LOOPBACK:
        return
    for config in configs:
        if is_development_issuer(config.issuer):
            log.warning(
                "DEVELOPMENT_ISSUER_EXPOSED issuer=%s host=%s: whoever has the token key of a development home can "
                "call this gateway as anybody; name your identity provider in GATEWAY_ISSUER or GATEWAY_POLICY_FILE",
                config.issuer,
                settings.host,
            )


def _start_gauges(
    metrics: GatewayMetrics, deny_list: DenyList, remote: Mapping[str, "RemoteKeys"]
) -> None:
    metrics.deny_list_age_seconds.set_function(lambda: deny_list.age_seconds)
    metrics.deny_list_entries.set_function(lambda: deny_list.entry_count)
    for name, keys in remote.items():
        metrics.jwks_age_seconds.labels(name).set_function(partial(getattr, keys, "age_seconds"))
