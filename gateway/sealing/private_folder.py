"""A folder for the plaintext that exporters insist on writing as files: in memory where possible, overwritten after.

Rules: only this user can enter; it lies on a tmpfs or ramfs with room, else in the temporary folder; whatever is
inside at the end is overwritten and removed, also where the work failed or SIGTERM or SIGHUP ended it; links inside are
removed, never followed. Its process holds a lock on the folder, which ends with the process however that ends: what
nobody holds was left by a process that was killed, and the next one destroys it.
"""

import contextlib
import fcntl
import logging
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gateway.errors import Code, OperatorError
from gateway.sealing.termination import signals_deferred, unwinding_on_signals

_log = logging.getLogger(__name__)

# A small network's weights, its export and a copy of each.
_NEEDED_BYTES = 64 * 1024**2
_PREFIX = "gatewatch-private-"
_MOUNTS = Path("/proc/self/mounts")
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  (its entry is made by mkdtemp)
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})
_OCTAL = re.compile(r"\\([0-7]{3})")
_ZEROS = bytes(1024**2)
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def private_folder(*, needed_bytes: int = _NEEDED_BYTES) -> Iterator[Path]:
    """A new folder (mode 0700, absolute path) for as long as the block runs; what it holds then is destroyed.

    needed_bytes: room that a file system in memory must have to be chosen.
    On a tmpfs the content never reaches a disk unless the machine swaps. Elsewhere overwriting is the best that can
    be done and no guarantee: copy-on-write and journaling file systems, snapshots and SSDs keep old blocks.
    SIGTERM and SIGHUP raise TerminatedError inside the block. What a process that was killed left behind is destroyed
    first. Raises OperatorError if no folder can be made, or something inside could not be overwritten and removed.
    """
    destroy_leftovers()
    parent = folder_in_memory(needed_bytes=needed_bytes)
    with contextlib.ExitStack() as steps:
        steps.enter_context(unwinding_on_signals())
        try:
            folder = _make_locked(parent, steps)
        except OSError as exc:
            raise OperatorError(
                Code.MODEL_UNSUPPORTED,
                f"cannot make a private folder in {parent or tempfile.gettempdir()}: {exc.strerror};"
                " set TMPDIR to a folder that you can write",
            ) from exc
        try:
            yield folder
        finally:
            with signals_deferred():
                _destroy(folder)


def find_leftovers() -> list[Path]:
    """The private folders of this user whose process is gone; what they hold is plaintext."""
    return [folder for folder in _candidates() if _is_left_over(folder)]


def destroy_leftovers() -> None:
    """Overwrite and remove what `find_leftovers` finds; one that cannot be is logged, for `gateway doctor` names it."""
    for folder in _candidates():
        try:
            with _locked_if_left_over(folder) as is_left_over, signals_deferred():
                if is_left_over:
                    _destroy(folder)
        except OperatorError as exc:
            _log.warning("%s", exc.message)


def _make_locked(parent: Path | None, steps: contextlib.ExitStack) -> Path:
    while True:
        # The number is for people; what counts is the lock, which no reused number and no container can fake.
        made = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent)
        folder = Path(made).resolve()
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(folder, _OPEN_FOLDER)
            steps.callback(os.close, descriptor)
            # Where the file system has no locks, none is ever taken for left over.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Before it was locked, another process may have taken it for left over.
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                return folder


def _candidates() -> list[Path]:
    named = (*_folders_of_session(), Path(tempfile.gettempdir()))
    parents = dict.fromkeys(path.resolve() for path in named if path.is_absolute())
    return sorted(folder for parent in parents for folder in parent.glob(f"{_PREFIX}*"))


def _is_left_over(folder: Path) -> bool:
    with _locked_if_left_over(folder) as is_left_over:
        return is_left_over


