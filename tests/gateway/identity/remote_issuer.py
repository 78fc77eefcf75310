"""An issuer, a clock and a bench for remote keys, all faked, for tests that let hours pass."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.errors import AuditUnavailableError, Code
from gateway.identity.fetching import HttpsReader
from gateway.identity.issue import jwks_of
from gateway.identity.keysets import KeySet
from gateway.identity.remote_keys import RemoteKeys

ISSUER = "https://issuer.example"
URL = "https://issuer.example/jwks"
REFRESH_SECONDS = 600.0
MAX_STALE_SECONDS = 3600.0


def key_set(*numbers: int) -> dict[str, Any]:
    """A key set; each number stands for one key, named k1, k2 and so on."""
    keys = []
    for number in numbers:
        private = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
        key = json.loads(jwks_of([private.public_key()]))["keys"][0]
        keys.append({**key, "kid": f"k{number}"})
    return {"keys": keys}


class FakeTime:
    """A clock that stands still, and a sleep that lasts until the test has moved the clock past it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []
        self._until = self.now
        self._is_asleep = asyncio.Event()
        self._moved = asyncio.Event()

    def monotonic(self) -> float:
        """Seconds from nowhere."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Of the one task that sleeps; ends with the clock at the very moment it asked for."""
        self.pauses.append(seconds)
        wake_at = self.now + seconds
        while wake_at > self._until:
            self._is_asleep.set()
            self._moved.clear()
            await self._moved.wait()
        self.now = wake_at

    async def advance(self, seconds: float) -> None:
        """Move the clock, through every wake-up on the way, and return when the sleeper sleeps again."""
        await self._is_asleep.wait()
        self._until += seconds
        self._is_asleep.clear()
        self._moved.set()
        await self._is_asleep.wait()
        self.now = self._until


class FakeIssuer(httpx.AsyncBaseTransport):
    """An issuer that publishes a key set, counts who asks, and can be down or slow."""

    def __init__(self) -> None:
        self.published: object = key_set(1)
        self.status = 200
        self.asked: list[str] = []
        self.is_answering = asyncio.Event()
        self.is_answering.set()
        self.is_asked = asyncio.Event()
        self.closings = 0

    def hold(self) -> None:
        """Answer nobody until is_answering is set; is_asked is set by the next who asks."""
        self.is_asked.clear()
        self.is_answering.clear()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One answer, as things are when it is given."""
        self.asked.append(str(request.url))
        self.is_asked.set()
        await self.is_answering.wait()
        if isinstance(self.published, Exception):
            raise self.published
        return httpx.Response(self.status, content=json.dumps(self.published).encode())

    async def aclose(self) -> None:
        """Noted."""
        self.closings += 1


class Bench:
    """Remote keys with everything around them faked, and what they told."""

    def __init__(self, **changes: Any) -> None:
        self.time = FakeTime()
        self.issuer = FakeIssuer()
        self.changes = 0
        self.recorded: list[list[str]] = []
        self.is_ledger_down = False
        self.outcomes: list[str] = []
        arguments: dict[str, Any] = {
            "issuer": ISSUER,
            "jwks_url": URL,
            "reader": HttpsReader(transport=self.issuer, timeout_seconds=60),
            "refresh_seconds": REFRESH_SECONDS,
            "max_stale_seconds": MAX_STALE_SECONDS,
            "record": self._record,
            "on_change": self._count_change,
            "on_fetched": self.outcomes.append,
            "rng": random.Random(7),
            "monotonic": self.time.monotonic,
            "sleep": self.time.sleep,
        }
        self.keys = RemoteKeys(**{**arguments, **changes})

    async def _record(self, keyset: KeySet) -> None:
        if self.is_ledger_down:
            raise AuditUnavailableError(Code.AUDIT_UNAVAILABLE, "", reason="the disk is full")
        self.recorded.append(sorted(keyset.keys))

    def _count_change(self) -> None:
        self.changes += 1

    @property
    def key_ids(self) -> list[str]:
        """The ids of the current keys."""
        return sorted(self.keys.current().keys)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """In the background, after the first fetch."""
        task = asyncio.create_task(self.keys.run())
        await self.time.advance(0)
        yield
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
