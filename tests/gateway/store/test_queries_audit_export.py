"""SQL that reads ledgers to be exported, on both databases."""

import pytest
from sqlalchemy import Engine

from gateway.store.queries.audit import insert_audit_records
from gateway.store.queries.audit_export import find_first_since, load_leaves
from gateway.store.records import AuditRecord


def record(position: int, origin: str = "a", *, second: int = 0) -> AuditRecord:
    """A record that need not verify."""
    time = f"2031-05-06T07:08:{second:02d}.000000Z"
    return AuditRecord(
        origin, position, f"body {position}", bytes([position]) * 32, time, "predict", "failed",
        None, None, None,
    )  # fmt: skip


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """Two ledgers: a with positions 0 to 4, whose clock jumps back once, b with 0."""
    with engine.begin() as connection:
        seconds = (1, 5, 2, 5, 6)
        insert_audit_records(
            connection, [record(n, second=second) for n, second in enumerate(seconds)]
        )
        insert_audit_records(connection, [record(0, origin="b", second=9)])
    return engine


def test_leaves_are_those_of_a_range(filled: Engine) -> None:
    """From the first to before the last, in order; beyond the end there are none."""
    with filled.connect() as connection:
        found = load_leaves(connection, "a", 1, 3)
        beyond = load_leaves(connection, "a", 4, 99)
    assert [(1, "body 1", b"\x01" * 32), (2, "body 2", b"\x02" * 32)] == found
    assert [4] == [position for position, _, _ in beyond]


@pytest.mark.parametrize(("second", "expected"), [(0, 0), (2, 1), (5, 1), (6, 4), (7, None)])
def test_the_first_since_is_the_lowest_position(
    filled: Engine, second: int, expected: int | None
) -> None:
    """Not the first by time, behind which a record of that time could stand earlier."""
    with filled.connect() as connection:
        since = f"2031-05-06T07:08:{second:02d}.000000Z"
        assert expected == find_first_since(connection, "a", since)
