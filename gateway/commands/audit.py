"""Beginning a ledger."""

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Engine

from gateway.audit.beginning import Begun, begin_ledger
from gateway.audit.details import format_detail
from gateway.audit.events import Action, Outcome
from gateway.commands.opening import opened_store, operator_event, record_once
from gateway.settings import GatewaySettings


def create(settings: GatewaySettings, *, now: datetime) -> None:
    """Begin the ledger that the settings name, and make its file for outages, whichever is missing.

    What is there of a release before becomes the ledger's beginning. Raises KeyFileError for its key, LedgerError if it
    was begun with another one.
    """
    with opened_store(settings) as engine:
        begun = begin(engine, settings, now=now)
    _show_begun(begun, settings)


def begin(engine: Engine, settings: GatewaySettings, *, now: datetime) -> Begun:
    """The same without a word, on record: also a file for outages that was made anew, since one may have been lost.

    Raises as create does.
    """
    begun = begin_ledger(engine, settings, now=now)
    if begun.adopted is not None or begun.is_file_new:
        detail = format_detail(
            adopted_records=begun.adopted, outages_file="new" if begun.is_file_new else None
        )
        event = operator_event(Action.AUDIT_CREATE, detail=detail)
        record_once(engine, settings, replace(event, outcome=Outcome.ANSWERED))
    return begun


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
