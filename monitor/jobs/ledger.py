"""The monitor's own ledger: what it made and what its alarms did, in the same database under an origin of its own.

Rules: a report or reference that cannot be recorded is not made; judging and alarms go on without, for a full disk must
not silence an alarm, and what could not be recorded is as soon as that is possible; nothing is begun here by itself;
the ledger is opened for each thing that is recorded, so a database that was moved or restarted is found again.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from sqlalchemy import Engine

from gateway.audit.creation import create_ledger, verifier_of_ledger
from gateway.audit.details import DetailValue, format_detail, parse_detail
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.keys import create_ledger_key, load_ledger_signer
from gateway.audit.notes import NoteSigner
from gateway.audit.opened import require_begun
from gateway.audit.operators import operating_system_event
from gateway.audit.past import load_newest_details
from gateway.audit.pseudonyms import load_pseudonyms
from gateway.audit.signing import CheckpointSigner
from gateway.audit.writer import AuditLog
from gateway.errors import AuditUnavailableError, Code, GatewayError, LedgerError
from monitor.jobs.database import opened_database
from monitor.metrics import MonitorMetrics
from monitor.records import (
    AlarmTransition,
    InputError,
    LedgerUnavailableError,
    MonitorError,
    NotReadyError,
)
from monitor.settings import MonitorSettings
from monitor.tables.alarm_queries import list_transitions_after

logger = logging.getLogger(__name__)

CREATE = "monitor ledger create"
# Starts and stops that wait for the ledger; more of them say nothing more.
_MAX_WAITING = 100
# Changes of alarms looked at once. On PostgreSQL a row may show after one with a larger id, but not after so many.
_MAX_CHANGES = 1000
_OVERTAKEN = 100


class Making:
    """Something that is being made, between its two records."""

    def __init__(self, event: AuditEvent) -> None:
        self.event = event

    def add(self, **pairs: DetailValue) -> None:
        """Say more in the last record."""
        parts = (self.event.detail, format_detail(**pairs))
        self.event = replace(self.event, detail=" ".join(filter(None, parts)) or None)


class OwnLedger:
    """The monitor's ledger; one a process, for one thread."""

    def __init__(
        self, *, settings: MonitorSettings, metrics: MonitorMetrics, clock: Callable[[], datetime]
    ) -> None:
        """Nothing is opened yet."""
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._signer: CheckpointSigner | None = None
        self._waiting: deque[AuditEvent] = deque(maxlen=_MAX_WAITING)
        self._recorded: set[int] | None = None
        self._said = ""

    def begin(self) -> bool:
        """Begin the ledger, with a new key where its file is missing; whether it was not begun before.

        Raises InputError for a key that cannot be used or is another's, LedgerUnavailableError if the beginning cannot
        be recorded, DatabaseUnavailableError.
        """
        with opened_database(self._settings.database_url) as engine:
            with _told():
                is_new = verifier_of_ledger(engine, self._settings.audit_origin) is None
                # Killed after the key is made: the ledger is begun with it the next time. One whose key is lost gets
                # no other, which could not sign it.
                if is_new and not self._settings.audit_key_file.exists():
                    _make_key(self._settings.audit_key_file)
                if is_new:
                    create_ledger(engine, self._load_signer(), now=self._clock())
            if is_new:
                event = self._event(Action.AUDIT_CREATE)
                self._write(engine, [replace(event, outcome=Outcome.ANSWERED)])
            else:
                self.check(engine)
        return is_new

    def public_key(self) -> str:
        """The line that names it. Raises InputError for a key that cannot be used."""
        with _told():
            return self._load_signer().verifier.line()

    def check(self, engine: Engine) -> None:
        """Return if the ledger could be written to as far as its key and its beginning go.

        Raises NotReadyError naming the command that begins it, InputError for a key that is not its own.
        """
        with _told():
            self._begun_signer(engine)
            self._prepare()

    @contextmanager
    def made(
        self,
        engine: Engine,
        action: Action,
        *,
        model_name: str,
        model_version: str,
        details: Mapping[str, DetailValue] = MappingProxyType({}),
    ) -> Iterator[Making]:
        """Make something between two durable records: that it was begun, and how it ended.

        details: what is about to be made; both records say it.

        Raises LedgerUnavailableError if it cannot be recorded, and as check does: nothing is made then, unless the
        message says that it was, and only its end is not on record.
        """
        event = replace(
            self._event(action),
            model_name=model_name,
            model_version=model_version,
            detail=format_detail(**details),
        )
        try:
            self._write(engine, [event])
        except LedgerUnavailableError as exc:
            message = f"{exc}, then repeat: what is not on record is not made"
            raise LedgerUnavailableError(message) from exc
        making = Making(event)
        try:
            yield making
        except BaseException as exc:
            code = Code.NOT_READY if isinstance(exc, NotReadyError) else Code.INTERNAL
            failed = replace(
                making.event, outcome=Outcome.FAILED, code=code, reason=type(exc).__name__
            )
            self._write_quietly(engine, [replace(failed, recorded_at=self._clock())])
            raise
        ended = replace(making.event, outcome=Outcome.ANSWERED, recorded_at=self._clock())
        try:
            self._write(engine, [ended])
        except MonitorError as exc:
            message = (
                f"{action.value} was done, and its end could not be recorded: its beginning stands in the ledger "
                f"alone. Do not repeat it; {exc}"
            )
            raise LedgerUnavailableError(message) from exc

    def note(self, action: Action, **pairs: DetailValue) -> None:
        """Have settle record that something happened by now."""
        event = replace(
            self._event(action), outcome=Outcome.ANSWERED, detail=format_detail(**pairs)
        )
        self._waiting.append(event)

    def settle(self) -> None:
        """Record what was noted, and each change of an alarm that the ledger does not know, whoever stored it.

        Never raises; what cannot be recorded now is when this is called again.
        """
        try:
            with opened_database(self._settings.database_url) as engine:
                self._settle(engine)
        except MonitorError as exc:
            self._recorded = None  # Some may have been written: the ledger says which.
            self._tell(str(exc))
        except Exception:
            self._recorded = None
            self._metrics.audit_records.labels("failed").inc()
            logger.exception("ledger_not_settled")
        else:
            self._said = ""

    def _settle(self, engine: Engine) -> None:
        changes = self._changes(engine)
        if changes:
            # Another process may have recorded them since this one read the ledger.
            self._recorded = None
            changes = self._changes(engine)
        events = [
            *self._waiting,
            *(self._change_event(number, change) for number, change in changes),
        ]
        if events:
            self._write(engine, events)
            self._waiting.clear()
            self._known(engine).update(number for number, _ in changes)

    def _changes(self, engine: Engine) -> list[tuple[int, AlarmTransition]]:
        known = self._known(engine)
        with engine.connect() as connection:
            found = list_transitions_after(
                connection, max(known, default=0) - _OVERTAKEN, limit=_MAX_CHANGES
            )
        # One that cannot be read is told by whoever tells webhooks of it.
        return [
            (number, change)
            for number, change in found
            if change is not None and number not in known
        ]

    def _known(self, engine: Engine) -> set[int]:
        # The ledger itself says which changes it has: no other place could be behind it or ahead.
        if self._recorded is None:
            with engine.connect() as connection:
                details = load_newest_details(
                    connection,
                    self._settings.audit_origin,
                    Action.ALARM_CHANGE,
                    limit=_MAX_CHANGES,
                )
            numbers = (parse_detail(detail).get("transition", ("",))[0] for detail in details)
            self._recorded = {int(text) for text in numbers if text.isascii() and text.isdigit()}
        return self._recorded

    def _change_event(self, number: int, change: AlarmTransition) -> AuditEvent:
        return replace(
            self._event(Action.ALARM_CHANGE),
            outcome=Outcome.ANSWERED,
            model_name=change.model_name or None,
            model_version=change.model_version or None,
            reason=change.diagnosis or None,
            detail=format_detail(
                alarm=change.name,
                slice=change.slice,
                before=change.before.value,
                after=change.after.value,
                at=change.at.isoformat(timespec="seconds"),
                transition=number,
            ),
        )

    def _event(self, action: Action) -> AuditEvent:
        return operating_system_event(action, client_id="monitor", now=self._clock())

    def _write_quietly(self, engine: Engine, events: Sequence[AuditEvent]) -> None:
        try:
            self._write(engine, events)
        except MonitorError as exc:
            # What failed is told by its own error.
            self._tell(str(exc))

    def _write(self, engine: Engine, events: Sequence[AuditEvent]) -> None:
        with _told():
            signer = self._begun_signer(engine)
            if self._signer is None:
                # Kept from one opening to the next: what it signed last, no database can take back.
                self._signer = CheckpointSigner(signer)
            log = AuditLog(engine=engine, signer=self._signer, prepare=self._prepare())
            try:
                for event in events:
                    log.append_blocking(event)
                    self._metrics.audit_records.labels("written").inc()
            finally:
                log.close()

    def _begun_signer(self, engine: Engine) -> NoteSigner:
        # Asked before the key: where nothing was begun, that it has no key is no news.
        if verifier_of_ledger(engine, self._settings.audit_origin) is None:
            message = (
                f"this database has no ledger {self._settings.audit_origin}: run `{CREATE}` once, or set "
                "MONITOR_AUDIT_ORIGIN to the one that it has"
            )
            raise LedgerError(Code.LEDGER_BROKEN, message, reason="missing")
        signer = self._load_signer()
        require_begun(engine, signer, settings_prefix="MONITOR_", command=CREATE)
        return signer

    def _load_signer(self) -> NoteSigner:
        settings = self._settings
        return load_ledger_signer(settings.audit_key_file, origin=settings.audit_origin)

    def _prepare(self) -> Callable[[AuditEvent], AuditEvent]:
        if not self._settings.audit_pseudonym_key_file:
            return lambda event: event
        # The account is the one personal field of these records.
        file = Path(self._settings.audit_pseudonym_key_file)
        return load_pseudonyms(file, fields="subject").prepare

    def _tell(self, cause: str) -> None:
        self._metrics.audit_records.labels("failed").inc()
        if cause != self._said:
            self._said = cause
            logger.error("ledger_not_written origin=%s: %s", self._settings.audit_origin, cause)


@contextmanager
def _told() -> Iterator[None]:
    """What the ledger's own errors are for whoever runs the monitor."""
    try:
        yield
    except AuditUnavailableError as exc:
        message = f"the monitor's ledger cannot be written ({exc.reason}): mend the database"
        raise LedgerUnavailableError(message) from exc
    except LedgerError as exc:
        if exc.reason == "missing":
            raise NotReadyError(exc.message) from exc
        raise InputError(exc.message) from exc
    except GatewayError as exc:
        raise InputError(f"the monitor's ledger: {exc.message}") from exc


def _make_key(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InputError(
            f"MONITOR_AUDIT_KEY_FILE: cannot make {file.parent}: {exc.strerror}"
        ) from exc
    create_ledger_key(file)
