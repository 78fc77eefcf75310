"""What the ledger hears of a start: what the process was told, and whether its policy is another than before.

Rules: the start itself is the last of these records, so that a start which could not be recorded in full is none.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.details import format_detail
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.past import load_last_policy
from gateway.audit.waiting import unavailable
from gateway.audit.writer import AuditLog

NO_POLICY = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFacts:
    """What a process was told. configuration: see gateway.audit.configuration; policy_sha256: None without a file."""

    configuration: str
    policy_sha256: str | None
    version: str
    origin: str
    kek_ids: tuple[str, ...]
    signer_ids: tuple[str, ...]

    @property
    def policy(self) -> str:
        """The policy as a detail names it."""
        return self.policy_sha256 or NO_POLICY

    def detail(self) -> str | None:
        """All of it, for the record of the start."""
        return format_detail(
            configuration=self.configuration,
            policy=self.policy,
            version=self.version,
            ledger=self.origin,
            keks=self.kek_ids,
            signers=self.signer_ids,
        )


async def record_policy(
    engine: Engine, audit: AuditLog, facts: StartFacts, *, clock: Callable[[], datetime]
) -> None:
    """Put on record that the policy is another than at the last start of this ledger's gateway, if it is.

    Raises AuditUnavailableError if the ledger cannot be read or written.
    """

    def read() -> str | None:
        with engine.connect() as connection:
            return load_last_policy(connection, audit.origin)

    try:
        before = await asyncio.to_thread(read)
    except (SQLAlchemyError, ValueError) as exc:
        raise unavailable(f"the ledger cannot be read: {type(exc).__name__}") from exc
    if before in (None, facts.policy):
        return
    event = AuditEvent(
        action=Action.POLICY_CHANGE,
        outcome=Outcome.ANSWERED,
        recorded_at=clock(),
        detail=format_detail(before=before, after=facts.policy),
    )
    await audit.append(event)
