"""`monitor reference` and `monitor references` as people and scripts meet them: real processes, exit codes, output."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from monitor.__main__ import app
from monitor.records import InputError
from monitor.settings import MonitorSettings
from tests.monitor import conftest

Monitor = Callable[..., "subprocess.CompletedProcess[str]"]
Promote = Callable[[str], None]
AddSamples = Callable[..., datetime]

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def _past(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands go by the clock, and leave out samples of the future."""
    monkeypatch.setattr(conftest, "START", datetime(2020, 1, 1, tzinfo=UTC))


@pytest.fixture
def monitor(begun: MonitorSettings) -> Monitor:
    """Runs one command over the test's database and gives how it ended."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MONITOR_")}
    own = {
        "MONITOR_DATABASE_URL": begun.database_url,
        "MONITOR_AUDIT_KEY_FILE": str(begun.audit_key_file),
    }

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "monitor", *arguments],
            env={**kept, **own, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run


def test_two_periods_are_merged_and_listed(
    monitor: Monitor, promote: Promote, add_samples: AddSamples
) -> None:
    """Each made of its own time, then one of both, which is in use."""
    result = monitor("references")
    assert (3, "") == (result.returncode, result.stdout)
    assert "there is no reference: make one with" in result.stderr
    promote("1")
    add_samples(400)
    middle = "2020-01-01T00:03:20Z"
    for period in (("--until", middle), ("--since", middle)):
        result = monitor("reference", "--from", "samples", *period, "--json")
        assert 0 == result.returncode, result.stderr
    assert 201 == json.loads(result.stdout)["samples"]
    result = monitor("reference", "--from", "references", "--merge", "1", "--merge", "2")
    assert 0 == result.returncode, result.stderr
    assert result.stdout.startswith("reference 3 for conveyor 1: 400 samples, ")
    assert "left out, because the references do not compute them alike: class_surprise" in (
        result.stderr
    )
    listed = json.loads(monitor("references", "--json").stdout)["references"]
    assert [(3, True, 400), (2, False, 201), (1, False, 199)] == [
        (each["id"], each["in_use"], each["samples"]) for each in listed
    ]
    first_line = monitor("references", "--model", "conveyor").stdout.splitlines()[0]
    assert first_line.startswith("* 3  conveyor 1  400 samples, made ")


def test_cameras_are_thinned_by_the_setting(
    monitor: Monitor, promote: Promote, add_samples: AddSamples
) -> None:
    """Two cameras that send twice a second, of which one in ten samples is left; told apart as slices."""
    promote("1")
    for _ in range(200):
        add_samples(1, source="a")
        add_samples(1, source="b")
    result = monitor("reference", "--from", "samples")
    assert 3 == result.returncode
    assert "of 400 samples of conveyor 1 only 80 are left, a reference needs 100" in result.stderr
    result = monitor("reference", "--from", "samples", "--json", MONITOR_THIN_SECONDS="0")
    made = json.loads(result.stdout)
    assert (400, ["source=a", "source=b"]) == (made["samples"], made["slices"])
    result = monitor(
        *("reference", "--from", "samples", "--source", "a", "--json"),
        MONITOR_THIN_SECONDS="0",
        MONITOR_MAX_SLICES="0",
    )
    assert (200, []) == (json.loads(result.stdout)["samples"], json.loads(result.stdout)["slices"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "dataset"], "`--from dataset` takes a PATH"),
        (["--from", "samples", "x"], "`--from samples` takes none"),
        (["--from", "references", "x"], "nor does `--from references`"),
        (["--from", "references"], "takes --merge ID at least twice"),
        (["--from", "references", "--merge", "1"], "at least two references"),
        (["--from", "samples", "--merge", "1"], "takes --merge ID at least twice"),
        (["--from", "dataset", "x", "--hours", "06-18"], "--hours: only with `--from samples`"),
        (["--from", "dataset", "x", "--since", "now"], "--since: only with `--from samples`"),
        (["--from", "samples", "--since", "now"], "--since 'now' is no time"),
        (["--from", "samples", "--hours", "6-18"], "--hours: '6-18' is no band of hours"),
        (["--from", "samples", "--newest", "0"], "--newest 0: a reference is made of"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    begun: MonitorSettings,
    promote: Promote,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    """With what to write, before anything is read."""
    promote("1")
    monkeypatch.setenv("MONITOR_DATABASE_URL", begun.database_url)
    monkeypatch.setenv("MONITOR_AUDIT_KEY_FILE", str(begun.audit_key_file))
    result = CliRunner().invoke(app, ["reference", *arguments])
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)


@pytest.mark.parametrize("command", ["reference", "references"])
def test_help_has_an_example(monitor: Monitor, command: str) -> None:
    """--help is the first place people look."""
    result = monitor(command, "--help", COLUMNS="200")
    assert 0 == result.returncode
    assert f"monitor {command}" in result.stdout
    assert "Example" in result.stdout
