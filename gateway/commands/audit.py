"""Beginning a ledger, and reading it. Rules: reading is recorded before anything is shown."""

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

from rich.console import Console
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.beginning import Begun, begin_ledger
from gateway.audit.events import MAX_CHARACTERS, Action, Outcome, printable
from gateway.audit.opened import open_audit_log
from gateway.commands.opening import opened_store, operator_event
from gateway.errors import Code, LedgerError
from gateway.settings import GatewaySettings
from gateway.store.queries.audit import load_newest_records
from gateway.store.records import AuditRecord

MAX_SHOWN_RECORDS = 10_000


def create(settings: GatewaySettings, *, now: datetime) -> None:
    """Begin the ledger that the settings name, and make its file for outages, whichever is missing.

    What is there of a release before becomes the ledger's beginning. Raises KeyFileError for its key, LedgerError if it
    was begun with another one.
    """
    with opened_store(settings) as engine:
        begun = begin_ledger(engine, settings, now=now)
        if begun.adopted is not None:
            record_done(engine, settings, Action.AUDIT_CREATE)
    _show_begun(begun, settings)


def _show_begun(begun: Begun, settings: GatewaySettings) -> None:
    if begun.adopted is None:
        print(f"{begun.signer.name}: it was begun before")
    elif begun.adopted:
        print(f"{begun.signer.name}: begun with {begun.adopted} records of before")
    else:
        print(f"{begun.signer.name}: begun")
    made = "made" if begun.is_file_new else "it was made before"
    print(f"{settings.audit_emergency_file}, which remembers outages: {made}")
    print(f"its public key, for whoever checks proofs: {begun.signer.verifier.line()}")


def show(settings: GatewaySettings, *, request_id: str | None, newest: int, as_json: bool) -> None:
    """Print the newest records, of one request or of all, the oldest first; they are not verified.

    newest: 1 to MAX_SHOWN_RECORDS. Raises LedgerError if one of them cannot be read, AuditUnavailableError if the
    reading cannot be recorded.
    """
    member = "" if request_id is None else _request_member(request_id)
    with opened_store(settings) as engine:
        try:
            with engine.connect() as connection:
                records = load_newest_records(
                    connection, settings.audit_origin, containing=member, limit=newest
                )
            bodies = [{"position": r.position, **json.loads(r.body)} for r in records]
            lines = [] if as_json else [_line(record) for record in records]
        except (SQLAlchemyError, ValueError, TypeError, AttributeError) as exc:
            message = "a record cannot be read: `gateway audit verify` says which"
            raise LedgerError(Code.LEDGER_BROKEN, message) from exc
        record_done(engine, settings, Action.AUDIT_READ, request_id=request_id)
    if as_json:
        print(json.dumps(bodies))
        return
    for line in lines:
        print(line)
    if not lines:
        Console(stderr=True).print("no such record", markup=False)


def record_done(
    engine: Engine, settings: GatewaySettings, action: Action, *, request_id: str | None = None
) -> None:
    """Record that whoever runs this command did something. Raises AuditUnavailableError if that fails."""
    event = replace(operator_event(action), outcome=Outcome.ANSWERED, request_id=request_id)
    log = open_audit_log(engine, settings)
    try:
        log.append_blocking(event)
    finally:
        log.close()


def _request_member(request_id: str) -> str:
    # As it stands in a body. Quotes inside other members are escaped there, so nothing else can look like it.
    text = printable(request_id, max_characters=MAX_CHARACTERS["request_id"])
    return f'"request_id":{json.dumps(text)}'


def _line(record: AuditRecord) -> str:
    body = json.loads(record.body)
    time = f"{record.recorded_at[:23]}Z"
    members = [body.get(name) for name in ("action", "outcome", "address", "subject")]
    members += [_model(body), body.get("code"), body.get("reason")]
    return "  ".join([time, *("-" if m is None else _shown(m) for m in members)])


def _model(body: dict[str, Any]) -> str | None:
    named = [body.get(member) for member in ("model_name", "model_version")]
    return "@".join(str(part) for part in named if part is not None) or None


def _shown(unverified_member: object) -> str:
    # The gateway escapes before it stores; somebody who wrote to the table may not have.
    text = str(unverified_member)
    return text if text.isprintable() else printable(text, max_characters=512)
