"""`gateway dev`: what it does while its children run. No child here is a gateway."""

import io
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from gateway.dev import run as dev
from gateway.dev.announce import Addresses
from gateway.dev.children import Child, spawn
from gateway.dev.status import Snapshot
from gateway.errors import Code, OperatorError

ADDRESSES = Addresses(
    url="https://127.0.0.1:8443",
    gateway_metrics="http://127.0.0.1:1/metrics",
    monitor_metrics="http://127.0.0.1:1/metrics",
)


@pytest.fixture
def sleeper() -> Iterator[Child]:
    """A process that waits for ever."""
    process = spawn([sys.executable, "-c", "import signal; signal.pause()"], {}, subprocess.DEVNULL)
    yield process
    process.kill()
    process.wait()


def running(child: Child) -> dev.Running:
    """The child with what is told of it."""
    return dev.Running(child, Path("its.log"), "start it")


def test_a_child_that_ends_is_told_and_the_other_goes_on(
    sleeper: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name and exit code, once; when both have ended there is nothing left to watch."""
    monkeypatch.setattr(dev, "STATUS_SECONDS", 0.01)
    ended = spawn([sys.executable, "-c", "raise SystemExit(3)"], {}, subprocess.DEVNULL)
    ended.wait()
    console = Console(file=io.StringIO(), soft_wrap=True)

    class StopsAtThirdLook(threading.Event):
        looks = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.looks += 1
            return self.looks == 3

    both = {"gateway": running(sleeper), "monitor": running(ended)}
    dev._watch(both, ADDRESSES, StopsAtThirdLook(), console, min_window_samples=30)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == (
        "the monitor ended with code 3: see its.log; start it again with\n  start it\n"
    )
    with pytest.raises(OperatorError, match=r"both ended: see its\.log") as caught:
        dev._watch(
            {"monitor": running(ended)},
            ADDRESSES,
            threading.Event(),
            Console(quiet=True),
            min_window_samples=30,
        )
    assert caught.value.code is Code.NOT_READY


def test_watching_ends_when_told(sleeper: Child) -> None:
    """At once."""
    stop = threading.Event()
    stop.set()
    dev._watch(
        {"gateway": running(sleeper)}, ADDRESSES, stop, Console(quiet=True), min_window_samples=30
    )
    assert sleeper.poll() is None


def test_a_turn_of_the_alarm_is_told_where_no_line_is_drawn(
    sleeper: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a log, too, drift is to be seen; what stays the same is not repeated."""
    quiet = Snapshot(
        answered=1, refused=0, samples=1, window_samples=36, drifting=False, worst_feature="",
        worst_share=0.0,
    )  # fmt: skip
    drifting = replace(quiet, drifting=True)
    seen = iter([quiet, quiet, drifting, drifting])
    monkeypatch.setattr(dev, "read_snapshot", lambda *_: next(seen))
    monkeypatch.setattr(dev, "STATUS_SECONDS", 0.01)
    console = Console(file=io.StringIO(), soft_wrap=True)

    class StopsAfterAll(threading.Event):
        looks = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.looks += 1
            return self.looks == 5

    dev._watch(
        {"gateway": running(sleeper)}, ADDRESSES, StopsAfterAll(), console, min_window_samples=30
    )
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == (
        "1 answered (0.0/s), 0 refused | 1 samples | window 36: DRIFT; see `monitor status`\n"
    )


def test_signals_set_the_event_and_the_descriptor() -> None:
    """With the descriptor, once; and the handlers of before come back."""
    before = signal.getsignal(signal.SIGTERM)
    stop = threading.Event()
    with dev._stopping_on_signals(stop) as descriptor:
        signal.raise_signal(signal.SIGTERM)
        assert stop.wait(5)
        signal.raise_signal(signal.SIGTERM)
        assert os.read(descriptor, 10) == b"\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_somebody_elses_folder_is_refused_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is made in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "letters.txt").touch()
    with pytest.raises(OperatorError, match="holds other files"):
        dev.run(home=tmp_path, any_ports=True, as_json=True, since=None)
    assert [*tmp_path.iterdir()] == [tmp_path / "letters.txt"]


def test_a_taken_port_is_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key, no certificate, no database."""
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("GATEWAY_PORT", str(taken.getsockname()[1]))
        with pytest.raises(OperatorError, match="GATEWAY_PORT"):
            dev.run(home=tmp_path / "home", any_ports=False, as_json=True, since=None)
    assert [*(tmp_path / "home").iterdir()] == [tmp_path / "home" / "dev.lock"]
