"""Working hours in a time zone, as `mon-fri 07:00-19:00`, several with commas between them.

Rules: a span that ends before it begins goes on into the next day; the wall clock of the zone decides, so daylight
saving moves nothing; what cannot be read is refused when the settings are.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = "|".join(_DAYS)
_SPAN = re.compile(
    rf"({_DAY})(?:-({_DAY}))? ([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])"
)
_DAY_MINUTES = 24 * 60


class HoursInvalidError(ValueError):
    """The hours or the time zone cannot be read; the message says what to write."""


@dataclass(frozen=True, slots=True)
class _Span:
    days: frozenset[int]
    start_minutes: int
    end_minutes: int

    def holds(self, weekday: int, minutes: int) -> bool:
        if self.start_minutes < self.end_minutes:
            return weekday in self.days and self.start_minutes <= minutes < self.end_minutes
        if minutes >= self.start_minutes:
            return weekday in self.days
        return minutes < self.end_minutes and (weekday - 1) % 7 in self.days


@dataclass(frozen=True, slots=True)
class WorkingHours:
    """When operators work; never, where there is no span."""

    spans: tuple[_Span, ...]
    zone: tzinfo

    def holds(self, at_seconds: float) -> bool:
        """Whether a time, in seconds since 1970, is within them."""
        local = datetime.fromtimestamp(at_seconds, self.zone)
        minutes = local.hour * 60 + local.minute
        return any(span.holds(local.weekday(), minutes) for span in self.spans)

    def local_time(self, at_seconds: float) -> str:
        """The time as the zone's wall clock shows it."""
        return f"{datetime.fromtimestamp(at_seconds, self.zone):%a %Y-%m-%d %H:%M %Z}"


def parse_hours(text: str, *, zone: str) -> WorkingHours:
    """The hours of such a text in an IANA time zone. Raises HoursInvalidError."""
    parts = [part.strip() for part in text.lower().split(",") if part.strip()]
    return WorkingHours(tuple(_parse_span(part) for part in parts), _find_zone(zone))


def _parse_span(text: str) -> _Span:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise HoursInvalidError(f"{text!r} are no hours: write them as mon-fri 07:00-19:00")
    first, last, *clock = match.groups()
    start_hour, start_minute, end_hour, end_minute = map(int, clock)
    start, end = start_hour * 60 + start_minute, end_hour * 60 + end_minute
    if start == end or end > _DAY_MINUTES:
        raise HoursInvalidError(
            f"{text!r} must end at another time than it begins, at 24:00 at the latest"
        )
    begin = _DAYS.index(first)
    length = 0 if last is None else (_DAYS.index(last) - begin) % 7
    return _Span(frozenset((begin + n) % 7 for n in range(length + 1)), start, end)


def _find_zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise HoursInvalidError(
            f"{name!r} is no time zone of this system: write one as Europe/Berlin, "
            "and install the system's tzdata if it is one"
        ) from exc
