"""What is made on record: reports and references, and what a start is told.

Rules: nothing is made that cannot be recorded; the last record has the digests of what was made.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sqlalchemy import Engine

from gateway.audit.events import Action
from monitor.jobs.judging import Judgement
from monitor.jobs.ledger import OwnLedger
from monitor.jobs.reference import Collected, StoredReference, store_reference
from monitor.jobs.report import publish_report
from monitor.records import Report
from monitor.settings import MonitorSettings


def record_report(
    ledger: OwnLedger,
    engine: Engine,
    judgement: Judgement,
    *,
    settings: MonitorSettings,
    environment: Mapping[str, str],
    now: datetime,
    should_stop: Callable[[], bool],
) -> Report:
    """The report of one judgement, published between two records.

    Raises as publish_report does, and LedgerUnavailableError, NotReadyError or InputError if it cannot be recorded.
    """
    model = judgement.model
    with ledger.made(
        engine, Action.REPORT_MAKE, model_name=model.name, model_version=model.version
    ) as making:
        report = publish_report(
            engine,
            judgement,
            settings=settings,
            environment=environment,
            now=now,
            should_stop=should_stop,
        )
        making.add(
            report=report.html_file,
            sha256=_digest(settings.reports_folder / report.html_file),
            json_sha256=_digest(settings.reports_folder / report.json_file),
            drifted=report.drifted_features,
        )
    return report


def record_reference(
    ledger: OwnLedger, engine: Engine, collected: Collected, *, now: datetime
) -> StoredReference:
    """The reference, stored between two records. Raises as store_reference does, and as record_report."""
    with ledger.made(
        engine,
        Action.REFERENCE_MAKE,
        model_name=collected.model_name,
        model_version=collected.model_version,
    ) as making:
        stored = store_reference(engine, collected, now=now)
        making.add(reference=stored.id, samples=stored.sample_count, source=stored.source)
    return stored


def start_facts(settings: MonitorSettings) -> dict[str, str]:
    """What a monitor was told, for the record of its start; the database's URL, which may hold a password, left out."""
    values = settings.model_dump(mode="json", exclude={"database_url"})
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    try:
        release = version("gatewatch")
    except PackageNotFoundError:  # run from a source tree that was not installed
        release = "unknown"
    configuration = hashlib.sha256(text.encode("ascii")).hexdigest()
    return {"configuration": configuration, "version": release, "ledger": settings.audit_origin}


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
