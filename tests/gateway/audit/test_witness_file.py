"""The witness file holds the newest checkpoint, whatever fails, and what contradicts it never takes its place."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from gateway.audit.checkpoints import Checkpoint, sign_checkpoint
from gateway.audit.merkle import EMPTY_ROOT
from gateway.audit.places import WitnessDisagreementError, WitnessUnavailableError
from gateway.audit.replaced_files import Disk
from gateway.audit.witness_file import WitnessFile, read_witness_file
from gateway.store.database import open_database, write_transaction
from tests.gateway.audit.sample_log import STRANGER, flipped
from tests.gateway.audit.witness_world import GrowingLedger, copy_database
from tests.gateway.ledgers import signer_of


@pytest.fixture
def ledger(sqlite_engine: Engine) -> GrowingLedger:
    """An empty ledger."""
    return GrowingLedger(sqlite_engine)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is."""
    folder = tmp_path / "witness"
    folder.mkdir()
    return folder / "gateway.checkpoint"


class FaultyDisk(Disk):
    """Fails at one of its calls, before or after it has taken effect."""

    def __init__(self, *, at: int, after: bool) -> None:
        self.at, self.after, self.calls = at, after, 0

    def _try(self, call: Callable[[], None]) -> None:
        self.calls += 1
        if self.calls != self.at:
            call()
            return
        if self.after:
            call()
        raise OSError(28, "No space left on device")

    def write(self, descriptor: int, content: bytes) -> None:
        """Half of it counts as before."""
        if not self.after and self.calls + 1 == self.at:
            super().write(descriptor, content[: len(content) // 2])
        self._try(lambda: super(FaultyDisk, self).write(descriptor, content))

    def sync(self, descriptor: int) -> None:
        """Make durable."""
        self._try(lambda: super(FaultyDisk, self).sync(descriptor))

    def rename(self, source: Path, target: Path) -> None:
        """Take the name."""
        self._try(lambda: super(FaultyDisk, self).rename(source, target))


def test_each_larger_checkpoint_takes_its_place(ledger: GrowingLedger, path: Path) -> None:
    """And a reader with the ledger's key believes it."""
    file = WitnessFile(path, history=ledger.history)
    assert file.read() is None
    for size in (3, 5):
        signed = ledger.grow(size - ledger.history.size())
        assert size == file.publish(signed)
        held = read_witness_file(path, ledger.verifier)
        assert held is not None
        assert signed.checkpoint == held.checkpoint


def test_a_smaller_one_never_does(ledger: GrowingLedger, path: Path) -> None:
    """Two processes of a ledger may publish in any order."""
    smaller, larger = ledger.grow(2), ledger.grow(2)
    WitnessFile(path, history=ledger.history).publish(larger)
    assert 4 == WitnessFile(path, history=ledger.history).publish(smaller)
    assert larger.note == path.read_bytes()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_step_that_fails_leaves_the_old_or_the_new(
    ledger: GrowingLedger, path: Path, at: int, *, after: bool
) -> None:
    """Writing, syncing, renaming, syncing the folder: each can fail, and each can fail when it is done."""
    old = ledger.grow(2)
    WitnessFile(path, history=ledger.history).publish(old)
    new = ledger.grow(2)
    disk = FaultyDisk(at=at, after=after)
    file = WitnessFile(path, history=ledger.history, disk=disk)
    with pytest.raises(WitnessUnavailableError, match="No space left"):
        file.publish(new)
    is_renamed = at == 4 or (at == 3 and after)
    assert (new if is_renamed else old).note == path.read_bytes()
    before = disk.calls
    assert 4 == file.publish(new)
    assert new.note == path.read_bytes()
    # What was renamed already is still made durable.
    assert before < disk.calls


def test_another_ledgers_file_is_not_overwritten(ledger: GrowingLedger, path: Path) -> None:
    """Nor is any other file that was named by mistake."""
    stranger = sign_checkpoint(Checkpoint(STRANGER.name, 0, EMPTY_ROOT), STRANGER)
    for content in (stranger, b"", b"the only copy of something\n"):
        path.write_bytes(content)
        with pytest.raises(WitnessDisagreementError, match="holds no checkpoint that the key of"):
            WitnessFile(path, history=ledger.history).publish(ledger.grow(1))
        assert content == path.read_bytes()


def test_a_file_of_which_one_bit_is_wrong_is_not_believed(
    ledger: GrowingLedger, path: Path
) -> None:
    """Whoever can write the file cannot make up a checkpoint."""
    for content in flipped(ledger.grow(1).note)[::7]:
        path.write_bytes(content)
        with pytest.raises(WitnessDisagreementError):
            read_witness_file(path, ledger.verifier)


def test_a_file_ahead_of_the_database_is_a_disagreement(
    ledger: GrowingLedger, path: Path, tmp_path: Path
) -> None:
    """The copy from before it was written goes on with other records, and does not get the file."""
    ledger.grow(2)
    copy = copy_database(ledger.engine, tmp_path / "copy.db")
    ahead = ledger.grow(3)
    WitnessFile(path, history=ledger.history).publish(ahead)
    older = open_database(f"sqlite:///{copy}")
    rolled_back = GrowingLedger(older)
    for count in (1, 5):
        signed = rolled_back.grow(count, word="other")
        with pytest.raises(WitnessDisagreementError, match="does not go on from"):
            WitnessFile(path, history=rolled_back.history).publish(signed)
    older.dispose()
    assert ahead.note == path.read_bytes()


def test_a_signed_fork_of_the_same_size_is_a_disagreement(
    ledger: GrowingLedger, path: Path
) -> None:
    """Whoever has the key could sign it; the file shows it all the same."""
    signed = ledger.grow(2)
    fork = sign_checkpoint(Checkpoint("gateway", 2, bytes(32)), signer_of())
    path.write_bytes(fork)
    with pytest.raises(WitnessDisagreementError):
        WitnessFile(path, history=ledger.history).publish(signed)
    assert fork == path.read_bytes()


@pytest.mark.parametrize("is_removed", [True, False], ids=["removed", "older"])
def test_a_file_that_is_taken_away_while_running_is_told_once_and_begun_anew(
    ledger: GrowingLedger, path: Path, *, is_removed: bool
) -> None:
    """An older checkpoint in its place is the same."""
    told: list[str] = []
    file = WitnessFile(path, history=ledger.history, on_lost=told.append)
    older = ledger.grow(2)
    file.publish(older)
    file.publish(ledger.grow(2))
    assert [] == told
    path.unlink() if is_removed else path.write_bytes(older.note)
    newest = ledger.grow(1)
    assert 5 == file.publish(newest)
    file.publish(ledger.grow(1))
    assert 1 == len(told)
    assert "it had one of 4 records" in told[0]


def test_a_folder_that_is_not_there_is_told_with_what_to_do(
    ledger: GrowingLedger, tmp_path: Path
) -> None:
    """It is never made: a volume that is not mounted would be hidden by it."""
    file = WitnessFile(tmp_path / "volume" / "file", history=ledger.history)
    with pytest.raises(WitnessUnavailableError, match="No such file or directory"):
        file.publish(ledger.grow(1))
    with pytest.raises(WitnessUnavailableError, match="mount or make its folder"):
        file.read()
    assert not (tmp_path / "volume").exists()


def test_a_database_that_fails_leaves_the_file(ledger: GrowingLedger, path: Path) -> None:
    """What the file holds cannot be compared, so it stays."""
    held = ledger.grow(1)
    WitnessFile(path, history=ledger.history).publish(held)
    larger = ledger.grow(1)
    with write_transaction(ledger.engine) as connection:
        connection.execute(text("ALTER TABLE audit_records RENAME TO away"))
    with pytest.raises(WitnessUnavailableError, match="the database failed"):
        WitnessFile(path, history=ledger.history).publish(larger)
    assert held.note == path.read_bytes()


def test_the_database_is_asked_only_about_what_others_wrote(
    ledger: GrowingLedger, path: Path
) -> None:
    """Once a second, a publisher that is alone needs no query."""
    file = WitnessFile(path, history=ledger.history)
    file.publish(ledger.grow(1))
    larger = ledger.grow(1)
    with write_transaction(ledger.engine) as connection:
        connection.execute(text("ALTER TABLE audit_records RENAME TO away"))
    assert 2 == file.publish(larger)


def test_copies_of_a_file_elsewhere_are_readable(ledger: GrowingLedger, path: Path) -> None:
    """An auditor takes it away and needs the public key alone."""
    signed = ledger.grow(1)
    WitnessFile(path, history=ledger.history).publish(signed)
    taken = path.with_name("taken")
    shutil.copy(path, taken)
    held = read_witness_file(taken, ledger.verifier)
    assert held is not None
    assert 1 == held.checkpoint.size
