"""Working hours: what is read, what is refused, and the wall clock."""

from datetime import UTC, datetime

import pytest

from monitor.hours import HoursInvalidError, parse_hours


def at(text: str) -> float:
    """Seconds since 1970 of a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("hours", "moment", "expected"),
    [
        # 2030-04-01 is a Monday.
        ("mon-fri 07:00-19:00", "2030-04-01T07:00", True),
        ("mon-fri 07:00-19:00", "2030-04-01T06:59:59", False),
        ("mon-fri 07:00-19:00", "2030-04-01T18:59:59", True),
        ("mon-fri 07:00-19:00", "2030-04-01T19:00", False),
        ("mon-fri 07:00-19:00", "2030-04-06T12:00", False),
        ("Mon 07:00-19:00, SAT 08:00-12:00", "2030-04-06T11:00", True),
        ("fri-mon 00:00-24:00", "2030-04-01T23:59", True),
        ("fri-mon 00:00-24:00", "2030-04-02T00:00", False),
        # Over midnight: the second half belongs to the day before.
        ("mon 22:00-06:00", "2030-04-02T05:59", True),
        ("mon 22:00-06:00", "2030-04-01T05:59", False),
        ("sun 22:00-06:00", "2030-04-01T05:59", True),
        ("", "2030-04-01T12:00", False),
    ],
)
def test_a_time_is_within_the_hours_or_not(hours: str, moment: str, expected: bool) -> None:
    """Spans hold their beginning and not their end."""
    assert expected is parse_hours(hours, zone="UTC").holds(at(moment))


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2030-03-29T05:30", False),
        ("2030-03-29T06:30", True),
        # Summer time from the 31st: seven o'clock is an hour earlier in UTC.
        ("2030-04-01T05:30", True),
        ("2030-04-01T17:30", False),
    ],
)
def test_the_wall_clock_of_the_zone_decides(moment: str, expected: bool) -> None:
    """Daylight saving moves nothing."""
    assert expected is parse_hours("mon-fri 07:00-19:00", zone="Europe/Berlin").holds(at(moment))


@pytest.mark.parametrize(
    "hours",
    [
        "mon-fri",
        "mon-fri 7:00-19:00",
        "mon-fri 07:00-25:00",
        "mon-fri 07:00-24:01",
        "mon-fri 07:00-07:00",
        "mo-fr 07:00-19:00",
        "mon-fri 07:60-19:00",
        "always",
    ],
)
def test_what_are_no_hours_is_refused(hours: str) -> None:
    """With what to write instead."""
    with pytest.raises(HoursInvalidError):
        parse_hours(hours, zone="UTC")


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "../etc/passwd", "", "/etc/localtime"])
def test_what_is_no_time_zone_is_refused(zone: str) -> None:
    """Also a path."""
    with pytest.raises(HoursInvalidError, match="no time zone"):
        parse_hours("mon 07:00-19:00", zone=zone)
