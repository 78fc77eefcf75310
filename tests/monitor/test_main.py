"""The `monitor` command as people and scripts meet it: real processes, exit codes, output."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from monitor.jobs.lease import new_keeper
from monitor.settings import MonitorSettings
from tests.monitor import conftest
from tests.monitor.jobs.security_world import World, add_ledgers
from tests.monitor.security.ledger_events import at, call

Promote = Callable[[str], None]
AddSamples = Callable[..., datetime]
Monitor = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def _past(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands go by the clock, and leave out samples of the future."""
    monkeypatch.setattr(conftest, "START", datetime(2020, 1, 1, tzinfo=UTC))


@pytest.fixture
def environment(engine: Engine, begun: MonitorSettings, tmp_path: Path) -> dict[str, str]:
    """The test's database with the monitor's ledger, a short window, a metrics port that is free."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MONITOR_")}
    return {
        **kept,
        "MONITOR_DATABASE_URL": begun.database_url,
        "MONITOR_WINDOW_SAMPLES": "60",
        "MONITOR_METRICS_PORT": "0",
        "MONITOR_TICK_SECONDS": "0.2",
        "MONITOR_REPORTS_FOLDER": str(tmp_path / "reports"),
        "MONITOR_AUDIT_KEY_FILE": str(begun.audit_key_file),
    }


@pytest.fixture
def monitor(environment: dict[str, str]) -> Monitor:
    """Runs one command and gives how it ended."""

    def run(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "monitor", *arguments],
            env={**environment, **variables},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run


def test_a_day_with_the_monitor(
    monitor: Monitor, promote: Promote, add_samples: AddSamples
) -> None:
    """From nothing to a raised alarm, each step saying what comes next."""
    result = monitor("status")
    assert (result.returncode, result.stdout) == (3, "")
    assert "no model is in production: promote one" in result.stderr

    promote("1")
    assert "no reference for conveyor 1: make one with" in monitor("status").stdout

    add_samples(200)
    result = monitor("reference", "--from", "samples", "--newest", "200", "--json")
    made = json.loads(result.stdout)
    assert (made["model"], made["version"], made["samples"]) == ("conveyor", "1", 200)

    for _ in range(2):
        add_samples(60, drift=1.0)
        result = monitor("tick", "--json")
        assert result.returncode == 0
    (ticked,) = json.loads(result.stdout)["models"]
    assert (ticked["outcome"], ticked["alarm"]) == ("judged", "firing")
    assert "brightness fell from" in ticked["diagnosis"]
    assert (60, 0) == (ticked["judged_samples"], ticked["lag_samples"])

    (status,) = json.loads(monitor("status", "--json").stdout)["models"]
    assert (status["alarm"]["state"], status["window_samples"]) == ("firing", 60)
    assert status["last_tick_at"] is not None
    assert "drifted" in monitor("status").stdout
    assert monitor("tick", "--fail-on-alarm").returncode == 4

    result = monitor("reference", "--from", "samples", "--newest", "100")
    assert (result.returncode, result.stdout) == (2, "")
    assert "would make that normal; if it is, say --force" in result.stderr
    assert monitor("reference", "--from", "samples", "--newest", "100", "--force").returncode == 0
    assert monitor("tick").returncode == 0
    assert "drift      unknown since" in monitor("status").stdout
    assert "a new reference is in use" in monitor("status").stdout
    assert "cannot be judged now: 0 of 30 samples" in monitor("status").stdout


def test_a_tick_beside_another_monitor_says_so_and_judges_nothing(
    engine: Engine, monitor: Monitor, promote: Promote, add_samples: AddSamples
) -> None:
    """Cron and `monitor run` may stand side by side: no error, and until when in words."""
    promote("1")
    add_samples(60)
    assert new_keeper(tick_seconds=60.0).ask(engine).is_held
    result = monitor("tick", "--json")
    assert 0 == result.returncode
    assert [] == json.loads(result.stdout)["models"]
    assert "nothing was judged: another monitor holds the lease until" in result.stderr


def test_a_reference_comes_from_standard_input(monitor: Monitor, promote: Promote) -> None:
    """As `gateway features FOLDER | monitor reference --from dataset -`."""
    promote("1")
    line = {
        "features": {"brightness": 0.5},
        "detections": [],
        "model_name": "conveyor",
        "model_version": "1",
        "received_at": "2030-01-01T00:00:00+00:00",
    }
    lines = "".join(json.dumps(line) + "\n" for _ in range(100))
    result = monitor("reference", "--from", "dataset", "-", stdin=lines)
    assert (result.returncode, result.stdout) == (
        0,
        "reference 1 for conveyor 1: 100 samples, 3 features, from standard input\n",
    )


def test_what_is_found_in_a_ledger_is_shown_and_acknowledged(
    engine: Engine, monitor: Monitor
) -> None:
    """A token from two addresses, without any model in production."""
    add_ledgers(engine, {"gateway": [call(at(0)), call(at(1), address="198.51.100.1")]})
    World(engine).look()
    shown = monitor("status").stdout
    assert "no model is in production" in shown
    assert "1 of 13 alarms raised" in shown
    assert "monitor acknowledge token_shared" in shown
    (found,) = json.loads(monitor("status", "--json").stdout)["ledgers"]["findings"]
    result = monitor("acknowledge", "token_shared", "--key", found["key"], "--why", "a test")
    assert (0, True) == (result.returncode, result.stdout.startswith("token_shared: closed https:"))
    assert "0 of 13 alarms raised" in monitor("status").stdout


@pytest.mark.parametrize(
    ("arguments", "variables", "status", "message"),
    [
        (["reference", "--from", "dataset"], {}, 2, "`--from dataset` takes a PATH"),
        (["reference", "--from", "samples", "x"], {}, 2, "`--from samples` takes none"),
        (["reference", "--from", "nowhere"], {}, 2, "nowhere"),
        (["status"], {"MONITOR_ALPHA": "7"}, 2, "MONITOR_ALPHA: "),
        (["status"], {"MONITOR_DATABASE_URL": "mysql://x/y"}, 2, "MONITOR_DATABASE_URL is wrong"),
        (["run"], {"MONITOR_DATABASE_URL": "mysql://x/y"}, 2, "MONITOR_DATABASE_URL is wrong"),
        (["tick"], {"MONITOR_DATABASE_URL": "sqlite:///absent.db"}, 1, "no database at absent.db"),
        (["reference", "--from", "dataset", "."], {}, 3, "a reference needs at least 100"),
        (["status", "--model", "x"], {}, 3, "no version of x is in production"),
        (["report", "--model", "x"], {}, 3, "no version of x is in production"),
        (["reference", "--from", "samples", "--model", "x"], {}, 3, "no version of x is"),
        (["report"], {"MONITOR_MODEL_NAME": "x"}, 3, "no version of x is in production"),
        (["run"], {"MONITOR_METRICS_HOST": "192.0.2.1"}, 2, "cannot serve metrics on 192.0.2.1"),
        (["acknowledge", "token_shared"], {}, 3, "no finding of token_shared is open"),
        (["acknowledge", "nothing"], {}, 2, "token_shared"),
    ],
)
def test_mistakes_have_an_exit_code_and_a_message(
    monitor: Monitor, arguments: list[str], variables: dict[str, str], status: int, message: str
) -> None:
    """No traceback, and nothing on standard output."""
    result = monitor(*arguments, **variables)
    assert (result.returncode, result.stdout) == (status, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["run", "tick", "reference", "report", "status", "acknowledge"])
def test_each_command_has_help_with_an_example(monitor: Monitor, command: str) -> None:
    """--help is the first place people look."""
    result = monitor(command, "--help", COLUMNS="200")
    assert result.returncode == 0
    assert f"monitor {command}" in result.stdout
    assert "Example" in result.stdout


def test_short_help_names_the_exit_codes(monitor: Monitor) -> None:
    """-h is what many people type."""
    result = monitor("-h", COLUMNS="200")
    assert result.returncode == 0
    assert "3 something has to exist first" in result.stdout
    assert "4 an alarm is raised" in result.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_serves_metrics_and_ends_at_once_on_a_signal(
    environment: dict[str, str], promote: Promote, number: signal.Signals
) -> None:
    """Exit status 0, with an hour to the next tick."""
    promote("1")
    process = subprocess.Popen(
        [sys.executable, "-m", "monitor", "run"],
        env={**environment, "MONITOR_TICK_SECONDS": "3600"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        lines = iter(process.stderr.readline, "")
        url = next(line.split("metrics=")[1].strip() for line in lines if "metrics=" in line)
        assert any("outcome=no_reference" in line for line in lines)
        with urllib.request.urlopen(url, timeout=10) as response:
            exposition = response.read().decode()
        process.send_signal(number)
        assert process.wait(timeout=20) == 0
        assert "stopped" in process.stderr.read()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert 'monitor_ticks_total{outcome="no_reference"} 1.0' in exposition
    assert "monitor_build_info{" in exposition
