"""The witness's own endless loop, and its command."""

import logging
from collections.abc import Callable
from datetime import datetime
from threading import Event
from typing import Any

from gateway.audit.notes import Verifier
from monitor.jobs.printing import print_json
from monitor.jobs.repeating import Repeating
from monitor.jobs.witness import Looked, Witness
from monitor.metrics import MonitorMetrics
from monitor.records import Alarm, InputError, MonitorError, Outcome
from monitor.settings import MonitorSettings

logger = logging.getLogger(__name__)


class WitnessLoop(Repeating):
    """Looks every witness_seconds."""

    def __init__(
        self,
        *,
        settings: MonitorSettings,
        metrics: MonitorMetrics,
        clock: Callable[[], datetime],
        stop: Event,
    ) -> None:
        """Raises InputError for keys that cannot be used."""
        super().__init__(
            seconds=settings.witness_seconds, failures=metrics.witness_failures, stop=stop
        )
        self._witness = Witness(settings=settings, metrics=metrics)
        self._clock = clock

    def look(self) -> bool:
        """All ledgers; the next look may wait."""
        self._witness.look(self._clock())
        return True

    def warn(self, outcome: Outcome, exc: MonitorError) -> None:
        """See Repeating."""
        logger.warning("witness_look_failed outcome=%s: %s", outcome.value, exc)

    def log_bug(self, exc: Exception) -> None:
        """See Repeating."""
        logger.error("witness_look_failed outcome=error", exc_info=exc)


def look_once(
    witness: Witness, *, acknowledged: str | None, forgotten: str | None, now: datetime
) -> tuple[list[Looked], Alarm]:
    """One look, after a person took what was wrong with a ledger as known, or had what was seen of one put aside.

    Raises InputError if nothing was seen of it, and as Witness.look does.
    """
    if acknowledged is not None:
        if not witness.acknowledge(acknowledged):
            raise _unknown(acknowledged)
        logger.warning("witness_acknowledged ledger=%s", acknowledged)
    if forgotten is not None:
        aside = witness.forget(forgotten, now=now)
        if aside is None:
            raise _unknown(forgotten)
        logger.warning("witness_forgotten ledger=%s kept=%s", forgotten, aside)
    return witness.look(now, may_clear=acknowledged is not None or forgotten is not None)


def print_looked(
    looked: list[Looked], alarm: Alarm, *, as_json: bool, witness: Verifier | None = None
) -> None:
    """What one look found, for people or programs. witness: what verifies the cosignatures, for who checks proofs."""
    if as_json:
        ledgers = [_described(each) for each in looked]
        key = None if witness is None else witness.line()
        print_json({"alarm": alarm.state.value, "witness": key, "ledgers": ledgers})
        return
    for each in looked:
        print("\n".join(_lines(each)))
    if witness is not None:
        print(f"cosigned as {witness.line()}")
    print(f"alarm {alarm.name}: {alarm.state.value} since {alarm.since:%Y-%m-%d %H:%M:%S} UTC")


def _described(looked: Looked) -> dict[str, Any]:
    seen = looked.seen
    return {
        "ledger": looked.origin,
        "key": None if seen is None else seen.verifier.line(),
        "size": None if seen is None or seen.newest is None else seen.newest.checkpoint.size,
        "accepted_at": None
        if seen is None or seen.accepted_at is None
        else seen.accepted_at.isoformat(),
        "disagreements": [
            {"kind": one.kind.value, "since": one.since.isoformat(), "words": one.words}
            for one in looked.disagreements
        ],
    }


def _lines(looked: Looked) -> list[str]:
    seen = looked.seen
    line = looked.origin
    if seen is not None and seen.newest is not None:
        line += f"  {seen.newest.checkpoint.size} records"
    if seen is not None and seen.accepted_at is not None:
        line += f", last larger {seen.accepted_at:%Y-%m-%d %H:%M:%S} UTC"
    return [
        line,
        *(
            f"  {one.kind.value} since {one.since:%Y-%m-%d %H:%M:%S} UTC: {one.words}"
            for one in looked.disagreements
        ),
    ]


def _unknown(ledger: str) -> InputError:
    return InputError(f"nothing was seen of {ledger}: `monitor witness` lists what was")
