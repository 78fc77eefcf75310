"""The file that remembers how far an export has come.

Rules: one export at a time has it; it is replaced as a whole, and only after what it names was let out: an export that
is killed in between repeats lines and leaves none out.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gateway.audit.export_cursor import (
    MAX_CURSOR_BYTES,
    CursorInvalidError,
    Mark,
    format_cursor,
    parse_cursor,
)
from gateway.audit.replaced_files import Disk, lock_beside, read_small_file, replace_file
from gateway.errors import Code, OperatorError


class CursorFile:
    """Marks by origin, kept in a file, or only in this object without one."""

    def __init__(self, path: Path | None, marks: Mapping[str, Mark], *, disk: Disk) -> None:
        self._path = path
        self._marks = dict(marks)
        self._disk = disk

    @property
    def marks(self) -> Mapping[str, Mark]:
        """How far each ledger was exported, durably where there is a file."""
        return self._marks

    def save(self, origin: str, mark: Mark) -> None:
        """Remember the last record of a ledger that was let out. Raises OperatorError if it cannot be stored."""
        marks = {**self._marks, origin: mark}
        if self._path is not None:
            try:
                replace_file(self._path, format_cursor(marks), disk=self._disk)
            except OSError as exc:
                # Lines went out that the file does not name: the next export repeats them.
                raise _unusable(self._path, f"it cannot be replaced: {exc.strerror}") from exc
        self._marks = marks


@contextmanager
def opened_cursor(path: Path | None, *, disk: Disk) -> Iterator[CursorFile]:
    """The cursor in a file, empty if there is none yet.

    Raises OperatorError if it is no cursor, cannot be read, or another export has it.
    """
    if path is None:
        yield CursorFile(None, {}, disk=disk)
        return
    with ExitStack() as stack:
        try:
            stack.enter_context(lock_beside(path, timeout_seconds=0))
        except TimeoutError as exc:
            raise _unusable(path, "another export has it; end that one, or name another") from exc
        except OSError as exc:
            raise _unusable(path, f"its lock cannot be made: {exc.strerror}") from exc
        yield CursorFile(path, _read(path), disk=disk)


def _read(path: Path) -> Mapping[str, Mark]:
    try:
        content = read_small_file(path, max_bytes=MAX_CURSOR_BYTES)
        return {} if content is None else parse_cursor(content)
    except OSError as exc:
        raise _unusable(path, f"it cannot be read: {exc.strerror}") from exc
    except CursorInvalidError as exc:
        raise _unusable(path, f"{exc}; remove it to export from the beginning") from exc


def _unusable(path: Path, cause_and_fix: str) -> OperatorError:
    return OperatorError(Code.SETTINGS_INVALID, f"--cursor {path}: {cause_and_fix}")
