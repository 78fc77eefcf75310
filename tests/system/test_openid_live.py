"""A running gateway that follows a real OpenID provider: rotation under load, and callers with keys of nobody."""

import asyncio
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.identity.issue import issue_token
from tests.system.door import Door, opened_door, prepared_home
from tests.system.openid_provider import OpenIdProvider, ProviderMissingError, openid_provider

pytestmark = pytest.mark.system

READY_SECONDS = 60
CALLERS = 200


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenIdProvider]:
    """A running provider with one client; skips where there is none."""
    claims = {"camera-1": {"roles": ["client"]}}
    folder = tmp_path_factory.mktemp("provider")
    try:
        with openid_provider(folder, audience="gatewatch", claims=claims) as running:
            yield running
    except ProviderMissingError as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="module")
def door(provider: OpenIdProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A gateway that discovers the provider's keys, once it has them."""
    layout = prepared_home(tmp_path_factory.mktemp("discovering"))
    environment = {
        "GATEWAY_ISSUER": provider.issuer,
        "GATEWAY_JWKS_URL": "discover",
        "GATEWAY_JWKS_CA_FILE": str(provider.ca_file),
        "GATEWAY_ADDRESS_FAILURE_RATE": "",
        "GATEWAY_ADDRESS_CONCURRENCY": "2000",
        "GATEWAY_MAX_CONNECTIONS_PER_ADDRESS": "2000",
    }
    with opened_door(layout, environment) as opened:
        with opened.client() as client:
            deadline = time.monotonic() + READY_SECONDS
            while client.get("/readyz").status_code != 200:
                assert time.monotonic() < deadline
        yield opened


def test_no_valid_request_fails_while_keys_rotate(door: Door, provider: OpenIdProvider) -> None:
    """Four callers ask with the newest token, ten times before a rotation and ten times after it, all at once."""
    rotated = threading.Barrier(5)

    def call(tokens: list[str]) -> list[int]:
        with door.client() as client:
            statuses = [status_of(client, tokens[-1]) for _ in range(10)]
            rotated.wait(60)
            return statuses + [status_of(client, tokens[-1]) for _ in range(10)]

    with provider.client() as idp, ThreadPoolExecutor(4) as callers:
        tokens = [provider.token("camera-1", client=idp)]
        running = [callers.submit(call, tokens) for _ in range(4)]
        provider.rotate()
        tokens.append(provider.token("camera-1", client=idp))
        rotated.wait(60)
        statuses = [status for each in running for status in each.result()]
    with door.client() as client:
        # Published until the next rotation, so what it signed is good.
        statuses.append(status_of(client, tokens[0]))
    assert [200] * 81 == statuses


def status_of(client: httpx.Client, token: str) -> int:
    """What a call with this token gets."""
    header = {"Authorization": f"Bearer {token}"}
    return client.get("/v1/model", headers=header).status_code


def test_unknown_keys_cost_one_fetch(door: Door, provider: OpenIdProvider) -> None:
    """Two hundred at once, each with another `kid`: the provider is asked once in 30 seconds, and nobody gets in."""
    fetched = {"issuer": provider.issuer, "outcome": "fetched"}
    before = door.metric("gateway_jwks_fetches_total", **fetched)

    def forged() -> str:
        return issue_token(
            signing_key=Ed25519PrivateKey.generate(),
            issuer=provider.issuer,
            audience="gatewatch",
            subject="camera-1",
            client_id="camera-1",
            roles=["client"],
            lifetime_seconds=300,
            now=datetime.now(UTC),
            token_id="forged",
        )

    async def call_all() -> list[int]:
        context = ssl.create_default_context(cafile=door.layout.ca_file)
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(verify=context, limits=limits, timeout=60) as client:
            calls = [
                client.get(f"{door.url}/v1/model", headers={"Authorization": f"Bearer {forged()}"})
                for _ in range(CALLERS)
            ]
            return [answer.status_code for answer in await asyncio.gather(*calls)]

    started = time.monotonic()
    statuses = asyncio.run(call_all())
    windows = 1 + int((time.monotonic() - started) / 30)
    assert [401] * CALLERS == statuses
    assert door.metric("gateway_jwks_fetches_total", **fetched) - before <= windows
