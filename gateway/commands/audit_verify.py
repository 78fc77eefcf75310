"""Checking a ledger.

Rules: a check reads first and is recorded afterwards, and a broken ledger gets no record on top: that would bury what
is wrong under a good end.
"""

import json

from rich.console import Console
from rich.progress import Progress
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.events import Action, printable
from gateway.audit.keys import load_ledger_signer
from gateway.audit.verify import VerifyResult, verify_ledger
from gateway.commands.audit import record_done
from gateway.commands.opening import opened_store
from gateway.errors import AuditUnavailableError, Code, LedgerError
from gateway.settings import GatewaySettings
from gateway.store.queries.audit import count_other_ledgers

MAX_OTHER_LEDGERS = 20


def verify(settings: GatewaySettings, *, as_json: bool) -> None:
    """Verify the whole ledger and print what was found; a good ledger then gets a record of the check.

    Raises LedgerError locating the first bad record, or if the ledger has none at all.
    """
    console = Console(stderr=True, soft_wrap=True)
    verifier = load_ledger_signer(settings.audit_key_file, origin=settings.audit_origin).verifier
    with opened_store(settings) as engine:
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("records verified", total=None)
            result = verify_ledger(
                engine,
                settings.audit_origin,
                verifiers=[verifier],
                on_progress=lambda count, total: progress.update(
                    task, completed=count, total=total
                ),
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
            record_done(engine, settings, Action.AUDIT_VERIFY)
        except AuditUnavailableError as exc:
            # The finding stands: whoever checks a read-only copy must get it, and be told that no record was left.
            message = f"gateway: the check could not be recorded in this database ({exc.reason})"
            console.print(message, markup=False)


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
            "root": None if result.root is None else result.root.hex(),
            "first_bad": None if bad is None else {"position": bad.position, "kind": bad.kind},
            "other_ledgers": others,
        }
        print(json.dumps(content))
    elif result.root is not None and result.count:
        print(f"{result.origin}: {result.count} records, all good; root {result.root.hex()}")
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
