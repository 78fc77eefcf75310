"""A small file that remembers an outage of the ledger while the database cannot.

Rules: it is made before it is needed and never grows, so that a full disk does not matter; every write goes to the slot
after the newest and is flushed, so that a power cut costs no more than that write; at most one outage is in it,
whichever process noted it, until a record of it is durable in the ledger; once it is open it raises nothing, for the
ledger must go on without it. Of gateway.audit.writer's thread alone: a flush may take as long as a disk likes.

Processes that share the file take turns by a lock on it. None waits for it: what could not be written is kept in memory
and written with what comes next.
"""

import fcntl
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from gateway.audit.events import AuditEvent
from gateway.audit.outage_slots import (
    SLOT_BYTES,
    Outage,
    Slot,
    encode_slot,
    left_of,
    merged,
    newest_slot,
    outage_event,
    outage_of,
)
from gateway.errors import Code, LedgerError

log = logging.getLogger(__name__)

SLOTS = 16
FILE_BYTES = SLOTS * SLOT_BYTES
_WRITE_SECONDS = 1.0

_OPEN_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_SETTING = "GATEWAY_AUDIT_EMERGENCY_FILE"


def create_emergency_file(path: Path) -> bool:
    """Make the file, or complete one that a crash left short, with mode 0600; False if it was there.

    Raises LedgerError if it cannot be made, or what is there is no such file.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _OPEN_FLAGS, 0o600)
    except OSError as exc:
        raise _refused(path, f"it cannot be created: {exc.strerror}; check its folder") from exc
    try:
        size = _checked_size(path, descriptor)
        if size == FILE_BYTES:
            return False
        # Zeros that are written take their place on the disk now; a hole would take it when the disk is full.
        _write_all(descriptor, bytes(FILE_BYTES - size), size)
        os.fsync(descriptor)
        _sync_folder(path.parent)
    except OSError as exc:
        raise _refused(path, f"it cannot be written: {exc.strerror}; check space") from exc
    finally:
        os.close(descriptor)
    return True


def read_outage(path: Path) -> Outage | None:
    """The outage that is not in the ledger yet, if any. Raises LedgerError if the file cannot be used."""
    descriptor = _opened(path, os.O_RDONLY)
    try:
        return newest_slot(_read(descriptor))[0].outage
    except OSError as exc:
        raise _refused(path, f"it cannot be read: {exc.strerror}") from exc
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A write that failed and may have persisted: what it wrote, what was new in it, what it was to take away."""

    slot: Slot
    part: Outage | None
    recorded: Outage | None


