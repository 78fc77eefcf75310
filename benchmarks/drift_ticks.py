"""What a tick of the monitor takes while the samples that it has seen pile up: SQLite, in a folder that is removed.

Samples are those of a pool, stored by the gateway's own query; the many that were seen long ago are copies made by the
database itself. Each figure is the median of ticks with a hundred new samples; idle ones find nothing new. Times are
processor time of the process, which is what SQLite would take to look through what it need not.
"""

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from gateway.store.database import open_database, write_transaction
from gateway.store.embeddings import pack_embedding
from gateway.store.queries.models import insert_model_version, promote_version
from gateway.store.queries.samples import insert_samples
from gateway.store.records import ModelVersion, Sample, Stage
from gateway.store.tables import metadata
from gateway.store.tables import samples as samples_table
from monitor import tables as _monitor_tables  # noqa: F401  (registers the monitor's tables)
from monitor.jobs.lease import new_keeper
from monitor.jobs.tick import Watch
from monitor.metrics import MonitorMetrics
from monitor.records import Outcome
from monitor.settings import MonitorSettings
from monitor.tables.queries import insert_reference
from monitor.windows.binding import preprocessing_of
from monitor.windows.content import dump_summary

# Benchmarks run by path, which makes their folder the place to import from; type checkers see it from the root.
if TYPE_CHECKING:
    from benchmarks.drift_pool import CLEAN, Pool
    from benchmarks.drift_streams import Order, clean_picks, reference_of
else:
    from drift_pool import CLEAN, Pool
    from drift_streams import Order, clean_picks, reference_of

NEW_SAMPLES = 100
_SEED_SAMPLES = 1000
_START = datetime(2030, 1, 1, tzinfo=UTC)
# The slowest may take so many times as long as the quickest and still be flat: the machine does other work.
_FLAT_RATIO = 2.0
_MODEL = ModelVersion(
    name="bench",
    version="1",
    stage=Stage.CANDIDATE,
    file_name="bench-1.sealed",
    plaintext_sha256="0" * 64,
    class_names=tuple(f"class {number}" for number in range(80)),
    input_size=(640, 640),
    registered_at=_START,
)


def measure_ticks(pool: Pool, *, sizes: Sequence[int], ticks: int) -> dict[str, Any]:
    """Milliseconds of processor time of a tick by samples stored; sizes: ascending, each at least 1,000."""
    with tempfile.TemporaryDirectory(prefix="gatewatch-bench-") as folder:
        path = Path(folder) / "gatewatch.db"
        path.touch()
        world = _World(path, pool)
        with_new, idle = {}, {}
        for size in sizes:
            world.grow(size)
            with_new[str(size)], idle[str(size)] = world.time_ticks(ticks)
        world.close()
    slowest, quickest = max(with_new.values()), min(with_new.values())
    return {
        "tick_ms": with_new,
        "tick_idle_ms": idle,
        "tick_flat": slowest <= _FLAT_RATIO * quickest,
    }


class _World:
    """A database with a model in production, and its monitor."""

    def __init__(self, path: Path, pool: Pool) -> None:
        self._path = path
        self._settings = MonitorSettings(database_url=f"sqlite:///{path}")
        self._engine: Engine = open_database(self._settings.database_url)
        self._pool = pool
        self._samples = _samples(pool)
        metadata.create_all(self._engine)
        with write_transaction(self._engine) as connection:
            insert_model_version(connection, _MODEL)
            promote_version(connection, _MODEL.name, _MODEL.version, now=_START)
        self._made = 0
        self._store(_SEED_SAMPLES)
        self._stored = _SEED_SAMPLES

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def grow(self, size: int) -> None:
        """Copy samples until there are so many, and begin with a new reference after them."""
        while self._stored < size:
            self._copy(min(self._stored, size - self._stored))
        summary = reference_of(self._pool, Order(1000, 0)).summary
        summary = replace(summary, preprocessing=preprocessing_of(_MODEL))
        with write_transaction(self._engine) as connection:
            insert_reference(
                connection,
                model_name=_MODEL.name,
                model_version=_MODEL.version,
                created_at=_START + timedelta(seconds=self._made),
                source="benchmark",
                covers_until=None,
                sample_count=summary.sample_count,
                content=dump_summary(summary),
            )

    def time_ticks(self, ticks: int) -> tuple[float, float]:
        """Median milliseconds of a tick with new samples, and of one without; the first ones are not counted."""
        registry = CollectorRegistry()
        watch = Watch(
            settings=self._settings,
            metrics=MonitorMetrics(registry),
            lease=new_keeper(tick_seconds=self._settings.tick_seconds),
        )
        self._tick(watch)
        self._tick(watch)
        with_new, idle = [], []
        for _ in range(ticks):
            self._store(NEW_SAMPLES)
            self._stored += NEW_SAMPLES
            with_new.append(self._tick(watch, Outcome.JUDGED))
            idle.append(self._tick(watch, Outcome.NO_NEW_SAMPLES))
        watch.release()
        return round(statistics.median(with_new), 1), round(statistics.median(idle), 1)

    def _tick(self, watch: Watch, expected: Outcome | None = None) -> float:
        start = time.process_time()
        (ticked,) = watch.tick(datetime.now(UTC))
        taken = (time.process_time() - start) * 1e3
        if expected is not None and (ticked.outcome is not expected or ticked.lag):
            raise RuntimeError(f"internal: a tick ended as {ticked.outcome}, {ticked.lag} unread")
        return taken

    def _store(self, count: int) -> None:
        with write_transaction(self._engine) as connection:
            insert_samples(connection, [next(self._samples) for _ in range(count)])
        self._made += count

    def _copy(self, count: int) -> None:
        names = [each.name for each in samples_table.columns if each.name != "id"]
        # Ids of requests sort by time, and so do these.
        values = [
            f"printf('copy-%012d', id + {self._stored})" if name == "request_id" else name
            for name in names
        ]
        with closing(sqlite3.connect(self._path)) as connection:
            # The copies are removed in a minute: nothing has to survive a power cut.
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute(
                f"INSERT INTO samples ({', '.join(names)}) "
                f"SELECT {', '.join(values)} FROM samples ORDER BY id LIMIT {count}"
            )
            connection.commit()
        self._stored += count


def _samples(pool: Pool) -> Iterator[Sample]:
    rows = pool.rows[CLEAN]
    number = 0
    while True:
        for pick in clean_picks(pool, Order(1000, number), 1000).tolist():
            row = rows[pick]
            number += 1
            yield Sample(
                request_id=f"new-{number:012}",
                received_at=_START + timedelta(seconds=number),
                model_name=_MODEL.name,
                model_version=_MODEL.version,
                principal="https://issuer.test#camera",
                input_sha256="0" * 64,
                features=dict(row.features),
                detections=row.detections,
                kept_probability=1.0,
                image_probability=0.0,
                embedding=None if row.embedding is None else pack_embedding(row.embedding),
            )
