"""The file that remembers outages: made once, written in place, right again after every fault."""

import fcntl
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.audit import emergency
from gateway.audit.emergency import (
    FILE_BYTES,
    EmergencyFile,
    create_emergency_file,
    read_outage,
)
from gateway.audit.outage_slots import SLOT_BYTES, Outage
from gateway.errors import LedgerError

BEGAN = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
FULL, LOCKED = "database or disk is full", "database is locked"


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.seconds

    def now(self) -> datetime:
        """UTC."""
        return BEGAN + timedelta(seconds=self.seconds)


@pytest.fixture
def clock() -> Clock:
    """Stands still."""
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that was made."""
    file = tmp_path / "emergency.audit"
    assert create_emergency_file(file)
    return file


@pytest.fixture
def opened(path: Path, clock: Clock) -> Iterator[Callable[[], EmergencyFile]]:
    """Opens the file, as often as asked, as processes do; closes what is open in the end."""
    files: list[EmergencyFile] = []

    def open_file() -> EmergencyFile:
        files.append(EmergencyFile(path, clock=clock.now, monotonic=clock.monotonic))
        return files[-1]

    yield open_file
    for file in files:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "close", lambda _descriptor: None)
            file.close()


@pytest.fixture
def file(opened: Callable[[], EmergencyFile]) -> EmergencyFile:
    """The open file."""
    return opened()


Opener = Callable[[], EmergencyFile]


def told(file: EmergencyFile) -> list[str | None]:
    """The details of what is pending."""
    return [event.detail for event in file.pending()]


def at(seconds: float) -> str:
    """A time as a record says it."""
    return (BEGAN + timedelta(seconds=seconds)).isoformat(timespec="microseconds")[:-6] + "Z"


def detail(since: float, until: float, refused: int) -> str:
    """The detail of an outage."""
    return f"since={at(since)} until={at(until)} refused={refused}"


def test_the_file_takes_its_place_when_it_is_made(path: Path) -> None:
    """64 KiB that are written, its owner's alone."""
    status = path.stat()
    assert (status.st_size, status.st_mode & 0o777) == (65_536, 0o600)
    assert status.st_blocks * 512 >= 65_536
    assert path.read_bytes() == bytes(FILE_BYTES)


def test_a_file_that_is_there_is_kept(path: Path, file: EmergencyFile) -> None:
    """It may remember something."""
    file.note(reason=FULL, refused=1)
    before = path.read_bytes()
    assert not create_emergency_file(path)
    assert before == path.read_bytes()


def test_a_file_that_a_crash_left_short_is_completed(tmp_path: Path) -> None:
    """What a power cut leaves of a new file is its beginning."""
    short = tmp_path / "short"
    short.touch(mode=0o600)
    os.truncate(short, 5000)
    assert create_emergency_file(short)
    assert short.read_bytes() == bytes(FILE_BYTES)


def refusal(path: Path) -> str:
    """Why the file cannot be used, which opening, reading and making it say alike or better."""
    messages = set()
    for use in (lambda: EmergencyFile(path, clock=Clock().now), lambda: read_outage(path)):
        with pytest.raises(LedgerError) as caught:
            use()
        messages.add(caught.value.message)
    (message,) = messages
    return message


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    """A gateway does not make it: on a full disk it could not."""
    message = refusal(tmp_path / "absent")
    assert message == (
        f"GATEWAY_AUDIT_EMERGENCY_FILE {tmp_path}/absent: it does not exist: run `gateway audit create`, "
        "which makes it"
    )


def test_a_short_file_names_the_command_that_completes_it(path: Path) -> None:
    """It would take place on a disk that may be full."""
    os.truncate(path, 1000)
    assert "it is not whole: run `gateway audit create`" in refusal(path)


@pytest.mark.parametrize("mode", [0o660, 0o604])
def test_a_file_that_others_may_use_is_refused(path: Path, mode: int) -> None:
    """They could have outages recorded that never were."""
    path.chmod(mode)
    assert f"its mode is 0{mode:o}; chmod it to 0600" in refusal(path)
    with pytest.raises(LedgerError, match="chmod it"):
        create_emergency_file(path)


def test_a_file_of_somebody_else_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same."""
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    assert f"it belongs to user {mine}; chown it to user {mine + 1}" in refusal(path)


def test_what_is_no_such_file_is_refused_and_kept(tmp_path: Path) -> None:
    """A longer file is somebody's, a link leads elsewhere, a pipe is none."""
    long = tmp_path / "long"
    long.touch(mode=0o600)
    os.truncate(long, FILE_BYTES + 1)
    link = tmp_path / "link"
    link.symlink_to(long)
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "it is no file for outages; name another" in refusal(long)
    assert "it is no file for outages; name another" in refusal(tmp_path / "pipe")
    assert "it cannot be opened: " in refusal(link)
    with pytest.raises(LedgerError, match="name another"):
        create_emergency_file(long)
    with pytest.raises(LedgerError, match="it cannot be created: "):
        create_emergency_file(tmp_path / "absent" / "file")
    assert long.stat().st_size == FILE_BYTES + 1


