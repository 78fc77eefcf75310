"""A ledger that is changed under a running writer: nothing more is signed or written, until it is what it was."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Engine, text

from gateway.audit.checkpoints import Checkpoint, SignedCheckpoint, sign_checkpoint
from gateway.audit.events import AuditEvent
from gateway.audit.notes import NoteSigner
from gateway.audit.writer import AuditLog
from gateway.errors import AuditUnavailableError
from gateway.store.tables import audit_checkpoints, audit_nodes
from tests.gateway.audit.conftest import ORIGIN
from tests.gateway.audit.sample_log import leaf
from tests.gateway.audit.tampering import change_record, copied, cut, put_back
from tests.gateway.audit.test_writer_faults import fill
from tests.gateway.ledgers import open_log, signed_sizes, signer_of

MakeEvent = Callable[..., AuditEvent]
CheckLedger = Callable[[], list[str]]
Tamper = Callable[[Connection], object]

SIGNED, SIZE = 290, 300
BROKEN = "the ledger does not go on from what was written and signed: "


def _forge_checkpoint(connection: Connection, signer: NoteSigner, *, size: int) -> None:
    note = sign_checkpoint(Checkpoint(ORIGIN, size, bytes(32)), signer).decode()
    table = audit_checkpoints
    connection.execute(table.update().where(table.c.size == SIGNED).values(note=note))


def _move_old_note(connection: Connection) -> None:
    table = audit_checkpoints
    connection.execute(table.delete().where(table.c.size == SIGNED))
    connection.execute(table.update().where(table.c.size == 0).values(size=SIGNED))


TAMPERS: dict[str, Tamper] = {
    "leaf hash after what was signed": lambda c: change_record(c, 295, leaf_hash=bytes(32)),
    "leaf hash of what was signed": lambda c: change_record(c, 280, leaf_hash=bytes(32)),
    "body and leaf hash of a record": lambda c: change_record(
        c, 295, body="{}", leaf_hash=leaf(b"{}")
    ),
    "last record": lambda c: change_record(c, 299, body="{}", leaf_hash=leaf(b"{}")),
    "node": lambda c: c.execute(audit_nodes.update().values(node_hash=bytes(32))),
    "no nodes": lambda c: c.execute(audit_nodes.delete()),
    "record taken out": lambda c: c.execute(text("DELETE FROM audit_records WHERE position = 285")),
    "no checkpoints": lambda c: c.execute(audit_checkpoints.delete()),
    "newest checkpoint gone": lambda c: c.execute(
        audit_checkpoints.delete().where(audit_checkpoints.c.size == SIGNED)
    ),
    "newest checkpoint of a stranger": lambda c: _forge_checkpoint(
        c, NoteSigner(ORIGIN, Ed25519PrivateKey.generate()), size=SIGNED
    ),
    "newest checkpoint of another tree": lambda c: _forge_checkpoint(
        c, signer_of(ORIGIN), size=SIGNED
    ),
    "newest checkpoint of another size": lambda c: _forge_checkpoint(
        c, signer_of(ORIGIN), size=280
    ),
    "old checkpoint in the place of the newest": _move_old_note,
    "cut below what was signed": lambda c: cut(c, SIGNED - 1),
    "cut at what was signed": lambda c: cut(c, SIGNED),
    "emptied": lambda c: cut(c, 0),
}


@pytest.fixture
def grown(engine: Engine, audit_log: AuditLog, make_event: MakeEvent) -> AuditLog:
    """A running log with SIZE records, of which SIGNED are signed."""
    fill(audit_log, make_event, SIGNED)
    audit_log.checkpoint_blocking()
    fill(audit_log, make_event, SIZE - SIGNED)
    return audit_log


@pytest.mark.parametrize("tamper", TAMPERS.values(), ids=TAMPERS)
def test_nothing_more_is_signed_or_written(
    engine: Engine,
    grown: AuditLog,
    make_event: MakeEvent,
    check_ledger: CheckLedger,
    tamper: Tamper,
) -> None:
    """And all goes on by itself once the database is what it was."""
    before = copied(engine)
    with engine.begin() as connection:
        tamper(connection)
    after = copied(engine)
    with pytest.raises(AuditUnavailableError) as caught:
        grown.checkpoint_blocking()
    assert caught.value.reason.startswith(BROKEN)
    assert (grown.is_broken, grown.is_failing) == (True, True)
    with pytest.raises(AuditUnavailableError) as refused:
        grown.append_blocking(make_event())
    assert caught.value.reason == refused.value.reason
    assert after == copied(engine)
    put_back(engine, before)
    assert grown.checkpoint_blocking().checkpoint.size == SIZE
    assert grown.append_blocking(make_event()) == SIZE
    assert (grown.is_broken, grown.is_failing) == (False, False)
    assert len(check_ledger()) == SIZE + 1


def test_an_older_copy_is_not_written_on(
    engine: Engine, audit_log: AuditLog, make_event: MakeEvent
) -> None:
    """A backup that was restored under a running gateway lacks what was acknowledged."""
    fill(audit_log, make_event, 5)
    audit_log.checkpoint_blocking()
    backup = copied(engine)
    fill(audit_log, make_event, 5)
    audit_log.checkpoint_blocking()
    put_back(engine, backup)
    with pytest.raises(AuditUnavailableError) as caught:
        audit_log.append_blocking(make_event())
    assert caught.value.reason.startswith(f"{BROKEN}the ledger lost records that were durable")
    assert audit_log.is_broken
    assert backup == copied(engine)


def test_an_older_copy_that_others_wrote_on_is_not_written_on(
    engine: Engine, audit_log: AuditLog, make_event: MakeEvent
) -> None:
    """Even with the ledger's own key, another history under a running gateway is seen."""
    fill(audit_log, make_event, 5)
    backup = copied(engine)
    fill(audit_log, make_event, 5)
    put_back(engine, backup)
    other = open_log(engine, ORIGIN)
    for number in range(20):
        other.append_blocking(make_event(number))
    assert other.close()
    with pytest.raises(AuditUnavailableError) as caught:
        audit_log.append_blocking(make_event())
    assert caught.value.reason.startswith(f"{BROKEN}the ledger lost records that were durable")
    assert signed_sizes(engine, ORIGIN) == [0, 25]


