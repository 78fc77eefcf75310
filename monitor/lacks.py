"""What a monitor lacks, and whether its alarms should ring: samples of a model in production, ticks. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from monitor.alarms import ABOUT_MONITOR, MEMORY, SAMPLES_ALARM, STALE_ALARM, Switch
from monitor.records import Alarm

# A monitor that missed so many ticks is not merely slow.
STALE_TICKS = 5
# Where ticks are short, a report is drawn for longer than many of them.
_MIN_STALE = timedelta(minutes=1)
# Marks in the time over which samples are counted; the count is late by at most one of so many parts.
_MARKS = 24


@dataclass(frozen=True, slots=True)
class Supply:
    """judged_samples: of a model version in production, judged so far; it may begin anew with another reference."""

    model_name: str
    model_version: str
    judged_samples: int


@dataclass(frozen=True, slots=True)
class SupplyRule:
    """Fewer than min_samples judged in so many hours are too few; both > 0."""

    hours: float
    min_samples: int


def stale_switch(ticked_at: datetime | None, *, tick_seconds: float, now: datetime) -> Switch:
    """Whether monitors have stopped ticking. ticked_at: when one last did; None, and no alarm, if none ever did.

    A time that is yet to come says nothing about the present: it counts as none for too long.
    """
    limit = max(_MIN_STALE, timedelta(seconds=STALE_TICKS * tick_seconds))
    is_late = ticked_at is not None and now - ticked_at > limit
    # Clocks differ by less: nobody's tick was there.
    is_ahead = ticked_at is not None and ticked_at - now > limit
    why = "monitors tick"
    if ticked_at is not None and is_ahead:
        why = (
            f"a monitor is said to have ticked at {ticked_at:%Y-%m-%d %H:%M:%S} UTC, which is yet to come: see that "
            "the clocks of the monitor and the database agree, and who else writes to it"
        )
    if ticked_at is not None and is_late:
        why = (
            f"no monitor ticked between {ticked_at:%Y-%m-%d %H:%M:%S} and {now:%Y-%m-%d %H:%M:%S} UTC: "
            "nothing was judged meanwhile; is `monitor run` running?"
        )
    return Switch(ABOUT_MONITOR, STALE_ALARM, is_late or is_ahead, why)


def supply_switch(last: Alarm | None, supply: Supply, *, rule: SupplyRule, now: datetime) -> Switch:
    """Whether too few samples of a model in production are judged. last: the alarm that remembers how many were."""
    is_same = last is not None and last.model_version == supply.model_version
    marks = _marks(last.details if last is not None and is_same else {})
    total, now_seconds = supply.judged_samples, now.timestamp()
    if marks and total < marks[-1][1]:
        # Counted anew, as with another reference: what was counted before stays counted.
        marks = [(seconds, count - marks[-1][1]) for seconds, count in marks]
    span_seconds = rule.hours * 3600
    if not marks or now_seconds - marks[-1][0] >= span_seconds / _MARKS:
        marks.append((now_seconds, total))
    while len(marks) > 1 and now_seconds - marks[1][0] >= span_seconds:
        del marks[0]
    begun_seconds, begun_total = marks[0]
    count, is_full = total - begun_total, now_seconds - begun_seconds >= span_seconds
    since = datetime.fromtimestamp(begun_seconds, UTC)
    is_on = is_full and count < rule.min_samples
    model = f"{supply.model_name} {supply.model_version}"
    words = f"{count} samples of {model} were judged since {since:%Y-%m-%d %H:%M:%S} UTC"
    if is_on:
        words += (
            f", and {rule.min_samples} are needed to notice a change: see that there is traffic, that it is "
            "sampled, and with `monitor status` that there is a reference"
        )
    return Switch(
        supply.model_name,
        SAMPLES_ALARM,
        is_on,
        words,
        model_version=supply.model_version,
        details={
            "judged_samples": count,
            "since": since.isoformat(),
            MEMORY: [list(mark) for mark in marks],
        },
    )


def _marks(details: Mapping[str, Any]) -> list[tuple[float, int]]:
    """When how many were judged; nothing where a row was changed to what none of ours holds."""
    try:
        return [(float(seconds), int(count)) for seconds, count in details.get(MEMORY, ())]
    except (TypeError, ValueError, OverflowError):
        return []