@contextlib.contextmanager
def _locked_if_left_over(folder: Path) -> Iterator[bool]:
    try:
        descriptor = os.open(folder, _OPEN_FOLDER)
    except OSError:
        # Another user's, no folder, or gone meanwhile.
        yield False
        return
    try:
        yield os.fstat(descriptor).st_uid == os.geteuid() and _lock_at_once(descriptor)
    finally:
        os.close(descriptor)


def _lock_at_once(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def writes_confined_to(folder: Path) -> Iterator[None]:
    """Make the folder the current one and the one for temporary files, for libraries that write where they like.

    For commands only: both belong to the whole process, so other threads see the change, and relative paths mean
    something else inside the block.
    """
    environment, chosen = os.environ.get("TMPDIR"), tempfile.tempdir
    before = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    try:
        os.chdir(folder)
        yield
    finally:
        os.fchdir(before)
        os.close(before)
        tempfile.tempdir = chosen
        if environment is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = environment


def folder_in_memory(*, needed_bytes: int) -> Path | None:
    """A writable folder on a tmpfs or ramfs with this much room; None where the machine has none."""
    try:
        mounts = parse_mounts(_MOUNTS.read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError:
        return None
    for candidate in _folders_of_session():
        if candidate.is_absolute() and _fits(candidate, mounts, needed_bytes):
            return candidate
    return None


def _folders_of_session() -> list[Path]:
    session = os.environ.get("XDG_RUNTIME_DIR")
    return [*([Path(session)] if session else []), _SHARED_MEMORY]


def parse_mounts(text: str) -> dict[str, str]:
    """Mount point to file system type from /proc/self/mounts; of two mounts on one point the later one counts.

    Lines that are none are left out. Source: proc_pid_mounts(5), fstab(5) for the octal escapes.
    """
    fields = (line.split(" ") for line in text.split("\n"))
    return {_unescape(line[1]): line[2] for line in fields if len(line) >= 4}


def _fits(candidate: Path, mounts: dict[str, str], needed_bytes: int) -> bool:
    try:
        real = candidate.resolve(strict=True)
        room = os.statvfs(real)
    except OSError:
        return False
    return (
        _type_at(real, mounts) in _IN_MEMORY
        and os.access(real, os.W_OK | os.X_OK)
        and room.f_bavail * room.f_frsize >= needed_bytes
    )


def _type_at(real: Path, mounts: dict[str, str]) -> str | None:
    return next(
        (mounts[str(path)] for path in (real, *real.parents) if str(path) in mounts),
        None,
    )


def _unescape(field: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)


def _destroy(folder: Path) -> None:
    """Overwrite and remove everything, as much as possible even where a step fails. Raises OperatorError then."""
    try:
        with contextlib.ExitStack() as steps:
            steps.callback(folder.rmdir)
            descriptor = os.open(folder, _OPEN_FOLDER)
            steps.callback(os.close, descriptor)
            _empty(descriptor)
    except OSError as exc:
        raise OperatorError(
            Code.MODEL_UNSUPPORTED,
            f"plaintext may be left in {folder} ({exc.strerror}): overwrite and remove it by hand",
        ) from exc


def _empty(folder: int) -> None:
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    # The stack takes every step, the last one pushed first, and raises only then.
    with contextlib.ExitStack() as steps:
        for name, is_folder in found:
            steps.callback(os.rmdir if is_folder else os.unlink, name, dir_fd=folder)
            steps.callback(_empty_folder if is_folder else _overwrite, name, folder)


def _empty_folder(name: str, parent: int) -> None:
    folder = os.open(name, _OPEN_FOLDER, dir_fd=parent)
    try:
        _empty(folder)
    finally:
        os.close(folder)


def _overwrite(name: str, parent: int) -> None:
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    # A second name may lie outside, where the content is not ours to destroy. Two names inside are no exception:
    # when the first is gone, the second is the only one.
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        return
    # In place: truncated first, the old blocks would be given back as they are.
    file = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        left = status.st_size
        while left > 0:
            left -= os.write(file, _ZEROS[:left])
        os.fsync(file)
    finally:
        os.close(file)
