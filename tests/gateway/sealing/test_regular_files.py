"""Durable creation and strict reading, with every step failing in turn."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.sealing.regular_files import (
    create_durably,
    find_abandoned_parts,
    read_regular,
    replace_durably,
)


def fail(*_args: object, **_kwargs: object) -> None:
    """A step of the file system that does not work."""
    raise OSError(5, "Input/output error")


def accept(_status: os.stat_result) -> None:
    """Refuse nothing."""


def test_a_created_file_has_its_content_and_mode(tmp_path: Path) -> None:
    """Nothing else is left in the folder."""
    create_durably(tmp_path / "f", b"content", mode=0o640)
    assert (tmp_path / "f").read_bytes() == b"content"
    assert (tmp_path / "f").stat().st_mode & 0o7777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_an_existing_name_is_never_taken(tmp_path: Path) -> None:
    """A file, and even a dangling link, keeps its name."""
    (tmp_path / "f").write_bytes(b"old")
    (tmp_path / "l").symlink_to("nowhere")
    for name in "fl":
        with pytest.raises(FileExistsError):
            create_durably(tmp_path / name, b"new", mode=0o600)
    assert (tmp_path / "f").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "l"]


@pytest.mark.parametrize("step", ["fchmod", "fsync", "link"])
def test_nothing_remains_where_a_step_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Before the name is given, a failure leaves the folder as it was."""
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="Input/output error"):
        create_durably(tmp_path / "f", b"content", mode=0o600)
    assert list(tmp_path.iterdir()) == []


def test_content_and_folder_are_flushed_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content is durable before it has its name, and the name before the call returns."""
    steps: list[str] = []
    real_fsync, real_link = os.fsync, os.link

    def fsync(descriptor: int) -> None:
        steps.append("folder" if os.fstat(descriptor).st_mode & 0o040000 else "content")
        real_fsync(descriptor)

    def link(source: Path, target: Path) -> None:
        steps.append("name")
        real_link(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    create_durably(tmp_path / "f", b"content", mode=0o600)
    assert steps == ["content", "name", "folder"]


def test_a_folder_that_cannot_be_flushed_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is complete, but the caller learns that a power cut may still take it."""
    monkeypatch.setattr("gateway.sealing.regular_files._flush_folder", fail)
    with pytest.raises(OSError, match="Input/output error"):
        create_durably(tmp_path / "f", b"content", mode=0o600)
    assert (tmp_path / "f").read_bytes() == b"content"


def test_reading_gives_the_content(tmp_path: Path) -> None:
    """A regular file reads whole, through a link too."""
    (tmp_path / "f").write_bytes(b"content")
    (tmp_path / "l").symlink_to("f")
    assert [read_regular(tmp_path / name, check=accept) for name in "fl"] == [b"content"] * 2


def test_reading_stops_at_the_checked_size(tmp_path: Path) -> None:
    """What is appended after the check is not read."""
    path = tmp_path / "f"
    path.write_bytes(b"content")

    def append(_status: os.stat_result) -> None:
        path.write_bytes(b"content and more")

    assert read_regular(path, check=append) == b"content"


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    """Refused files are closed as well as read ones."""
    (tmp_path / "f").write_bytes(b"content")
    before = len(list(Path("/proc/self/fd").iterdir()))
    read_regular(tmp_path / "f", check=accept)
    for path in (tmp_path, tmp_path / "f"):
        with pytest.raises(OSError, match=r"regular file|output error"):
            read_regular(path, check=fail)
    assert before == len(list(Path("/proc/self/fd").iterdir()))


def test_a_replaced_file_keeps_owner_and_permissions(tmp_path: Path) -> None:
    """Whoever reads it may be another user than whoever replaces it."""
    file = tmp_path / "f"
    file.write_bytes(b"old")
    file.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(file, 12345, 23456)
    before = file.stat()
    replace_durably(file, b"new")
    after = file.stat()
    assert file.read_bytes() == b"new"
    assert (before.st_mode, before.st_uid, before.st_gid) == (
        after.st_mode,
        after.st_uid,
        after.st_gid,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("step", ["fchown", "fchmod", "fsync", "replace"])
def test_what_fails_before_the_rename_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whole, and alone in its folder."""
    (tmp_path / "f").write_bytes(b"old")
    monkeypatch.setattr(Path if step == "replace" else os, step, fail)
    with pytest.raises(OSError, match="Input/output error"):
        replace_durably(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_the_new_content_and_then_its_name_are_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this order, or a power cut could leave a name without content."""
    (tmp_path / "f").write_bytes(b"old")
    order: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        order.append("folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "file")
        real_fsync(descriptor)

    def rename(part: Path, target: Path) -> Path:
        order.append("rename")
        return real_replace(part, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", rename)
    replace_durably(tmp_path / "f", b"new")
    assert order == ["file", "rename", "folder"]


def test_only_what_is_there_is_replaced(tmp_path: Path) -> None:
    """A name that is gone is not made again."""
    with pytest.raises(FileNotFoundError):
        replace_durably(tmp_path / "f", b"new")
    assert [] == list(tmp_path.iterdir())


_WRITE = """
import os, sys
from pathlib import Path
from gateway.sealing.regular_files import replace_durably
real = os.fsync
def stop(descriptor):
    print(flush=True)
    sys.stdin.read()
os.fsync = stop
replace_durably(Path(sys.argv[1]), b"new")
"""


def test_what_a_killed_writer_left_is_found_and_what_a_living_one_writes_is_not(
    tmp_path: Path,
) -> None:
    """By the lock, which ends with the process."""
    (tmp_path / "f").write_bytes(b"old")
    arguments = [sys.executable, "-c", _WRITE, str(tmp_path / "f")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        assert 2 == len(list(tmp_path.iterdir()))
        assert [] == find_abandoned_parts(tmp_path, of="f")
        process.kill()
        process.wait(timeout=30)
    (part,) = find_abandoned_parts(tmp_path, of="f")
    assert part.name.startswith(".f.")
    assert [] == find_abandoned_parts(tmp_path, of="g")


def test_what_only_looks_like_a_part_is_not_one(tmp_path: Path) -> None:
    """A link, a pipe and a folder stay."""
    (tmp_path / ".f.a.part").symlink_to("nowhere")
    os.mkfifo(tmp_path / ".f.b.part")
    (tmp_path / ".f.c.part").mkdir()
    assert [] == find_abandoned_parts(tmp_path, of="f")
