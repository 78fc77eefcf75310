"""Checking the ledger, and reading it.

Rules: a check reads first and is recorded afterwards, and a broken ledger gets no record on top: that would bury what
is wrong under a good end. Reading is recorded before anything is shown.
"""

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.progress import Progress
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.creation import create_ledger
from gateway.audit.events import MAX_CHARACTERS, Action, Outcome, printable
from gateway.audit.keys import load_ledger_signer
from gateway.audit.opened import open_audit_log
from gateway.audit.verify import VerifyResult, verify_ledger
from gateway.commands.opening import opened_store, operator_event
from gateway.errors import AuditUnavailableError, Code, LedgerError
from gateway.settings import GatewaySettings
from gateway.store.queries.audit import count_other_ledgers, load_newest_records
from gateway.store.records import AuditRecord

MAX_OTHER_LEDGERS = 20
MAX_SHOWN_RECORDS = 10_000


def create(settings: GatewaySettings, *, now: datetime) -> None:
    """Begin the ledger that the settings name; what is there of a release before becomes its beginning.

    Raises KeyFileError for its key, LedgerError if it exists.
    """
    signer = load_ledger_signer(settings.audit_key_file, origin=settings.audit_origin)
    with opened_store(settings) as engine:
        adopted = create_ledger(engine, signer, now=now)
        _record(engine, settings, Action.AUDIT_CREATE)
    print(f"{signer.name}: begun" + (f" with {adopted} records of before" if adopted else ""))
    print(f"its public key, for whoever checks proofs: {signer.verifier.line()}")


def verify(settings: GatewaySettings, *, as_json: bool) -> None:
    """Verify the whole ledger and print what was found; a good ledger then gets a record of the check.

    Raises LedgerError locating the first bad record, or if the ledger has none at all.
    """
    console = Console(stderr=True, soft_wrap=True)
    with opened_store(settings) as engine:
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("records verified", total=None)
            result = verify_ledger(
                engine,
                settings.audit_origin,
                on_progress=lambda count: progress.update(task, completed=count),
            )
        others = _other_ledgers(engine, settings.audit_origin)
        _print(result, others, as_json=as_json)
        if result.first_bad is not None:
            raise LedgerError(Code.LEDGER_BROKEN, _bad(result), reason=result.first_bad.kind)
        if result.count == 0:
            raise LedgerError(
                Code.LEDGER_BROKEN, _empty(settings.audit_origin, others), reason="empty"
            )
        try:
            _record(engine, settings, Action.AUDIT_VERIFY)
        except AuditUnavailableError as exc:
            # The finding stands: whoever checks a read-only copy must get it, and be told that no record was left.
            message = f"gateway: the check could not be recorded in this database ({exc.reason})"
            console.print(message, markup=False)


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
        _record(engine, settings, Action.AUDIT_READ, request_id=request_id)
    if as_json:
        print(json.dumps(bodies))
        return
    for line in lines:
        print(line)
    if not lines:
        Console(stderr=True).print("no such record", markup=False)


def _record(
    engine: Engine, settings: GatewaySettings, action: Action, *, request_id: str | None = None
) -> None:
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


def _other_ledgers(engine: Engine, origin: str) -> dict[str, int]:
    try:
        with engine.connect() as connection:
            found = count_other_ledgers(connection, origin, limit=MAX_OTHER_LEDGERS)
    except SQLAlchemyError as exc:
        message = "the names of the ledgers could not be read from the database"
        raise AuditUnavailableError(Code.AUDIT_UNAVAILABLE, message) from exc
    return {printable(str(name), max_characters=128): count for name, count in found}


def _print(result: VerifyResult, others: dict[str, int], *, as_json: bool) -> None:
    bad = result.first_bad
    if as_json:
        content = {
            "origin": result.origin,
            "good_records": result.count,
            "last_hash": result.last_hash.hex(),
            "first_bad": None if bad is None else {"position": bad.position, "kind": bad.kind},
            "other_ledgers": others,
        }
        print(json.dumps(content))
    elif bad is None and result.count:
        print(
            f"{result.origin}: {result.count} records, all good; last hash {result.last_hash.hex()}"
        )
        if others:
            print(f"not checked: {_listed(others)}")


def _listed(others: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count} records)" for name, count in others.items())


def _bad(result: VerifyResult) -> str:
    bad = result.first_bad
    return "" if bad is None else f"{result.origin}: record {bad.position} is bad: {bad.why}"


def _empty(origin: str, others: dict[str, int]) -> str:
    if not others:
        return f"{origin}: no records: nothing ran yet, or the ledger was emptied"
    return f"{origin}: no records, but there are {_listed(others)}: set GATEWAY_AUDIT_ORIGIN"
