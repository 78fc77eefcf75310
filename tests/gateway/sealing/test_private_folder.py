"""The folder for plaintext: where it lies, who may enter, and that nothing of its content remains."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import OperatorError
from gateway.sealing import private_folder as module
from gateway.sealing.private_folder import (
    destroy_leftovers,
    find_leftovers,
    folder_in_memory,
    parse_mounts,
    private_folder,
    writes_confined_to,
)

SECRET = b"the weights " * 100_000


@pytest.fixture
def on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a file system in memory, whose temporary folder is the test's."""
    home = tmp_path / "temporary"
    home.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(home))
    monkeypatch.setattr(module, "_MOUNTS", tmp_path / "mounts")
    monkeypatch.setattr(module, "_SHARED_MEMORY", tmp_path / "no-memory")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return home


def test_only_this_user_can_enter(on_disk: Path) -> None:
    """Whatever the umask is."""
    before = os.umask(0)
    try:
        with private_folder() as folder:
            assert folder.parent == on_disk
            assert folder.stat().st_mode & 0o7777 == 0o700
    finally:
        os.umask(before)


def test_nothing_is_left(on_disk: Path) -> None:
    """Files, folders, hidden names, empty files, pipes and read-only files all go."""
    with private_folder() as folder:
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / ".hidden").write_bytes(SECRET)
        (folder / "empty").touch()
        (folder / "read-only").write_bytes(SECRET)
        (folder / "read-only").chmod(0o400)
        os.mkfifo(folder / "pipe")
    assert list(on_disk.iterdir()) == []


def test_content_is_overwritten_before_it_is_removed(on_disk: Path) -> None:
    """The bytes are zero for whoever still holds the file open, over the whole length."""
    with private_folder() as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "weights").write_bytes(SECRET)
        held = (folder / "inner" / "weights").open("rb")
    with held:
        assert bytes(len(SECRET)) == held.read()


