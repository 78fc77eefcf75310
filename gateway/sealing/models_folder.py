"""The folder of sealed models as a whole: one rotation at a time, and what killed processes left in it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.errors import Code, OperatorError
from gateway.sealing.regular_files import find_abandoned_parts


@contextmanager
def rotating_alone(folder: Path) -> Iterator[None]:
    """Hold the folder, if there is one, against other rotations; the lock ends with the process, however that ends.

    Raises OperatorError if another rotation holds it.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        descriptor = None
    except OSError as exc:
        message = f"cannot open {folder}: {exc.strerror}; run this as the user who owns it"
        raise OperatorError(Code.MODEL_UNSUPPORTED, message) from exc
    try:
        if descriptor is not None:
            _lock(descriptor, folder)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        message = (
            f"another rotation is at work on {folder}, and the later of two would undo the other's: "
            "wait until it is done, then repeat"
        )
        raise OperatorError(Code.MODEL_CONFLICT, message) from exc
    except OSError as exc:
        message = f"{folder} cannot be locked ({exc.strerror}): keep it on a file system with locks"
        raise OperatorError(Code.MODEL_UNSUPPORTED, message) from exc


def find_unfinished(folder: Path) -> list[Path]:
    """Sealed files that were never finished, as their writer was killed; they open with the KEKs of that time."""
    return find_abandoned_parts(folder, of="*.sealed")


def remove_unfinished(folder: Path) -> None:
    """Remove what `find_unfinished` finds. Raises OperatorError if one cannot be."""
    for part in find_unfinished(folder):
        try:
            part.unlink(missing_ok=True)
        except OSError as exc:
            message = f"cannot remove {part}: {exc.strerror}; run this as the user who owns it"
            raise OperatorError(Code.MODEL_UNSUPPORTED, message) from exc
