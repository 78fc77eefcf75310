"""Creating a file that is either wholly there or not there at all, and reading one that is what it seems.

Rules: a new file is written and flushed under a temporary name first; its final name is given by a hard link,
which fails where that name is taken (a rename would silently replace it). What is checked before reading is the
open file, not its name.
"""

import errno
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path


def create_durably(path: Path, content: bytes, *, mode: int) -> None:
    """Create `path` with this content, flushed to the disk together with its name.

    mode: permission bits. Raises FileExistsError if the name is taken, OSError if the folder is missing or the
    file system cannot write, flush or link.
    """
    # If the process dies before the link, only a private file named .NAME.…part is left, which nobody reads.
    # If it dies after the link, the file is complete; until the folder is flushed a power cut may still undo it.
    descriptor, part_name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}.", suffix=".part"
    )
    part = Path(part_name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)
    finally:
        part.unlink()
    _flush_folder(path.parent)


def replace_durably(path: Path, content: bytes) -> None:
    """Put a new content in the place of a file, which keeps its owner and permissions, flushed to the disk.

    Raises OSError if the file is missing or the file system cannot write, flush, rename or give it its owner.
    """
    # If the process dies before the rename, the old file stands, beside a private one named .NAME.…part that nobody
    # reads. If it dies after it, the new one stands, complete; until the folder is flushed a power cut may bring the
    # old one back, whole. There is no moment at which neither is there.
    status = path.stat()
    descriptor, part_name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}.", suffix=".part"
    )
    part = Path(part_name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            # Whoever runs this may be another user than the one who has to read it.
            os.fchown(file.fileno(), status.st_uid, status.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
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


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
