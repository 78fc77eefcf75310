"""What exporting a ledger costs, and that its memory is bounded: `gateway audit export` to a file, as a process.

For each format: records_per_s at --records, and peak_rss_mb there and at a tenth of them, which is the same but for
noise, since a page is all that is held. SQLite below TMPDIR, where a million records and their export take 4 GB.
Prints one JSON line. Example: python benchmarks/export.py --quick
"""

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track
from sqlalchemy import Engine

from gateway.audit.creation import create_ledger, verifier_of_ledger
from gateway.audit.entries import encode_event
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.keys import load_ledger_signer
from gateway.audit.notes import NoteSigner
from gateway.audit.signing import CheckpointSigner
from gateway.audit.tail import extend_tail, follow_tail
from gateway.commands.opening import opened_store
from gateway.store.database import write_transaction

if TYPE_CHECKING:
    from benchmarks.gateway_process import Home, new_home
else:
    from gateway_process import new_home

FORMATS = ("ocsf", "jsonl")
BATCH_RECORDS = 5_000
GATEWAY = Path(sys.executable).with_name("gateway")


@dataclass(frozen=True, slots=True)
class Measured:
    """One export. peak_rss_mb: of its process, in 2^20 bytes."""

    lines: int
    seconds: float
    peak_rss_mb: float


def main() -> None:
    """Run the benchmark and print its line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="20,000 records: no figure")
    parser.add_argument("--records", type=int, default=1_000_000)
    arguments = parser.parse_args()
    records = 20_000 if arguments.quick else arguments.records
    figures: dict[str, Any] = {"records": records}
    with new_home() as home, opened_store(home.settings) as engine:
        signer = load_ledger_signer(home.settings.audit_key_file, origin=home.settings.audit_origin)
        if verifier_of_ledger(engine, signer.name) is None:
            create_ledger(engine, signer, now=datetime.now(UTC))
        _fill(engine, signer, records // 10)
        few = {name: _export(home, name) for name in FORMATS}
        _fill(engine, signer, records)
        for name in FORMATS:
            many = _export(home, name)
            if many.lines < records:
                raise RuntimeError(f"{many.lines} of {records} records were exported")
            figures[name] = {
                "records_per_s": round(many.lines / many.seconds),
                "peak_rss_mb": many.peak_rss_mb,
                "peak_rss_mb_at_tenth": few[name].peak_rss_mb,
            }
    print(json.dumps(figures))


def _fill(engine: Engine, signer: NoteSigner, records: int) -> None:
    # As the writer does, without a caller a record.
    with engine.connect() as connection:
        tail = follow_tail(connection, signer.name, None)
    starts = range(tail.size, records, BATCH_RECORDS)
    for start in track(starts, description="records", console=Console(stderr=True)):
        numbers = range(start, min(start + BATCH_RECORDS, records))
        entries = [encode_event(_event(number)) for number in numbers]
        with write_transaction(engine) as connection:
            tail = extend_tail(connection, signer.name, tail, entries)
            CheckpointSigner(signer).sign(connection, tail)


def _event(number: int) -> AuditEvent:
    return AuditEvent(
        action=Action.PREDICT,
        outcome=Outcome.ANSWERED if number % 2 else Outcome.ADMITTED,
        recorded_at=datetime.now(UTC),
        request_id=f"2a5c0d64-7fb4-4b7c-9b1e-{number // 2:012d}",
        issuer="https://identity.example",
        subject="camera-7",
        client_id="camera-7",
        token_id="2a5c0d64-7fb4-4b7c-9b1e-6f6d3f9ad6b1",
        address="192.0.2.7",
        method="POST",
        route="/v1/predict",
        model_name="belt",
        model_version="7",
        input_sha256="5f" * 32,
        input_bytes=181_000,
        result_digest="a0" * 32,
        result_count=3,
    )


def _export(home: "Home", line_format: str) -> Measured:
    output = home.layout.state / f"export.{line_format}"
    command = [str(GATEWAY), "audit", "export", "--format", line_format, "--output", str(output)]
    # No witness is asked: what is measured is the export.
    environment = {**os.environ, **home.environment, "GATEWAY_AUDIT_WITNESS_FILE": ""}
    started = time.perf_counter()
    process = os.posix_spawn(command[0], command, environment)
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - started
    if status:
        raise RuntimeError(f"the export ended with status {os.waitstatus_to_exitcode(status)}")
    with output.open("rb") as file:
        lines = sum(1 for _ in file)
    output.unlink()
    return Measured(lines, seconds, round(usage.ru_maxrss / 1024, 1))


if __name__ == "__main__":
    main()
