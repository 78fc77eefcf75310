"""Stored ledgers of any size: bodies, leaf hashes and nodes, without the writer."""

from collections.abc import Sequence

from sqlalchemy import Connection, Engine

from gateway.audit.entries import Entry
from gateway.audit.tail import EMPTY_TAIL, Tail, extend_tail
from tests.gateway.audit.conftest import ORIGIN
from tests.gateway.audit.sample_log import leaf

BODIES = tuple(str(number) for number in range(70_000))
LEAVES = tuple(leaf(body.encode()) for body in BODIES)


def entries(start: int, end: int) -> list[Entry]:
    """Entries that need not be events."""
    return [
        Entry(body, leaf_hash, "", "", "", None, None, None)
        for body, leaf_hash in zip(BODIES[start:end], LEAVES[start:end], strict=True)
    ]


def store(
    connection: Connection, size: int, *, tail: Tail = EMPTY_TAIL, origin: str = ORIGIN
) -> Tail:
    """Make a stored ledger this large; its tail."""
    return extend_tail(connection, origin, tail, entries(tail.size, size))


def stored(engine: Engine, sizes: Sequence[int]) -> Tail:
    """A ledger that grew through these sizes."""
    tail = EMPTY_TAIL
    for size in sizes:
        with engine.begin() as connection:
            tail = store(connection, size, tail=tail)
    return tail
