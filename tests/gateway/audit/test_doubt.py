"""Whether a batch whose commit failed is in the ledger; the fault table tests what the writer makes of it."""

import concurrent.futures
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from gateway.audit.doubt import Doubt, is_persisted
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.tail import Tail
from gateway.audit.waiting import Waiting
from tests.gateway.audit.conftest import ORIGIN
from tests.gateway.audit.stored_logs import LEAVES, entries, store, stored

EVENT = AuditEvent(
    action=Action.PREDICT, outcome=Outcome.ADMITTED, recorded_at=datetime(2031, 5, 6, tzinfo=UTC)
)


def doubt_of(tail: Tail, size: int) -> Doubt:
    """The doubt about the records that follow a tail, up to this size."""
    return Doubt.of(tail, entries(tail.size, size), [], refusals=0)


def test_a_doubt_knows_place_hashes_and_callers(engine: Engine) -> None:
    """Of one batch."""
    waiting = Waiting(EVENT, None, concurrent.futures.Future())
    doubt = Doubt.of(stored(engine, [3]), entries(3, 5), [waiting], refusals=1)
    assert doubt == Doubt(3, list(LEAVES[3:5]), [EVENT], 1)


@pytest.mark.parametrize("size", [5, 6, 9])
def test_a_batch_that_is_there_persisted(engine: Engine, size: int) -> None:
    """Also where others wrote behind it."""
    doubt = doubt_of(stored(engine, [3]), 5)
    assert (doubt.position, list(doubt.leaf_hashes)) == (3, list(LEAVES[3:5]))
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM audit_records")
        store(connection, size)
        assert is_persisted(connection, ORIGIN, doubt)


def test_a_batch_that_is_not_there_did_not_persist(engine: Engine) -> None:
    """Neither at the end, nor where others took its place, nor in another ledger."""
    tail = stored(engine, [3])
    doubt = doubt_of(tail, 5)
    with engine.connect() as connection:
        assert not is_persisted(connection, ORIGIN, doubt)
        store(connection, 9, origin="other")
        assert not is_persisted(connection, ORIGIN, doubt)
        assert not is_persisted(connection, ORIGIN, Doubt(1, LEAVES[3:5], [], 0))
        assert not is_persisted(connection, ORIGIN, Doubt(1, LEAVES[1:4], [], 0))
