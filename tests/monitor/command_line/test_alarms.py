"""`monitor alarms` and `monitor webhook` as people and scripts meet them: real processes, exit codes, output."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from gateway.store.database import write_transaction
from monitor.jobs.lease import LeaseKeeper
from monitor.records import Alarm, AlarmState
from monitor.settings import MonitorSettings
from monitor.tables.alarm_queries import save_alarm
from tests.monitor.webhook_receiver import SECRET, is_signed, received

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


class Monitor:
    """The `monitor` command over the test's database."""

    def __init__(self, settings: MonitorSettings) -> None:
        kept = {name: value for name, value in os.environ.items() if "MONITOR_" not in name}
        self._environment = kept | {
            "MONITOR_DATABASE_URL": settings.database_url,
            "MONITOR_AUDIT_KEY_FILE": str(settings.audit_key_file),
            "MONITOR_WITNESS_FOLDER": str(settings.audit_key_file.parent / "witness"),
        }

    def start(self, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
        """One command, beside the test."""
        return subprocess.Popen(
            [sys.executable, "-m", "monitor", *arguments],
            env={**self._environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run one command, and give how it ended."""
        with self.start(*arguments, **variables) as process:
            output, said = process.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, output, said)


@pytest.fixture
def monitor(engine: Engine, begun: MonitorSettings) -> Monitor:
    """With the monitor's ledger begun."""
    return Monitor(begun)


@pytest.fixture
def secret_file(tmp_path: Path) -> str:
    """What messages are signed with."""
    file = tmp_path / "webhook.secret"
    file.write_bytes(SECRET)
    file.chmod(0o600)
    return str(file)


def ring(engine: Engine) -> None:
    """The drift alarm of conveyor."""
    with write_transaction(engine) as connection:
        alarm = Alarm("conveyor", "drift", AlarmState.FIRING, datetime.now(UTC), "1")
        save_alarm(connection, alarm)


def test_an_alarm_is_listed_acknowledged_and_silenced(engine: Engine, monitor: Monitor) -> None:
    """Each step shows in the next list."""
    ring(engine)
    assert "  drift firing since" in monitor("alarms", "list").stdout
    done = monitor("alarms", "ack", "drift", "--why", "known")
    assert (0, "drift of conveyor: acknowledged\n") == (done.returncode, done.stdout)
    done = monitor("alarms", "silence", "drift", "--for", "2h", "--why", "moving")
    assert (0, True) == (done.returncode, done.stdout.startswith("silence 1 until "))
    shown = json.loads(monitor("alarms", "list", "--json", "--history", "5").stdout)
    (alarm,) = shown["alarms"]
    assert ("acknowledged", "known", True) == (
        alarm["state"],
        alarm["acknowledged"]["why"],
        alarm["silenced"],
    )
    assert ["acknowledged"] == [change["after"] for change in shown["history"]]
    done = monitor("alarms", "unsilence", "1")
    assert (0, "silence 1 has ended\n") == (done.returncode, done.stdout)
    assert [] == json.loads(monitor("alarms", "list", "--json").stdout)["silences"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["alarms", "ack", "drift", "--why", "x"], 3, "no alarm drift is firing"),
        (["alarms", "ack", "drift"], 2, "--why"),
        (["alarms", "ack", "nothing", "--why", "x"], 2, "no alarm is called nothing"),
        (["alarms", "silence", "--for", "2", "--why", "x"], 2, "from 1m to at most 30 days"),
        (["alarms", "silence", "--for", "31d", "--why", "x"], 2, "from 1m to at most 30 days"),
        (["alarms", "silence", "--for", "2h", "--why", "x"], 2, "--all silences every alarm"),
        (["alarms", "silence", "--all", "--for", "2h", "--why", ""], 2, "--why is empty"),
        (["alarms", "ack", "drift", "--why", ""], 2, "--why is empty"),
        (["alarms", "silence", "--why", "x"], 2, "--for"),
        (["alarms", "unsilence", "7"], 3, "there is no silence 7"),
        (["webhook", "test"], 3, "no webhook is set"),
    ],
)
def test_mistakes_have_an_exit_code_and_a_message(
    engine: Engine, monitor: Monitor, arguments: list[str], status: int, message: str
) -> None:
    """No traceback, and nothing on standard output."""
    result = monitor(*arguments)
    assert (status, "") == (result.returncode, result.stdout)
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_webhooks_are_tried_by_a_command(
    engine: Engine, monitor: Monitor, secret_file: str
) -> None:
    """One line each, without the path; what does not take it fails the command."""
    with received() as good, received() as bad:
        good.body, bad.statuses = b"hello \x1b[31m", [500]
        result = monitor(
            "webhook",
            "test",
            MONITOR_WEBHOOK_URLS=f"{good.url},{bad.url}",
            MONITOR_WEBHOOK_SECRET_FILE=secret_file,
        )
    first, second = result.stdout.splitlines()
    assert first.endswith(": answered 200: hello \\x1b[31m")
    assert second.endswith(": answered 500: thanks")
    assert "secret-path" not in result.stdout + result.stderr
    assert (1, True) == (result.returncode, "a webhook did not take" in result.stderr)
    ((headers, body),) = good.got
    assert is_signed(headers, body)


def test_a_tick_tells_webhooks(engine: Engine, monitor: Monitor, secret_file: str) -> None:
    """For cron: what changed since the last one; the model is in production no longer, so its alarm ends, too."""
    with received() as receiver:
        variables = {
            "MONITOR_WEBHOOK_URLS": receiver.url,
            "MONITOR_WEBHOOK_SECRET_FILE": secret_file,
        }
        monitor("tick", **variables)
        ring(engine)
        monitor("alarms", "ack", "drift", "--why", "known")
        monitor("tick", **variables)
    assert [("drift", "acknowledged"), ("drift", "resolved")] == receiver.states()


def test_a_monitor_that_starts_tells_that_none_ran(
    engine: Engine, monitor: Monitor, secret_file: str
) -> None:
    """To a webhook that it never told anything before; and that it is over, once it ticked."""
    LeaseKeeper(holder="killed", duration_seconds=0.0).ask(engine)
    with write_transaction(engine) as connection:
        connection.execute(text("UPDATE leases SET renewed_at = '2026-01-01 00:00:00.000000'"))
    with received() as receiver:
        process = monitor.start(
            "run",
            MONITOR_WEBHOOK_URLS=receiver.url,
            MONITOR_WEBHOOK_SECRET_FILE=secret_file,
            MONITOR_METRICS_PORT="0",
            MONITOR_TICK_SECONDS="0.5",
        )
        try:
            assert receiver.wait(2, timeout_seconds=60)
        finally:
            process.terminate()
            _, said = process.communicate(timeout=60)
    assert 0 == process.returncode, said
    assert [("stale", "firing"), ("stale", "resolved")] == receiver.states()[:2]


@pytest.mark.parametrize(
    "command",
    [
        ("alarms", "list"),
        ("alarms", "ack"),
        ("alarms", "silence"),
        ("alarms", "unsilence"),
        ("webhook", "test"),
    ],
)
def test_each_command_has_help_with_an_example(
    engine: Engine, monitor: Monitor, command: tuple[str, str]
) -> None:
    """--help is the first place people look."""
    result = monitor(*command, "--help", COLUMNS="200")
    assert 0 == result.returncode
    assert f"monitor {' '.join(command)}" in result.stdout
    assert "Example" in result.stdout
