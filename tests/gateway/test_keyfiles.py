"""Secret files are read and made only in the safe way."""

import os
import stat
from pathlib import Path

import pytest

from gateway.errors import Code, KeyFileError
from gateway.keyfiles import MAX_PRIVATE_FILE_BYTES, create_private_file, read_private_file


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A well-made secret file."""
    path = tmp_path / "key"
    create_private_file(path, b"secret")
    return path


def test_what_is_created_is_read_back(key_file: Path) -> None:
    """Creating and reading are inverse."""
    assert read_private_file(key_file) == b"secret"


def test_a_created_file_has_mode_0600_under_any_umask(tmp_path: Path) -> None:
    """An open umask does not open the file."""
    old = os.umask(0)
    try:
        create_private_file(tmp_path / "key", b"secret")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_a_stricter_mode_is_read(key_file: Path) -> None:
    """0400 is fine too."""
    key_file.chmod(0o400)
    assert read_private_file(key_file) == b"secret"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o602, 0o660, 0o644, 0o601])
def test_a_file_open_to_others_is_refused(key_file: Path, mode: int) -> None:
    """Any right of group or others is one too many, and the message says what to do."""
    key_file.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod it to 0600"):
        read_private_file(key_file)


def test_a_file_of_another_user_is_refused(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner could have written what he likes into it."""
    monkeypatch.setattr(os, "geteuid", lambda: key_file.stat().st_uid + 1)
    with pytest.raises(KeyFileError, match="belongs to user"):
        read_private_file(key_file)


def test_a_symbolic_link_is_refused(key_file: Path) -> None:
    """A link's target can be exchanged by whoever owns the link."""
    link = key_file.with_name("link")
    link.symlink_to(key_file)
    with pytest.raises(KeyFileError, match="cannot be opened"):
        read_private_file(link)


def test_a_missing_file_is_refused_with_its_path(tmp_path: Path) -> None:
    """The message names the path and the fix, the code is constant."""
    with pytest.raises(KeyFileError, match=r"absent: it does not exist; create it") as caught:
        read_private_file(tmp_path / "absent")
    assert caught.value.code is Code.KEY_INVALID


def test_a_named_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    """A pipe in place of the key does not hang the start."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(KeyFileError, match="not a regular file"):
        read_private_file(tmp_path / "pipe")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    """A folder is no key."""
    with pytest.raises(KeyFileError, match="not a regular file"):
        read_private_file(tmp_path)


def test_a_read_error_is_reported_as_such(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken disk is named, and the descriptor is closed."""
    closed: list[int] = []
    real_close = os.close

    def read(descriptor: int, size: int) -> bytes:
        raise OSError(5, "Input/output error")

    def close(descriptor: int) -> None:
        closed.append(descriptor)
        real_close(descriptor)

    monkeypatch.setattr(os, "read", read)
    monkeypatch.setattr(os, "close", close)
    with pytest.raises(KeyFileError, match="Input/output error"):
        read_private_file(key_file)
    monkeypatch.undo()
    assert len(closed) == 1


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    """What a crash can leave behind is not taken for a key."""
    create_private_file(tmp_path / "key", b"")
    with pytest.raises(KeyFileError, match="it is empty"):
        read_private_file(tmp_path / "key")


def test_the_largest_file_is_read_and_one_byte_more_is_refused(tmp_path: Path) -> None:
    """The bound is exact."""
    create_private_file(tmp_path / "fits", b"k" * MAX_PRIVATE_FILE_BYTES)
    create_private_file(tmp_path / "large", b"k" * (MAX_PRIVATE_FILE_BYTES + 1))
    assert len(read_private_file(tmp_path / "fits")) == 65_536
    with pytest.raises(KeyFileError, match="larger than 65536 bytes"):
        read_private_file(tmp_path / "large")


def test_an_existing_file_is_never_overwritten(key_file: Path) -> None:
    """Losing a key would lose what it opens."""
    with pytest.raises(KeyFileError, match="never overwritten"):
        create_private_file(key_file, b"other")
    assert key_file.read_bytes() == b"secret"


def test_a_dangling_link_is_not_written_through(tmp_path: Path) -> None:
    """A planted link does not choose where the key goes."""
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyFileError, match="never overwritten"):
        create_private_file(tmp_path / "link", b"secret")
    assert not (tmp_path / "elsewhere").exists()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """Folders are not made silently."""
    with pytest.raises(KeyFileError, match="cannot be created"):
        create_private_file(tmp_path / "absent" / "key", b"secret")


def test_file_and_folder_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both the content and the name are made durable, in this order."""
    synced: list[bool] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    create_private_file(tmp_path / "key", b"secret")
    assert synced == [False, True]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk ends in an error and no half key."""

    def fsync(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(KeyFileError, match="No space left on device"):
        create_private_file(tmp_path / "key", b"secret")
    assert not (tmp_path / "key").exists()