def test_a_disk_without_space_is_told_when_the_file_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not when it is needed."""
    monkeypatch.setattr(os, "pwrite", _raise(28))
    with pytest.raises(LedgerError, match="it cannot be written: No space left on device"):
        create_emergency_file(tmp_path / "file")


def _raise(number: int) -> Callable[..., int]:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


def test_nothing_is_pending_at_first(path: Path, file: EmergencyFile) -> None:
    """And settling nothing writes nothing."""
    assert told(file) == []
    file.settle()
    assert path.read_bytes() == bytes(FILE_BYTES)


def test_the_first_refusal_is_durable_at_once(path: Path, file: EmergencyFile) -> None:
    """A process that dies now has said it."""
    file.note(reason=FULL, refused=3)
    assert read_outage(path) == Outage(BEGAN, BEGAN, 3, (FULL,))


def test_refusals_of_one_outage_are_one(path: Path, file: EmergencyFile, clock: Clock) -> None:
    """Written once a second at most; pending at any time, with all its causes."""
    for seconds, reason in ((0, FULL), (0.5, LOCKED), (0.9, FULL)):
        clock.seconds = seconds
        file.note(reason=reason, refused=2)
    assert read_outage(path) == Outage(BEGAN, BEGAN, 2, (FULL,))
    assert told(file) == [detail(0, 0.9, 6)]
    clock.seconds = 1.0
    file.note(reason=FULL, refused=1)
    assert read_outage(path) == Outage(BEGAN, clock.now(), 7, (FULL, LOCKED))
    (event,) = file.pending()
    assert event.reason == f"the audit store was unavailable: {FULL}; {LOCKED}"
    assert event.recorded_at == clock.now()


def test_a_record_settles_an_outage(path: Path, file: EmergencyFile, clock: Clock) -> None:
    """And the first of the next is written at once."""
    file.note(reason=FULL, refused=1)
    clock.seconds = 0.1
    file.note(reason=FULL, refused=1)
    assert told(file) == [detail(0, 0.1, 2)]
    file.settle()
    assert told(file) == []
    assert read_outage(path) is None
    clock.seconds = 0.2
    file.note(reason=LOCKED, refused=5)
    assert read_outage(path) == Outage(clock.now(), clock.now(), 5, (LOCKED,))


def test_a_record_that_failed_settles_nothing(file: EmergencyFile) -> None:
    """It is asked for again, with what was refused meanwhile."""
    file.note(reason=FULL, refused=1)
    assert told(file) == [detail(0, 0, 1)]
    file.note(reason=FULL, refused=1)
    assert told(file) == [detail(0, 0, 2)]


def test_an_outage_survives_the_process(opened: Opener, clock: Clock) -> None:
    """The next start records it, together with what it refuses itself."""
    opened().note(reason=FULL, refused=4)
    clock.seconds = 60
    second = opened()
    second.note(reason=LOCKED, refused=1)
    third = opened()
    assert told(third) == [detail(0, 60, 5)]
    third.settle()
    assert told(opened()) == []


def test_what_is_not_written_yet_is_written_at_the_end(path: Path, clock: Clock) -> None:
    """A gateway that stops during an outage loses no second of it."""
    file = EmergencyFile(path, clock=clock.now, monotonic=clock.monotonic)
    file.note(reason=FULL, refused=1)
    clock.seconds = 0.5
    file.note(reason=FULL, refused=1)
    file.close()
    assert read_outage(path) == Outage(BEGAN, clock.now(), 2, (FULL,))


def test_the_slots_are_taken_in_turn(path: Path, file: EmergencyFile, clock: Clock) -> None:
    """The newest is never written over."""
    for number in range(40):
        clock.seconds = float(number)
        file.note(reason=FULL, refused=1)
        written = path.read_bytes()[(number + 1) % 16 * SLOT_BYTES :][:SLOT_BYTES]
        assert int.from_bytes(written[40:48], "big") == number + 1
    assert read_outage(path) == Outage(BEGAN, clock.now(), 40, (FULL,))


def test_a_torn_slot_is_told_and_passed_over(
    path: Path, file: EmergencyFile, opened: Opener, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A power cut in the middle of a write costs that write."""
    file.note(reason=FULL, refused=1)
    clock.seconds = 2
    file.note(reason=FULL, refused=1)
    content = bytearray(path.read_bytes())
    content[2 * SLOT_BYTES + 60 : 3 * SLOT_BYTES] = bytes(SLOT_BYTES - 60)
    path.write_bytes(content)
    again = opened()
    assert [record.getMessage() for record in caplog.records] == [
        "audit_emergency_slot_torn slot=2"
    ]
    assert told(again) == [detail(0, 0, 1)]
    again.note(reason=FULL, refused=1)
    assert read_outage(path) == Outage(BEGAN, clock.now(), 2, (FULL,))


