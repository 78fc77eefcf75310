"""Beginning a ledger: once, by one key, over nothing or over what a release before left."""

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import OperationalError

from gateway.audit.creation import create_ledger, verifier_of_ledger
from gateway.audit.entries import audit_record
from gateway.audit.notes import NoteSigner
from gateway.errors import LedgerError
from gateway.store.queries.audit import insert_audit_records
from gateway.store.queries.audit_trees import find_ledger, insert_checkpoint
from tests.gateway.audit.conftest import ORIGIN
from tests.gateway.audit.faults import Fault
from tests.gateway.audit.stored_logs import entries
from tests.gateway.audit.tampering import change_record
from tests.gateway.ledgers import checked_bodies, signed_sizes, signer_of

NOW = datetime(2031, 5, 6, tzinfo=UTC)
SIGNER = signer_of(ORIGIN)


def leave(engine: Engine, size: int) -> None:
    """Records as the migration leaves them."""
    records = [audit_record(e, origin=ORIGIN, position=n) for n, e in enumerate(entries(0, size))]
    with engine.begin() as connection:
        insert_audit_records(connection, records)


def test_a_new_ledger_is_empty_and_signed(engine: Engine) -> None:
    """Its row names the key and the time."""
    assert verifier_of_ledger(engine, ORIGIN) is None
    assert create_ledger(engine, SIGNER, now=NOW) == 0
    assert verifier_of_ledger(engine, ORIGIN) == SIGNER.verifier.line()
    assert (checked_bodies(engine, ORIGIN), signed_sizes(engine, ORIGIN)) == ([], [0])
    with engine.connect() as connection:
        found = find_ledger(connection, ORIGIN)
    assert found is not None
    assert found.created_at == NOW


@pytest.mark.parametrize("size", [1, 5001, 5632])
def test_records_of_before_become_its_beginning(engine: Engine, size: int) -> None:
    """With the nodes that they fill."""
    leave(engine, size)
    assert size == create_ledger(engine, SIGNER, now=NOW)
    assert size == len(checked_bodies(engine, ORIGIN))
    assert [size] == signed_sizes(engine, ORIGIN)


def test_a_ledger_begins_once(engine: Engine) -> None:
    """Neither its own key nor another begins it anew."""
    create_ledger(engine, SIGNER, now=NOW)
    for signer in (SIGNER, NoteSigner(ORIGIN, Ed25519PrivateKey.generate())):
        with pytest.raises(LedgerError, match=r"there is a ledger .* already"):
            create_ledger(engine, signer, now=NOW)
    assert signed_sizes(engine, ORIGIN) == [0]


def test_ledgers_of_other_origins_stand_beside_it(engine: Engine) -> None:
    """A replica begins its own."""
    create_ledger(engine, SIGNER, now=NOW)
    create_ledger(engine, signer_of("other"), now=NOW)
    assert verifier_of_ledger(engine, "other") == signer_of("other").verifier.line()


@pytest.mark.parametrize("value", ["verifier = x'00'", "created_at = 'never'"])
def test_a_row_that_cannot_be_read_is_no_missing_one(sqlite_engine: Engine, value: str) -> None:
    """Nothing is begun in its place."""
    create_ledger(sqlite_engine, SIGNER, now=NOW)
    with sqlite_engine.begin() as connection:
        connection.execute(text(f"UPDATE audit_ledgers SET {value}"))
    with pytest.raises(LedgerError, match=r"cannot be read .*restore the database"):
        verifier_of_ledger(sqlite_engine, ORIGIN)
    with pytest.raises(LedgerError, match=r"cannot be read .*restore the database"):
        create_ledger(sqlite_engine, SIGNER, now=NOW)


def test_a_ledger_that_lost_its_row_is_not_begun_anew(engine: Engine) -> None:
    """Its checkpoints say that there was one."""
    with engine.begin() as connection:
        insert_checkpoint(connection, ORIGIN, size=0, note="a note")
    with pytest.raises(LedgerError, match="its row is missing: restore the database"):
        create_ledger(engine, SIGNER, now=NOW)


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM audit_records WHERE position = 2",
        "DELETE FROM audit_records WHERE position = 0",
        "UPDATE audit_records SET position = -1 WHERE position = 0",
        "UPDATE audit_records SET body = 'x' WHERE position = 2",
    ],
)
def test_records_with_a_gap_are_not_taken_over(engine: Engine, damage: str) -> None:
    """Signing them would bury what is wrong."""
    leave(engine, 5)
    with engine.begin() as connection:
        connection.execute(text(damage))
    with pytest.raises(LedgerError, match="cannot be taken over: "):
        create_ledger(engine, SIGNER, now=NOW)
    assert verifier_of_ledger(engine, ORIGIN) is None


@pytest.mark.parametrize("size", [0, 5])
def test_a_record_hidden_below_the_first_is_not_taken_over(engine: Engine, size: int) -> None:
    """Nor passed by, which would begin a ledger that its own verification refuses."""
    leave(engine, size + 1)
    with engine.begin() as connection:
        # From the last place to before the first one.
        moved = f"UPDATE audit_records SET position = -1 WHERE position = {size}"
        connection.execute(text(moved))
    with pytest.raises(LedgerError, match="cannot be taken over: "):
        create_ledger(engine, SIGNER, now=NOW)
    assert verifier_of_ledger(engine, ORIGIN) is None


def test_a_leaf_hash_that_is_not_the_bodys_is_not_taken_over(engine: Engine) -> None:
    """The same."""
    leave(engine, 5)
    with engine.begin() as connection:
        change_record(connection, 2, leaf_hash=bytes(32))
    with pytest.raises(LedgerError, match="record 2 is missing or was changed"):
        create_ledger(engine, SIGNER, now=NOW)


@pytest.mark.parametrize("persists", [False, True], ids=["not persisted", "persisted"])
@pytest.mark.parametrize("step", ["begin", "insert nodes", "insert checkpoint", "commit"])
def test_each_step_can_fail(engine: Engine, step: str, persists: bool) -> None:
    """Then there is no ledger, or all of it."""
    leave(engine, 300)
    fault = Fault(engine, step, persists=persists)
    with pytest.raises(OperationalError):
        create_ledger(engine, SIGNER, now=NOW)
    fault.mend()
    is_there = step == "commit" and persists
    assert is_there == (verifier_of_ledger(engine, ORIGIN) is not None)
    if not is_there:
        assert create_ledger(engine, SIGNER, now=NOW) == 300
    assert len(checked_bodies(engine, ORIGIN)) == 300
    assert signed_sizes(engine, ORIGIN) == [300]


def test_beginning_holds_off_whoever_begins_too(postgres_engine: Engine) -> None:
    """By the lock that appending takes."""
    statements: list[str] = []
    event.listen(postgres_engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    create_ledger(postgres_engine, SIGNER, now=NOW)
    assert "pg_advisory_xact_lock" in statements[0]
