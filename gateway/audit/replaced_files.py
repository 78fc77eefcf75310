"""Small public files that are replaced as a whole: a reader finds the old content or the new one, never a part.

Rules: one writer at a time, by a lock beside the file that ends with its holder; new content is durable before it takes
the name, and the name before replace_file returns; what stands at the path must be a regular file, not a link to one.
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_TIMEOUT_SECONDS = 5.0
_LOCK_PAUSE_SECONDS = 0.02

# O_NONBLOCK: opening a named pipe in the file's place would wait for its other end for ever.
_READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_LOCK_FLAGS = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Disk:
    """The system calls that make a file durable; tests put ones in their place that fail."""

    def write(self, descriptor: int, content: bytes) -> None:
        """Write all of it. Raises OSError."""
        while content:
            content = content[os.write(descriptor, content) :]

    def sync(self, descriptor: int) -> None:
        """Make a file's content, or a folder's names, durable. Raises OSError."""
        os.fsync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file the name of another, which is gone by that. Raises OSError."""
        source.replace(target)


def read_small_file(path: Path, *, max_bytes: int) -> bytes | None:
    """The content of a regular file of at most max_bytes; None if its folder has no such name.

    Raises OSError for everything else, a folder that is not there included.
    """
    try:
        descriptor = os.open(path, _READ_FLAGS)
    except FileNotFoundError:
        os.close(os.open(path.parent, _FOLDER_FLAGS))
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        content = b""
        # One byte over the limit is enough to tell that the file is too large.
        while part := os.read(descriptor, max_bytes + 1 - len(content)):
            content += part
    finally:
        os.close(descriptor)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {max_bytes} bytes")
    return content


@contextmanager
def lock_beside(
    path: Path,
    *,
    timeout_seconds: float = LOCK_TIMEOUT_SECONDS,
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[None]:
    """Keep every other process from replacing this file; the lock is PATH.lock, which stays.

    Raises OSError if the lock cannot be made, TimeoutError (one too) if another process has it for timeout_seconds.
    """
    descriptor = _open_lock(path.with_name(path.name + ".lock"))
    try:
        ends_at = monotonic() + timeout_seconds
        while not _try_lock(descriptor):
            if monotonic() >= ends_at:
                raise TimeoutError(
                    errno.ETIMEDOUT, f"another process has {path.name}.lock for too long"
                )
            time.sleep(_LOCK_PAUSE_SECONDS)
        yield
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes, *, disk: Disk) -> None:
    """Put content in the place of whatever has this name; durable when it returns. Needs lock_beside.

    Raises OSError: then the old content is there, or the new one, which may not be durable yet.
    """
    new = path.with_name(path.name + ".new")
    # A process that was killed may have left one, perhaps of another user: nothing of it is used.
    new.unlink(missing_ok=True)
    descriptor = os.open(new, _CREATE_FLAGS, 0o644)
    try:
        # Killed before the rename: the old content stands, and the next writer removes this.
        disk.write(descriptor, content)
        disk.sync(descriptor)
    finally:
        os.close(descriptor)
    disk.rename(new, path)
    # Killed here: the new content stands, or after a power cut the old one, which nobody was told is replaced.
    sync_folder(path.parent, disk=disk)


def sync_folder(folder: Path, *, disk: Disk) -> None:
    """Make the names in a folder durable. Raises OSError."""
    descriptor = os.open(folder, _FOLDER_FLAGS)
    try:
        disk.sync(descriptor)
    finally:
        os.close(descriptor)


def _open_lock(lock: Path) -> int:
    try:
        return os.open(lock, os.O_RDWR | _LOCK_FLAGS, 0o644)
    except PermissionError:
        # Another user's: reading is enough for a lock, except on some network file systems.
        return os.open(lock, os.O_RDONLY | _LOCK_FLAGS, 0o644)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
