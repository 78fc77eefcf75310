"""The endless loop of the rules on suspicious behaviour; where more is left to read than one look took, the next one
follows at once.
"""

import logging
from collections.abc import Callable
from datetime import datetime
from threading import Event

from monitor.jobs.repeating import Repeating
from monitor.jobs.security import SecurityWatch
from monitor.metrics import MonitorMetrics
from monitor.records import MonitorError, Outcome
from monitor.settings import MonitorSettings

logger = logging.getLogger(__name__)


class SecurityLoop(Repeating):
    """Looks every tick_seconds."""

    def __init__(
        self,
        *,
        settings: MonitorSettings,
        metrics: MonitorMetrics,
        clock: Callable[[], datetime],
        stop: Event,
    ) -> None:
        """Nothing is read yet."""
        super().__init__(
            seconds=settings.tick_seconds, failures=metrics.security_failures, stop=stop
        )
        self._watch = SecurityWatch(settings=settings, metrics=metrics)
        self._clock = clock

    def look(self) -> bool:
        """What is new in every ledger, for tick_seconds at most; the next look may wait once everything is read."""
        return self._watch.look(self._clock(), should_stop=self._stop.is_set).lag == 0

    def warn(self, outcome: Outcome, exc: MonitorError) -> None:
        """See Repeating."""
        logger.warning("ledgers_not_read outcome=%s: %s", outcome.value, exc)

    def log_bug(self, exc: Exception) -> None:
        """See Repeating."""
        logger.error("ledgers_not_read outcome=error", exc_info=exc)
