"""The file of a cursor: replaced as a whole, by one export at a time."""

import errno
import os
from pathlib import Path

import pytest

from gateway.audit.export_cursor import Mark, format_cursor, parse_cursor
from gateway.audit.replaced_files import Disk
from gateway.commands.export_cursor_file import opened_cursor
from gateway.errors import OperatorError

ONE = Mark(1, b"\x0a" * 32)
TWO = Mark(2, b"\x0b" * 32)


class BrokenDisk(Disk):
    """One that fails at one step."""

    def __init__(self, *, fails_to: str) -> None:
        self._fails_to = fails_to

    def _fail(self, step: str) -> None:
        if step == self._fails_to:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write(self, descriptor: int, content: bytes) -> None:
        """Maybe."""
        self._fail("write")
        super().write(descriptor, content)

    def sync(self, descriptor: int) -> None:
        """Maybe."""
        self._fail("sync")
        super().sync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Maybe."""
        self._fail("rename")
        super().rename(source, target)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where it lies."""
    return tmp_path / "siem.cursor"


def test_a_cursor_begins_empty_and_is_kept(file: Path) -> None:
    """Each ledger's mark beside the others'."""
    with opened_cursor(file, disk=Disk()) as cursor:
        assert {} == cursor.marks
        assert not file.exists()
        cursor.save("a", ONE)
        cursor.save("b", ONE)
        cursor.save("a", TWO)
    with opened_cursor(file, disk=Disk()) as cursor:
        assert {"a": TWO, "b": ONE} == cursor.marks


def test_without_a_file_nothing_is_kept(tmp_path: Path) -> None:
    """But for this export."""
    with opened_cursor(None, disk=Disk()) as cursor:
        cursor.save("a", ONE)
        assert {"a": ONE} == cursor.marks
    assert [] == [*tmp_path.iterdir()]


@pytest.mark.parametrize("fails_to", ["write", "sync", "rename"])
def test_a_cursor_that_cannot_be_stored_stays_whole(file: Path, fails_to: str) -> None:
    """The one before, or the new one; the error names the file."""
    file.write_bytes(format_cursor({"a": ONE}))
    with (
        opened_cursor(file, disk=BrokenDisk(fails_to=fails_to)) as cursor,
        pytest.raises(OperatorError, match=r"siem\.cursor: it cannot be replaced: No space left"),
    ):
        cursor.save("a", TWO)
    assert {"a": ONE} == parse_cursor(file.read_bytes())


def test_two_exports_do_not_share_a_cursor(file: Path) -> None:
    """Each would undo the other's progress."""
    with (
        opened_cursor(file, disk=Disk()),
        pytest.raises(OperatorError, match="another export has it"),
        opened_cursor(file, disk=Disk()),
    ):
        pass


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is not JSON; remove it to export from the beginning"),
        (b"{}", "it does not have the members format, ledgers; remove it"),
        (b" " * ((1 << 20) + 1), "cannot be read: it is larger than"),
    ],
)
def test_a_bad_cursor_is_refused(file: Path, content: bytes, why: str) -> None:
    """Never taken for a beginning."""
    file.write_bytes(content)
    with pytest.raises(OperatorError, match=why), opened_cursor(file, disk=Disk()):
        pass


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """It is not made."""
    file = tmp_path / "no" / "cursor"
    with (
        pytest.raises(OperatorError, match="its lock cannot be made: No such file"),
        opened_cursor(file, disk=Disk()),
    ):
        pass
