"""What was signed is found in the past of what is stored, or it is not."""

import pytest
from sqlalchemy import Engine, text

from gateway.audit.checkpoints import Checkpoint
from gateway.audit.events import Action
from gateway.audit.history import LedgerHistory
from gateway.audit.merkle import LogInvalidError, verify_consistency
from gateway.audit.notes import NoteSigner
from gateway.store.database import write_transaction
from tests.gateway.audit.sample_log import STRANGER
from tests.gateway.audit.witness_world import GrowingLedger


@pytest.fixture
def ledger(engine: Engine) -> GrowingLedger:
    """An empty ledger, in a database of each kind."""
    return GrowingLedger(engine)


def change(engine: Engine, statement: str) -> None:
    """What somebody does who can write the database."""
    with write_transaction(engine) as connection:
        connection.execute(text(statement))


def test_an_older_checkpoint_is_in_the_past_of_a_ledger(ledger: GrowingLedger) -> None:
    """As is the newest, and the empty one."""
    older, newest = ledger.grow(300), ledger.grow(7)
    assert 307 == ledger.history.size()
    for signed in (older, newest):
        ledger.history.require(signed.checkpoint)
    found = ledger.history.newest()
    assert found is not None
    assert newest.note == found.note
    proof = ledger.history.prove(old_size=300, size=307)
    verify_consistency(
        old_size=300,
        size=307,
        old_root=older.checkpoint.root,
        root=newest.checkpoint.root,
        proof=proof,
    )


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM audit_records WHERE position >= 4",
        "DELETE FROM audit_records",
        "DELETE FROM audit_records WHERE position = 1",
        "UPDATE audit_records SET leaf_hash = (SELECT leaf_hash FROM audit_records WHERE position = 0)"
        " WHERE position = 2",
    ],
)
def test_a_cut_or_changed_ledger_does_not_have_it(ledger: GrowingLedger, statement: str) -> None:
    """Each of these somebody could do behind the gateway's back."""
    signed = ledger.grow(6)
    change(ledger.engine, statement)
    with pytest.raises(LogInvalidError):
        ledger.history.require(signed.checkpoint)


def test_another_root_is_not_in_its_past(ledger: GrowingLedger) -> None:
    """At a size that it has."""
    ledger.grow(6)
    with pytest.raises(LogInvalidError):
        ledger.history.require(Checkpoint("gateway", 4, bytes(32)))


def test_a_checkpoint_of_another_key_is_not_its_newest(ledger: GrowingLedger) -> None:
    """Whoever can write the database can put one there, and not sign it."""
    ledger.grow(1)
    stranger = NoteSigner("gateway", STRANGER.private_key)
    assert LedgerHistory(ledger.engine, ledger.verifier).newest() is not None
    with pytest.raises(LogInvalidError):
        LedgerHistory(ledger.engine, stranger.verifier).newest()


@pytest.mark.parametrize(
    "change_of_it",
    ["note = x'00'", "note = CAST(x'ff' AS TEXT)", "size = 'x'", "size = 9", "note = 'made up'"],
)
def test_a_checkpoint_that_cannot_be_read_is_not_its_newest(
    sqlite_engine: Engine, change_of_it: str
) -> None:
    """SQLite stores any type in any column."""
    ledger = GrowingLedger(sqlite_engine)
    ledger.grow(1)
    change(sqlite_engine, f"UPDATE audit_checkpoints SET {change_of_it} WHERE size = 1")
    with pytest.raises(LogInvalidError):
        ledger.history.newest()


def test_a_ledger_that_was_never_begun_has_none(engine: Engine) -> None:
    """Nor records."""
    history = LedgerHistory(engine, STRANGER.verifier)
    assert history.newest() is None
    assert 0 == history.size()
    assert [] == list(history.newest_details(Action.AUDIT_WITNESS, limit=5))
