"""What the rules on suspicious behaviour cost: a benign day of the tests, read and judged by the monitor from SQLite.

records_per_s: read, judged and stored, as `monitor run` does, with every rule on; judged_per_s: the rules alone.
restart_s: until a new process knows what the one before knew, a day's records. findings: must be 0; exits 1 otherwise.
Times are processor time of one process, which other work on the machine disturbs less. Prints one JSON line.
Example: python benchmarks/security.py --quick
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from gateway.store.database import open_database, write_transaction
from gateway.store.queries.audit import insert_audit_records
from gateway.store.queries.audit_trees import insert_ledger
from gateway.store.tables import metadata
from monitor import tables as _monitor_tables  # noqa: F401  (registers the monitor's tables)
from monitor.jobs.database import opened_database
from monitor.jobs.security import SecurityWatch
from monitor.jobs.security_begin import thresholds_of
from monitor.metrics import MonitorMetrics
from monitor.security.rules import Rules
from monitor.security.seen import SeenRecord
from monitor.settings import MonitorSettings
from monitor.tables.security_queries import list_open_findings
from tests.monitor.security.benign_day import (
    BEGIN,
    SHIPPER,
    ZONE,
    Day,
    benign_day,
    moment,
)
from tests.monitor.security.ledger_events import quickly_seen, stored

Made = TypeVar("Made")
_DAY_END = moment(24)


def main() -> int:
    """Run the benchmark and print its line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of a day: no figure")
    arguments = parser.parse_args()
    day = Day(cameras=20, phones=6, homes=2, dpop_callers=1) if arguments.quick else Day()
    with tempfile.TemporaryDirectory(prefix="gatewatch-") as folder:
        figures = measure(Path(folder) / "gatewatch.db", day)
    print(json.dumps(figures))
    return 0 if figures["findings"] == 0 else 1


def measure(path: Path, day: Day) -> dict[str, Any]:
    """The figures of one day in a new database at a path."""
    path.touch()
    settings = MonitorSettings(
        database_url=f"sqlite:///{path}",
        tick_seconds=86_400,
        security_working_hours="mon-sun 07:00-19:00",
        security_time_zone=ZONE,
        security_predictions=2000,
        security_exporters=SHIPPER,
    )
    engine = open_database(settings.database_url)
    metadata.create_all(engine)
    records = fill(engine, day)
    engine.dispose()
    first, looked = timed(lambda: watch(settings).look(_DAY_END))
    findings = count_findings(settings)
    again, _ = timed(lambda: watch(settings).look(_DAY_END + timedelta(minutes=5)))
    parsed = parsed_in_order(day)
    judged, _ = timed(lambda: judge(settings, parsed))
    return {
        "records": records,
        "records_per_s": round(looked.read / first),
        "judged_per_s": round(records / judged),
        "restart_s": round(again, 2),
        "findings": findings,
    }


def fill(engine: Engine, day: Day) -> int:
    """Write the day's ledgers; how many records they have."""
    count = 0
    for origin, events in benign_day(day).items():
        with write_transaction(engine) as connection:
            insert_ledger(connection, origin, verifier="none", created_at=BEGIN)
            records = list(stored(events, origin=origin))
            insert_audit_records(connection, records)
        count += len(records)
    return count


def count_findings(settings: MonitorSettings) -> int:
    """Those that are stored: a look stores them batch by batch."""
    with opened_database(settings.database_url) as engine, engine.connect() as connection:
        return len(list_open_findings(connection))


def parsed_in_order(day: Day) -> list[SeenRecord]:
    """The day's records as the rules see them, in the order of their times."""
    records = [
        quickly_seen(each, origin=origin, position=position)
        for origin, events in benign_day(day).items()
        for position, each in enumerate(events)
    ]
    return sorted(records, key=lambda record: record.at_seconds)


def judge(settings: MonitorSettings, records: Sequence[SeenRecord]) -> None:
    """The rules alone."""
    rules = Rules(thresholds_of(settings), known=())
    end = _DAY_END.timestamp()
    for record in records:
        rules.observe(record, now_seconds=end, is_learning=False)


def watch(settings: MonitorSettings) -> SecurityWatch:
    """A monitor's process that has just begun."""
    return SecurityWatch(settings=settings, metrics=MonitorMetrics(CollectorRegistry()))


def timed(work: Callable[[], Made]) -> tuple[float, Made]:
    """Seconds of processor time, and what was made."""
    started = time.process_time()
    made = work()
    return time.process_time() - started, made


if __name__ == "__main__":
    sys.exit(main())
