"""The endless loop: tick, report where one is due, wait. Stops at once when asked.

Rules: nothing that fails in a tick ends the loop; it is counted, logged and tried again with the next tick; while
samples are left unread one tick follows the other.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from threading import Event

from gateway.audit.events import Action
from monitor.jobs.database import opened_database
from monitor.jobs.judging import Judgement
from monitor.jobs.lease import new_keeper
from monitor.jobs.ledger import OwnLedger
from monitor.jobs.recording import record_report, start_facts
from monitor.jobs.report import is_report_due
from monitor.jobs.tick import Ticked, Watch
from monitor.metrics import MonitorMetrics
from monitor.records import DatabaseUnavailableError, MonitorError, Outcome
from monitor.settings import MonitorSettings

logger = logging.getLogger(__name__)

# A report that failed (a full disk, a busy machine) is tried again no sooner than this.
REPORT_RETRY = timedelta(hours=1)


class Loop:
    """Ticks until `stop` is set; remembers only when a report of a model was last tried."""

    def __init__(
        self,
        *,
        settings: MonitorSettings,
        metrics: MonitorMetrics,
        environment: Mapping[str, str],
        clock: Callable[[], datetime],
        stop: Event,
        ledger: OwnLedger,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._environment = environment
        self._clock = clock
        self._stop = stop
        lease = new_keeper(tick_seconds=settings.tick_seconds)
        self._watch = Watch(settings=settings, metrics=metrics, lease=lease)
        self._ledger = ledger
        self._tried: dict[str, datetime] = {}

    def run(self) -> None:
        """Tick, wait, and again, until `stop` is set; start, stop and alarms are put on record."""
        self._ledger.note(Action.MONITOR_START, **start_facts(self._settings))
        while not self._stop.is_set():
            ticked = self.step()
            self._ledger.settle()
            if not any(each.lag for each in ticked):
                self._stop.wait(self._wait_seconds())
        self._release()
        self._ledger.note(Action.MONITOR_STOP)
        self._ledger.settle()

    def step(self) -> list[Ticked]:
        """One tick and the reports that are due after it; whatever fails is counted and logged."""
        try:
            ticked = self._watch.tick(self._clock())
            self._report_due(ticked)
        except DatabaseUnavailableError as exc:
            self._metrics.ticks.labels(Outcome.DATABASE_ERROR.value).inc()
            logger.warning("tick_failed outcome=database_error: %s", exc)
        except Exception:
            self._metrics.ticks.labels(Outcome.ERROR.value).inc()
            logger.exception("tick_failed outcome=error")
        else:
            return ticked
        return []

    def _wait_seconds(self) -> float:
        """A tick; less where the lease of another monitor, which may be dead, ends sooner."""
        standby = self._watch.standby
        left_seconds = math.inf if standby is None else standby.left_seconds
        return min(self._settings.tick_seconds, left_seconds)

    def _release(self) -> None:
        try:
            self._watch.release()
        except MonitorError as exc:
            logger.warning("lease_not_given_back, another monitor waits for its end: %s", exc)

    def _report_due(self, ticked: Sequence[Ticked]) -> None:
        every = timedelta(hours=self._settings.report_every_hours)
        if not every:
            return
        for each in ticked:
            is_judged = each.judgement is not None and each.judgement.is_enough
            if each.judgement is not None and is_judged and not self._stop.is_set():
                self._report_if_due(each.judgement, every)

    def _report_if_due(self, judgement: Judgement, every: timedelta) -> None:
        name, now = judgement.model.name, self._clock()
        tried = self._tried.get(name)
        if tried is not None and now < tried + min(every, REPORT_RETRY):
            return
        with opened_database(self._settings.database_url) as engine:
            if not is_report_due(engine, name, every=every, now=now):
                return
            self._tried[name] = now
            try:
                report = record_report(
                    self._ledger,
                    engine,
                    judgement,
                    settings=self._settings,
                    environment=self._environment,
                    now=now,
                    should_stop=self._stop.is_set,
                )
            except MonitorError as exc:
                self._metrics.reports.labels("failed").inc()
                logger.warning("report_failed model=%s: %s", name, exc)
                return
        self._metrics.reports.labels("ok").inc()
        logger.info("report_published model=%s file=%s", name, report.html_file)
