"""Outages as records say them, as they add up, and as bytes that a power cut may tear."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.entries import encode_event, is_canonical
from gateway.audit.outage_slots import (
    MAX_CAUSES,
    MAX_REFUSED,
    NEVER_WRITTEN,
    SLOT_BYTES,
    Outage,
    Slot,
    encode_slot,
    left_of,
    merged,
    newest_slot,
    outage_event,
    outage_of,
    parse_slot,
)

BEGAN = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
SECOND = timedelta(seconds=1)
FULL, LOCKED = "database or disk is full", "database is locked"
OUTAGE = Outage(BEGAN, BEGAN + SECOND, 7, (FULL, LOCKED))

outages = st.builds(
    outage_of,
    st.datetimes(timezones=st.just(UTC)),
    unverified_cause=st.text(st.characters(exclude_categories=())),
    refused=st.integers(1, MAX_REFUSED),
)


def test_an_outage_becomes_one_record() -> None:
    """Since when, until when, how many calls, and the causes in words."""
    event = outage_event(OUTAGE, recorded_at=BEGAN + 2 * SECOND)
    assert ("audit.outage", "failed", "audit_unavailable") == (
        event.action.value, event.outcome.value, event.code,
    )  # fmt: skip
    assert event.recorded_at == BEGAN + 2 * SECOND
    assert event.reason == (
        "the audit store was unavailable: database or disk is full; database is locked"
    )
    assert event.detail == (
        "since=2031-05-06T07:08:09.123456Z until=2031-05-06T07:08:10.123456Z refused=7"
    )


@given(st.lists(outages, min_size=1, max_size=9))
def test_the_longest_record_keeps_every_cause(several: list[Outage]) -> None:
    """Nothing of it is cut off, and it is a record like every other."""
    whole: Outage | None = None
    for outage in several:
        whole = merged(whole, outage)
    assert whole is not None
    event = outage_event(whole, recorded_at=BEGAN)
    assert event.reason is not None
    assert len(event.reason) <= 512
    assert is_canonical(encode_event(event).body)


def test_outages_add_up() -> None:
    """From the first to the last, causes once each and not without end."""
    earlier = Outage(BEGAN - SECOND, BEGAN, 2, (LOCKED, "gone", "away"))
    assert merged(OUTAGE, earlier) == Outage(
        BEGAN - SECOND, BEGAN + SECOND, 9, (FULL, LOCKED, "gone")
    )
    assert merged(None, OUTAGE) == OUTAGE
    assert merged(OUTAGE, None) == OUTAGE
    assert merged(None, None) is None
    assert MAX_CAUSES == 3


def test_what_others_added_is_left() -> None:
    """After a record of an outage, only what is not in that record."""
    more = replace(OUTAGE, until=BEGAN + 3 * SECOND, refused=9)
    assert left_of(OUTAGE, OUTAGE) is None
    assert left_of(None, OUTAGE) is None
    assert left_of(more, OUTAGE) == replace(more, since=OUTAGE.until, refused=2)
    later = Outage(BEGAN + 2 * SECOND, BEGAN + 2 * SECOND, 1, (FULL,))
    assert left_of(later, OUTAGE) == later


def test_a_cause_is_one_line() -> None:
    """Whatever a driver says."""
    outage = outage_of(BEGAN, unverified_cause="a\n\tb  c\udc80" + "x" * 999, refused=1)
    assert outage.causes[0].startswith("a b c\\udc80xxx")
    assert len(outage.causes[0]) == 150


@given(outages, outages, st.integers(0, (1 << 64) - 1))
def test_a_slot_comes_back(first: Outage, second: Outage, sequence: int) -> None:
    """Any outage, and that there is none."""
    for outage in (first, merged(first, second), None):
        content = encode_slot(Slot(sequence, outage))
        assert len(content) == SLOT_BYTES
        assert parse_slot(content) == Slot(sequence, outage)


@given(st.integers(0, SLOT_BYTES - 1), st.integers(1, 255))
def test_a_changed_byte_is_seen(place: int, change: int) -> None:
    """Anywhere in the slot."""
    content = bytearray(encode_slot(Slot(3, OUTAGE)))
    content[place] ^= change
    assert parse_slot(bytes(content)) is None


@given(st.integers(1, SLOT_BYTES - 1))
def test_a_torn_slot_is_seen(place: int) -> None:
    """One of which only the beginning, or only the rest, reached the disk."""
    new, old = encode_slot(Slot(19, OUTAGE)), encode_slot(Slot(3, replace(OUTAGE, refused=1)))
    torn = new[:place] + old[place:]
    assert parse_slot(torn) in (None, Slot(19, OUTAGE), Slot(3, replace(OUTAGE, refused=1)))
    assert parse_slot(new[:place] + bytes(SLOT_BYTES - place)) in (None, Slot(19, OUTAGE))


@given(st.binary(max_size=200))
def test_any_bytes_are_no_slot(content: bytes) -> None:
    """Zeros were never written; all else is damaged."""
    padded = content.ljust(SLOT_BYTES, b"\0")
    assert parse_slot(padded) == (None if content.strip(b"\0") else NEVER_WRITTEN)
    assert parse_slot(content) is None


def _with_digest(content: bytes) -> bytes:
    from hashlib import sha256

    return sha256(content).digest() + content


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, b"GWOUT-02"), (16, b"\x7f" * 8), (50, b"\xff" * 4)],
    ids=["another format", "a time out of range", "a cause that is no UTF-8"],
)
def test_a_slot_of_another_form_is_none(place: int, value: bytes) -> None:
    """Even with a good digest: a later release, or nobody's."""
    content = bytearray(encode_slot(Slot(3, OUTAGE))[32:])
    content[place : place + len(value)] = value
    assert parse_slot(_with_digest(bytes(content))) is None


def test_the_newest_slot_counts() -> None:
    """Whatever its place; damaged ones are named."""
    slots = [encode_slot(Slot(17, None)), bytes(SLOT_BYTES), encode_slot(Slot(3, OUTAGE))]
    assert newest_slot(b"".join(slots)) == (Slot(17, None), [])
    assert newest_slot(b"x" + b"".join(slots)[1:]) == (Slot(3, OUTAGE), [0])
    assert newest_slot(bytes(2 * SLOT_BYTES)) == (NEVER_WRITTEN, [])
