"""Where an export goes: pipes whose reader stalls or leaves, files that fill, break, are rotated or were torn."""

import contextlib
import errno
import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.audit.replaced_files import Disk
from gateway.commands.export_output import (
    FileOutput,
    ReaderGoneError,
    StoppedError,
    StreamOutput,
    opened_output,
)
from gateway.errors import OperatorError


def never() -> bool:
    """Nobody asks to stop."""
    return False


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Its reading and its writing end."""
    reads, writes = os.pipe()
    yield reads, writes
    for descriptor in (reads, writes):
        # A test may have closed it.
        with contextlib.suppress(OSError):
            os.close(descriptor)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a file goes."""
    return tmp_path / "export.jsonl"


class FullDisk(Disk):
    """One that takes half of what it is given and is full then, or cannot make it durable."""

    def __init__(self, *, fails_to: str) -> None:
        self._fails_to = fails_to

    def write(self, descriptor: int, content: bytes) -> None:
        """Half of it."""
        if self._fails_to == "write":
            os.write(descriptor, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(descriptor, content)

    def sync(self, descriptor: int) -> None:
        """Nothing of it, for a file."""
        if self._fails_to == "sync" and stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync(descriptor)


def test_a_pipe_gets_more_than_it_holds(pipe: tuple[int, int]) -> None:
    """While somebody reads."""
    content = b"x" * 300_000 + b"\n"
    found: list[bytes] = []

    def read() -> None:
        with os.fdopen(os.dup(pipe[0]), "rb") as reader:
            found.append(reader.read())

    thread = threading.Thread(target=read)
    thread.start()
    StreamOutput(pipe[1], is_stopping=never).write(content)
    os.close(pipe[1])
    thread.join()
    assert [content] == found


def test_a_reader_that_left_is_told(pipe: tuple[int, int]) -> None:
    """By the next write, and by a look while there is nothing to write."""
    output = StreamOutput(pipe[1], is_stopping=never)
    output.check_reader()
    os.close(pipe[0])
    with pytest.raises(ReaderGoneError):
        output.check_reader()
    with pytest.raises(ReaderGoneError):
        output.write(b"line\n")


def test_a_reader_that_stalls_is_given_up_when_told_to_stop(pipe: tuple[int, int]) -> None:
    """A full pipe must not keep the process from ending."""
    asked: list[None] = []

    def is_stopping() -> bool:
        asked.append(None)
        return len(asked) > 1

    with pytest.raises(StoppedError):
        StreamOutput(pipe[1], is_stopping=is_stopping).write(b"x" * 1_000_000)
    assert 2 == len(asked)


def test_a_redirected_file_ends_a_torn_line_first(file: Path) -> None:
    """Else the first line of this export would be spoilt by the last of one that was killed."""
    file.write_bytes(b'{"a":1}\n{"a"')
    with file.open("ab") as opened:
        output = StreamOutput(opened.fileno(), is_stopping=never)
        output.check_reader()
        output.write(b"one\n")
        output.write(b"two\n")
    assert b'{"a":1}\n{"a"\none\ntwo\n' == file.read_bytes()


def test_a_redirected_file_of_whole_lines_gets_no_more(file: Path) -> None:
    """Nor an empty one."""
    for content in (b"", b"zero\n"):
        file.write_bytes(content)
        with file.open("ab") as opened:
            StreamOutput(opened.fileno(), is_stopping=never).write(b"one\n")
        assert content + b"one\n" == file.read_bytes()


def test_a_stream_that_cannot_be_written_names_what_to_do() -> None:
    """As a full disk, which this device is."""
    with (
        Path("/dev/full").open("wb") as full,
        pytest.raises(OperatorError, match="standard output: No space left on device; mend that"),
    ):
        StreamOutput(full.fileno(), is_stopping=never).write(b"line\n")


def test_a_file_is_made_private_and_grows(file: Path) -> None:
    """What stood there stays."""
    for line in (b"one\n", b"two\n"):
        with opened_output(file, is_stopping=never) as output:
            output.check_reader()
            output.write(line)
    assert b"one\ntwo\n" == file.read_bytes()
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)


