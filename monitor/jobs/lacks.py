"""The simple alarms about what the monitor lacks: samples of a model in production, ticks of any monitor.

Rules: they are looked at beside the ticks, so that they ring also where those fail or hang; neither waits for the
other, nor a model for what is broken about another.
"""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection, Engine

from gateway.store.database import write_transaction
from gateway.store.queries.models import list_model_versions
from gateway.store.records import Stage
from monitor.alarms import ABOUT_MONITOR, SAMPLES_ALARM, STALE_ALARM, Switch, switch_alarm
from monitor.jobs.alarms import log_change
from monitor.jobs.lease import DRIFT_LEASE
from monitor.jobs.unreadable import Unreadable
from monitor.lacks import Supply, SupplyRule, stale_switch, supply_switch
from monitor.metrics import MonitorMetrics
from monitor.records import Alarm, MonitorError
from monitor.settings import MonitorSettings
from monitor.tables.alarm_queries import find_alarm, insert_transition, list_alarms, save_alarm
from monitor.tables.drift_queries import find_cursor
from monitor.tables.lease_queries import find_renewed_at


class LackWatch:
    """The alarms on what the monitor lacks: samples of a model in production, ticks of any monitor."""

    def __init__(self, *, settings: MonitorSettings, metrics: MonitorMetrics) -> None:
        """Nothing is read yet."""
        self._settings = settings
        self._metrics = metrics
        self._unreadable = Unreadable(metrics)

    def look(self, engine: Engine, now: datetime) -> None:
        """Look once, as of now. Raises SQLAlchemyError; what was stored before it stays."""
        try:
            self.look_at_ticks(engine, now)
        finally:
            self._look_at_supply(engine, now)

    def look_at_ticks(self, engine: Engine, now: datetime) -> None:
        """Ring if no monitor ticked for STALE_TICKS ticks. Raises SQLAlchemyError."""
        with engine.connect() as connection:
            switch = current_stale(connection, self._settings, now=now)
        self._switch(engine, ABOUT_MONITOR, STALE_ALARM, _always(switch), now)

    def _look_at_supply(self, engine: Engine, now: datetime) -> None:
        settings = self._settings
        rule = SupplyRule(hours=settings.starved_hours, min_samples=settings.min_window_samples)
        with engine.connect() as connection:
            in_production, is_whole = self._in_production(connection)
            supplies = self._supplies(connection, in_production)
            starved = self._ringing_models(connection)
        for supply in supplies:
            judge = _supply_judge(supply, rule, now)
            self._switch(engine, supply.model_name, SAMPLES_ALARM, judge, now)
        for model_name in starved:
            is_gone = is_whole and model_name not in in_production
            if is_gone or not settings.starved_hours:
                over = Switch(
                    model_name, SAMPLES_ALARM, is_on=False, why="it is no longer looked at"
                )
                self._switch(engine, model_name, SAMPLES_ALARM, _always(over), now)

    def _in_production(self, connection: Connection) -> tuple[dict[str, str], bool]:
        """Versions by model, and whether they are all: one that cannot be read may be in production, too."""
        bad_rows: list[int] = []
        versions = list_model_versions(connection, on_bad_row=bad_rows.append)
        for row in bad_rows:
            self._unreadable.of("model_versions")(row)
        found = {each.name: each.version for each in versions if each.stage is Stage.PRODUCTION}
        return found, not bad_rows

    def _supplies(self, connection: Connection, in_production: dict[str, str]) -> list[Supply]:
        supplies = []
        for name, version in in_production.items():
            if self._settings.starved_hours and self._settings.model_name in ("", name):
                try:
                    cursor = find_cursor(connection, name, version)
                except MonitorError:
                    self._unreadable.of("drift_cursors")(name)
                    continue
                supplies.append(
                    Supply(name, version, 0 if cursor is None else cursor.judged_samples)
                )
        return supplies

    def _ringing_models(self, connection: Connection) -> set[str]:
        alarms = list_alarms(connection, on_bad_row=self._unreadable.of("alarms"))
        return {a.model_name for a in alarms if a.name == SAMPLES_ALARM and a.state.is_active}

    def _switch(
        self,
        engine: Engine,
        model_name: str,
        name: str,
        judge: Callable[[Alarm | None], Switch],
        now: datetime,
    ) -> None:
        with engine.connect() as connection:
            last = find_alarm(connection, model_name, name)
        alarm, transition = switch_alarm(last, judge(last), now=now)
        if alarm != last:
            with write_transaction(engine) as connection:
                last = find_alarm(connection, model_name, name, for_update=True)
                alarm, transition = switch_alarm(last, judge(last), now=now)
                save_alarm(connection, alarm)
                if transition is not None:
                    insert_transition(connection, transition)
        if transition is not None:
            log_change(transition)
        self._metrics.set_alarm(alarm, is_judged=True)


def current_stale(connection: Connection, settings: MonitorSettings, *, now: datetime) -> Switch:
    """Whether no monitor ticks now."""
    ticked_at = find_renewed_at(connection, DRIFT_LEASE)
    return stale_switch(ticked_at, tick_seconds=settings.tick_seconds, now=now)


def _always(switch: Switch) -> Callable[[Alarm | None], Switch]:
    return lambda _: switch


def _supply_judge(
    supply: Supply, rule: SupplyRule, now: datetime
) -> Callable[[Alarm | None], Switch]:
    return lambda last: supply_switch(last, supply, rule=rule, now=now)
