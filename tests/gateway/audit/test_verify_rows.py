"""Checking rows by themselves: the short way for good pages, and the long one that says what is wrong."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.verify_copies import CopyComparison
from gateway.audit.verify_faults import Fault
from gateway.audit.verify_rows import COLUMNS, Row, check_rows, explain_row
from tests.gateway.audit.signed_ledger import entry


def row(number: int, **changed: object) -> Row:
    """The row of a record, with other values."""
    written = entry(number)
    values: dict[str, Any] = {name: getattr(written, name, number) for name in COLUMNS} | changed
    return tuple(values[name] for name in COLUMNS)


def checked(*rows: Row, start: int = 0) -> tuple[int, Fault | None]:
    """How many leaf hashes of good rows there are, and the first fault."""
    found = check_rows(rows, start=start, comparison=CopyComparison())
    return len(found.leaf_hashes), found.first_bad


def test_good_rows_give_their_leaf_hashes() -> None:
    """From wherever they start; none give none."""
    rows = [row(number) for number in range(5, 9)]
    found = check_rows(rows, start=5, comparison=CopyComparison())
    assert [entry(number).leaf_hash for number in range(5, 9)] == found.leaf_hashes
    assert found.first_bad is None
    assert (0, None) == checked()


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"position": 3}, "missing"),
        ({"position": 17}, "missing"),
        ({"position": 2.5}, "unreadable"),
        ({"position": 2.0}, "unreadable"),
        ({"position": "2"}, "unreadable"),
        ({"position": True}, "unreadable"),
        ({"body": b"{}"}, "unreadable"),
        ({"body": None}, "unreadable"),
        ({"body": "\ud800"}, "unreadable"),
        ({"body": "{}"}, "changed"),
        ({"leaf_hash": b"\7" * 32}, "changed"),
        ({"leaf_hash": "7" * 32}, "unreadable"),
        ({"leaf_hash": None}, "unreadable"),
        ({"recorded_at": None}, "unreadable"),
        ({"recorded_at": b"2031"}, "unreadable"),
        ({"recorded_at": "2031"}, "index_differs"),
        ({"request_id": 17}, "unreadable"),
        ({"subject": "another"}, "index_differs"),
        ({"model_name": None}, "index_differs"),
    ],
)
def test_what_is_wrong_is_said(changed: dict[str, object], kind: str) -> None:
    """Of the first bad row; those before it are good."""
    count, fault = checked(row(0), row(1), row(2, **changed), row(3, body="bad"))
    assert fault is not None
    assert (2, 2, 2, kind) == (count, fault.position, fault.last, fault.kind)


def test_a_position_that_is_there_twice_is_said() -> None:
    """As that position."""
    count, fault = checked(row(0), row(1), row(1), row(2))
    assert fault is not None
    assert (2, 1, "extra") == (count, fault.position, fault.kind)


values = st.none() | st.integers(-2, 5) | st.text(max_size=4) | st.binary(max_size=40) | st.floats()


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(COLUMNS), values), max_size=3))
def test_the_short_way_agrees_with_the_long_one(
    changes: list[tuple[int, str, object]],
) -> None:
    """Whatever of whatever type stands in a page."""
    rows = [row(number) for number in range(4)]
    for number, name, value in changes:
        place = COLUMNS.index(name)
        rows[number] = (*rows[number][:place], value, *rows[number][place + 1 :])
    faults = [explain_row(one, position) for position, one in enumerate(rows)]
    bad = [number for number, fault in enumerate(faults) if fault is not None]
    expected = (bad[0], faults[bad[0]]) if bad else (4, None)
    assert expected == checked(*rows)
