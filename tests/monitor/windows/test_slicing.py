"""Slices and hours by name."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.records import InputError
from monitor.summaries import HOURS_OF_DAY, Slice, SliceKind
from monitor.windows.slicing import (
    WHOLE_DAY,
    client_slice,
    describe_hours,
    parse_bands,
    parse_named_slice,
    slices_of,
    source_slice,
)

DAY, NIGHT = frozenset(range(6, 18)), HOURS_OF_DAY - frozenset(range(6, 18))


def test_a_sample_belongs_to_its_camera_and_its_client() -> None:
    """Or to neither."""
    expected = (Slice(SliceKind.SOURCE, "cam3"), Slice(SliceKind.CLIENT, "ad3b2bb55e67f667"))
    assert expected == slices_of(source="cam3", client="https://i.test|line")
    assert () == slices_of(source=None, client=None)


@given(st.text(max_size=640))
def test_a_clients_slice_never_has_its_name(principal: str) -> None:
    """Whatever the name: 16 hexadecimal characters, which stay as they are where a person writes them."""
    text = client_slice(principal).text
    assert re.fullmatch("client=[0-9a-f]{16}", text)
    assert text == parse_named_slice(text).text


def test_a_client_is_named_by_its_principal_or_its_digest() -> None:
    """A camera by its name alone."""
    assert "client=2d711642b726b044" == parse_named_slice("client=x").text
    assert "client=2d711642b726b044" == parse_named_slice("client=2d711642b726b044").text
    assert "source=x" == parse_named_slice("source=x").text == source_slice("x").text
    assert "" == parse_named_slice("").text


def test_long_names_that_begin_alike_stay_apart() -> None:
    """A principal may have 640 characters, a slice's text 200."""
    assert client_slice("x" * 600 + "a") != client_slice("x" * 600 + "b")


def test_bands_are_hours_of_the_day() -> None:
    """The last hour is not in it, and a band may go on past midnight."""
    assert (DAY, NIGHT) == parse_bands("06-18,18-06")
    assert (DAY, NIGHT) == parse_bands("06-18, 18-06")
    assert WHOLE_DAY == parse_bands("00-24")
    assert (frozenset({23, 0}),) == parse_bands("23-01")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is no band of hours"),
        ("6-18", "is no band of hours"),
        ("06-25", "is no band of hours"),
        ("24-06", "is no band of hours"),
        ("06-18,", "is no band of hours"),
        ("06-18;18-06", "is no band of hours"),
        ("06-06", "ends when it begins"),
        ("06-18,17-06", "an hour is in two bands"),
        ("06-18,06-18", "an hour is in two bands"),
        (",".join(f"{hour:02}-{hour + 1:02}" for hour in range(9)), "at most 8 bands"),
    ],
)
def test_bands_that_cannot_be_are_refused(text: str, problem: str) -> None:
    """With how to write them."""
    with pytest.raises(InputError, match=problem):
        parse_bands(text)


@given(st.integers(0, 23), st.integers(1, 24))
def test_what_is_described_is_read_back(begin: int, length: int) -> None:
    """Also around midnight."""
    hours = frozenset((begin + n) % 24 for n in range(length))
    assert (hours,) == parse_bands(describe_hours(hours))


def test_hours_apart_are_described_apart() -> None:
    """One span each."""
    assert "06-09,12-13" == describe_hours(frozenset({6, 7, 8, 12}))
