"""Files that hold secrets: how they are read and how they are made.

Rules:
- A secret file is a regular file, owned by the user that runs the process, closed to everybody
  else (0600 or stricter), and not a symbolic link itself.
- Checks are made on the open descriptor, so that what was checked is what is read.
- A file is never overwritten. Messages name the path, the cause and the fix, never the content.
- The folders above the file are not checked here; whoever may rename them may do worse already.
"""

import os
import stat
from pathlib import Path

from gateway.errors import Code, KeyFileError

MAX_PRIVATE_FILE_BYTES = 64 * 1024  # The largest private key in use is about 4 KiB.

_READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def read_private_file(path: Path) -> bytes:
    """The content of a secret file, 1 to MAX_PRIVATE_FILE_BYTES bytes.

    Raises KeyFileError if it is missing, unreadable, not a regular file, a symbolic link, owned
    by another user, open to group or others, empty or too large.
    """
    try:
        # O_NONBLOCK: opening a named pipe in its place would wait for a writer for ever.
        descriptor = os.open(path, _READ_FLAGS)
    except OSError as exc:
        raise _refused(path, _why_unopened(exc)) from exc
    try:
        _check_private(path, os.fstat(descriptor))
        content = _read_bounded(descriptor)
    except OSError as exc:
        raise _refused(path, f"it cannot be read: {exc.strerror}; restore it") from exc
    finally:
        os.close(descriptor)
    if not content:
        raise _refused(path, "it is empty; create it again")
    if len(content) > MAX_PRIVATE_FILE_BYTES:
        raise _refused(path, f"it is larger than {MAX_PRIVATE_FILE_BYTES} bytes; name the key file")
    return content


def create_private_file(path: Path, content: bytes) -> None:
    """Write a new secret file with mode 0600 and make it and its name durable.

    If the process dies before this returns, the file may be absent, empty or cut short: what reads
    it must refuse a short key, and the operator removes the file. Once it has returned, the whole
    content survives a power cut.
    Raises KeyFileError if the path exists already (also as a symbolic link) or is not writable.
    """
    try:
        descriptor = os.open(path, _CREATE_FLAGS, 0o600)
    except FileExistsError as exc:
        raise _refused(path, "it exists and is never overwritten; move it away first") from exc
    except OSError as exc:
        raise _refused(path, f"it cannot be created: {exc.strerror}; check its folder") from exc
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        _sync_folder(path.parent)
    except OSError as exc:
        path.unlink(missing_ok=True)
        raise _refused(
            path, f"it cannot be written: {exc.strerror}; check space and rights"
        ) from exc


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _refused(path, "it is not a regular file; name the key file itself")
    if status.st_uid != os.geteuid():
        raise _refused(path, f"it belongs to user {status.st_uid}; chown it to user {os.geteuid()}")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise _refused(path, f"its mode is {mode:04o}, so others may read it; chmod it to 0600")


def _read_bounded(descriptor: int) -> bytes:
    content = b""
    # One byte over the limit is enough to tell that the file is too large.
    while part := os.read(descriptor, MAX_PRIVATE_FILE_BYTES + 1 - len(content)):
        content += part
    return content


def _why_unopened(exc: OSError) -> str:
    if isinstance(exc, FileNotFoundError):
        return "it does not exist; create it or correct the path"
    # ELOOP: O_NOFOLLOW met a symbolic link, whose target another user could exchange.
    return f"it cannot be opened: {exc.strerror}; name a regular file that this user may read"


def _sync_folder(folder: Path) -> None:
    # Without this the file's data is durable but its name in the folder may not be.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(path: Path, cause_and_fix: str) -> KeyFileError:
    return KeyFileError(Code.KEY_INVALID, f"key file {path}: {cause_and_fix}")
