"""Creating a file that is either wholly there or not there at all, and reading one that is what it seems.

Rules: a new file is written and flushed under a temporary name first; its final name is given by a hard link,
which fails where that name is taken (a rename would silently replace it). Its writer holds a lock on it until then: a
temporary file that nobody holds was left by a process that was killed. What is checked before reading is the open
file, not its name.
"""

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PART_SUFFIX = ".part"


def create_durably(path: Path, content: bytes, *, mode: int) -> None:
    """Create `path` with this content, flushed to the disk together with its name.

    mode: permission bits. Raises FileExistsError if the name is taken, OSError if the folder is missing or the
    file system cannot write, flush or link.
    """
    # If the process dies before the link, only a private file named .NAME.…part is left, which nobody reads.
    # If it dies after the link, the file is complete; until the folder is flushed a power cut may still undo it.
    with _part_of(path) as (descriptor, part):
        os.fchmod(descriptor, mode)
        _write_and_flush(descriptor, content)
        os.link(part, path)
    _flush_folder(path.parent)


def replace_durably(path: Path, content: bytes) -> None:
    """Put a new content in the place of a file, which keeps its owner and permissions, flushed to the disk.

    Raises OSError if the file is missing or the file system cannot write, flush, rename or give it its owner.
    """
    # If the process dies before the rename, the old file stands, beside a private one named .NAME.…part that nobody
    # reads. If it dies after it, the new one stands, complete; until the folder is flushed a power cut may bring the
    # old one back, whole. There is no moment at which neither is there.
    status = path.stat()
    with _part_of(path) as (descriptor, part):
        # Whoever runs this may be another user than the one who has to read it.
        os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
        _write_and_flush(descriptor, content)
        part.replace(path)
    _flush_folder(path.parent)


def read_regular(path: Path, *, check: Callable[[os.stat_result], None]) -> bytes:
    """The content of a regular file, at most as long as it was when `check` saw its status.

    check: raises whatever it likes to refuse the file before anything is read.
    Raises OSError if the file cannot be opened or read, or is no regular file.
    """
    # Without O_NONBLOCK opening a FIFO would wait for a writer for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        check(status)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(status.st_size)
    finally:
        os.close(descriptor)


def find_abandoned_parts(folder: Path, *, of: str) -> list[Path]:
    """The temporary files in a folder, for names that match the pattern `of`, whose writer was killed; by name."""
    return [part for part in sorted(folder.glob(f".{of}.*{_PART_SUFFIX}")) if _is_abandoned(part)]


def _is_abandoned(part: Path) -> bool:
    try:
        descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        # Another user's, a link, or done meanwhile.
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(descriptor)
        return stat.S_ISREG(status.st_mode) and status.st_nlink > 0
    except OSError:
        return False
    finally:
        os.close(descriptor)


@contextmanager
def _part_of(path: Path) -> Iterator[tuple[int, Path]]:
    """A new private file beside a path, open and locked; it is gone afterwards unless it was renamed."""
    descriptor, part = _new_part(path)
    try:
        yield descriptor, part
    finally:
        # Still locked, so that nobody takes it for abandoned first.
        part.unlink(missing_ok=True)
        os.close(descriptor)


def _new_part(path: Path) -> tuple[int, Path]:
    while True:
        descriptor, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=_PART_SUFFIX
        )
        # Where the file system has no locks, none is ever taken for abandoned.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Before it was locked, somebody may have taken it for abandoned and removed it.
        if os.fstat(descriptor).st_nlink > 0:
            return descriptor, Path(name)
        os.close(descriptor)


def _write_and_flush(descriptor: int, content: bytes) -> None:
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.fsync(descriptor)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
