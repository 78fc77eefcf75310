"""Weighing one tick's samples in one slice: the evidence, arming it again after it rang, what is remembered. Pure.

Rules: what is remembered has one size whatever the traffic; the same samples after the same state give the same bytes;
whether it rang never depends on how the samples came in ticks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.drift.bets import Bets
from monitor.drift.evidence import (
    Evidence,
    log10_by_feature,
    log10_total,
    no_evidence,
    observe,
)
from monitor.drift.levels import Level
from monitor.jobs.id_lists import dump_ids, parse_ids

# Evidence is looked at every so many samples, to know when it was lowest.
_LOOK_SAMPLES = 16
# log10 of the evidence just after the start, of references of all sizes; later it is less.
_FIRST_LOW = -1.0
# Evidence so close to the lowest is as low: it goes up and down by that without any change.
_LOW_MARGIN = 1.0
# How fast an old low is forgotten, for each sample: in a thousand, while a change takes some dozen to show.
_FORGOTTEN_SHARE = 0.001
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Samples to weigh, in the order of judging; T of them.

    values: float32 (T, F), columns as the plan's features. hours: int64 (T,), UTC hour.
    """

    ids: tuple[int, ...]
    request_ids: tuple[str, ...]
    received_at: tuple[datetime, ...]
    values: NDArray[np.float32]
    hours: NDArray[np.int64]

    def chosen(self, rows: Sequence[int]) -> "Arrivals":
        """Some of them, in their order."""
        return Arrivals(
            ids=tuple(self.ids[row] for row in rows),
            request_ids=tuple(self.request_ids[row] for row in rows),
            received_at=tuple(self.received_at[row] for row in rows),
            values=self.values[list(rows)],
            hours=self.hours[list(rows)],
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What one slice is judged by.

    window_samples: how many of its newest judged samples are remembered. digest: of what the bets are on; evidence that
    was stored with another one is of other bets.
    """

    slice_text: str
    bets: Bets
    level: Level
    window_samples: int
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is known of a slice beside its evidence.

    window: ids of the newest judged samples, oldest first. newest_request_id: of the last of them. armed_samples:
    judged since the evidence began anew. low: about the lowest log10 of the evidence lately. low_samples: judged since
    it was last as low, low_at: when the last sample before was received, None if it never was; before: some request
    ids of then.
    """

    window: tuple[int, ...] = ()
    newest_request_id: str | None = None
    armed_samples: int = 0
    low: float = _FIRST_LOW
    low_samples: int = 0
    low_at: datetime | None = None
    before: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fired:
    """The evidence that was enough to ring. by_feature: log10 of what each feature added. See Remembered for then."""

    by_feature: Mapping[str, float]
    then: Remembered


@dataclass(frozen=True, slots=True)
class Weighed:
    """One slice after a tick.

    judged_samples: since the reference is in use. judged: in this tick. largest: of the evidence in this tick, or as it
    stood if nothing was judged. fired: the first time that it was enough, if it was in this tick.
    """

    slice_text: str
    evidence: Evidence
    remembered: Remembered
    judged_samples: int = 0
    judged: int = 0
    largest: float = 0.0
    fired: Fired | None = field(default=None)


def weigh(plan: Plan, before: Weighed, arrivals: Arrivals) -> Weighed:
    """The slice after more of its samples, all of hours that it knows.

    Where the evidence is enough to ring it begins anew with the next sample (re-arming): as long as the world stays
    different it is enough again and again.
    """
    first, count = 0, len(arrivals.ids)
    standing = 0.0 if count else 10.0 ** log10_total(before.evidence)
    after = replace(before, judged=0, fired=None, largest=standing)
    while first < count:
        last = min(first + _LOOK_SAMPLES, count)
        observed = observe(
            plan.bets,
            after.evidence,
            arrivals.values[first:last],
            arrivals.hours[first:last],
            limit=plan.level.firing,
        )
        seen = slice(first, first + observed.used)
        after = replace(
            after,
            evidence=observed.evidence,
            remembered=_extended(after.remembered, arrivals, seen, plan.window_samples),
            judged=after.judged + observed.used,
            judged_samples=after.judged_samples + observed.used,
            largest=max(after.largest, observed.largest),
        )
        if observed.has_crossed:
            after = _rearmed(plan, after)
        else:
            after = replace(after, remembered=_looked(after, arrivals, seen))
        first += observed.used
    return after


def dump_remembered(remembered: Remembered) -> dict[str, Any]:
    """As JSON values."""
    at = remembered.low_at
    return {
        "window": dump_ids(remembered.window),
        "newest": remembered.newest_request_id,
        "armed": remembered.armed_samples,
        "low": remembered.low,
        "low_samples": remembered.low_samples,
        "low_at": None if at is None else at.isoformat(),
        "before": list(remembered.before),
    }


def parse_remembered(memory: Mapping[str, Any]) -> Remembered:
    """What dump_remembered gave. Raises ValueError, TypeError or KeyError if it is something else."""
    at, newest = memory["low_at"], memory["newest"]
    return Remembered(
        window=parse_ids(memory["window"]),
        newest_request_id=None if newest is None else str(newest),
        armed_samples=int(memory["armed"]),
        low=float(memory["low"]),
        low_samples=int(memory["low_samples"]),
        low_at=None if at is None else datetime.fromisoformat(at),
        before=tuple(str(each) for each in memory["before"]),
    )


def nothing_weighed(plan: Plan) -> Weighed:
    """A slice of which nothing was judged."""
    return Weighed(plan.slice_text, no_evidence(plan.bets), Remembered())


def _extended(
    remembered: Remembered, arrivals: Arrivals, seen: slice, window_samples: int
) -> Remembered:
    ids = arrivals.ids[seen]
    return replace(
        remembered,
        window=(*remembered.window, *ids)[-window_samples:],
        newest_request_id=arrivals.request_ids[seen][-1],
        armed_samples=remembered.armed_samples + len(ids),
        low_samples=remembered.low_samples + len(ids),
    )


def _rearmed(plan: Plan, after: Weighed) -> Weighed:
    then = after.remembered
    fired = Fired(by_feature=log10_by_feature(plan.bets, after.evidence), then=then)
    fresh = Remembered(window=then.window, newest_request_id=then.newest_request_id)
    return replace(
        after, evidence=no_evidence(plan.bets), remembered=fresh, fired=after.fired or fired
    )


def _looked(after: Weighed, arrivals: Arrivals, seen: slice) -> Remembered:
    """What is known of the lowest evidence once it was looked at again."""
    remembered, total = after.remembered, log10_total(after.evidence)
    if total > remembered.low + _LOW_MARGIN:
        share = _FORGOTTEN_SHARE * (seen.stop - seen.start)
        return replace(remembered, low=remembered.low + share * (total - remembered.low))
    return replace(
        remembered,
        low=min(total, remembered.low),
        low_samples=0,
        low_at=arrivals.received_at[seen][-1],
        before=(*remembered.before, *arrivals.request_ids[seen])[-_EXAMPLES:],
    )
