"""`gateway dev`: what it passes to its children, and what it does when one ends. No child here is a gateway."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gateway.dev import run as dev
from gateway.dev.home import ROLES, Layout, gateway_overrides, layout_of
from gateway.errors import OperatorError
from gateway.settings import read_settings

ADDRESSES = dev.Addresses(
    url="https://127.0.0.1:8443",
    gateway_metrics="http://127.0.0.1:1/metrics",
    monitor_metrics="http://127.0.0.1:1/metrics",
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A home with tokens and nothing else."""
    made = layout_of(tmp_path)
    made.tokens.mkdir()
    for role in ROLES:
        (made.tokens / f"{role}.jwt").write_text(f"token-of-{role}")
    return made


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that waits for ever."""
    process = dev._spawn(
        [sys.executable, "-c", "import signal; signal.pause()"], {}, subprocess.DEVNULL
    )
    yield process
    process.kill()
    process.wait()


def announced(layout: Layout, *, as_json: bool) -> str:
    """What people are told on standard error."""
    console = Console(record=True, quiet=False, soft_wrap=True, file=open(os.devnull, "w"))  # noqa: SIM115
    dev._announce(layout, ADDRESSES, seconds=1.23, as_json=as_json, console=console)
    console.file.close()
    return console.export_text()


def test_the_gateway_gets_what_the_home_decides(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over one's own variables, which pass through; every name is a setting."""
    monkeypatch.setenv("GATEWAY_SAMPLE_RATE", "0.5")
    monkeypatch.setenv("GATEWAY_KEK_FILE", "/elsewhere")
    settings = read_settings({}, **gateway_overrides(layout), port=0, metrics_port=9000)
    environment = dev._gateway_environment(layout, settings)
    assert environment["GATEWAY_SAMPLE_RATE"] == "0.5"
    assert environment["GATEWAY_KEK_FILE"] == str(layout.keys / "kek")
    assert (environment["GATEWAY_PORT"], environment["GATEWAY_METRICS_PORT"]) == ("0", "9000")
    assert read_settings(environment).database_url == layout.database_url


def test_programs_are_told_in_one_json_line(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    """Addresses and files; the tokens themselves stay in their files."""
    announced(layout, as_json=True)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "token-of-client" not in out
    facts = json.loads(out)
    assert facts == {
        "url": "https://127.0.0.1:8443",
        "ca_file": str(layout.ca_file),
        "gateway_metrics": "http://127.0.0.1:1/metrics",
        "monitor_metrics": "http://127.0.0.1:1/metrics",
        "reports_folder": str(layout.reports),
        "database_url": layout.database_url,
        "home": str(layout.state),
        "token_files": {role: str(layout.tokens / f"{role}.jwt") for role in ROLES},
        "start_seconds": 1.2,
    }


def test_people_are_told_what_to_try(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, with a command to copy."""
    told = announced(layout, as_json=False)
    assert capsys.readouterr().out == ""
    assert "serving on https://127.0.0.1:8443 after 1.2 s" in told
    assert f"curl --cacert {layout.ca_file}" in told
    assert "https://127.0.0.1:8443/predict" in told


def test_a_child_that_ends_is_told_and_the_other_goes_on(
    sleeper: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name and exit code, once; when both have ended there is nothing left to watch."""
    monkeypatch.setattr(dev, "STATUS_SECONDS", 0.01)
    ended = dev._spawn([sys.executable, "-c", "raise SystemExit(3)"], {}, subprocess.DEVNULL)
    ended.wait()
    console = Console(file=io.StringIO(), soft_wrap=True)

    class StopsAtThirdLook(threading.Event):
        looks = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.looks += 1
            return self.looks == 3

    dev._watch({"gateway": sleeper, "monitor": ended}, ADDRESSES, StopsAtThirdLook(), console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "the monitor ended with code 3: see its log\n"
    with pytest.raises(OperatorError, match="gateway and monitor have both ended"):
        dev._watch({"monitor": ended}, ADDRESSES, threading.Event(), Console(quiet=True))


def test_watching_ends_when_told(sleeper: "subprocess.Popen[bytes]") -> None:
    """At once."""
    stop = threading.Event()
    stop.set()
    dev._watch({"gateway": sleeper}, ADDRESSES, stop, Console(quiet=True))
    assert sleeper.poll() is None


def test_children_are_stopped_with_sigterm(sleeper: "subprocess.Popen[bytes]") -> None:
    """So that they drain; stopping one that ended already is fine."""
    dev._stop(sleeper)
    assert sleeper.returncode == -signal.SIGTERM
    dev._stop(sleeper)


def test_a_child_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while."""
    monkeypatch.setattr(dev, "STOP_TIMEOUT_SECONDS", 0.05)
    stubborn = (
        "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('ready', flush=True); [signal.pause() for _ in iter(int, 1)]"
    )
    process = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as out:
        assert out.readline() == b"ready\n"
        dev._stop(process)
    assert process.returncode == -signal.SIGKILL


def test_signals_of_the_terminal_reach_the_parent_alone(
    sleeper: "subprocess.Popen[bytes]",
) -> None:
    """Each child leads a session of its own, so Ctrl-C does not take both down at once."""
    assert os.getsid(sleeper.pid) == sleeper.pid
    assert os.getsid(sleeper.pid) != os.getsid(0)


def start(script: str, log_file: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, int]:
    """Start this script in place of the gateway; its last argument is the descriptor."""
    real = dev._spawn

    def spawn(command: list[str], *arguments: Any, **more: Any) -> "subprocess.Popen[bytes]":
        assert command[1:5] == ["-m", "gateway", "serve", "--ready-descriptor"]
        return real([sys.executable, "-c", script, command[5]], *arguments, **more)

    monkeypatch.setattr(dev, "_spawn", spawn)
    with log_file.open("ab") as log:
        return dev._start("gateway", ["serve"], {}, log)


def test_a_process_that_does_not_start_shows_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cause, instead of a wait for nothing."""
    script = "import sys; sys.exit('one\\ntwo\\nthree\\nfour\\nfive\\nsix: the cause')"
    with pytest.raises(OperatorError) as caught:
        start(script, tmp_path / "gateway.log", monkeypatch)
    assert caught.value.message == (
        f"the gateway did not start; {tmp_path}/gateway.log ends with:\n"
        "two\nthree\nfour\nfive\nsix: the cause"
    )


def test_a_process_that_says_nothing_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped, too."""
    monkeypatch.setattr(dev, "START_TIMEOUT_SECONDS", 0.05)
    with pytest.raises(OperatorError, match="the gateway did not start"):
        start("import signal; signal.pause()", tmp_path / "gateway.log", monkeypatch)


def test_a_process_that_serves_says_its_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a descriptor, so nobody polls."""
    script = "import os, sys, signal; os.write(int(sys.argv[1]), b'4321\\n'); signal.pause()"
    process, port = start(script, tmp_path / "gateway.log", monkeypatch)
    dev._stop(process)
    assert port == 4321


def test_signals_set_the_event_and_nothing_else() -> None:
    """And the handlers of before come back."""
    before = signal.getsignal(signal.SIGTERM)
    stop = threading.Event()
    with dev._stopping_on_signals(stop):
        signal.raise_signal(signal.SIGTERM)
        assert stop.wait(5)
    assert signal.getsignal(signal.SIGTERM) is before