def test_content_is_destroyed_where_the_work_fails(on_disk: Path) -> None:
    """The failure itself is what the caller sees."""
    held = []

    def work() -> None:
        with private_folder() as folder:
            (folder / "weights").write_bytes(SECRET)
            held.append((folder / "weights").open("rb"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    with held[0]:
        assert bytes(len(SECRET)) == held[0].read()
    assert list(on_disk.iterdir()) == []


def test_links_are_removed_and_not_followed(on_disk: Path, tmp_path: Path) -> None:
    """What they point to outside keeps its content."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"kept")
    (outside / "hard").write_bytes(b"hard")
    with private_folder() as folder:
        (folder / "to-file").symlink_to(outside / "kept")
        (folder / "to-folder").symlink_to(outside)
        (folder / "dangling").symlink_to("nowhere")
        (folder / "second-name").hardlink_to(outside / "hard")
    assert list(on_disk.iterdir()) == []
    assert (outside / "kept").read_bytes() == b"kept"
    assert (outside / "hard").read_bytes() == b"hard"


def test_two_names_of_one_file_inside_do_not_save_it(on_disk: Path) -> None:
    """The second name is overwritten once the first is gone."""
    with private_folder() as folder:
        (folder / "a").write_bytes(SECRET)
        (folder / "b").hardlink_to(folder / "a")
        held = (folder / "a").open("rb")
    with held:
        assert bytes(len(SECRET)) == held.read()


def test_a_failing_step_stops_no_other_and_is_told(
    on_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All files are removed although none can be flushed, and the message names the folder."""

    def fail(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)

    def work() -> None:
        with private_folder() as folder:
            (folder / "a").write_bytes(SECRET)
            (folder / "b").write_bytes(SECRET)

    with pytest.raises(OperatorError, match=r"may be left in .*gatewatch-private-.*Input/output"):
        work()
    assert list(on_disk.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(
    on_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says where it was wanted and what to set."""
    monkeypatch.setattr(tempfile, "tempdir", str(on_disk / "absent"))
    with pytest.raises(OperatorError, match=r"absent.*TMPDIR"), private_folder():
        pass


def test_a_tmpfs_with_room_is_chosen(
    on_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session's own folder goes before the one that all users share."""
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    (tmp_path / "mounts").write_text(f"/dev/vda / ext4 rw 0 0\ntmpfs {runtime} tmpfs rw 0 0\n")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert runtime == folder_in_memory(needed_bytes=1)
    assert folder_in_memory(needed_bytes=2**62) is None
    with private_folder() as folder:
        assert folder.parent == runtime
    assert list(runtime.iterdir()) == []


@pytest.mark.parametrize("kind", ["ext4", "overlay", "nfs"])
def test_what_is_no_memory_is_not_taken_for_it(
    on_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A disk mounted below a tmpfs, or a link out of it, is a disk."""
    (tmp_path / "shm" / "disk").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "shm" / "disk")
    (tmp_path / "mounts").write_text(
        f"tmpfs {tmp_path} tmpfs rw 0 0\nx {tmp_path}/shm/disk {kind} rw 0 0\n"
    )
    for name in ("shm/disk", "link", "absent"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / name))
        assert folder_in_memory(needed_bytes=1) is None


def test_mounts_are_read_as_the_kernel_writes_them() -> None:
    """Escapes are undone, later mounts hide earlier ones, and what is no mount is left out."""
    text = "a /my\\040disk ext4 rw 0 0\nnone\n\nb /run tmpfs rw 0 0\nc /run ext4 rw 0 0\n"
    assert {"/my disk": "ext4", "/run": "ext4"} == parse_mounts(text)


@given(st.text())
def test_any_text_parses(text: str) -> None:
    """Whatever a kernel writes, there is an answer."""
    assert isinstance(parse_mounts(text), dict)


def test_writes_are_confined_and_the_process_is_put_back(tmp_path: Path) -> None:
    """Relative names and temporary files land inside; afterwards everything is as it was."""
    before = (Path.cwd(), tempfile.gettempdir(), os.environ.get("TMPDIR"))

    def work() -> None:
        with writes_confined_to(tmp_path):
            Path("relative").touch()
            with tempfile.NamedTemporaryFile() as file:
                assert Path(file.name).parent == tmp_path
            assert os.environ["TMPDIR"] == str(tmp_path)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert (tmp_path / "relative").exists()
    assert before == (Path.cwd(), tempfile.gettempdir(), os.environ.get("TMPDIR"))


_WORK = """
import sys, tempfile
from pathlib import Path
from gateway.sealing import private_folder as module
tempfile.tempdir = sys.argv[1]
module._MOUNTS = module._SHARED_MEMORY = Path(sys.argv[1]) / "absent"
with module.private_folder() as folder:
    (folder / "weights").write_bytes(b"the weights " * 1000)
    print(folder, flush=True)
    sys.stdin.read()
"""


@contextmanager
def working(home: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process with weights in a private folder, and the folder."""
    arguments = [sys.executable, "-c", _WORK, str(home)]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, -2)]
)
def test_a_process_that_is_told_to_end_leaves_nothing(
    on_disk: Path, number: signal.Signals, exit_code: int
) -> None:
    """The content is overwritten, and the exit says which signal it was."""
    with working(on_disk) as (process, folder), (folder / "weights").open("rb") as held:
        process.send_signal(number)
        assert exit_code == process.wait(timeout=30)
        assert bytes(12_000) == held.read()
    assert list(on_disk.iterdir()) == []


def test_what_a_killed_process_left_is_destroyed_by_the_next(on_disk: Path) -> None:
    """Overwritten too; until then it is found."""
    with working(on_disk) as (process, folder), (folder / "weights").open("rb") as held:
        process.kill()
        process.wait(timeout=30)
        assert folder in find_leftovers()
        with private_folder() as mine:
            assert [mine] == list(on_disk.iterdir())
        assert bytes(12_000) == held.read()
    assert list(on_disk.iterdir()) == []


def test_what_a_living_process_holds_is_left_alone(on_disk: Path) -> None:
    """Whatever number its name carries; nor does a process take its own for left over."""
    with working(on_disk) as (_, folder), private_folder() as mine:
        renamed = folder.rename(on_disk / "gatewatch-private-4999999-x")
        destroy_leftovers()
        assert {mine, renamed} == set(on_disk.iterdir())
        assert {mine, renamed}.isdisjoint(find_leftovers())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user_is_left_alone(on_disk: Path) -> None:
    """It is not ours to judge."""
    folder = on_disk / "gatewatch-private-1-x"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    destroy_leftovers()
    assert [folder] == list(on_disk.iterdir())


def test_a_link_that_looks_like_a_leftover_is_not_followed(on_disk: Path, tmp_path: Path) -> None:
    """In a folder that everybody may write, somebody may have put it there."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept").write_bytes(b"kept")
    (on_disk / "gatewatch-private-1-x").symlink_to(tmp_path / "mine")
    destroy_leftovers()
    assert (tmp_path / "mine" / "kept").read_bytes() == b"kept"
