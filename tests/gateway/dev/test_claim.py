"""A folder becomes a home only where nothing of somebody else's is touched."""

import os
from pathlib import Path

import pytest

from gateway.dev.claim import claimed
from gateway.errors import OperatorError


def mode(path: Path) -> int:
    """The permission bits."""
    return path.stat().st_mode & 0o777


def test_a_new_home_is_its_owners_alone(tmp_path: Path) -> None:
    """Its keys lie in the clear."""
    with claimed(tmp_path / "above" / "home"):
        assert mode(tmp_path / "above" / "home") == 0o700


@pytest.mark.parametrize("mark", [None, "demo", "keys", "gatewatch.db", "dev.log", "dev.lock"])
def test_an_empty_folder_or_a_home_is_taken_as_it_is(tmp_path: Path, mark: str | None) -> None:
    """Its mode stays what it was."""
    if mark is not None:
        (tmp_path / mark).touch()
    tmp_path.chmod(0o755)
    with claimed(tmp_path):
        assert mode(tmp_path) == 0o755


def test_a_folder_of_somebody_elses_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A home directory named by mistake keeps its mode and gets no files."""
    (tmp_path / "letters.txt").touch()
    tmp_path.chmod(0o755)
    with (
        pytest.raises(OperatorError, match=r"holds other files \(letters.txt\): name a new"),
        claimed(tmp_path),
    ):
        pass
    assert (mode(tmp_path), [*tmp_path.iterdir()]) == (0o755, [tmp_path / "letters.txt"])


@pytest.mark.parametrize("name", ["file", "file/below", "/proc/home"])
def test_an_unusable_path_is_named(tmp_path: Path, name: str) -> None:
    """With its cause, not with a traceback."""
    (tmp_path / "file").touch()
    with pytest.raises(OperatorError, match="cannot be a home: "), claimed(tmp_path / name):
        pass


def test_a_home_has_one_process_at_a_time(tmp_path: Path) -> None:
    """The second is told which to stop; the home is free again after the first."""
    with claimed(tmp_path):
        told = rf"already runs in {tmp_path} \(process {os.getpid()}\): stop it with `kill "
        with pytest.raises(OperatorError, match=told), claimed(tmp_path):
            pass
    with claimed(tmp_path):
        assert (tmp_path / "dev.lock").read_text() == f"{os.getpid()}\n"
    assert (tmp_path / "dev.lock").read_text() == ""
