"""A file is replaced whole or not at all, by one writer at a time."""

import os
import stat
import threading
from pathlib import Path

import pytest

from gateway.audit.replaced_files import (
    Disk,
    lock_beside,
    read_small_file,
    replace_file,
)


def test_content_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    """The name holds the new content; readable by everybody, for it is public."""
    path = tmp_path / "file"
    before = os.umask(0o022)
    try:
        for content in (b"old", b"new"):
            with lock_beside(path):
                replace_file(path, content, disk=Disk())
    finally:
        os.umask(before)
    assert b"new" == read_small_file(path, max_bytes=3)
    assert {"file", "file.lock"} == {each.name for each in tmp_path.iterdir()}
    assert 0o644 == stat.S_IMODE(path.stat().st_mode)


def test_a_file_that_was_never_there_is_none_and_a_missing_folder_is_an_error(
    tmp_path: Path,
) -> None:
    """A volume that is not mounted must not look like a first start."""
    assert read_small_file(tmp_path / "file", max_bytes=10) is None
    with pytest.raises(FileNotFoundError):
        read_small_file(tmp_path / "gone" / "file", max_bytes=10)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """The bound is exact."""
    path = tmp_path / "file"
    path.write_bytes(bytes(10))
    assert bytes(10) == read_small_file(path, max_bytes=10)
    with pytest.raises(OSError, match="larger than 9 bytes"):
        read_small_file(path, max_bytes=9)


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_is_no_regular_file_is_refused(tmp_path: Path, kind: str) -> None:
    """None of them is opened for long, either."""
    path = tmp_path / "file"
    if kind == "link":
        path.symlink_to(tmp_path / "other")
        (tmp_path / "other").write_bytes(b"x")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(OSError, match=r"regular|symbolic"):
        read_small_file(path, max_bytes=10)


def test_what_a_killed_writer_left_is_not_used(tmp_path: Path) -> None:
    """A link in its place is not written through."""
    path = tmp_path / "file"
    (tmp_path / "victim").write_bytes(b"untouched")
    (tmp_path / "file.new").symlink_to(tmp_path / "victim")
    replace_file(path, b"new", disk=Disk())
    assert b"untouched" == (tmp_path / "victim").read_bytes()
    assert b"new" == path.read_bytes()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    """The second is let in once the first has gone."""
    path = tmp_path / "file"
    order: list[str] = []
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with lock_beside(path):
            inside.set()
            leave.wait(10)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(10)
    with pytest.raises(TimeoutError, match=r"file\.lock"), lock_beside(path, timeout_seconds=0.05):
        order.append("too early")
    leave.set()
    with lock_beside(path):
        order.append("second")
    thread.join()
    assert ["first", "second"] == order
