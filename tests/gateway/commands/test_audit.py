"""Checking the ledger: what is printed, what is recorded, and what exits with 1."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, update

from gateway.commands.audit import verify
from gateway.commands.opening import opened_store
from gateway.errors import Code, LedgerError
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
    """The check's own first record is checked with the rest: four of the home's, one of this."""
    verify(settings, as_json=False)
    assert capsys.readouterr().out.startswith("gateway: 5 records, all good; last hash ")


def test_the_check_is_recorded(settings: GatewaySettings, ledger: Ledger) -> None:
    """Before and after."""
    verify(settings, as_json=True)
    assert [(r["action"], r["outcome"]) for r in ledger()][-2:] == [
        ("audit.verify", "admitted"),
        ("audit.verify", "answered"),
    ]


def test_programs_get_one_json_value(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the tail, to be kept elsewhere."""
    verify(settings, as_json=True)
    result = json.loads(capsys.readouterr().out)
    assert len(result.pop("last_hash")) == 64
    assert result == {"origin": "gateway", "good_records": 5, "first_bad": None}


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
    """On standard output for programs, in the error for people, and in the ledger itself."""
    change(settings, 1, **values)
    with pytest.raises(LedgerError, match="gateway: record 1 is bad: ") as caught:
        verify(settings, as_json=True)
    assert caught.value.code is Code.LEDGER_BROKEN
    result = json.loads(capsys.readouterr().out)
    assert (result["good_records"], result["first_bad"]) == (1, {"position": 1, "kind": kind})
    last = ledger()[-1]
    assert (last["outcome"], last["code"], last["reason"]) == ("failed", "ledger_broken", kind)