class EmergencyFile:
    """The outage in one file, until it is closed; what gateway.audit.writer calls Outages."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """monotonic: seconds. Raises LedgerError if the file is missing or cannot be used."""
        self._clock = clock
        self._monotonic = monotonic
        # What is to be added to the stored outage, and what of it is in the ledger and to be taken away.
        self._unwritten: Outage | None = None
        self._recorded: Outage | None = None
        self._doubtful: _Attempt | None = None
        # What pending() gave is made of.
        self._given: Outage | None = None
        self._given_stored: Outage | None = None
        self._tried_at: float | None = None
        self._logged_at: float | None = None
        self._descriptor = _opened(path, os.O_RDWR)
        try:
            newest, torn = newest_slot(_read(self._descriptor))
        except OSError as exc:
            os.close(self._descriptor)
            raise _refused(path, f"it cannot be read: {exc.strerror}") from exc
        for number in torn:
            log.warning("audit_emergency_slot_torn slot=%d", number)
        self._is_stored = newest.outage is not None

    def note(self, *, reason: str, refused: int) -> None:
        """Remember that this many more appends were refused; durably, unless that was done within a second."""
        now = outage_of(self._clock(), unverified_cause=reason, refused=refused)
        self._unwritten = merged(self._unwritten, now)
        if self._is_due():
            self._update()

    def pending(self) -> Sequence[AuditEvent]:
        """What is not in the ledger yet, as the one event that tells it; settle() is about this."""
        # Every batch asks, and nearly always there is nothing.
        is_any = self._is_stored or self._unwritten or self._doubtful
        self._given = given = self._known() if is_any else None
        return () if given is None else (outage_event(given, recorded_at=self._clock()),)

    def settle(self) -> None:
        """Forget what pending() gave: it is durable in the ledger now."""
        if self._given is None:
            return
        self._unwritten, self._doubtful, self._given = None, None, None
        if self._given_stored is not None:
            self._recorded = self._given_stored
            self._update()
        if self._recorded is None and self._doubtful is None:
            # The first of the next outage is written at once.
            self._tried_at = None

    def close(self) -> None:
        """Write what is not written yet, and close the file."""
        if self._unwritten or self._recorded or self._doubtful:
            self._update()
        os.close(self._descriptor)

    def _is_due(self) -> bool:
        return self._tried_at is None or self._monotonic() - self._tried_at >= _WRITE_SECONDS

    def _known(self) -> Outage | None:
        self._given_stored = None
        if self._recorded is not None and self._is_due():
            self._update()
        if self._recorded is None:
            with self._guarded(), self._locked():
                newest = self._newest()
                # What the ledger has already and could not be taken away is not given again.
                if self._recorded is None:
                    self._given_stored = newest.outage
                    self._is_stored = newest.outage is not None
        part = None if self._doubtful is None else self._doubtful.part
        return merged(merged(self._given_stored, part), self._unwritten)

    def _update(self) -> None:
        """Bring the file to what is known."""
        self._tried_at = self._monotonic()
        with self._guarded(), self._locked():
            newest = self._newest()
            left = newest.outage
            if self._recorded is not None:
                left = left_of(left, self._recorded)
            outage = merged(left, self._unwritten)
            slot = Slot(newest.sequence + 1, outage)
            self._doubtful = _Attempt(slot, self._unwritten, self._recorded)
            self._unwritten, self._recorded = None, None
            # Killed in the middle: this slot is torn, and the one before it still says what it said.
            _write_all(self._descriptor, encode_slot(slot), slot.sequence % SLOTS * SLOT_BYTES)
            os.fdatasync(self._descriptor)
            self._doubtful = None
            self._is_stored = outage is not None

    def _newest(self) -> Slot:
        content = _read(self._descriptor)
        attempt, self._doubtful = self._doubtful, None
        # Found in the file, a failed write is part of what is read here; else it is still to be done.
        if attempt is not None and encode_slot(attempt.slot) not in content:
            self._unwritten = merged(attempt.part, self._unwritten)
            self._recorded = attempt.recorded
        return newest_slot(content)[0]

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """What cannot be done now is done with what comes next."""
        try:
            yield
        except BlockingIOError:
            # Another process writes to the file at this moment.
            self._tried_at = None
        except OSError as exc:
            now = self._monotonic()
            if self._logged_at is None or now - self._logged_at >= _WRITE_SECONDS:
                self._logged_at = now
                log.warning("audit_emergency_file_failed reason=%s", exc.strerror)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)


def _opened(path: Path, access: int) -> int:
    try:
        descriptor = os.open(path, access | _OPEN_FLAGS)
    except FileNotFoundError as exc:
        raise _refused(
            path, "it does not exist: run `gateway audit create`, which makes it"
        ) from exc
    except OSError as exc:
        raise _refused(path, f"it cannot be opened: {exc.strerror}; restore it") from exc
    try:
        _require_whole(path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require_whole(path: Path, descriptor: int) -> None:
    if _checked_size(path, descriptor) != FILE_BYTES:
        raise _refused(path, "it is not whole: run `gateway audit create`, which completes it")


def _checked_size(path: Path, descriptor: int) -> int:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > FILE_BYTES:
        raise _refused(path, "it is no file for outages; name another")
    if status.st_uid != os.geteuid():
        cause = f"it belongs to user {status.st_uid}; chown it to user {os.geteuid()}"
        raise _refused(path, cause)
    if status.st_mode & 0o077:
        # Whoever may write it could have an outage recorded that never was, or forgotten that was.
        cause = f"its mode is {stat.S_IMODE(status.st_mode):04o}; chmod it to 0600"
        raise _refused(path, cause)
    return status.st_size


def _read(descriptor: int) -> bytes:
    return os.pread(descriptor, FILE_BYTES, 0)


def _write_all(descriptor: int, content: bytes, offset: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(path: Path, cause_and_fix: str) -> LedgerError:
    message = f"{_SETTING} {path}: {cause_and_fix}"
    return LedgerError(Code.LEDGER_BROKEN, message, reason="emergency file")
