"""A process that appends to a ledger as a gateway does, and one that starts after it and looks for what was lost.

Run as a program it appends RECORDS records to the ledger in FOLDER and ends without closing anything:
python benchmarks/ledger_worker.py FOLDER NAME RECORDS
"""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from sqlalchemy import Engine

from gateway.audit.beginning import begin_ledger
from gateway.audit.emergency import EmergencyFile
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.keys import create_ledger_key, load_ledger_signer
from gateway.audit.opened import open_audit_log
from gateway.audit.verify import verify_ledger
from gateway.audit.writer import AuditLog
from gateway.settings import GatewaySettings, read_settings
from gateway.store.database import open_database
from gateway.store.migrations import upgrade_database
from gateway.store.queries.audit import load_audit_records

TASKS = 8
PAGE_RECORDS = 10_000

Acknowledge = Callable[[int, str], None]


@dataclass(frozen=True, slots=True)
class Lost:
    """What a check found: records that were acknowledged and are not there, and why the ledger is bad, if it is."""

    records: int
    why: str


def settings_in(folder: Path, *, database_url: str | None = None) -> GatewaySettings:
    """The settings of a gateway whose ledger lies in this folder; the key lies beside it."""
    return read_settings(
        {},
        database_url=database_url or f"sqlite:///{folder / 'ledger.db'}",
        audit_key_file=folder.with_name(f"{folder.name}.key"),
        audit_emergency_file=folder / "emergency.audit",
        audit_witness_file=str(folder / "witness"),
        audit_timeout_seconds=1.0,
        audit_checkpoint_seconds=0.05,
    )


def begin(settings: GatewaySettings) -> None:
    """The key, the tables and an empty ledger."""
    create_ledger_key(settings.audit_key_file)
    upgrade_database(settings.database_url)
    engine = open_database(settings.database_url)
    begin_ledger(engine, settings, now=datetime.now(UTC))
    engine.dispose()


@contextmanager
def opened(settings: GatewaySettings) -> Iterator[tuple[Engine, AuditLog]]:
    """The ledger as a starting gateway opens it, signed up to its end. Raises GatewayError if it does not start."""
    with ExitStack() as stack:
        engine = open_database(settings.database_url)
        stack.callback(engine.dispose)
        outages = partial(
            EmergencyFile, settings.audit_emergency_file, clock=lambda: datetime.now(UTC)
        )
        audit = open_audit_log(engine, settings, outages=outages)
        stack.callback(audit.close)
        audit.append_blocking(event("start"))
        audit.checkpoint_blocking()
        yield engine, audit


def event(request_id: str) -> AuditEvent:
    """A record of a call."""
    return AuditEvent(
        action=Action.PREDICT,
        outcome=Outcome.ADMITTED,
        recorded_at=datetime.now(UTC),
        request_id=request_id,
        subject="torture",
    )


async def append_for_ever(
    audit: AuditLog, name: str, acknowledge: Acknowledge, *, records: int | None = None
) -> None:
    """Append from several tasks, this many records in all, and tell each position that was acknowledged."""
    numbers = iter(range(records)) if records is not None else iter(int, 1)

    async def append(task: int) -> None:
        for turn, _ in enumerate(numbers):
            request_id = f"{name}-{task}-{turn}"
            acknowledge(await audit.append(event(request_id)), request_id)

    async with asyncio.TaskGroup() as group:
        for task in range(TASKS):
            group.create_task(append(task))


def find_lost(settings: GatewaySettings, acknowledged: Mapping[int, str]) -> Lost:
    """Start as a gateway does, append, verify everything from stored bytes, and look for every acknowledged record.

    Raises GatewayError if the start needs a person.
    """
    with opened(settings) as (engine, _):
        pass
    engine = open_database(settings.database_url)
    try:
        return Lost(_missing(engine, settings, acknowledged), _why_bad(engine, settings))
    finally:
        engine.dispose()


def _why_bad(engine: Engine, settings: GatewaySettings) -> str:
    signer = load_ledger_signer(settings.audit_key_file, origin=settings.audit_origin)
    bad = verify_ledger(engine, settings.audit_origin, verifiers=[signer.verifier]).first_bad
    return "" if bad is None else f"record {bad.position}: {bad.kind}: {bad.why}"


def _missing(engine: Engine, settings: GatewaySettings, acknowledged: Mapping[int, str]) -> int:
    found, after = 0, -1
    while True:
        with engine.connect() as connection:
            page = load_audit_records(
                connection, settings.audit_origin, after_position=after, limit=PAGE_RECORDS
            )
        found += sum(
            record.position in acknowledged and acknowledged[record.position] == record.request_id
            for record in page
        )
        if len(page) < PAGE_RECORDS:
            return len(acknowledged) - found
        after = page[-1].position


def main() -> None:
    """Append, saying what was acknowledged in a file below the folder, so that a trace of the folder has it too."""
    folder, name, records = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    said = os.open(folder / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def acknowledge(position: int, request_id: str) -> None:
        os.write(said, f"{position} {request_id}\n".encode())

    with opened(settings_in(folder)) as (_, audit):
        asyncio.run(append_for_ever(audit, name, acknowledge, records=records))
        os._exit(0)


if __name__ == "__main__":
    main()
