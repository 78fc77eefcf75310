"""Keys of a real OpenID provider, discovered over real TLS, while it rotates them."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest

from gateway.errors import AuthnError
from gateway.identity.fetching import HttpsReader
from gateway.identity.keysets import KeySet
from gateway.identity.refusals import Refusal
from gateway.identity.remote_keys import RemoteKeys
from gateway.identity.tokens import Claims, TrustedIssuer, read_token, verify_token
from tests.system.openid_provider import OpenIdProvider, ProviderMissingError, openid_provider

pytestmark = [pytest.mark.system, pytest.mark.anyio]


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the gateway runs on."""
    return "asyncio"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenIdProvider]:
    """A running provider with one client and the keys that the last test left; skips where there is none."""
    folder = tmp_path_factory.mktemp("provider")
    claims = {"camera-1": {"roles": ["client"]}}
    try:
        with openid_provider(folder, audience="gatewatch", claims=claims) as running:
            yield running
    except ProviderMissingError as exc:
        pytest.skip(str(exc))


class Counts:
    """What the remote keys told."""

    def __init__(self) -> None:
        self.fetched: list[str] = []
        self.changes = 0

    async def record(self, _keyset: KeySet) -> None:
        """There is no ledger here."""

    def count_change(self) -> None:
        """The set of keys is another."""
        self.changes += 1


@asynccontextmanager
async def following(provider: OpenIdProvider, counts: Counts) -> AsyncIterator[RemoteKeys]:
    """The provider's keys, followed in the background, once they are there."""
    keys = RemoteKeys(
        issuer=provider.issuer,
        jwks_url=None,
        # Longer than a gateway waits: this machine may be busy with other tests.
        reader=HttpsReader(ca_file=provider.ca_file, timeout_seconds=30),
        refresh_seconds=3600,
        max_stale_seconds=3600,
        record=counts.record,
        on_change=counts.count_change,
        on_fetched=counts.fetched.append,
        rng=random.Random(7),
    )
    running = asyncio.create_task(keys.run())
    await asyncio.wait_for(keys.ready.wait(), 60)
    yield keys
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def verify(token: str, keys: RemoteKeys, provider: OpenIdProvider) -> Claims:
    """As the gateway does: an unknown key is looked for once."""
    issuer = TrustedIssuer(
        issuer=provider.issuer, audience="gatewatch", keys=keys, max_lifetime_seconds=300
    )
    read = read_token(token)
    if read.key_id not in keys.current().keys:
        await keys.refresh_for_unknown_key()
    return verify_token(read, issuer=issuer, now=datetime.now(UTC))


async def test_tokens_of_a_real_provider_are_verified_across_a_rotation(
    provider: OpenIdProvider,
) -> None:
    """Old and new tokens pass all the time, and the first new one costs the one fetch that it may."""
    counts = Counts()
    with provider.client() as client:
        async with following(provider, counts) as keys:
            tokens = [provider.token("camera-1", client=client)]
            is_over = asyncio.Event()

            async def verify_all_the_time() -> int:
                rounds = 0
                while not is_over.is_set():
                    for token in tuple(tokens):
                        await verify(token, keys, provider)
                    rounds += 1
                    await asyncio.sleep(0)
                return rounds

            traffic = asyncio.create_task(verify_all_the_time())
            key_id = await asyncio.to_thread(provider.rotate)
            assert key_id not in keys.current().keys
            new = await asyncio.to_thread(provider.token, "camera-1", client=client)
            # Many requests with the new key at once share the fetch.
            claims = await asyncio.gather(*[verify(new, keys, provider) for _ in range(100)])
            tokens.append(new)
            await asyncio.to_thread(provider.token, "camera-1", client=client)
            is_over.set()
            assert await traffic > 10

    assert key_id in keys.current().keys
    assert ["fetched", "fetched"] == counts.fetched
    assert 2 == counts.changes
    assert {("camera-1", "camera-1", frozenset({"client"}))} == {
        (claim.subject, claim.client_id, claim.roles) for claim in claims
    }


async def test_a_withdrawn_key_is_withdrawn_here_too(provider: OpenIdProvider) -> None:
    """After two rotations the key before them is no longer published, and its tokens are refused."""
    counts = Counts()
    with provider.client() as client:
        async with following(provider, counts) as keys:
            old = provider.token("camera-1", client=client)
            await verify(old, keys, provider)
            published = {provider.rotate(), provider.rotate()}
            await verify(provider.token("camera-1", client=client), keys, provider)
            # The provider's key without `alg` is not among them.
            assert published == set(keys.current().keys)
            with pytest.raises(AuthnError) as caught:
                await verify(old, keys, provider)
    assert Refusal.KEY_UNKNOWN == caught.value.reason
    assert 2 == counts.changes
