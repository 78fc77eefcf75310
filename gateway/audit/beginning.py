"""Making what a ledger needs before a gateway may write to it: its beginning, and the file for its outages.

Rules: only ever when asked; what exists is kept, so that it can be run again after a crash.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine

from gateway.audit.creation import create_ledger, verifier_of_ledger
from gateway.audit.emergency import create_emergency_file
from gateway.audit.keys import load_ledger_signer
from gateway.audit.notes import NoteSigner
from gateway.audit.opened import require_begun
from gateway.settings import GatewaySettings


@dataclass(frozen=True, slots=True)
class Begun:
    """What was made. adopted: records of before that became the ledger's beginning; None if it was begun already."""

    signer: NoteSigner
    adopted: int | None
    is_file_new: bool


def begin_ledger(engine: Engine, settings: GatewaySettings, *, now: datetime) -> Begun:
    """Make what is missing of the ledger that the settings name.

    Raises KeyFileError for its key, LedgerError if it was begun with another key, cannot take over what is there, or
    the file for outages cannot be made.
    """
    signer = load_ledger_signer(settings.audit_key_file, origin=settings.audit_origin)
    is_file_new = create_emergency_file(settings.audit_emergency_file)
    # Killed here, or anywhere: this can be run again.
    if verifier_of_ledger(engine, signer.name) is None:
        return Begun(signer, create_ledger(engine, signer, now=now), is_file_new)
    require_begun(engine, signer)
    return Begun(signer, None, is_file_new)
