"""When each camera was last judged: by principal and name, in bounded memory that nobody fills for others."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.windows import cameras
from monitor.windows.cameras import CAMERA_KEY, MAX_CAMERAS, CameraTimes, camera_key

START = datetime(2030, 1, 1, tzinfo=UTC)
A_AND_B = st.sampled_from(["a", "b", "c"])


def test_a_camera_is_taken_once_within_the_time() -> None:
    """And again when it is over."""
    times = CameraTimes({})
    assert [True, False, True] == [_takes(times, "p", "cam3", second) for second in (0, 9, 10)]


def test_nobody_takes_the_turn_of_another_principals_camera() -> None:
    """Whoever says the name cam3 half a second before it silences nothing."""
    times = CameraTimes({})
    assert _takes(times, "mallory", "cam3", 0.0)
    assert _takes(times, "victim", "cam3", 0.5)
    assert not _takes(times, "mallory", "cam3", 1.0)


@given(st.text(), st.text(), st.text(), st.text())
def test_keys_are_short_and_tell_names_apart(a: str, b: str, c: str, d: str) -> None:
    """However the principal and the name are split."""
    assert CAMERA_KEY.fullmatch(camera_key(a, b))
    assert ((a, b) == (c, d)) == (camera_key(a, b) == camera_key(c, d))


def test_a_flood_of_names_does_not_end_thinning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty cameras and a caller with a new name each time: of each camera one is taken, of the names so many."""
    monkeypatch.setattr(cameras, "MAX_CAMERAS", 64)
    times: dict[str, datetime] = {}
    taking = CameraTimes(times)
    honest, flood = 0, 0
    for step in range(45):
        for camera in range(20):
            honest += _takes(taking, "victim", f"cam{camera}", step * 0.2)
        for name in range(100):
            flood += _takes(taking, "mallory", f"m{step * 100 + name}", step * 0.2)
    assert (20, 44, 64) == (honest, flood, len(times))


def test_names_wait_where_all_places_are_young(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one principal: until the oldest time is over, which is then forgotten."""
    monkeypatch.setattr(cameras, "MAX_CAMERAS", 3)
    times: dict[str, datetime] = {}
    taking = CameraTimes(times)
    assert all(_takes(taking, "p", name, second) for second, name in enumerate("abc"))
    assert not _takes(taking, "p", "d", 9)
    assert _takes(taking, "p", "d", 10)
    assert [camera_key("p", name) for name in "bcd"] == [*times]


def test_a_principal_with_few_names_gets_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the one that has most, at once and up to its share; not from one that has no more than that."""
    monkeypatch.setattr(cameras, "MAX_CAMERAS", 4)
    taking = CameraTimes({})
    assert all(_takes(taking, "mallory", name, 0) for name in "abcd")
    assert [True, True, False] == [_takes(taking, "victim", name, 1) for name in "abc"]
    assert not _takes(taking, "mallory", "e", 1)


def test_more_principals_than_places_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has more than his share then."""
    monkeypatch.setattr(cameras, "MAX_CAMERAS", 2)
    taking = CameraTimes({})
    assert [True, True, False] == [_takes(taking, name, "cam", 0) for name in "pqr"]
    assert _takes(taking, "r", "cam", 10)


@given(st.lists(st.tuples(A_AND_B, st.integers(0, 9), st.floats(0, 5)), max_size=200))
def test_memory_is_bounded_and_so_is_what_is_taken(
    calls: list[tuple[str, int, float]],
) -> None:
    """Within one time at most twice the places, whoever says what."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cameras, "MAX_CAMERAS", 6)
        times: dict[str, datetime] = {}
        taking = CameraTimes(times)
        taken = sum(_takes(taking, who, f"cam{name}", at) for who, name, at in calls)
    assert len(times) <= 6
    assert taken <= 12


def test_the_number_is_as_documented() -> None:
    """In docs/drift.md and the README."""
    assert 256 == MAX_CAMERAS


def _takes(times: CameraTimes, principal: str, source: str, second: float) -> bool:
    at = START + timedelta(seconds=second)
    return times.takes(camera_key(principal, source), at, thin_seconds=10.0)
