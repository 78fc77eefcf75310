"""The two processes of `gateway dev`: begun, waited for, ended. No child here is a gateway."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.dev import children
from gateway.errors import OperatorError


@pytest.fixture
def sleeper() -> Iterator[children.Child]:
    """A process that waits for ever."""
    process = children.spawn(
        [sys.executable, "-c", "import signal; signal.pause()"], {}, subprocess.DEVNULL
    )
    yield process
    process.kill()
    process.wait()


def test_children_are_stopped_with_sigterm(sleeper: "subprocess.Popen[bytes]") -> None:
    """So that they drain; stopping one that ended already is fine."""
    children.stop(sleeper)
    assert sleeper.returncode == -signal.SIGTERM
    children.stop(sleeper)


def test_a_child_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while."""
    monkeypatch.setattr(children, "STOP_TIMEOUT_SECONDS", 0.05)
    stubborn = (
        "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('ready', flush=True); [signal.pause() for _ in iter(int, 1)]"
    )
    process = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as out:
        assert out.readline() == b"ready\n"
        children.stop(process)
    assert process.returncode == -signal.SIGKILL


def test_signals_of_the_terminal_reach_the_parent_alone(
    sleeper: "subprocess.Popen[bytes]",
) -> None:
    """Each child leads a session of its own, so Ctrl-C does not take both down at once."""
    assert os.getsid(sleeper.pid) == sleeper.pid
    assert os.getsid(sleeper.pid) != os.getsid(0)


@pytest.fixture
def told_to_stop() -> Iterator[int]:
    """A descriptor that is never readable."""
    reader, writer = os.pipe()
    yield reader
    os.close(reader)
    os.close(writer)


def start(
    script: str, log_file: Path, monkeypatch: pytest.MonkeyPatch, told_to_stop: int
) -> tuple[Any, int] | None:
    """Start this script in place of the gateway; its last argument is the descriptor."""
    real = children.spawn

    def spawn(command: list[str], *arguments: Any, **more: Any) -> "subprocess.Popen[bytes]":
        assert command[1:5] == ["-m", "gateway", "serve", "--ready-descriptor"]
        return real([sys.executable, "-c", script, command[5]], *arguments, **more)

    monkeypatch.setattr(children, "spawn", spawn)
    with log_file.open("ab") as log:
        return children.start("gateway", ["serve"], {}, log, told_to_stop=told_to_stop)


def test_a_process_that_does_not_start_shows_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told_to_stop: int
) -> None:
    """The cause, instead of a wait for nothing."""
    script = "import sys; sys.exit('one\\ntwo\\nthree\\nfour\\nfive\\nsix: the cause')"
    with pytest.raises(OperatorError) as caught:
        start(script, tmp_path / "gateway.log", monkeypatch, told_to_stop)
    assert caught.value.message == (
        f"the gateway did not start; {tmp_path}/gateway.log ends with:\n"
        "two\nthree\nfour\nfive\nsix: the cause"
    )


def test_a_process_that_says_nothing_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told_to_stop: int
) -> None:
    """It is stopped, too."""
    monkeypatch.setattr(children, "START_TIMEOUT_SECONDS", 0.05)
    with pytest.raises(OperatorError, match="the gateway did not start"):
        start("import signal; signal.pause()", tmp_path / "gateway.log", monkeypatch, told_to_stop)


def test_a_process_that_serves_says_its_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told_to_stop: int
) -> None:
    """Through a descriptor, so nobody polls."""
    script = "import os, sys, signal; os.write(int(sys.argv[1]), b'4321\\n'); signal.pause()"
    started = start(script, tmp_path / "gateway.log", monkeypatch, told_to_stop)
    assert started is not None
    children.stop(started[0])
    assert started[1] == 4321


def test_lines_of_an_earlier_start_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told_to_stop: int
) -> None:
    """They explain something that may be mended long ago."""
    log = tmp_path / "gateway.log"
    log.write_text("an earlier cause\n")
    with pytest.raises(OperatorError) as caught:
        start("import sys; sys.exit('the cause')", log, monkeypatch, told_to_stop)
    assert caught.value.message == f"the gateway did not start; {log} ends with:\nthe cause"


def test_a_stop_during_the_start_is_honoured_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after a start that may take a minute."""
    reader, writer = os.pipe()
    os.write(writer, b"stop")
    assert start("import signal; signal.pause()", tmp_path / "log", monkeypatch, reader) is None
    os.close(reader)
    os.close(writer)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")
def test_no_child_outlives_its_parent() -> None:
    """However the parent dies: the child's end of the pipe closes when it has gone, too."""
    script = (
        "import sys, time; from gateway.dev import children;"
        "children.spawn([sys.executable, '-c', 'print(1, flush=True); import signal; signal.pause()'], {}, None);"
        "time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout as out:
        assert out.readline() == b"1\n"
        parent.kill()
        parent.wait()
        assert out.read() == b""


def test_an_end_is_told_in_words(sleeper: children.Child) -> None:
    """A signal is no exit code."""
    sleeper.kill()
    sleeper.wait()
    assert children.how_it_ended(sleeper) == "was killed by signal 9"
    ended = children.spawn([sys.executable, "-c", "raise SystemExit(3)"], {}, subprocess.DEVNULL)
    ended.wait()
    assert children.how_it_ended(ended) == "ended with code 3"