@pytest.mark.parametrize("torn", [b"{", b'{"origin":"g', b'{"activity_id":6,' + b"x" * 9000])
def test_a_torn_line_is_removed(file: Path, torn: bytes) -> None:
    """It stands in no cursor, so it comes again, whole."""
    file.write_bytes(b"one\n" + torn)
    with opened_output(file, is_stopping=never) as output:
        output.write(b"two\n")
    assert b"one\ntwo\n" == file.read_bytes()
    file.write_bytes(torn)
    with opened_output(file, is_stopping=never):
        assert b"" == file.read_bytes()


@pytest.mark.parametrize("content", [b'{"a":1}', b"one\ntwo", b"x" * ((1 << 20) + 1)])
def test_a_file_of_something_else_is_not_cut(file: Path, content: bytes) -> None:
    """Its name was given by mistake."""
    file.write_bytes(content)
    with (
        pytest.raises(OperatorError, match="last line is not one of an export"),
        opened_output(file, is_stopping=never),
    ):
        pass
    assert content == file.read_bytes()


@pytest.mark.parametrize("fails_to", ["write", "sync"])
def test_what_a_full_disk_did_not_take_is_not_there(file: Path, fails_to: str) -> None:
    """Nothing of the page, and the pages before it are."""
    file.write_bytes(b"one\n")
    output = FileOutput(file, disk=FullDisk(fails_to=fails_to))
    with pytest.raises(OperatorError, match=r"cannot write to .*: mend that|cursor has not moved"):
        output.write(b"two\nthree\n")
    assert b"one\n" == file.read_bytes()
    output.close()


def test_a_file_that_was_rotated_away_is_made_anew(file: Path) -> None:
    """What was written is in the old one, what comes in the new one."""
    with opened_output(file, is_stopping=never) as output:
        output.write(b"one\n")
        old = file.rename(file.with_suffix(".1"))
        output.write(b"two\n")
    assert (b"one\n", b"two\n") == (old.read_bytes(), file.read_bytes())


def test_a_file_that_cannot_be_made_anew_is_let_go_of_once(file: Path) -> None:
    """Its number may be another file's by then."""
    folder = file.parent / "logs"
    folder.mkdir()
    output = FileOutput(folder / "out", disk=Disk())
    output.write(b"one\n")
    folder.rename(folder.with_name("old"))
    with pytest.raises(OperatorError, match="cannot write to "):
        output.write(b"two\n")
    # Fails where write() let go of it already.
    output.close()


def test_a_file_that_was_emptied_grows_from_there(file: Path) -> None:
    """As logrotate does with copytruncate."""
    with opened_output(file, is_stopping=never) as output:
        output.write(b"one\n")
        os.truncate(file, 0)
        output.write(b"two\n")
    assert b"two\n" == file.read_bytes()


def test_two_exports_do_not_share_a_file(file: Path) -> None:
    """Their lines would mix."""
    with (
        opened_output(file, is_stopping=never),
        pytest.raises(OperatorError, match="another export writes it"),
        opened_output(file, is_stopping=never),
    ):
        pass


def test_a_pipe_in_the_place_of_a_file_is_refused(file: Path) -> None:
    """Opening one waits for a reader, and a cursor says nothing about it; "-" is for pipes."""
    os.mkfifo(file)
    with (
        pytest.raises(OperatorError, match="not a regular file"),
        opened_output(file, is_stopping=never),
    ):
        pass


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """It is not made."""
    with (
        pytest.raises(OperatorError, match=r"cannot write to .*no/export: No such file"),
        opened_output(tmp_path / "no" / "export", is_stopping=never),
    ):
        pass


def test_standard_output_is_called_dash(pipe: tuple[int, int]) -> None:
    """And is left open."""
    with opened_output(Path("-"), is_stopping=never, standard_output=pipe[1]) as output:
        output.write(b"line\n")
    assert b"line\n" == os.read(pipe[0], 100)
    fcntl.fcntl(pipe[1], fcntl.F_GETFD)