def test_processes_share_the_file(opened: Opener, clock: Clock) -> None:
    """Whoever writes a record again tells of all, and nobody tells it twice."""
    one, other = opened(), opened()
    one.note(reason=FULL, refused=1)
    clock.seconds = 1
    other.note(reason=FULL, refused=2)
    assert told(one) == [detail(0, 1, 3)]
    clock.seconds = 2
    other.note(reason=LOCKED, refused=4)
    one.settle()
    assert told(other) == [detail(1, 2, 4)]
    other.settle()
    assert (told(one), told(other)) == ([], [])


def test_nobody_waits_for_a_process_that_holds_the_file(
    path: Path, file: EmergencyFile, clock: Clock
) -> None:
    """What is noted meanwhile is kept, given, and written with what comes next."""
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        file.note(reason=FULL, refused=1)
        assert read_outage(path) is None
        assert told(file) == [detail(0, 0, 1)]
    file.note(reason=FULL, refused=1)
    assert read_outage(path) == Outage(BEGAN, BEGAN, 2, (FULL,))
    clock.seconds = 5
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        file.note(reason=FULL, refused=1)
        # The stored part cannot be seen now, so it is told by the next record.
        assert told(file) == [detail(5, 5, 1)]
        file.settle()
    assert told(file) == [detail(0, 0, 2)]


class Fault:
    """Makes one call of the operating system fail, before or after it took effect."""

    def __init__(self, patch: pytest.MonkeyPatch, step: str, *, persists: bool) -> None:
        module, name = (fcntl, "flock") if step == "lock" else (os, _CALLS[step])
        real = getattr(module, name)
        self.is_on = True
        self.struck = 0

        def call(*arguments: Any) -> Any:
            if not self.is_on:
                return real(*arguments)
            self.struck += 1
            if persists:
                real(*arguments)
            raise OSError(5, "Input/output error")

        patch.setattr(module, name, call)

    def mend(self) -> None:
        """From here on everything works."""
        self.is_on = False


_CALLS = {"read": "pread", "write": "pwrite", "flush": "fdatasync"}
each_step = pytest.mark.parametrize("step", ["lock", "read", "write", "flush"])
each_way = pytest.mark.parametrize("persists", [False, True], ids=["not persisted", "persisted"])


@each_way
@each_step
def test_each_step_of_noting(
    path: Path,
    file: EmergencyFile,
    opened: Opener,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    persists: bool,
) -> None:
    """Nothing is raised, nothing is lost and nothing is counted twice, here and for the next process."""
    file.note(reason=FULL, refused=1)
    clock.seconds = 2
    fault = Fault(monkeypatch, step, persists=persists)
    file.note(reason=FULL, refused=2)
    assert fault.struck == 1
    fault.mend()
    assert told(file) == [detail(0, 2, 3)]
    clock.seconds = 4
    file.note(reason=FULL, refused=4)
    assert read_outage(path) == Outage(BEGAN, clock.now(), 7, (FULL,))
    assert told(opened()) == [detail(0, 4, 7)]


@each_way
@each_step
def test_each_step_of_settling(
    path: Path,
    file: EmergencyFile,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    persists: bool,
) -> None:
    """What is in the ledger is not told again by this process, and taken away once that is possible."""
    file.note(reason=FULL, refused=1)
    assert told(file) == [detail(0, 0, 1)]
    fault = Fault(monkeypatch, step, persists=persists)
    file.settle()
    assert fault.struck == 1
    fault.mend()
    assert told(file) == []
    clock.seconds = 2
    assert told(file) == []
    assert read_outage(path) is None
    file.note(reason=FULL, refused=4)
    assert told(file) == [detail(2, 2, 4)]


@each_way
@each_step
def test_each_step_while_it_lasts(
    file: EmergencyFile, clock: Clock, monkeypatch: pytest.MonkeyPatch, step: str, persists: bool
) -> None:
    """A file that cannot be used any more does not keep an outage out of the ledger."""
    Fault(monkeypatch, step, persists=persists)
    for number in range(3):
        clock.seconds = 2.0 * number
        file.note(reason=FULL, refused=1)
    (event,) = file.pending()
    assert event.detail is not None
    assert event.detail.endswith("refused=3")
    file.settle()
    clock.seconds = 10
    assert told(file) == []


def test_a_failing_file_is_told_once_a_second(
    file: EmergencyFile,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every batch asks for it."""
    Fault(monkeypatch, "read", persists=False)
    file.note(reason=FULL, refused=1)
    for _ in range(5):
        file.pending()
    clock.seconds = 1
    file.pending()
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["audit_emergency_file_failed reason=Input/output error"] * 2


def test_a_file_that_cannot_be_read_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start there is somebody to tell."""
    Fault(monkeypatch, "read", persists=False)
    assert refusal(path).endswith("it cannot be read: Input/output error")


def test_the_file_is_small() -> None:
    """16 slots of 4 KiB, so that no write tears a slot that it does not write."""
    assert (emergency.SLOTS, SLOT_BYTES, FILE_BYTES) == (16, 4096, 65_536)
