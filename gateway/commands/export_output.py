"""Where an export goes: standard output, or a file that grows.

Rules: what write returned from is out of this process, in a file durably; what it raised for is not there, or will be
there again, and the caller's cursor stays. A file gets whole lines only: what a killed export left of one is removed.
"""

import errno
import fcntl
import os
import select
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from gateway.audit.export_lines import LINE_BEGINNINGS
from gateway.audit.replaced_files import Disk, sync_folder
from gateway.errors import Code, OperatorError

STANDARD_OUTPUT = Path("-")

# What a pipe takes at once when it takes anything (POSIX), so that no write of this size waits for its reader.
_CHUNK_BYTES = select.PIPE_BUF
_POLL_MILLISECONDS = 200
# A line is a few kilobytes.
_MAX_LINE_BYTES = 1 << 20
_OPEN_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK


class ReaderGoneError(Exception):
    """Whoever read the other end of standard output has closed it."""


class StoppedError(Exception):
    """The reader takes nothing, and the process was told to end."""


class Output(Protocol):
    """Takes whole lines."""

    def write(self, content: bytes) -> None:
        """Let them out. Raises OperatorError, ReaderGoneError, StoppedError."""

    def check_reader(self) -> None:
        """Raise ReaderGoneError if nobody reads any more; a quiet ledger would not show it."""


class StreamOutput:
    """A pipe, terminal, socket or redirected file that is open already; nothing here closes it."""

    def __init__(self, descriptor: int, *, is_stopping: Callable[[], bool]) -> None:
        """is_stopping: whether to give up on a reader that takes nothing."""
        self._descriptor = descriptor
        self._is_stopping = is_stopping
        self._is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._is_begun = False

    def write(self, content: bytes) -> None:
        """See Output."""
        try:
            left = memoryview(self._line_end() + content)
            while left:
                self._wait_for_reader()
                left = left[os.write(self._descriptor, left[:_CHUNK_BYTES]) :]
            if self._is_regular:
                os.fsync(self._descriptor)
        except BrokenPipeError as exc:
            raise ReaderGoneError from exc
        except OSError as exc:
            raise _unwritable("standard output", exc) from exc

    def check_reader(self) -> None:
        """See Output."""
        poll = select.poll()
        poll.register(self._descriptor, 0)
        if poll.poll(0):  # Without anything asked for, only errors and hang-ups are told.
            raise ReaderGoneError

    def _line_end(self) -> bytes:
        # What a killed export left of a line in a redirected file must not spoil the first line of this one.
        is_first, self._is_begun = not self._is_begun, True
        if not (is_first and self._is_regular and os.fstat(self._descriptor).st_size):
            return b""
        with open(f"/proc/self/fd/{self._descriptor}", "rb") as file:
            file.seek(-1, os.SEEK_END)
            return b"" if file.read() == b"\n" else b"\n"

    def _wait_for_reader(self) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        while not poll.poll(_POLL_MILLISECONDS):
            if self._is_stopping():
                raise StoppedError


class FileOutput:
    """A file of our own, made where there is none, mode 0600; one that was renamed away is made anew.

    Raises OperatorError if it cannot be opened, is no regular file, or another export writes it.
    """

    def __init__(self, path: Path, *, disk: Disk) -> None:
        self._path = path
        self._disk = disk
        self._descriptor = self._opened()

    def write(self, content: bytes) -> None:
        """See Output."""
        if not self._is_in_place():
            # Rotated: what was written before is in the old file, whole.
            # The new one first: where it cannot be opened, close() must meet no number that another file has.
            descriptor = self._opened()
            self.close()
            self._descriptor = descriptor
        size = os.fstat(self._descriptor).st_size
        try:
            self._disk.write(self._descriptor, content)
            self._disk.sync(self._descriptor)
        except OSError as exc:
            # Killed before this: the next export does the same with what is no whole line.
            os.ftruncate(self._descriptor, size)
            raise _unwritable(str(self._path), exc) from exc

    def check_reader(self) -> None:
        """See Output; a file has none."""

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    def _opened(self) -> int:
        try:
            descriptor = os.open(self._path, _OPEN_FLAGS, 0o600)
        except OSError as exc:
            raise _unwritable(str(self._path), exc) from exc
        try:
            self._prepare(descriptor)
        except OSError as exc:
            os.close(descriptor)
            raise _unwritable(str(self._path), exc) from exc
        return descriptor

    def _prepare(self, descriptor: int) -> None:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise OSError(errno.EWOULDBLOCK, "another export writes it") from exc
        _cut_to_whole_lines(descriptor)
        sync_folder(self._path.parent, disk=self._disk)

    def _is_in_place(self) -> bool:
        try:
            there = self._path.stat()
        except OSError:
            return False
        ours = os.fstat(self._descriptor)
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


@contextmanager
def opened_output(
    path: Path, *, is_stopping: Callable[[], bool], standard_output: int = 1
) -> Iterator[Output]:
    """The output of this name, "-" for standard output. Raises OperatorError as FileOutput does."""
    if path == STANDARD_OUTPUT:
        yield StreamOutput(standard_output, is_stopping=is_stopping)
        return
    output = FileOutput(path, disk=Disk())
    try:
        yield output
    finally:
        output.close()


def _cut_to_whole_lines(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    start = max(0, size - _MAX_LINE_BYTES)
    tail = os.pread(descriptor, size - start, start)
    torn = tail[tail.rfind(b"\n") + 1 :]
    if not torn:
        return
    # A file that something else wrote must not lose its end because its name was given by mistake.
    if not any(torn.startswith(beginning[: len(torn)]) for beginning in LINE_BEGINNINGS):
        raise OSError(errno.EINVAL, "its last line is not one of an export; name another file")
    os.ftruncate(descriptor, size - len(torn))


def _unwritable(name: str, exc: OSError) -> OperatorError:
    message = (
        f"cannot write to {name}: {exc.strerror}; mend that, or choose another --output, and run it again: the cursor "
        "has not moved past what was written"
    )
    return OperatorError(Code.SETTINGS_INVALID, message)
