"""Reading the ledger: what is shown, and what is recorded of it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, update

from gateway.commands.audit import show
from gateway.commands.opening import opened_store
from gateway.errors import AuditUnavailableError, LedgerError
from gateway.settings import GatewaySettings
from gateway.store.database import write_transaction
from gateway.store.tables import audit_records

Ledger = Callable[[], list[dict[str, Any]]]


def change(settings: GatewaySettings, position: int, **values: object) -> None:
    """Change one record as somebody with access to the database would; without values, remove it."""
    at = audit_records.c.position == position
    statement = update(audit_records).where(at).values(**values) if values else None
    with opened_store(settings) as store, write_transaction(store) as connection:
        connection.execute(delete(audit_records).where(at) if statement is None else statement)


def test_the_newest_records_are_shown_in_order(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line each: time, action, outcome, address, subject, model, code, reason."""
    show(settings, request_id=None, newest=2, as_json=False)
    first, second = (line.split("  ") for line in capsys.readouterr().out.splitlines())
    assert (first[1:3], second[1:3]) == (
        ["models.promote", "admitted"], ["models.promote", "answered"],
    )  # fmt: skip
    assert (len(first), first[3], first[5:]) == (8, "-", ["belt@1", "-", "-"])
    show(settings, request_id=None, newest=1, as_json=False)
    assert "  audit.read  answered  " in (line := capsys.readouterr().out)
    assert line.endswith("  -  -  -\n")


def test_looking_is_recorded_first(
    settings: GatewaySettings, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what was asked for; what cannot be recorded is not shown."""
    show(settings, request_id="r-1", newest=5, as_json=False)
    assert capsys.readouterr() == ("", "no such record\n")
    last = ledger()[-1]
    assert (last["action"], last["outcome"], last["request_id"]) == (
        "audit.read",
        "answered",
        "r-1",
    )
    with opened_store(settings) as store, write_transaction(store) as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER t BEFORE INSERT ON audit_records BEGIN SELECT RAISE(FAIL, 'no'); END"
        )
    with pytest.raises(AuditUnavailableError):
        show(settings, request_id=None, newest=5, as_json=True)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("request_id", ["r_1", 'r"1', "r\\1", "r\x1b1", "r" * 200])
def test_one_requests_records_are_found(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str], request_id: str
) -> None:
    """Whatever its id holds, and no other's: not one that differs by a capital or a wildcard."""
    for asked in (request_id, request_id.upper(), request_id.replace("_", "x"), "r"):
        show(settings, request_id=asked, newest=5, as_json=True)
    capsys.readouterr()
    show(settings, request_id=request_id, newest=5, as_json=True)
    shown = json.loads(capsys.readouterr().out)
    same = 2 if "_" not in request_id else 1
    assert [r["action"] for r in shown] == ["audit.read"] * same
    assert len({r["request_id"] for r in shown}) == 1


def test_what_an_intruder_wrote_cannot_drive_a_terminal(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody with the database can store an escape that the gateway never would."""
    body = {"action": "\x1b[2J", "outcome": "a\nb", "model_name": "belt\x1b", "model_version": -1}
    change(settings, 3, body=json.dumps(body))
    show(settings, request_id=None, newest=1, as_json=False)
    assert "  \\x1b[2J  a\\x0ab  -  -  belt\\x1b@-1  -  -\n" in capsys.readouterr().out


@pytest.mark.parametrize("body", ["", "[]", "17", "{"])
def test_a_record_that_cannot_be_read_points_at_the_check(
    settings: GatewaySettings, body: str
) -> None:
    """Not a stack trace."""
    change(settings, 3, body=body)
    with pytest.raises(LedgerError, match="`gateway audit verify` says which"):
        show(settings, request_id=None, newest=1, as_json=False)
