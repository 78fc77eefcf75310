"""Checking the ledger."""

import json

from rich.console import Console
from rich.progress import Progress

from gateway.audit.events import Action
from gateway.audit.verify import VerifyResult, verify_ledger
from gateway.commands.opening import opened_store, operator_event, recorded
from gateway.errors import Code, LedgerError
from gateway.settings import GatewaySettings


def verify(settings: GatewaySettings, *, as_json: bool) -> None:
    """Verify the whole ledger and print what was found; the check itself is recorded.

    Raises LedgerError locating the first bad record.
    """
    event = operator_event(Action.AUDIT_VERIFY)
    with opened_store(settings) as engine, recorded(engine, settings, event):
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("records verified", total=None)
            result = verify_ledger(
                engine,
                settings.audit_origin,
                on_progress=lambda count: progress.update(task, completed=count),
            )
        _print(result, as_json=as_json)
        if result.first_bad is not None:
            raise LedgerError(Code.LEDGER_BROKEN, _bad(result), reason=result.first_bad.kind)


def _print(result: VerifyResult, *, as_json: bool) -> None:
    bad = result.first_bad
    if as_json:
        content = {
            "origin": result.origin,
            "good_records": result.count,
            "last_hash": result.last_hash.hex(),
            "first_bad": None if bad is None else {"position": bad.position, "kind": bad.kind},
        }
        print(json.dumps(content))
    elif bad is None:
        print(
            f"{result.origin}: {result.count} records, all good; last hash {result.last_hash.hex()}"
        )


def _bad(result: VerifyResult) -> str:
    bad = result.first_bad
    return "" if bad is None else f"{result.origin}: record {bad.position} is bad: {bad.why}"
