"""`gateway audit query`, `proof` and `key`: reading ledgers on the host.

Rules: reading is recorded before anything is shown, with what was asked and how much was found.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.details import format_detail
from gateway.audit.events import Action, printable
from gateway.audit.found import FoundRecord, is_undecodable, unreadable
from gateway.audit.keys import load_ledger_signer
from gateway.audit.opened import open_audit_log
from gateway.audit.proving import find_record, make_proof
from gateway.audit.pseudonyms import configured_pseudonyms, stored_forms
from gateway.audit.query import detail_of, parse_query, read_page
from gateway.commands.opening import Recording, opened_store, operator_event, recorded
from gateway.errors import AuditUnavailableError, Code, OperatorError
from gateway.settings import GatewaySettings

_HEADINGS = (
    "time", "record", "action", "outcome", "principal", "address", "model", "code", "reason", "detail",
)  # fmt: skip


def query(
    settings: GatewaySettings, values: Mapping[str, str], *, now: datetime, as_json: bool
) -> None:
    """Print one page of the records that fit, of all ledgers of the database. values: as gateway.audit.query parses.

    Raises QueryInvalidError for them, LedgerError if a record was changed, AuditUnavailableError if the database fails
    or the reading cannot be recorded.
    """
    forms = partial(stored_forms, configured_pseudonyms(settings))
    asked = parse_query(values, now=now, forms=forms)
    with (
        opened_store(settings) as engine,
        _reading(engine, settings, Action.AUDIT_READ, detail_of(asked)) as reading,
    ):
        with engine.connect() as connection:
            # Whoever sits here can wait, and can stop it.
            page = read_page(connection, asked, is_out_of_time=lambda: False)
        reading.event = replace(reading.event, result_count=len(page.records))
    if as_json:
        for record in page.records:
            print(json.dumps(_as_members(record)))
    else:
        for line in _table([_cells(record) for record in page.records]):
            print(line)
    console = Console(stderr=True, soft_wrap=True)
    if not page.records:
        console.print("no such record", markup=False)
    if page.next_cursor is not None:
        console.print(f"there are more: add --cursor {page.next_cursor}", markup=False)


def proof(settings: GatewaySettings, index: int, *, origin: str | None, out: Path | None) -> None:
    """Write the proof of the record at an index, to standard output unless a file is named; origin None: our ledger.

    Raises OperatorError if there is no such record or no checkpoint covers it yet, LedgerError if it cannot be proved,
    AuditUnavailableError.
    """
    name = settings.audit_origin if origin is None else origin
    with (
        opened_store(settings) as engine,
        _reading(engine, settings, Action.AUDIT_PROVE, format_detail(origin=name, index=index)),
    ):
        content = _proof(engine, settings, name, index)
    if out is None:
        print(content.decode("utf-8"), end="")
        return
    try:
        out.write_bytes(content)
    except OSError as exc:
        raise OperatorError(Code.SETTINGS_INVALID, f"cannot write {out}: {exc.strerror}") from exc


def show_key(settings: GatewaySettings) -> None:
    """Print the public key of the ledger, for whoever checks proofs. Raises KeyFileError."""
    signer = load_ledger_signer(settings.audit_key_file, origin=settings.audit_origin)
    print(signer.verifier.line())


@contextmanager
def _reading(
    engine: Engine, settings: GatewaySettings, action: Action, detail: str | None
) -> Iterator[Recording]:
    with recorded(engine, settings, operator_event(action, detail=detail)) as reading:
        try:
            yield reading
        except SQLAlchemyError as exc:
            if is_undecodable(exc):
                raise unreadable() from exc
            message = f"the ledger cannot be read: the database failed ({type(exc).__name__})"
            raise AuditUnavailableError(Code.AUDIT_UNAVAILABLE, message) from exc


def _proof(engine: Engine, settings: GatewaySettings, origin: str, index: int) -> bytes:
    with engine.connect() as connection:
        record = find_record(connection, origin, index)
    if record is None:
        message = f"no record {index} in {origin}: `gateway audit query --origin {origin}` shows what there is"
        raise OperatorError(Code.RECORD_UNKNOWN, message)
    with engine.connect() as connection:
        made = make_proof(connection, record)
    if made is None and origin == settings.audit_origin:
        log = open_audit_log(engine, settings)
        try:
            log.checkpoint_blocking()
        finally:
            log.close()
        with engine.connect() as connection:
            made = make_proof(connection, record)
    if made is None:
        message = (
            f"no signed checkpoint of {origin} covers record {index} yet: try again in a moment"
        )
        raise OperatorError(Code.NOT_READY, message)
    return made


def _as_members(record: FoundRecord) -> dict[str, Any]:
    return {"origin": record.origin, "position": record.position, **record.members}


def _cells(record: FoundRecord) -> list[str]:
    said = record.members
    names = (said["model_name"], said["model_version"])
    model = "@".join(name for name in names if name is not None)
    members = [said["action"], said["outcome"], said["subject"], said["address"]]
    members += [model or None, said["code"], said["reason"], said.get("detail")]
    time = f"{said['recorded_at'][:23]}Z"
    place = f"{record.origin}/{record.position}"
    return [time, place, *("-" if member is None else _shown(member) for member in members)]


def _table(rows: Sequence[list[str]]) -> Iterator[str]:
    if not rows:
        return
    lines = [list(_HEADINGS), *rows]
    # The last two are long in some records and empty in most.
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    widths[-2:] = [0, 0]
    for line in lines:
        cells = (f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _shown(unverified_member: Any) -> str:
    # A gateway escapes before it stores; somebody who wrote to the table, hash and all, may not have.
    text = str(unverified_member)
    return text if text.isprintable() else printable(text, max_characters=2 * len(text))
