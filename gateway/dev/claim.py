"""Taking a folder as a development home: made here, empty, or a home already, and one process at a time.

Rules: a folder that was there keeps its mode and its other files; what is not plainly a home is refused.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.errors import Code, OperatorError

LOCK_NAME = "dev.lock"
# Any one of them tells a home.
_MARKS = ("keys", "gatewatch.db", "dev.log", "logs/gateway.log", LOCK_NAME)
# The demo writes var/demo, perhaps before anything else is there.
_DEMO = "demo"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make the folder (mode 0700) unless it is there, and hold its lock.

    Raises OperatorError if it cannot be used, is somebody else's, or another process runs in it.
    """
    try:
        _make_or_check(folder)
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise unusable(folder, exc) from exc
    try:
        # The kernel lets go of the lock when the process dies, however it dies; the file stays.
        _lock(descriptor, folder)
        try:
            yield
        finally:
            # The number will be another process's one day.
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def unusable(folder: Path, exc: OSError) -> OperatorError:
    """The refusal of a folder that the operating system does not let this process use."""
    where = "" if exc.filename is None else f" ({exc.filename})"
    message = (
        f"{folder} cannot be a home: {exc.strerror}{where}; name a folder that you may write to"
    )
    return OperatorError(Code.SETTINGS_INVALID, message)


def _make_or_check(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, mode=0o700)
    except FileExistsError:
        names = sorted(path.name for path in folder.iterdir() if path.name != _DEMO)
        if names and not any((folder / mark).exists() for mark in _MARKS):
            message = (
                f"{folder} holds other files ({names[0]}): name a new or empty folder with --home"
            )
            raise OperatorError(Code.SETTINGS_INVALID, message) from None


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        number = os.read(descriptor, 20).decode("ascii", "replace").strip()
        message = (
            f"Gatewatch already runs in {folder} (process {number}): stop it with `kill {number}`"
        )
        raise OperatorError(Code.SETTINGS_INVALID, message) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))
