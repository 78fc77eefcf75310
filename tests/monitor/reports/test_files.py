"""Report files have safe names and appear whole."""

import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.audit.replaced_files import Disk
from monitor.reports.files import report_stem, write_atomically

NOW = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("conveyor", "conveyor-1-20300102T030405678Z"),
        ("../../etc/passwd", "_.._etc_passwd-1-20300102T030405678Z"),
        ("a b\x00ü", "a_b__-1-20300102T030405678Z"),
    ],
)
def test_names_stay_inside_the_folder(name: str, expected: str) -> None:
    """A model's name comes from a sealed file."""
    assert report_stem(name, "1", NOW) == expected


def test_a_file_is_replaced_and_nothing_else_left(tmp_path: Path) -> None:
    """Readable for others, as a report should be."""
    path = tmp_path / "report.json"
    path.write_text("old")
    write_atomically(path, "größer")
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]
    assert path.read_text(encoding="utf-8") == "größer"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_the_name_is_durable_when_it_is_written(tmp_path: Path) -> None:
    """The ledger says then that the report was made."""
    synced: list[bool] = []

    class CountingDisk(Disk):
        def sync(self, descriptor: int) -> None:
            is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            synced.append(is_folder and (tmp_path / "report.json").exists())

    write_atomically(tmp_path / "report.json", "new", disk=CountingDisk())
    assert [True] == synced


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """And no temporary one."""
    path = tmp_path / "report.json"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]
    assert path.read_text() == "old"
