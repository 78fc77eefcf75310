"""Checking ledgers.

Rules: a check reads first and is recorded afterwards, and where a ledger is broken nothing is recorded: that would bury
what is wrong under a good end. A finding is told even where it cannot be recorded, as in a copy.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from sqlalchemy import Engine

from gateway.audit.checkpoints import SignedCheckpoint
from gateway.audit.details import format_detail
from gateway.audit.entries import is_origin
from gateway.audit.events import Action, Outcome, printable
from gateway.audit.found import is_undecodable, unreadable
from gateway.audit.notes import Verifier
from gateway.audit.verify import verify_ledger
from gateway.audit.verify_faults import FaultKind, VerifyResult, fault_at
from gateway.audit.verify_range import database_errors
from gateway.commands.audit_verify_inputs import (
    VerifyOrder,
    read_checkpoint,
    read_configured_witness,
    read_keys,
    save_checkpoint,
)
from gateway.commands.opening import opened_store, operator_event, record_once
from gateway.errors import AuditUnavailableError, Code, GatewayError, LedgerError, OperatorError
from gateway.settings import GatewaySettings
from gateway.store.queries.audit_verify import list_begun, list_origins

__all__ = ["VerifyOrder", "verify"]

MAX_LEDGERS = 1000


def verify(settings: GatewaySettings, order: VerifyOrder, *, as_json: bool) -> None:
    """Verify ledgers and print what was found; if all are good, the configured one gets a record of the check.

    Raises LedgerError locating the first bad record, if a ledger has none at all, or if the configured witness holds
    something else; OperatorError for a key or file.
    """
    console = Console(stderr=True, soft_wrap=True)
    keys = read_keys(order, settings)
    held = [read_checkpoint(file, keys, option="--witness") for file in order.witness_files]
    trusted = _trusted(order, keys)
    with opened_store(settings) as engine:
        names = _names(engine)
        origins = _origins(order, names, keys)
        _require_known(origins, [*held, *([] if trusted is None else [trusted])])
        is_ours = settings.audit_origin in origins and settings.audit_origin in keys
        more, trouble = _configured(settings, keys, console) if is_ours else ([], None)
        held += more
        results = [_verify_one(engine, origin, keys, trusted, held, console) for origin in origins]
        others = [name for name in names if name not in origins]
        _print(results, others, as_json=as_json)
        _require_good(results, others)
        _require_begun(engine, others)
        if trouble is not None:
            raise trouble
        _record(engine, settings, results, console)
        _save(order, results, keys)


def _trusted(order: VerifyOrder, keys: dict[str, list[Verifier]]) -> SignedCheckpoint | None:
    if order.from_file is None:
        return None
    return read_checkpoint(order.from_file, keys, option="--from")


def _names(engine: Engine) -> list[str]:
    try:
        with engine.connect() as connection:
            return list(map(_name, list_origins(connection, limit=MAX_LEDGERS)))
    except database_errors(engine) as exc:
        if is_undecodable(exc):
            raise unreadable() from exc
        message = "the names of the ledgers could not be read from the database"
        raise AuditUnavailableError(Code.AUDIT_UNAVAILABLE, message) from exc


def _name(origin: object) -> str:
    return origin if isinstance(origin, str) else repr(origin)


def _origins(
    order: VerifyOrder, names: Sequence[str], keys: dict[str, list[Verifier]]
) -> list[str]:
    origins = sorted({*names, *keys}) if order.is_all else sorted(keys)
    if order.save_file is not None and len(origins) > 1:
        message = "--save: one file holds where the check of one ledger ended: check one at a time"
        raise OperatorError(Code.SETTINGS_INVALID, message)
    return origins


def _require_known(origins: Sequence[str], held: Sequence[SignedCheckpoint]) -> None:
    for signed in held:
        if signed.checkpoint.origin not in origins:
            message = f"a checkpoint of {signed.checkpoint.origin} was given, which is not checked"
            raise OperatorError(Code.SETTINGS_INVALID, message)


def _configured(
    settings: GatewaySettings, keys: dict[str, list[Verifier]], console: Console
) -> tuple[list[SignedCheckpoint], GatewayError | None]:
    # What is wrong with the witness is said after what is wrong with the ledger.
    try:
        signed = read_configured_witness(settings, keys)
    except GatewayError as exc:
        return [], exc
    if signed is None and settings.audit_witness_file:
        file = settings.audit_witness_file
        message = f"gateway: GATEWAY_AUDIT_WITNESS_FILE: there is no {file}, so it bears no witness"
        console.print(message, markup=False)
    return [] if signed is None else [signed], None


def _verify_one(
    engine: Engine,
    origin: str,
    keys: dict[str, list[Verifier]],
    trusted: SignedCheckpoint | None,
    held: Sequence[SignedCheckpoint],
    console: Console,
) -> VerifyResult:
    if not is_origin(origin):
        return _impossible(origin)
    is_trusted = trusted is not None and trusted.checkpoint.origin == origin
    with _progress(console) as progress:
        task = progress.add_task(origin, total=None)
        return verify_ledger(
            engine,
            origin,
            verifiers=keys.get(origin, []),
            trusted=trusted if is_trusted else None,
            witnessed=[signed for signed in held if signed.checkpoint.origin == origin],
            on_progress=lambda count, total: progress.update(task, completed=count, total=total),
        )


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Records a second, once they are known."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} records/s")


def _progress(console: Console) -> Progress:
    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(), TaskProgressColumn(), _Speed(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)


def _impossible(origin: str) -> VerifyResult:
    # Records can hide under such a name, but no ledger was ever begun with it.
    fault = fault_at(0, FaultKind.LEDGER_DIFFERS, "no ledger can have this name")
    return VerifyResult(
        origin=origin,
        begun_at=0,
        count=0,
        root=None,
        newest=None,
        unsigned=0,
        witnessed_size=None,
        is_signed=False,
        first_bad=fault,
    )


def _print(results: Sequence[VerifyResult], others: Sequence[str], *, as_json: bool) -> None:
    shown = [_shown(name) for name in others]
    if as_json:
        ledgers = [_as_members(result) for result in results]
        print(json.dumps({"ledgers": ledgers, "other_ledgers": shown}))
        return
    for result in results:
        if result.first_bad is None and result.count:
            print(_good(result))
    if shown:
        print(f"not checked: {', '.join(shown)}")


def _as_members(result: VerifyResult) -> dict[str, Any]:
    bad, newest = result.first_bad, result.newest
    return {
        "origin": _shown(result.origin),
        "begun_at": result.begun_at,
        "good_records": result.count,
        "root": None if result.root is None else result.root.hex(),
        "checkpoint_size": None if newest is None else newest.checkpoint.size,
        "checkpoint": None if newest is None else newest.note.decode("utf-8", "replace"),
        "unsigned_records": result.unsigned,
        "witnessed_size": result.witnessed_size,
        "signatures_checked": result.is_signed,
        "first_bad": None
        if bad is None
        else {
            "position": bad.position,
            "last_position": bad.last,
            "kind": bad.kind,
            "why": bad.why,
        },
    }


def _good(result: VerifyResult) -> str:
    root = "" if result.root is None else result.root.hex()
    parts = [f"{result.origin}: {result.count} records, all good; root {root}"]
    if result.begun_at:
        parts.append(f"the first {result.begun_at} as checked before")
    if not result.is_signed:
        parts.append("signatures not checked: name its public key with --key")
    elif result.unsigned:
        parts.append(f"the last {result.unsigned} not signed yet")
    if result.witnessed_size is not None:
        parts.append(f"a witness agrees up to {result.witnessed_size}")
    return "; ".join(parts)


def _require_good(results: Sequence[VerifyResult], others: Sequence[str]) -> None:
    bad = [result for result in results if result.first_bad is not None]
    if bad:
        kind = bad[0].first_bad.kind if bad[0].first_bad else ""
        raise LedgerError(Code.LEDGER_BROKEN, "; ".join(map(_bad, bad)), reason=kind)
    empty = [result.origin for result in results if result.count == 0]
    if empty:
        message = "; ".join(_empty(origin, others) for origin in empty)
        raise LedgerError(Code.LEDGER_BROKEN, message, reason="empty")


def _require_begun(engine: Engine, others: Sequence[str]) -> None:
    # Whoever can write to the table can invent a ledger that looks like one of ours to a reader.
    with engine.connect() as connection:
        begun = set(map(_name, list_begun(connection, limit=MAX_LEDGERS)))
    if invented := [_shown(name) for name in others if name not in begun]:
        message = (
            f"there are records of {', '.join(invented)}, which nobody began as a ledger: they prove nothing and are "
            "not shown; where a release before wrote them, `gateway audit create` with that GATEWAY_AUDIT_ORIGIN "
            "takes them over"
        )
        raise LedgerError(Code.LEDGER_BROKEN, message, reason="records of no ledger")


def _bad(result: VerifyResult) -> str:
    bad = result.first_bad
    if bad is None:
        return ""
    origin = _shown(result.origin)
    if bad.last > bad.position:
        return f"{origin}: a record from {bad.position} to {bad.last} is bad: {bad.why}"
    return f"{origin}: record {bad.position} is bad: {bad.why}"


def _empty(origin: str, others: Sequence[str]) -> str:
    if not others:
        return f"{origin}: no records: nothing ran yet, or the ledger was emptied"
    names = ", ".join(map(_shown, others))
    return f"{origin}: no records, but there are {names}: set GATEWAY_AUDIT_ORIGIN"


def _shown(unverified_name: str) -> str:
    return printable(unverified_name, max_characters=128)


def _save(
    order: VerifyOrder, results: Sequence[VerifyResult], keys: dict[str, list[Verifier]]
) -> None:
    if order.save_file is None:
        return
    for result in results:
        if result.newest is None or not result.is_signed:
            message = f"--save: {result.origin} has no checkpoint whose signature was checked: name its key with --key"
            raise OperatorError(Code.SETTINGS_INVALID, message)
        save_checkpoint(order.save_file, result.newest, keys[result.origin])


def _record(
    engine: Engine, settings: GatewaySettings, results: Sequence[VerifyResult], console: Console
) -> None:
    detail = format_detail(
        ledgers=[result.origin for result in results], records=sum(r.count for r in results)
    )
    event = replace(operator_event(Action.AUDIT_VERIFY, detail=detail), outcome=Outcome.ANSWERED)
    try:
        record_once(engine, settings, event)
    except GatewayError as exc:
        # Whoever checks a copy must get the finding, and be told that no record was left.
        message = f"gateway: the check could not be recorded in this database ({exc.reason})"
        console.print(message, markup=False)
