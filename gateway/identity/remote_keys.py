"""An issuer's keys, fetched over HTTPS, kept fresh in the background, and believed for a bounded time without it.

Rules:
- A request never waits for a scheduled fetch: it verifies with the keys that are there. Only a `kid` that is not
  among them waits, and all who wait share one fetch; callers cause at most one in 30 seconds, whatever its outcome.
- A fetch that fails, in transport or because no key in the answer is usable, changes nothing but the age of the keys.
  When they are too old nobody is let in: the issuer may have withdrawn a key meanwhile (fail closed).
- No key is believed before the ledger knows it: what cannot be recorded counts as a fetch that failed.
- The schedule is the operator's: no cache header of the issuer changes it.
- One event loop's thread only.
"""

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from typing import Literal

from gateway.errors import AuditUnavailableError, Code, IdentityUnavailableError, SettingsError
from gateway.identity.discovery import discover_jwks_uri, document_urls
from gateway.identity.fetching import FetchError, FetchFault, HttpsReader, is_https_url
from gateway.identity.keysets import KeySet, LeftOut, has_same_keys, load_remote_keyset

log = logging.getLogger(__name__)

UNKNOWN_KEY_SECONDS = 30.0
REFRESH_RATIO = 0.8  # Of the interval, so that a try or two may fail before it has passed.
MAX_BACK_OFF_SECONDS = 60.0
_MAX_DOUBLINGS = 10

FetchOutcome = Literal["fetched", "failed"]


