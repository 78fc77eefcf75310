"""Telling of rows that cannot be read.

Rules: each look counts them, so that an alert goes on while they are there; each is logged once; what they hold is in
no message.
"""

import logging
from collections.abc import Callable
from functools import partial

from monitor.metrics import MonitorMetrics

logger = logging.getLogger(__name__)

# A table full of them must not fill the memory, nor the log.
_MAX_SAID = 100


class Unreadable:
    """Tells of rows that cannot be read; remembers which were told."""

    def __init__(self, metrics: MonitorMetrics) -> None:
        """Nothing was told yet."""
        self._metrics = metrics
        self._said: set[tuple[str, object]] = set()

    def of(self, table: str) -> Callable[[object], None]:
        """What tells of rows of one table, by the row's number or what stands for it."""
        return partial(self._tell, table)

    def _tell(self, table: str, row: object) -> None:
        self._metrics.unreadable_rows.labels(table).inc()
        if (table, row) in self._said or len(self._said) >= _MAX_SAID:
            return
        self._said.add((table, row))
        logger.error(
            "row_unreadable table=%s row=%s: it is passed by; somebody else wrote it, mend or delete it",
            table,
            row,
        )