def test_a_broken_ledger_is_looked_at_again_by_itself(
    engine: Engine, make_event: MakeEvent
) -> None:
    """Nobody has to ask."""
    signed = threading.Event()
    seen: list[SignedCheckpoint] = []

    def on_checkpoint(checkpoint: SignedCheckpoint) -> None:
        seen.append(checkpoint)
        signed.set()

    log = open_log(engine, ORIGIN, checkpoint_seconds=0.05, on_checkpoint=on_checkpoint)
    fill(log, make_event, 5)
    assert signed.wait(20)
    before = copied(engine)
    with engine.begin() as connection:
        cut(connection, 2)
    with pytest.raises(AuditUnavailableError):
        log.append_blocking(make_event())
    assert log.is_broken is True
    signed.clear()
    put_back(engine, before)
    assert signed.wait(20)
    assert log.append_blocking(make_event()) == 5
    assert (log.is_broken, log.is_failing) == (False, False)
    assert log.close()


def test_a_last_record_of_a_wrong_type_refuses(
    sqlite_engine: Engine, make_event: MakeEvent
) -> None:
    """With a reason that says where to look, not as a bug."""
    log = open_log(sqlite_engine, ORIGIN)
    for number in range(2):
        log.append_blocking(make_event(number))
    with sqlite_engine.begin() as connection:
        connection.execute(text("UPDATE audit_records SET position = 'abc' WHERE position = 1"))
    with pytest.raises(AuditUnavailableError) as caught:
        log.append_blocking(make_event(2))
    assert caught.value.reason == f"{BROKEN}the ledger's last record cannot be read"
    assert log.close()


def test_a_checkpoint_of_a_wrong_type_refuses(sqlite_engine: Engine, make_event: MakeEvent) -> None:
    """As SQLite can hold one."""
    log = open_log(sqlite_engine, ORIGIN)
    log.append_blocking(make_event())
    with sqlite_engine.begin() as connection:
        connection.execute(text("UPDATE audit_checkpoints SET note = x'00' "))
    with pytest.raises(AuditUnavailableError) as caught:
        log.checkpoint_blocking()
    assert caught.value.reason == f"{BROKEN}the checkpoint of size 0 has values of wrong types"
    assert log.close()


def test_ledger_whose_file_was_deleted_is_not_written_on(
    sqlite_engine: Engine, tmp_path: Path, make_event: MakeEvent
) -> None:
    """A record in a file without a name would be acknowledged and lost."""
    log = open_log(sqlite_engine, ORIGIN)
    log.append_blocking(make_event(0))
    (tmp_path / "gatewatch.db").unlink()
    for number in (1, 2):
        with pytest.raises(AuditUnavailableError):
            log.append_blocking(make_event(number))
    assert log.close()
