"""A database with ledgers, and the rules that follow them."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from gateway.audit.events import AuditEvent
from gateway.store.database import write_transaction
from gateway.store.queries.audit import insert_audit_records
from gateway.store.queries.audit_trees import insert_ledger
from monitor.jobs.security import Look, SecurityWatch
from monitor.jobs.security_status import LedgerStatus, read_ledger_status
from monitor.metrics import MonitorMetrics
from monitor.records import Alarm, Rule
from monitor.settings import MonitorSettings
from tests.monitor.security.ledger_events import at, stored

ZONE = "Europe/Berlin"


def begin_ledger(engine: Engine, origin: str) -> None:
    """A ledger without records, nor a key that could sign them."""
    with write_transaction(engine) as connection:
        insert_ledger(connection, origin, verifier="none", created_at=at(0))


def add(
    engine: Engine, events: Sequence[AuditEvent], *, origin: str = "gateway", first: int = 0
) -> None:
    """Write records from a position on."""
    with write_transaction(engine) as connection:
        insert_audit_records(connection, list(stored(events, origin=origin, first=first)))


def add_ledgers(engine: Engine, ledgers: Mapping[str, Sequence[AuditEvent]]) -> None:
    """Begin them with these records."""
    for origin, events in ledgers.items():
        begin_ledger(engine, origin)
        add(engine, events, origin=origin)


class World:
    """One monitor that follows the ledgers of a database; another process of it begins with `restart`."""

    def __init__(self, engine: Engine, **settings: object) -> None:
        url = engine.url.render_as_string(hide_password=False)
        self.engine = engine
        self.settings = MonitorSettings.read({}, database_url=url, **settings)
        self.registry = CollectorRegistry()
        self.metrics = MonitorMetrics(self.registry)
        self.seconds = 100_000.0
        self.watch = SecurityWatch(settings=self.settings, metrics=self.metrics)

    @property
    def now(self) -> datetime:
        """The monitor's clock."""
        return at(self.seconds)

    def restart(self) -> None:
        """Forget everything that is not stored."""
        self.registry = CollectorRegistry()
        self.metrics = MonitorMetrics(self.registry)
        self.watch = SecurityWatch(settings=self.settings, metrics=self.metrics)

    def look(self, *, after: timedelta = timedelta(0)) -> Look:
        """Look, some time later."""
        self.seconds += after.total_seconds()
        return self.watch.look(self.now)

    def status(self) -> LedgerStatus:
        """What is stored."""
        return read_ledger_status(self.engine)

    def found(self) -> list[tuple[Rule, str]]:
        """Rule and key of the open findings."""
        return [(finding.rule, finding.key) for finding in self.status().findings]

    def alarm(self, rule: Rule) -> Alarm:
        """The stored alarm of a rule."""
        (alarm,) = [alarm for alarm in self.status().alarms if alarm.name == rule]
        return alarm

    def metric(self, name: str, **labels: str) -> float | None:
        """One number of the exposition."""
        return self.registry.get_sample_value(name, labels)