class RemoteKeys:
    """The keys of one issuer; a KeySource with a client of its own."""

    def __init__(
        self,
        *,
        issuer: str,
        jwks_url: str | None,
        reader: HttpsReader,
        refresh_seconds: float,
        max_stale_seconds: float,
        record: Callable[[KeySet], Awaitable[None]],
        on_change: Callable[[], None],
        on_fetched: Callable[[FetchOutcome], None],
        rng: random.Random,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Nothing is fetched yet.

        jwks_url: https; None has it discovered under the issuer at each fetch. reader: closed with this object.
        refresh_seconds: at most this long between fetches that succeed. max_stale_seconds: since the last good fetch;
        at least refresh_seconds. record: makes durable in the ledger what other keys than before are about to be used;
        raises AuditUnavailableError. on_change: called when the usable keys are others than before, or found too old to
        be believed. on_fetched: called after each fetch. Raises SettingsError outside of these.
        """
        if jwks_url is None:
            document_urls(issuer)
        elif not is_https_url(jwks_url):
            raise _misconfigured(f"{jwks_url!a} is no https URL; name one, or a file of keys")
        if not 0 < refresh_seconds <= max_stale_seconds:
            raise _misconfigured(
                f"they would be too old after {max_stale_seconds:g} s, before they are fetched again "
                f"after {refresh_seconds:g} s; raise the first or lower the second"
            )
        self.ready = asyncio.Event()
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._reader = reader
        self._refresh_seconds = refresh_seconds
        self._max_stale_seconds = max_stale_seconds
        self._record = record
        self._on_change = on_change
        self._on_fetched = on_fetched
        self._rng = rng
        self._monotonic = monotonic
        self._sleep = sleep
        self._keyset: KeySet | None = None
        self._left_out: tuple[LeftOut, ...] = ()
        self._fetched_at = -math.inf
        self._unknown_key_from = -math.inf
        self._failures = 0
        self._is_told_stale = False
        self._fetch: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def age_seconds(self) -> float:
        """Seconds since the last fetch that succeeded; infinite before the first."""
        return self._monotonic() - self._fetched_at

    def current(self) -> KeySet:
        """The keys of the last fetch that succeeded.

        Raises IdentityUnavailableError before the first (keys_missing), and when it is longer ago than
        max_stale_seconds (keys_stale).
        """
        if self._keyset is None:
            raise IdentityUnavailableError(reason="keys_missing")
        if self._is_too_old():
            raise IdentityUnavailableError(reason="keys_stale")
        return self._keyset

    async def refresh_for_unknown_key(self) -> None:
        """Return once the keys are as new as one fetch in 30 seconds allows; never raises for a failed fetch."""
        if not self._is_fetching():
            now = self._monotonic()
            if now < self._unknown_key_from:
                return
            # Counted from the start and whatever comes of it: a failing issuer is not asked more often.
            self._unknown_key_from = now + UNKNOWN_KEY_SECONDS
        await self._fetch_once()

    async def run(self) -> None:
        """Fetch now and again at 0.8 of the interval, sooner after failures, until cancelled; then close."""
        try:
            while True:
                await self._fetch_once()
                await self._sleep(self._pause_seconds())
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """End a fetch that goes on, and close the client; the keys that are there stay until they are too old."""
        self._is_closed = True
        fetch = self._fetch
        if fetch is not None and not fetch.done():
            fetch.cancel()
            await asyncio.wait([fetch])
        await self._reader.aclose()

    def _is_too_old(self) -> bool:
        return self.age_seconds > self._max_stale_seconds

    def _is_fetching(self) -> bool:
        return self._fetch is not None and not self._fetch.done()

    async def _fetch_once(self) -> None:
        """Join the fetch that goes on, or start one."""
        if self._is_closed:
            return
        if self._fetch is None or self._fetch.done():
            self._fetch = asyncio.create_task(self._refresh())
        # Not awaited itself: one caller that goes away must not take the keys from the others, nor may closing
        # cancel whoever waits.
        await asyncio.wait([self._fetch])

    async def _refresh(self) -> None:
        started_at = self._monotonic()
        try:
            keyset, left_out = load_remote_keyset(await self._read_keyset())
            if self._is_other(keyset):
                await self._record(keyset)
        except FetchError as exc:
            self._note_failure(exc.fault, exc.message)
        except AuditUnavailableError as exc:
            self._note_failure(FetchFault.LEDGER, exc.reason)
        except SettingsError as exc:
            self._note_failure(FetchFault.FORM, exc.message)
        except Exception as exc:
            # What no rule above foresees counts as a failure too: unseen, it would pass for a fetch that went well.
            if self._failures == 0:
                log.exception("keys_fetch_broken issuer=%s", self._issuer)
            self._note_failure(FetchFault.FORM, repr(exc))
        else:
            self._take(keyset, left_out, started_at)

    def _is_other(self, keyset: KeySet) -> bool:
        return self._keyset is None or not has_same_keys(keyset, self._keyset)

    async def _read_keyset(self) -> bytes:
        url = self._jwks_url
        if url is None:
            url = await discover_jwks_uri(self._reader, issuer=self._issuer)
        return await self._reader.get(url)

    def _take(self, keyset: KeySet, left_out: tuple[LeftOut, ...], started_at: float) -> None:
        # The answer may be as old as the question.
        if self._failures:
            log.info("keys_fetched_again issuer=%s failures=%d", self._issuer, self._failures)
        self._fetched_at = started_at
        self._failures = 0
        self._is_told_stale = False
        if self._is_other(keyset):
            self._keyset = keyset
            log.info("keys_changed issuer=%s keys=%s", self._issuer, ",".join(sorted(keyset.keys)))
            self._on_change()
        if left_out != self._left_out:
            self._left_out = left_out
            self._tell_left_out()
        self.ready.set()
        self._on_fetched("fetched")

    def _tell_left_out(self) -> None:
        for key in self._left_out:
            if key.is_leak:
                log.error("issuer_key_leaked issuer=%s: %s", self._issuer, key.cause_and_fix)
            else:
                log.warning("issuer_key_left_out issuer=%s: %s", self._issuer, key.cause_and_fix)

    def _note_failure(self, fault: FetchFault, cause: str) -> None:
        self._failures += 1
        log.warning(
            "keys_not_fetched issuer=%s fault=%s failures=%d age_seconds=%.0f: %s",
            self._issuer,
            fault,
            self._failures,
            self.age_seconds,
            cause,
        )
        if self._keyset is not None and self._is_too_old() and not self._is_told_stale:
            self._is_told_stale = True
            log.error("keys_stale issuer=%s: all of its tokens are refused now", self._issuer)
            # Tokens that were verified before are remembered by others, and must not outlive the keys.
            self._on_change()
        self._on_fetched("failed")

    def _pause_seconds(self) -> float:
        planned_seconds = REFRESH_RATIO * self._refresh_seconds
        if self._failures == 0:
            # Replicas that started together must not ask together for ever.
            return planned_seconds * self._rng.uniform(0.9, 1.1)
        doubled_seconds = 2.0 ** min(self._failures, _MAX_DOUBLINGS)
        return min(doubled_seconds, MAX_BACK_OFF_SECONDS, planned_seconds) * self._rng.uniform(
            0.5, 1
        )


def _misconfigured(cause_and_fix: str) -> SettingsError:
    return SettingsError(Code.SETTINGS_INVALID, f"remote keys: {cause_and_fix}")
