"""Signing: one history, whatever the database says; the tests of the writer tamper under it."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine

from gateway.audit.checkpoints import Checkpoint, open_checkpoint
from gateway.audit.merkle import LogInvalidError
from gateway.audit.signing import CheckpointSigner, require_continued
from gateway.audit.tail import Tail, follow_tail
from gateway.store.queries.audit_trees import find_newest_checkpoint
from gateway.store.tables import audit_checkpoints
from tests.gateway.audit.conftest import ORIGIN
from tests.gateway.audit.sample_log import root
from tests.gateway.audit.stored_logs import LEAVES, store
from tests.gateway.audit.tampering import change_record
from tests.gateway.ledgers import begin_ledger, signer_of


def checkpoint(size: int) -> Checkpoint:
    """The true checkpoint of this size."""
    return Checkpoint(ORIGIN, size, root(LEAVES[:size]))


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """A ledger that was begun, in a transaction."""
    begin_ledger(engine, ORIGIN)
    with engine.begin() as opened:
        yield opened


@pytest.fixture
def signer() -> CheckpointSigner:
    """The ledger's signer."""
    return CheckpointSigner(signer_of(ORIGIN))


def grown(connection: Connection, size: int) -> Tail:
    """The ledger grown to this size."""
    return store(connection, size, tail=follow_tail(connection, ORIGIN, None))


def test_a_checkpoint_is_stored_as_it_is_given(
    connection: Connection, signer: CheckpointSigner
) -> None:
    """Of the true root, with a signature that verifies."""
    signed = signer.sign(connection, grown(connection, 300))
    assert signed.checkpoint == checkpoint(300)
    stored = find_newest_checkpoint(connection, ORIGIN)
    assert stored is not None
    assert (stored.size, stored.note.encode()) == (300, signed.note)
    verifiers = [signer_of(ORIGIN).verifier]
    assert signed == open_checkpoint(signed.note, origin=ORIGIN, verifiers=verifiers)


def test_one_tree_is_signed_once(connection: Connection, signer: CheckpointSigner) -> None:
    """Also by another process."""
    tail = grown(connection, 3)
    first = signer.sign(connection, tail)
    assert first == signer.sign(connection, tail)
    assert first == CheckpointSigner(signer_of(ORIGIN)).sign(connection, tail)


def test_a_ledger_that_was_not_begun_is_not_signed(
    engine: Engine, signer: CheckpointSigner
) -> None:
    """Nothing begins one by itself."""
    with engine.begin() as connection:
        tail = grown(connection, 3)
        with pytest.raises(LogInvalidError, match="it has no signed beginning"):
            signer.sign(connection, tail)


@pytest.mark.parametrize("size", [1, 2, 3, 256, 299, 300])
def test_a_tree_that_goes_on_from_what_witnesses_saw_is_signed(
    connection: Connection, size: int
) -> None:
    """However long ago."""
    signer = CheckpointSigner(signer_of(ORIGIN), witnessed=[checkpoint(size)])
    assert signer.sign(connection, grown(connection, 300)).checkpoint == checkpoint(300)


@pytest.mark.parametrize("size", [1, 2, 3, 256, 299, 300])
def test_a_tree_that_witnesses_saw_otherwise_is_not_signed(
    connection: Connection, size: int
) -> None:
    """Also where it has the same size."""
    other = Checkpoint(ORIGIN, size, root(LEAVES[1 : size + 1]))
    signer = CheckpointSigner(signer_of(ORIGIN), witnessed=[other])
    with pytest.raises(LogInvalidError):
        signer.sign(connection, grown(connection, 300))


def test_a_tree_shorter_than_what_witnesses_saw_is_not_signed(connection: Connection) -> None:
    """Somebody restored an older copy."""
    signer = CheckpointSigner(signer_of(ORIGIN), witnessed=[checkpoint(301)])
    with pytest.raises(LogInvalidError, match="it has 300 records, and 301 were signed"):
        signer.sign(connection, grown(connection, 300))


def test_what_this_process_signed_is_remembered(
    connection: Connection, signer: CheckpointSigner
) -> None:
    """A database without that checkpoint is an older copy, even if what is in it goes together."""
    tail = grown(connection, 3)
    signer.remember(signer.sign(connection, tail))
    connection.execute(audit_checkpoints.delete().where(audit_checkpoints.c.size == 3))
    with pytest.raises(LogInvalidError, match="the checkpoint of 3 records is gone"):
        signer.sign(connection, tail)


def test_what_was_not_committed_is_not_remembered(
    connection: Connection, signer: CheckpointSigner
) -> None:
    """It is signed again."""
    tail = grown(connection, 3)
    first = signer.sign(connection, tail)
    connection.execute(audit_checkpoints.delete().where(audit_checkpoints.c.size == 3))
    assert first == signer.sign(connection, tail)


def test_stored_hashes_must_show_that_a_tree_goes_on(connection: Connection) -> None:
    """Whoever asks may know both roots: it is the database that must show it."""
    grown(connection, 300)
    require_continued(connection, checkpoint(299), checkpoint(300))
    change_record(connection, 299, leaf_hash=bytes(32))
    with pytest.raises(LogInvalidError):
        require_continued(connection, checkpoint(299), checkpoint(300))
