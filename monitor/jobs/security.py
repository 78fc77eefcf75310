"""One look at what is new in all ledgers: feed the rules, keep what they find, show it.

Rules: what a look stores is stored with the cursors in one transaction, or read again. Of what the rules hold only the
known issuers and keys are stored: after a start, or a look that failed, the records of their longest window are read
again with the orders of all time, and what they hit is dropped, for it was stored then. A look takes at most the time
between two, so that it is shown how far it came; what is left over is the lag.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Engine

from gateway.store.queries.audit_feed import find_end, has_misplaced
from monitor.jobs.database import opened_database
from monitor.jobs.ledger_feed import Fed, missing_at_end
from monitor.jobs.security_begin import (
    MAX_LEDGERS,
    Following,
    begin_following,
    new_ledgers,
    thresholds_of,
)
from monitor.jobs.security_storing import Kept, Looked, SecurityStore
from monitor.metrics import MonitorMetrics
from monitor.records import AlarmState, Cursor, Place, Rule
from monitor.security.findings import OTHER_KEYS, Hit
from monitor.security.rules import unreadable, watched_rules
from monitor.settings import MonitorSettings

logger = logging.getLogger(__name__)

# Judged before it is stored; what a crash makes to be read again.
BATCH_RECORDS = 10_000


@dataclass(frozen=True, slots=True)
class Look:
    """How a look ended. lag: records that are still to be read; 0 if every ledger was read to its end."""

    kept: Kept
    read: int
    lag: int


class SecurityWatch:
    """Looks at the ledgers of one database, once a call."""

    def __init__(
        self,
        *,
        settings: MonitorSettings,
        metrics: MonitorMetrics,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """monotonic: seconds."""
        self._settings = settings
        self._metrics = metrics
        self._monotonic = monotonic
        self._thresholds = thresholds_of(settings)
        self._watched = watched_rules(self._thresholds)
        self._store = SecurityStore(settings=settings, watched=self._watched)
        self._following: Following | None = None
        self._forgotten: dict[Rule, int] = {}

    def look(self, now: datetime, *, should_stop: Callable[[], bool] = lambda: False) -> Look:
        """Judge what is new as of now.

        Raises DatabaseUnavailableError; what was stored before it stays, the rest is read again.
        """
        deadline = self._monotonic() + self._settings.tick_seconds
        following, self._following = self._following, None
        try:
            with opened_database(self._settings.database_url) as engine:
                if following is None:
                    following = begin_following(engine, self._thresholds)
                    self._forgotten = {}
                look = self._follow(
                    engine,
                    following,
                    now,
                    should_stop=lambda: should_stop() or self._monotonic() >= deadline,
                )
        except BaseException:
            self._metrics.set_ledger_unjudged(self._watched)
            raise
        # Only now: rules that have seen what was not stored must not go on.
        self._following = following
        self._show(look, now)
        return look

    def _follow(
        self,
        engine: Engine,
        following: Following,
        now: datetime,
        *,
        should_stop: Callable[[], bool],
    ) -> Look:
        hits = _follow_new(engine, following, now)
        ends = _ends(engine, following)
        hits += [*_cut(following, ends, now), *_misplaced(engine, following, now)]
        read = 0
        while True:
            fed, is_current = following.feed.read(engine, limit=BATCH_RECORDS)
            hits += _judge(following, fed, now)
            late = following.rules.settle(now_seconds=now.timestamp()) if is_current else []
            kept = self._keep(engine, following, hits, late, now, is_current=is_current)
            read += len(fed)
            hits = []
            if is_current or should_stop():
                return Look(kept, read, 0 if is_current else _lag(following, ends))

    def _keep(
        self,
        engine: Engine,
        following: Following,
        hits: Sequence[Hit],
        late: Sequence[Hit],
        now: datetime,
        *,
        is_current: bool,
    ) -> Kept:
        cursors = {
            origin: replace(
                cursor,
                next_position=max(cursor.next_position, following.feed.positions[origin]),
            )
            for origin, cursor in following.cursors.items()
        }
        looked = Looked(
            hits=hits,
            late_hits=late,
            cursors=[c for c in cursors.values() if following.stored.get(c.origin) != c],
            learnt=following.rules.issuers.take_learnt(),
            is_current=is_current,
        )
        kept = self._store.keep(engine, looked, now=now)
        following.cursors = cursors
        following.stored = dict(cursors)
        self._tell(kept)
        return kept

    def _tell(self, kept: Kept) -> None:
        for finding in kept.findings:
            if finding.id is None:
                self._metrics.security_findings.labels(finding.rule.value).inc()
                # Not whom it is about: no principal, address or token stands in a log.
                places = ", ".join(f"{p.origin}/{p.position}" for p in finding.evidence)
                logger.warning(
                    "finding_opened rule=%s severity=%s records=%s",
                    finding.rule,
                    finding.severity,
                    places,
                )
        for transition in kept.transitions:
            is_good = transition.after is AlarmState.CLEAR
            logger.log(
                logging.INFO if is_good else logging.WARNING,
                "alarm_changed model=%s alarm=%s before=%s after=%s: %s",
                transition.model_name,
                transition.name,
                transition.before,
                transition.after,
                transition.diagnosis,
            )

    def _show(self, look: Look, now: datetime) -> None:
        for alarm in look.kept.alarms:
            self._metrics.set_alarm(alarm, is_judged=look.lag == 0)
        self._metrics.security_records.inc(look.read)
        self._metrics.security_lag.set(look.lag)
        self._metrics.security_last_look.set(now.timestamp())
        forgotten = {} if self._following is None else self._following.rules.forgotten()
        for rule, count in forgotten.items():
            self._metrics.security_forgotten.labels(rule.value).inc(
                count - self._forgotten.get(rule, 0)
            )
        self._forgotten = dict(forgotten)


def _follow_new(engine: Engine, following: Following, now: datetime) -> list[Hit]:
    """Follow ledgers that are new since the last look from their first records; a hit if there are too many."""
    with engine.connect() as connection:
        new, has_all = new_ledgers(connection, following.cursors)
    for origin in new:
        following.cursors[origin] = Cursor(origin, 0, learn_until=0)
        following.feed.move(origin, 0)
    is_told, following.has_all = has_all or not following.has_all, has_all
    if is_told:
        return []
    why = f"the database has more than {MAX_LEDGERS} ledgers, and not all are followed"
    return [unreadable(Place(OTHER_KEYS, 0), why, now_seconds=now.timestamp())]


def _ends(engine: Engine, following: Following) -> dict[str, int]:
    """Where every ledger ends."""
    with engine.connect() as connection:
        return {origin: find_end(connection, origin) for origin in following.cursors}


def _cut(following: Following, ends: dict[str, int], now: datetime) -> list[Hit]:
    """A hit for each ledger that lacks at its end what was read of it; it is followed from its end."""
    positions = {origin: cursor.next_position for origin, cursor in following.cursors.items()}
    hits = []
    for cut in missing_at_end(positions, ends):
        origin, end = cut.place.origin, cut.place.position
        following.cursors[origin] = replace(following.cursors[origin], next_position=end)
        following.judged_until[origin] = min(end, following.judged_until.get(origin, end))
        if following.feed.positions[origin] > end:
            following.feed.move(origin, end)
        hits.append(unreadable(cut.place, cut.why, now_seconds=now.timestamp()))
    return hits


def _misplaced(engine: Engine, following: Following, now: datetime) -> list[Hit]:
    """A hit for each ledger that has records at positions that the feed never reads, told once while they are there."""
    with engine.connect() as connection:
        found = {origin for origin in following.cursors if has_misplaced(connection, origin)}
    new, following.misplaced = found - following.misplaced, found
    why = "a record stands before the first or at what is no position, and is not judged"
    return [
        unreadable(
            Place(origin, following.cursors[origin].next_position), why, now_seconds=now.timestamp()
        )
        for origin in sorted(new)
    ]


def _judge(following: Following, fed: Sequence[Fed], now: datetime) -> list[Hit]:
    hits: list[Hit] = []
    now_seconds = now.timestamp()
    for each in fed:
        origin, position = each.place.origin, each.place.position
        is_judged = position < following.judged_until.get(origin, 0)
        if each.record is not None:
            is_learning = position < following.cursors[origin].learn_until
            found = following.rules.observe(
                each.record, now_seconds=now_seconds, is_learning=is_learning
            )
        else:
            found = [unreadable(each.place, each.why, now_seconds=now_seconds)]
        if found and not is_judged:
            hits += found
    return hits


def _lag(following: Following, ends: dict[str, int]) -> int:
    positions = following.feed.positions
    return max(1, sum(max(0, end - positions[origin]) for origin, end in ends.items()))
