"""The endless loop of the rules on suspicious behaviour: a report or a slow tick must not keep them from looking.

Rules: nothing that fails in a look ends the loop; it is counted, logged once a cause, and the records are read again.
Where more is left to read than one look took, the next one follows at once.
"""

import logging
from collections.abc import Callable
from datetime import datetime
from threading import Event

from monitor.jobs.security import SecurityWatch
from monitor.metrics import MonitorMetrics
from monitor.records import DatabaseUnavailableError, Outcome
from monitor.settings import MonitorSettings

logger = logging.getLogger(__name__)


class SecurityLoop:
    """Looks until `stop` is set."""

    def __init__(
        self,
        *,
        settings: MonitorSettings,
        metrics: MonitorMetrics,
        clock: Callable[[], datetime],
        stop: Event,
    ) -> None:
        """Nothing is read yet."""
        self._watch = SecurityWatch(settings=settings, metrics=metrics)
        self._seconds = settings.tick_seconds
        self._metrics = metrics
        self._clock = clock
        self._stop = stop
        self._said = ""

    def run(self) -> None:
        """Look, wait tick_seconds unless something is left to read, and again, until `stop` is set."""
        while not self._stop.is_set():
            if self.step():
                self._stop.wait(self._seconds)

    def step(self) -> bool:
        """One look; whether the next may wait. Whatever fails is counted and logged."""
        failed = self._metrics.security_failures
        try:
            look = self._watch.look(self._clock(), should_stop=self._stop.is_set)
        except DatabaseUnavailableError as exc:
            failed.labels(Outcome.DATABASE_ERROR.value).inc()
            if str(exc) != self._said:
                logger.warning("ledgers_not_read outcome=database_error: %s", exc)
            self._said = str(exc)
            return True
        except Exception:
            failed.labels(Outcome.ERROR.value).inc()
            logger.exception("ledgers_not_read outcome=error")
            return True
        self._said = ""
        return look.lag == 0
