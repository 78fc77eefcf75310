"""Since which sample a slice is different: found when it rings, and kept with the alarm as long as it rings. Pure.

Rules: what an alarm says is about samples since the change alone; what it shows of before is from before it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from gateway.store.records import Sample
from monitor.drift.beginning import began_at
from monitor.jobs.weighing import Plan, Weighed
from monitor.records import Alarm
from monitor.summaries import Fit
from monitor.windows.fitting import columns
from monitor.windows.stored import measurements

# In the details of an alarm.
FIRST_ID = "first_sample_id"
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Beginning:
    """first_id: of the first sample since the change. since: when it was received. before: request ids from before."""

    first_id: int
    since: datetime
    before: tuple[str, ...] = ()

    def ids_since(self, window: Sequence[int]) -> tuple[int, ...]:
        """Those of some newest judged samples, oldest first, that came since the change."""
        if self.first_id in window:
            return tuple(window[window.index(self.first_id) :])
        # It is longer ago than these reach.
        return tuple(window)


def known_beginning(alarm: Alarm | None) -> Beginning | None:
    """What an alarm that rings keeps of it; None if it does not ring, or somebody wrote into its row."""
    if alarm is None or not alarm.state.is_active:
        return None
    try:
        return Beginning(
            first_id=int(alarm.details[FIRST_ID]),
            since=datetime.fromisoformat(alarm.details["since"]),
            before=tuple(str(each) for each in alarm.details["examples"]["before"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def candidate_ids(weighed: Weighed) -> tuple[int, ...]:
    """The judged samples up to where it rang, or until now, since the evidence began; any may be the first changed."""
    then = weighed.remembered if weighed.fired is None else weighed.fired.then
    return then.window[-then.armed_samples :] if then.armed_samples else ()


def find_beginning(
    plan: Plan,
    weighed: Weighed,
    samples: Mapping[int, Sample],
    *,
    fit: Fit,
    leading: Sequence[str],
) -> Beginning | None:
    """Since which sample the leading features are different. samples: by id; deleted ones are not missed.

    None if none is left.
    """
    then = weighed.remembered if weighed.fired is None else weighed.fired.then
    ids = [each for each in candidate_ids(weighed) if each in samples]
    if not ids:
        return None
    found = [samples[each] for each in ids]
    row = began_at(
        plan.bets,
        columns(measurements(found), fit=fit, names=plan.bets.features),
        np.array([each.received_at.astimezone(UTC).hour for each in found], np.int64),
        leading=leading,
    )
    since = found[row].received_at
    if row == 0 and len(then.window) < then.armed_samples and then.low_at is not None:
        # It is longer ago than the window reaches: the coarse count knows it better.
        since = min(since, then.low_at)
    earlier = [samples[each].request_id for each in then.window if each in samples]
    before = earlier[: earlier.index(found[row].request_id)][-_EXAMPLES:]
    return Beginning(ids[row], since, tuple(before) or _not_in(then.before, earlier))


def _not_in(request_ids: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    return tuple(each for each in request_ids if each not in others)
