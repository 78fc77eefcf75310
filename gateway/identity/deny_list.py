"""Tokens that are refused although their signature is good: a copy of the deny list in memory, kept in step.

Rules:
- The database decides; every gateway on it asks a few times a second whether anything changed, in a thread, and reads
  the denials only then. A request costs four look-ups and never waits for the database.
- Fail closed: a copy that was not confirmed for longer than a limit refuses everybody, since a token that was revoked
  meanwhile would pass. Age counts from the moment a read began: what it saw is no newer.
- Only the event loop's thread changes or asks the copy, but for load() before the loop runs.
"""

import asyncio
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.errors import Code, IdentityUnavailableError, OperatorError
from gateway.identity.principal import Principal
from gateway.identity.refusals import Refusal, refused
from gateway.store.queries.token_denials import ChangeMark, load_active, read_change_mark
from gateway.store.records import TokenDenial

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
_EVER = datetime.max.replace(tzinfo=UTC)

# Issuer, subject, token id; None where a denial leaves it open.
_Key = tuple[str, str | None, str | None]


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Tokens issued before a moment are refused until another; UTC, and datetime.max where there is no limit."""

    issued_before: datetime
    ends_at: datetime


DenialIndex = Mapping[_Key, tuple[Span, ...]]


def index_denials(denials: Iterable[TokenDenial]) -> DenialIndex:
    """The denials by what they name; under one name only those that no other covers, so nearly always one."""
    found: defaultdict[_Key, list[Span]] = defaultdict(list)
    for denial in denials:
        span = Span(denial.issued_before or _EVER, denial.ends_at or _EVER)
        found[denial.issuer, denial.subject, denial.token_id].append(span)
    return {key: _needed(spans) for key, spans in found.items()}


def is_denied(index: DenialIndex, principal: Principal, now: datetime) -> bool:
    """Whether a denial in force at `now` (UTC) fits the principal's token in every member that it names."""
    if not index:
        return False
    issuer, subject, token_id = principal.issuer, principal.subject, principal.token_id
    keys = (
        (issuer, None, token_id),
        (issuer, subject, None),
        (issuer, subject, token_id),
        (issuer, None, None),
    )
    return any(_covers(index[key], principal.issued_at, now) for key in keys if key in index)


def _covers(spans: tuple[Span, ...], issued_at: datetime, now: datetime) -> bool:
    return any(issued_at < span.issued_before and now < span.ends_at for span in spans)


def _needed(spans: list[Span]) -> tuple[Span, ...]:
    needed: list[Span] = []
    for span in sorted(spans, reverse=True):
        # Those before it reach at least as far in `iat`; it adds something only by lasting longer than all of them.
        if not needed or span.ends_at > needed[-1].ends_at:
            needed.append(span)
    return tuple(needed)


@dataclass(frozen=True, slots=True)
class _Copy:
    """What one full read found. next_end: when the first of its denials ends by itself."""

    mark: ChangeMark
    index: DenialIndex
    entry_count: int
    next_end: datetime


class DenyList:
    """The deny list of one process; load it, then let it run on the event loop."""

    def __init__(
        self,
        *,
        engine: Engine,
        clock: Callable[[], datetime],
        max_age_seconds: float,
        on_change: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is read yet, so everybody is refused.

        clock: UTC, for denials that end by themselves. max_age_seconds: how long an unconfirmed copy is believed.
        on_change: called after denials came or went, on the event loop's thread; empties the verified-token cache.
        """
        self._engine = engine
        self._clock = clock
        self._max_age_seconds = max_age_seconds
        self._on_change = on_change
        self._monotonic = monotonic
        self._copy: _Copy | None = None
        self._confirmed_at_seconds = -math.inf
        self._is_failing = False
        # One of its own: the loop's shared threads hash images and load models, and a read must not queue behind those.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="deny-list")

    @property
    def age_seconds(self) -> float:
        """How long ago the read began that last confirmed the copy; infinite before the first."""
        return self._monotonic() - self._confirmed_at_seconds

    @property
    def entry_count(self) -> int:
        """Denials in the copy."""
        return 0 if self._copy is None else self._copy.entry_count

    def check(self, principal: Principal, now: datetime) -> None:
        """Return if the principal's token is not denied. now: UTC.

        Raises AuthnError (DENIED) if it is, IdentityUnavailableError if the copy is too old to tell.
        """
        if self._copy is None or self.age_seconds > self._max_age_seconds:
            raise IdentityUnavailableError(reason="deny_list_stale")
        if is_denied(self._copy.index, principal, now):
            raise refused(Refusal.DENIED)

    def load(self) -> None:
        """Read the list, waiting for the database; before the gateway is ready. Raises OperatorError if it cannot."""
        began = self._monotonic()
        try:
            copy = self._read(None)
        except SQLAlchemyError as exc:
            message = (
                f"the deny list of tokens cannot be read ({type(exc).__name__}): see that the database of "
                "GATEWAY_DATABASE_URL answers, then start again"
            )
            raise OperatorError(Code.IDENTITY_UNAVAILABLE, message) from exc
        self._take(copy, began)

    async def run(self) -> None:
        """Look every LOOK_SECONDS until cancelled, whatever the database does."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            # Without waiting: a read that hangs would hold up the end of the gateway.
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def look(self) -> None:
        """Bring the copy in step once; a failure is logged when it begins, and leaves the copy to age."""
        began = self._monotonic()
        try:
            loop = asyncio.get_running_loop()
            copy = await loop.run_in_executor(self._thread, self._read, self._copy)
            self._take(copy, began)
        except SQLAlchemyError as exc:
            if not self._is_failing:
                log.warning("deny_list_not_read cause=%s", type(exc).__name__)
            self._is_failing = True
        except Exception:
            # Whatever a later release or a hand wrote into the table: the copy ages, and the loop goes on.
            if not self._is_failing:
                log.exception("deny_list_not_read")
            self._is_failing = True
        else:
            if self._is_failing:
                log.info("deny_list_read_again")
            self._is_failing = False

    def _read(self, held: _Copy | None) -> _Copy:
        """The held copy if nothing changed since, else a new one."""
        now = self._clock()
        with self._engine.connect() as connection:
            # Before the denials: what is committed in between leaves the mark behind and is read again.
            mark = read_change_mark(connection)
            if held is not None and held.mark == mark and now < held.next_end:
                return held
            denials = load_active(connection, now=now)
        ends = (denial.ends_at for denial in denials if denial.ends_at is not None)
        return _Copy(mark, index_denials(denials), len(denials), min(ends, default=_EVER))

    def _take(self, copy: _Copy, began_seconds: float) -> None:
        before = self._copy
        self._copy = copy
        self._confirmed_at_seconds = began_seconds
        if before is not None and before.index != copy.index:
            self._on_change()
