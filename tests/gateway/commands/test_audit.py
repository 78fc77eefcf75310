"""Checking the ledger: what is printed, what is recorded, and what exits with 1."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, update

from gateway.commands.audit import show, verify
from gateway.commands.opening import opened_store
from gateway.errors import AuditUnavailableError, Code, LedgerError
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


def test_a_good_ledger_is_called_good(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """The home's four; the check's own record comes after."""
    verify(settings, as_json=False)
    assert capsys.readouterr().out.startswith("gateway: 4 records, all good; last hash ")


def test_the_check_is_recorded(settings: GatewaySettings, ledger: Ledger) -> None:
    """Once, after it."""
    verify(settings, as_json=True)
    assert [(r["action"], r["outcome"]) for r in ledger()][-2:] == [
        ("models.promote", "answered"),
        ("audit.verify", "answered"),
    ]


def test_programs_get_one_json_value(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the tail, to be kept elsewhere."""
    verify(settings, as_json=True)
    result = json.loads(capsys.readouterr().out)
    assert len(result.pop("last_hash")) == 64
    assert result == {
        "origin": "gateway", "good_records": 4, "first_bad": None, "other_ledgers": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "kind"), [({"record_hash": b"\x07" * 32}, "changed"), ({}, "missing")]
)
def test_the_first_bad_record_is_located(
    settings: GatewaySettings,
    ledger: Ledger,
    capsys: pytest.CaptureFixture[str],
    values: dict[str, object],
    kind: str,
) -> None:
    """On standard output for programs, in the error for people; nothing is written on top of it."""
    before = len(ledger()) - (0 if values else 1)
    change(settings, 1, **values)
    with pytest.raises(LedgerError, match="gateway: record 1 is bad: ") as caught:
        verify(settings, as_json=True)
    assert caught.value.code is Code.LEDGER_BROKEN
    result = json.loads(capsys.readouterr().out)
    assert (result["good_records"], result["first_bad"]) == (1, {"position": 1, "kind": kind})
    assert caught.value.reason == kind
    assert len(ledger()) == before


def test_a_last_record_of_a_wrong_type_is_located(settings: GatewaySettings) -> None:
    """The check needs no good end to write on."""
    with opened_store(settings) as store, write_transaction(store) as connection:
        connection.exec_driver_sql("UPDATE audit_records SET position='abc' WHERE position=3")
    with pytest.raises(
        LedgerError, match="gateway: record 3 is bad: the record with position 'abc'"
    ):
        verify(settings, as_json=False)


def test_an_empty_ledger_is_not_called_good(settings: GatewaySettings, ledger: Ledger) -> None:
    """It may have been emptied; and it stays as it was found."""
    with opened_store(settings) as store, write_transaction(store) as connection:
        connection.execute(delete(audit_records))
    with pytest.raises(LedgerError, match="gateway: no records: nothing ran yet, or"):
        verify(settings, as_json=False)
    assert ledger() == []


def test_a_ledger_under_another_name_is_pointed_at(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever checks the wrong one learns which there are; hostile names are escaped."""
    other = settings.model_copy(update={"audit_origin": "elsewhere"})
    with pytest.raises(LedgerError) as caught:
        verify(other, as_json=False)
    assert caught.value.message == (
        "elsewhere: no records, but there are gateway (4 records): set GATEWAY_AUDIT_ORIGIN"
    )
    change(settings, 3, origin="\x1b[2J")
    capsys.readouterr()
    verify(settings, as_json=False)
    assert capsys.readouterr().out.endswith("\nnot checked: \\x1b[2J (1 records)\n")


def test_a_ledger_that_takes_no_record_is_checked_all_the_same(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a read-only copy is: the finding is printed, and that no record was left."""
    with opened_store(settings) as store, write_transaction(store) as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER t BEFORE INSERT ON audit_records BEGIN SELECT RAISE(FAIL, 'no'); END"
        )
    verify(settings, as_json=False)
    out, err = capsys.readouterr()
    assert out.startswith("gateway: 4 records, all good")
    assert "gateway: the check could not be recorded in this database (the database failed" in err


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
