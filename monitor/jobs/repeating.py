"""Looking again and again, in a thread of its own: a report or a slow tick must not keep such a loop from looking.

Rules: nothing that fails in a look ends the loop; it is counted, logged once a cause, and tried again.
"""

from abc import ABC, abstractmethod
from threading import Event

from prometheus_client import Counter

from monitor.records import DatabaseUnavailableError, MonitorError, Outcome


class Repeating(ABC):
    """Looks until `stop` is set."""

    def __init__(self, *, seconds: float, failures: Counter, stop: Event) -> None:
        """seconds: between looks. failures: looks that failed, by outcome."""
        self._seconds = seconds
        self._failures = failures
        self._stop = stop
        self._said = ""

    @abstractmethod
    def look(self) -> bool:
        """One look; whether the next may wait."""

    @abstractmethod
    def warn(self, outcome: Outcome, exc: MonitorError) -> None:
        """Log a failure that has a name, once until another cause or a success."""

    @abstractmethod
    def log_bug(self, exc: Exception) -> None:
        """Log a failure that has none, with its traceback."""

    def run(self) -> None:
        """Look, wait unless something is left to do, and again, until `stop` is set."""
        while not self._stop.is_set():
            if self.step():
                self._stop.wait(self._seconds)

    def step(self) -> bool:
        """One look; whether the next may wait. Whatever fails is counted and logged."""
        try:
            may_wait = self.look()
        except MonitorError as exc:
            is_database = isinstance(exc, DatabaseUnavailableError)
            outcome = Outcome.DATABASE_ERROR if is_database else Outcome.ERROR
            self._failures.labels(outcome.value).inc()
            if str(exc) != self._said:
                self.warn(outcome, exc)
            self._said = str(exc)
            return True
        except Exception as exc:  # noqa: BLE001  (a bug must not end the loop)
            self._failures.labels(Outcome.ERROR.value).inc()
            self.log_bug(exc)
            return True
        self._said = ""
        return may_wait
