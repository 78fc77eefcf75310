"""What commands open: each refusal names its fix; actions stand between two records."""

import os
import pwd
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from gateway.audit.events import Action
from gateway.commands.db import upgrade
from gateway.commands.opening import (
    open_store,
    open_trusted_signers,
    opened_store,
    operator_event,
    recorded,
    settings_of_process,
)
from gateway.errors import AuditUnavailableError, Code, OperatorError, RegistryError, SettingsError
from gateway.settings import GatewaySettings, read_settings
from gateway.store.database import write_transaction

Ledger = Callable[[], list[dict[str, Any]]]


def opening_refused(database_url: str) -> str:
    """The message that refuses to open this database."""
    with pytest.raises(OperatorError) as caught:
        open_store(read_settings({}, database_url=database_url))
    assert caught.value.code is Code.SETTINGS_INVALID
    return caught.value.message


def test_a_missing_database_names_the_command_that_makes_one(tmp_path: Path) -> None:
    """And is not made."""
    message = opening_refused(f"sqlite:///{tmp_path}/absent.db")
    assert message == (
        f"GATEWAY_DATABASE_URL: no database at {tmp_path}/absent.db: "
        "create it with `gateway db upgrade`"
    )


def test_a_database_without_tables_names_the_command_that_makes_them(tmp_path: Path) -> None:
    """A process never migrates by itself."""
    (tmp_path / "empty.db").touch()
    message = opening_refused(f"sqlite:///{tmp_path}/empty.db")
    assert message == "the database has other tables than this release: run `gateway db upgrade`"


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """Without the library's own text."""
    (tmp_path / "text.db").write_text("not a database, although it is long enough to look at" * 9)
    message = opening_refused(f"sqlite:///{tmp_path}/text.db")
    assert message == "GATEWAY_DATABASE_URL: the database does not answer (DatabaseError)"


def test_a_server_that_is_away_does_not_show_the_password(tmp_path: Path) -> None:
    """The address may hold one."""
    message = opening_refused(f"postgresql+psycopg://u:secret@/d?host={tmp_path}")
    assert message == "GATEWAY_DATABASE_URL: the database does not answer (OperationalError)"


@pytest.mark.parametrize("url", ["mysql://u:secret@h/d", "no url", "sqlite"])
def test_an_address_of_another_kind_is_refused(url: str) -> None:
    """By the setting's name, without its password."""
    message = opening_refused(url)
    assert message.startswith("GATEWAY_DATABASE_URL: ")
    assert "secret" not in message


def test_an_upgrade_of_what_is_no_database_is_refused(tmp_path: Path) -> None:
    """The same for the command that makes one, and without the password."""
    (tmp_path / "file").touch()
    with pytest.raises(OperatorError, match="GATEWAY_DATABASE_URL: the database cannot be"):
        upgrade(read_settings({}, database_url=f"sqlite:///{tmp_path}/file/new.db"))
    with pytest.raises(OperatorError, match="GATEWAY_DATABASE_URL: the database cannot be"):
        upgrade(read_settings({}, database_url="mysql://u@h/d"))
    with pytest.raises(OperatorError) as caught:
        upgrade(read_settings({}, database_url=f"postgresql+psycopg://u:secret@/d?host={tmp_path}"))
    assert "secret" not in caught.value.message


