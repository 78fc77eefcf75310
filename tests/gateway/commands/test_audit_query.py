"""`gateway audit query`, `proof` and `key`: what is shown, and what is recorded before it is."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update

from gateway.audit.events import Action, Outcome
from gateway.audit.notes import parse_verifier
from gateway.audit.proof_check import check_proof
from gateway.audit.pseudonyms import create_pseudonym_key
from gateway.audit.query_cursors import QueryInvalidError
from gateway.commands.audit_query import proof, query, show_key
from gateway.commands.db import upgrade
from gateway.commands.keys import create_all
from gateway.commands.opening import opened_store
from gateway.errors import AuditUnavailableError, Code, LedgerError, OperatorError
from gateway.settings import GatewaySettings
from gateway.store.database import write_transaction
from gateway.store.tables import audit_records
from tests.gateway.audit.stored_events import event, store_events
from tests.gateway.commands.conftest import settings_below
from tests.gateway.ledgers import begin_home

NOW = datetime(2031, 5, 6, 1, tzinfo=UTC)
HEADINGS = "time record action outcome principal address model code reason detail"

Ledger = Callable[[], list[dict[str, Any]]]
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Keys, and a ledger that was begun and is empty."""
    settings = settings_below(tmp_path)
    create_all(tmp_path / "keys")
    upgrade(settings)
    begin_home(settings)
    return tmp_path


def store(settings: GatewaySettings, *events: Any, origin: str = "gateway") -> None:
    """Add events as a gateway of this home would, unsigned."""
    with opened_store(settings) as engine:
        store_events(engine, events, origin, is_signed=False)


def change(settings: GatewaySettings, statement: str) -> None:
    """What somebody with the database does."""
    with opened_store(settings) as engine, write_transaction(engine) as connection:
        connection.exec_driver_sql(statement)


def lines_of(settings: GatewaySettings, capsys: Captured, **values: str) -> list[str]:
    """The lines that people see."""
    query(settings, values, now=NOW, as_json=False)
    return capsys.readouterr().out.splitlines()


def shown(settings: GatewaySettings, capsys: Captured, **values: str) -> list[dict[str, Any]]:
    """The values that programs see."""
    query(settings, values, now=NOW, as_json=True)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_records_are_a_table_for_people(settings: GatewaySettings, capsys: Captured) -> None:
    """Time, place, action, outcome, principal, address, model, code, reason, detail; columns below each other."""
    store(
        settings,
        event(0, subject="camera-7", address="192.0.2.7", model_name="belt", model_version="2"),
        event(0.25, outcome=Outcome.REFUSED, code=Code.AUTHZ_DENIED, reason="not permitted"),
        event(1, action=Action.AUDIT_EXPORT, detail="format=ocsf"),
    )
    heading, *lines = lines_of(settings, capsys, since="2h", order="oldest")
    assert HEADINGS == " ".join(heading.split())
    assert [line.split()[1] for line in lines] == ["gateway/0", "gateway/1", "gateway/2"]
    assert "2031-05-06T00:00:00.000Z  gateway/0  predict       admitted  camera-7" in lines[0]
    assert lines[0].endswith("  192.0.2.7  belt@2  -             -  -")
    assert "2031-05-06T00:00:00.250Z  gateway/1  predict       refused   -" in lines[1]
    assert lines[1].endswith("  authz_denied  not permitted  -")
    assert lines[2].endswith("  -  format=ocsf")


def test_programs_get_a_json_line_each(settings: GatewaySettings, capsys: Captured) -> None:
    """With all that the record says; the newest first unless asked otherwise."""
    store(settings, *(event(n, subject="camera-7", result_count=n) for n in range(3)))
    records = shown(settings, capsys, subject="camera-7")
    assert [("gateway", 2, 2), ("gateway", 1, 1), ("gateway", 0, 0)] == [
        (r["origin"], r["position"], r["result_count"]) for r in records
    ]
    oldest_first = shown(settings, capsys, subject="camera-7", order="oldest")
    assert records[::-1] == oldest_first


def test_all_ledgers_of_the_database_are_shown(settings: GatewaySettings, capsys: Captured) -> None:
    """The monitor's too, in the order of time."""
    store(settings, event(0), event(2))
    store(settings, event(1), origin="monitor")
    records = shown(settings, capsys, since="2h", order="oldest")
    assert ["gateway", "monitor", "gateway"] == [record["origin"] for record in records]


def test_looking_is_recorded_first(
    settings: GatewaySettings, ledger: Ledger, capsys: Captured
) -> None:
    """By the operating system's word, with what was asked and how much was found."""
    store(settings, event(0, subject="camera-7"))
    query(settings, {"subject": "camera-7", "limit": "5"}, now=NOW, as_json=False)
    began, ended = ledger()[-2:]
    for record in (began, ended):
        assert ("audit.read", "operating-system") == (record["action"], record["issuer"])
        assert "subject=camera-7 limit=5" == record["detail"]
    assert [("admitted", None), ("answered", 1)] == [
        (record["outcome"], record["result_count"]) for record in (began, ended)
    ]


def test_what_cannot_be_recorded_is_not_shown(settings: GatewaySettings, capsys: Captured) -> None:
    """Neither records nor proofs; nor where only the end of the reading cannot be."""
    store(settings, event(0, subject="camera-7"))
    for outcome in ("answered", "admitted"):
        change(
            settings,
            f"CREATE TRIGGER t_{outcome} BEFORE INSERT ON audit_records WHEN NEW.outcome = '{outcome}' "
            "BEGIN SELECT RAISE(FAIL, 'no'); END",
        )
        with pytest.raises(AuditUnavailableError):
            query(settings, {}, now=NOW, as_json=True)
        with pytest.raises(AuditUnavailableError):
            proof(settings, 0, origin=None, out=None)
        assert "" == capsys.readouterr().out


