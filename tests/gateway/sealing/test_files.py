"""Sealed models as files: names, limits, and that no version is ever replaced."""

import os
from pathlib import Path

import pytest

from gateway.errors import Code, OperatorError, RegistryError, SealError
from gateway.sealing.files import read_sealed_model, sealed_file_name, write_sealed_model


def test_the_file_is_named_after_name_and_version() -> None:
    """NAME-VERSION.sealed."""
    assert sealed_file_name("conveyor", "1.0+b") == "conveyor-1.0+b.sealed"


@pytest.mark.parametrize(
    ("name", "version"), [("../x", "1"), ("a", "../1"), ("a", "1/2"), ("", "1"), ("a", "1\n")]
)
def test_a_name_that_could_leave_the_folder_is_refused(
    tmp_path: Path, name: str, version: str
) -> None:
    """Neither reading nor writing follows a name out of the folder."""
    with pytest.raises(OperatorError):
        write_sealed_model(tmp_path, b"", name=name, version=version)
    with pytest.raises(OperatorError):
        read_sealed_model(tmp_path, name=name, version=version, max_bytes=1)


def test_a_written_file_reads_again(tmp_path: Path) -> None:
    """Private, complete, at its name."""
    path = write_sealed_model(tmp_path, b"sealed", name="a", version="1")
    assert tmp_path / "a-1.sealed" == path
    assert path.stat().st_mode & 0o7777 == 0o600
    assert read_sealed_model(tmp_path, name="a", version="1", max_bytes=6) == b"sealed"


def test_a_version_is_never_replaced(tmp_path: Path) -> None:
    """The first writer wins, and the second is told why."""
    write_sealed_model(tmp_path, b"first", name="a", version="1")
    with pytest.raises(RegistryError, match="seal under a new version") as caught:
        write_sealed_model(tmp_path, b"second", name="a", version="1")
    assert Code.MODEL_EXISTS is caught.value.code
    assert read_sealed_model(tmp_path, name="a", version="1", max_bytes=99) == b"first"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The cause stands in the message."""
    with pytest.raises(OperatorError, match=r"cannot write .*No such file"):
        write_sealed_model(tmp_path / "no", b"", name="a", version="1")


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    """It is refused by its size, before it is read."""
    write_sealed_model(tmp_path, b"sealed", name="a", version="1")
    with pytest.raises(SealError) as caught:
        read_sealed_model(tmp_path, name="a", version="1", max_bytes=5)
    assert caught.value.reason == "file_too_large"


def test_a_missing_version_is_unknown(tmp_path: Path) -> None:
    """What is no file is no model, and neither is a FIFO."""
    os.mkfifo(tmp_path / "a-2.sealed")
    for version in "12":
        with pytest.raises(RegistryError, match=f"of a@{version} cannot be read") as caught:
            read_sealed_model(tmp_path, name="a", version=version, max_bytes=9)
        assert Code.MODEL_UNKNOWN is caught.value.code
        assert str(tmp_path) not in caught.value.message
        assert str(tmp_path / f"a-{version}.sealed") in caught.value.reason