def test_the_environment_and_its_file_make_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overrides over variables over .env in the working folder."""
    (tmp_path / ".env").write_text("GATEWAY_PORT=1\nGATEWAY_WORKERS=3\nGATEWAY_QUEUE_SIZE=7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_PORT", "2")
    monkeypatch.setenv("GATEWAY_QUEUE_SIZE", "8")
    settings = settings_of_process(queue_size=9)
    assert (settings.port, settings.workers, settings.queue_size) == (2, 3, 9)


def test_a_bad_environment_file_is_a_settings_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which commands print like every other."""
    (tmp_path / ".env").write_text("GATEWAY_PORT 1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=r"\.env line 1: write NAME=value"):
        settings_of_process()


def test_without_a_trusted_signer_nothing_is_opened(
    settings: GatewaySettings, home: Path, tmp_path: Path
) -> None:
    """An empty folder trusts nobody, and says how to trust somebody."""
    empty = settings.model_copy(update={"trusted_signers_folder": tmp_path})
    with pytest.raises(OperatorError, match="no trusted signer: put a public key") as caught:
        open_trusted_signers(empty)
    assert caught.value.code is Code.KEY_INVALID
    assert len(open_trusted_signers(settings)) == 1


def test_a_signer_that_others_may_change_is_refused(settings: GatewaySettings, home: Path) -> None:
    """Whoever can change it decides whose models run; one bad file refuses them all."""
    (file,) = (home / "keys" / "signers").iterdir()
    file.chmod(0o666)
    with pytest.raises(OperatorError, match="chmod it to 0644"):
        open_trusted_signers(settings)


def test_an_action_runs_between_two_records(settings: GatewaySettings, ledger: Ledger) -> None:
    """Its beginning is durable before it begins."""
    with (
        opened_store(settings) as store,
        recorded(
            store,
            settings,
            operator_event(Action.MODELS_SEAL, model_name="belt", model_version="7"),
        ),
    ):
        assert [(r["outcome"], r["model_version"]) for r in ledger()][-1] == ("admitted", "7")
    assert [(r["outcome"], r["model_version"]) for r in ledger()][-1] == ("answered", "7")


def test_an_action_that_fails_is_recorded_with_its_reason(
    settings: GatewaySettings, ledger: Ledger
) -> None:
    """The message is for the operator, the reason for the ledger."""
    error = RegistryError(Code.MODEL_UNKNOWN, "message", reason="the-reason")
    with (
        opened_store(settings) as store,
        pytest.raises(RegistryError),
        recorded(store, settings, operator_event(Action.MODELS_PROMOTE)),
    ):
        raise error
    last = ledger()[-1]
    assert (last["outcome"], last["code"], last["reason"]) == (
        "failed", "model_unknown", "the-reason",
    )  # fmt: skip


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
def test_an_action_that_ends_otherwise_is_recorded_too(
    settings: GatewaySettings, ledger: Ledger, error: type[BaseException]
) -> None:
    """By the name of what ended it; its text may hold anything."""
    with (
        opened_store(settings) as store,
        pytest.raises(error),
        recorded(store, settings, operator_event(Action.MODELS_SEAL)),
    ):
        raise error("secret")
    last = ledger()[-1]
    assert (last["outcome"], last["code"], last["reason"]) == (
        "failed", "internal", error.__name__,
    )  # fmt: skip


_SEALING = """
import sys
from gateway.audit.events import Action
from gateway.commands.opening import opened_store, operator_event, recorded
from gateway.settings import read_settings
settings = read_settings({}, database_url=sys.argv[1], audit_key_file=sys.argv[2])
with opened_store(settings) as store, recorded(store, settings, operator_event(Action.MODELS_SEAL)):
    print("began", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_command_that_is_told_to_end_records_it(
    settings: GatewaySettings, ledger: Ledger, number: signal.Signals, exit_code: int
) -> None:
    """As a supervisor ends it, or a terminal that is closed."""
    arguments = [
        sys.executable,
        "-c",
        _SEALING,
        settings.database_url,
        str(settings.audit_key_file),
    ]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "began\n"
        process.send_signal(number)
        assert exit_code == process.wait(timeout=30)
    assert [(r["outcome"], r["reason"]) for r in ledger()][-2:] == [
        ("admitted", None),
        ("failed", "TerminatedError"),
    ]


def test_an_action_that_cannot_be_recorded_does_not_run(settings: GatewaySettings) -> None:
    """Operators are held to it like callers."""
    ran = False
    with opened_store(settings) as store:
        with write_transaction(store) as connection:
            connection.exec_driver_sql("DROP TABLE audit_records")
        with (
            pytest.raises(AuditUnavailableError),
            recorded(store, settings, operator_event(Action.AUDIT_VERIFY)),
        ):
            ran = True
    assert not ran


def test_operators_events_name_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the command, as the operating system knows them and not as their environment says."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "mallory")
    event = operator_event(Action.AUDIT_VERIFY)
    assert (event.issuer, event.subject) == ("operating-system", pwd.getpwuid(os.getuid()).pw_name)


def test_an_account_without_a_name_is_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in many containers."""
    monkeypatch.setattr("os.getuid", lambda: 3_999_999_999)
    assert operator_event(Action.AUDIT_VERIFY).subject == "3999999999"


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_signers_folder_that_others_may_change_is_refused(
    settings: GatewaySettings, home: Path, mode: int
) -> None:
    """They could add a signer of their own."""
    folder = home / "keys" / "signers"
    folder.chmod(mode)
    with pytest.raises(OperatorError) as caught:
        open_trusted_signers(settings)
    assert caught.value.message == (
        f"GATEWAY_TRUSTED_SIGNERS_FOLDER: {folder} can be changed by others; chmod it to 0755"
    )


def test_a_read_only_copy_says_what_to_do(
    settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's WAL needs files beside the database, also to read."""

    def fail(_engine: object) -> bool:
        cause = sqlite3.OperationalError("attempt to write a readonly database")
        raise OperationalError("PRAGMA", None, cause)

    monkeypatch.setattr("gateway.commands.opening.is_current", fail)
    with pytest.raises(OperatorError, match="copy it to a folder that you may write"):
        open_store(settings)