def test_where_there_are_more_the_cursor_is_told(
    settings: GatewaySettings, capsys: Captured
) -> None:
    """To people, beside the records; where there are none that is told too."""
    store(settings, *(event(n, subject="camera-7") for n in range(3)))
    query(settings, {"subject": "camera-7", "limit": "2"}, now=NOW, as_json=True)
    out, err = capsys.readouterr()
    assert 2 == len(out.splitlines())
    cursor = err.removeprefix("there are more: add --cursor ").strip()
    rest = shown(settings, capsys, subject="camera-7", limit="2", cursor=cursor)
    assert [0] == [record["position"] for record in rest]
    query(settings, {"subject": "camera-8"}, now=NOW, as_json=False)
    assert ("", "no such record\n") == capsys.readouterr()


def test_what_cannot_be_asked_is_told(settings: GatewaySettings, ledger: Ledger) -> None:
    """And asks nothing."""
    before = len(ledger())
    with pytest.raises(QueryInvalidError, match="outcome: known are"):
        query(settings, {"outcome": "ok"}, now=NOW, as_json=False)
    assert before == len(ledger())


def test_names_are_found_under_their_pseudonyms(
    settings: GatewaySettings, capsys: Captured, home: Path, ledger: Ledger
) -> None:
    """By whoever has the key; what is recorded of the question is a pseudonym too."""
    store(settings, event(0, subject="camera-7"))
    key_file = home / "keys" / "pseudonym.key"
    create_pseudonym_key(key_file)
    hidden = settings.model_copy(update={"audit_pseudonym_key_file": str(key_file)})
    assert [0] == [record["position"] for record in shown(hidden, capsys, subject="camera-7")]
    asked = ledger()[-1]
    assert asked["detail"].startswith("subject=~")
    assert "camera-7" not in json.dumps(asked)


def test_what_an_intruder_wrote_cannot_drive_a_terminal(
    settings: GatewaySettings, capsys: Captured
) -> None:
    """Somebody with the database can store an escape that a gateway never would, hash and all."""
    sneaky = event(0, subject="X", reason="X")
    store(settings, sneaky)
    with opened_store(settings) as engine:
        _plant(engine, position=0)
    lines = lines_of(settings, capsys, since="2h")
    assert "\\x1b[2J" in lines[1]
    assert "\x1b" not in "".join(lines)


def _plant(engine: Engine, *, position: int) -> None:
    from gateway.audit.merkle import hash_leaf

    with engine.begin() as connection:
        at = audit_records.c.position == position
        body = connection.execute(
            audit_records.select().with_only_columns(audit_records.c.body).where(at)
        ).scalar_one()
        body = body.replace('"X"', '"\\u001b[2J"')
        values = {"body": body, "leaf_hash": hash_leaf(body.encode()), "subject": "\x1b[2J"}
        connection.execute(update(audit_records).where(at).values(**values))


def test_a_record_that_was_changed_points_at_the_check(
    settings: GatewaySettings, capsys: Captured, ledger: Ledger
) -> None:
    """Not a stack trace; and the attempt is on record."""
    store(settings, event(0, subject="camera-7"))
    change(settings, "UPDATE audit_records SET body = '{' WHERE position = 0")
    with pytest.raises(
        LedgerError, match=r"record 0 of gateway was changed .*`gateway audit verify`"
    ):
        query(settings, {}, now=NOW, as_json=False)
    assert "" == capsys.readouterr().out
    change(settings, "UPDATE audit_records SET body = '{}' WHERE position = 0")
    last = ledger()[-1]
    assert ("failed", "ledger_broken") == (last["outcome"], last["code"])


def test_a_database_that_fails_is_told(settings: GatewaySettings) -> None:
    """And no statement with it."""
    change(settings, "DROP INDEX ix_audit_records_recorded_at")
    change(settings, "ALTER TABLE audit_cosignatures RENAME TO gone")
    with pytest.raises(AuditUnavailableError, match=r"the database failed \(OperationalError\)"):
        proof(settings, 0, origin=None, out=None)


def test_a_proof_is_made_on_the_host(
    settings: GatewaySettings, capsys: Captured, home: Path, ledger: Ledger
) -> None:
    """To standard output or a file; what no checkpoint covers yet is signed first."""
    store(settings, event(0, subject="camera-7"))
    show_key(settings)
    key = parse_verifier(capsys.readouterr().out.strip())
    proof(settings, 0, origin=None, out=None)
    proved = check_proof(capsys.readouterr().out.encode(), log=key)
    assert ("gateway", 0, "camera-7") == (proved.origin, proved.index, proved.members["subject"])
    proof(settings, 0, origin="gateway", out=home / "call.tlog-proof")
    check_proof((home / "call.tlog-proof").read_bytes(), log=key)
    last = ledger()[-1]
    assert ("audit.prove", "answered", "origin=gateway index=0") == (
        last["action"], last["outcome"], last["detail"],
    )  # fmt: skip


def test_a_proof_that_cannot_be_made_is_told(settings: GatewaySettings, home: Path) -> None:
    """No such record; none that is covered, of a ledger whose key is elsewhere; no such folder."""
    store(settings, event(0), origin="other")
    for index, origin, code in (
        (99, None, Code.RECORD_UNKNOWN),
        (0, "nowhere", Code.RECORD_UNKNOWN),
        (0, "other", Code.NOT_READY),
    ):
        with pytest.raises(OperatorError) as caught:
            proof(settings, index, origin=origin, out=None)
        assert code is caught.value.code
    with pytest.raises(OperatorError, match="cannot write"):
        proof(settings, 0, origin=None, out=home / "absent" / "proof")
