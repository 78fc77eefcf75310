"""What a process does about its ledger's witnesses: look at them before it writes, keep them up to date while it does.

Rules: a ledger that does not go on from what a witness has is not opened; a witness file that is missing, and a
witness that does not answer, are told and do not keep the gateway closed; every disagreement is in the log, in the
metrics, and once in the ledger.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.checkpoints import Checkpoint, SignedCheckpoint
from gateway.audit.details import format_detail, parse_detail
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.history import LedgerHistory
from gateway.audit.keys import load_ledger_signer
from gateway.audit.merkle import LogInvalidError
from gateway.audit.places import Place, WitnessDisagreementError, WitnessUnavailableError
from gateway.audit.publishing import Published, Publisher
from gateway.audit.witness_file import WitnessFile
from gateway.audit.writer import AuditLog
from gateway.errors import AuditUnavailableError, Code, LedgerError, SettingsError
from gateway.metrics import GatewayMetrics
from gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

# Of these records there is one for each file that was begun or lost, and one for each disagreement.
_MAX_WITNESS_RECORDS = 1000
_FIX = (
    "restore the database that has these records; if they are lost for good, keep what the witness has, set "
    "GATEWAY_AUDIT_ORIGIN to another name and begin that ledger with `gateway audit create`"
)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Witnesses:
    """The places of a serving process, each with a thread of its own; offer() is for AuditLog's on_checkpoint.

    clock: UTC.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        engine: Engine,
        *,
        metrics: GatewayMetrics,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        """Nothing is written yet; a witness over HTTPS is asked whether it goes along with the newest checkpoint.

        Raises KeyFileError for the ledger's key, SettingsError for what cannot be a witness, LedgerError if the
        witness has what this ledger does not go on from.
        """
        signer = load_ledger_signer(settings.audit_key_file, origin=settings.audit_origin)
        history = LedgerHistory(engine, signer.verifier)
        self._metrics = metrics
        self._clock = clock
        self._audit: AuditLog | None = None
        self._disagreeing: set[str] = set()
        places: list[Place] = []
        if settings.audit_witness_file:
            path = Path(settings.audit_witness_file)
            places.append(WitnessFile(path, history=history, on_lost=self._lost))
        if settings.audit_witness_url:
            url = _witness_url(settings, history)
            _ask_at_start(url, history)
            places.append(url)
        self._publishers = [self._publisher(place, settings) for place in places]

    def offer(self, signed: SignedCheckpoint) -> None:
        """Take a checkpoint that is durable in the database. Never waits, never raises."""
        self._metrics.audit_checkpoint_size.set(signed.checkpoint.size)
        self._metrics.audit_checkpoint_time.set(self._clock().timestamp())
        for publisher in self._publishers:
            publisher.offer(signed)

    def start(self, audit: AuditLog) -> None:
        """Begin to publish; what goes wrong is recorded in audit."""
        self._audit = audit
        self._metrics.audit_unsigned_records.set_function(
            lambda: max(audit.size - audit.signed_size, 0)
        )
        for publisher in self._publishers:
            self._show(publisher)
            publisher.start()

    def close(self) -> None:
        """Hand the last checkpoint over, and end; after the audit log is closed, which signs it."""
        for publisher in self._publishers:
            if not publisher.close():
                log.warning("audit_witness_left_behind place=%s", publisher.name)

    def _show(self, publisher: Publisher) -> None:
        metrics = self._metrics
        metrics.audit_witness_size.labels(publisher.name).set_function(lambda: publisher.size)
        metrics.audit_witness_lag.labels(publisher.name).set_function(lambda: publisher.lag_seconds)

    def _publisher(self, place: Place, settings: GatewaySettings) -> Publisher:
        def on_attempt(published: Published, why: str) -> None:
            self._attempted(place.name, published, why)

        self._metrics.audit_witness_failures.labels(place.name)
        self._metrics.audit_witness_disagreements.labels(place.name)
        return Publisher(
            place, interval_seconds=settings.audit_checkpoint_seconds, on_attempt=on_attempt
        )

    def _attempted(self, place: str, published: Published, why: str) -> None:
        if published is Published.DONE:
            self._disagreeing.discard(place)
        elif published is Published.UNAVAILABLE:
            self._metrics.audit_witness_failures.labels(place).inc()
        else:
            self._metrics.audit_witness_disagreements.labels(place).inc()
            if place not in self._disagreeing:
                self._disagreeing.add(place)
                self._record(_event(place, why, now=self._clock()))

    def _lost(self, why: str) -> None:
        _log_disagreement(why)
        self._metrics.audit_witness_disagreements.labels(WitnessFile.name).inc()
        self._record(_event(WitnessFile.name, why, now=self._clock()))

    def _record(self, event: AuditEvent) -> None:
        if self._audit is not None:
            record_quietly(self._audit, event)


def look_at_file(
    settings: GatewaySettings, history: LedgerHistory
) -> tuple[WitnessFile | None, Sequence[Checkpoint]]:
    """The witness file of the settings, if they name one, and the checkpoint in it, if it is there.

    Raises LedgerError if the ledger does not go on from it or it is of no such ledger, SettingsError if it cannot be
    read.
    """
    if not settings.audit_witness_file:
        return None, ()
    file = WitnessFile(Path(settings.audit_witness_file), history=history)
    try:
        held = file.read()
    except WitnessUnavailableError as exc:
        raise SettingsError(Code.SETTINGS_INVALID, f"GATEWAY_AUDIT_WITNESS_FILE: {exc}") from exc
    except WitnessDisagreementError as exc:
        message = f"{exc}; restore the file, name another, or move this one away to begin it anew"
        raise LedgerError(Code.LEDGER_BROKEN, message, reason="witness file") from exc
    if held is None:
        return file, ()
    try:
        history.require(held.checkpoint)
    except LogInvalidError as exc:
        raise _rolled_back(history.verifier.name, f"the witness file {file.path}", exc) from exc
    except SQLAlchemyError as exc:
        # Nothing can be written either; and nothing is signed before it is compared again (CheckpointSigner).
        log.warning("audit_witness_not_compared place=file: %s", type(exc).__name__)
    return file, (held.checkpoint,)


def publish_quietly(file: WitnessFile, signed: SignedCheckpoint) -> bool:
    """Hand a command's checkpoint to the witness file; what fails is told, and the gateway's next one mends it."""
    try:
        file.publish(signed)
    except WitnessUnavailableError as exc:
        log.warning("audit_witness_unavailable place=file: %s", exc)
    except WitnessDisagreementError as exc:
        _log_disagreement(str(exc))
    except Exception:
        # The writer's thread calls this, and has to go on.
        log.exception("audit_witness_failed place=file")
    else:
        return True
    return False


def begin_missing_file(
    audit: AuditLog, history: LedgerHistory, file: WitnessFile, *, now: datetime
) -> None:
    """Begin a witness file that is not there; say, in log and ledger, so, or that one that was kept is gone."""
    path = str(file.path)
    was_begun = _was_begun(history, path)
    if _is_there(file):
        # Another process of this moment has begun it, and said so.
        return
    # Before the record, so that no other process of this moment takes the file for one that was taken away.
    is_begun = _begin(history, file)
    if was_begun:
        why = f"the witness file {path} is gone: it was kept before, and is begun anew"
        _log_disagreement(why)
        record_quietly(audit, _event(file.name, why, now=now, file=path))
    elif is_begun:
        why = f"the witness file {path} is begun"
        log.warning("audit_witness_begun place=file: %s", why)
        event = _event(file.name, why, now=now, file=path)
        record_quietly(audit, replace(event, outcome=Outcome.ANSWERED, code=None))


def record_quietly(audit: AuditLog, event: AuditEvent) -> None:
    """Record what a witness says; where that fails the log alone has it."""
    try:
        audit.append_blocking(event)
    except AuditUnavailableError as exc:
        log.warning("audit_witness_not_recorded reason=%s: %s", exc.reason, event.reason)


def _was_begun(history: LedgerHistory, path: str) -> bool:
    try:
        details = history.newest_details(Action.AUDIT_WITNESS, limit=_MAX_WITNESS_RECORDS)
    except SQLAlchemyError:
        # Nothing can be recorded then either, and the next start asks again.
        return False
    except ValueError:
        # What cannot be read is verify's to find; here it only decides how loudly something is said.
        return True
    return any(parse_detail(detail).get("file") == (path,) for detail in details)


def _is_there(file: WitnessFile) -> bool:
    try:
        return file.read() is not None
    except (WitnessUnavailableError, WitnessDisagreementError):
        return False


def _begin(history: LedgerHistory, file: WitnessFile) -> bool:
    try:
        newest = history.newest()
    except (LogInvalidError, SQLAlchemyError):
        # Signing says so, and refuses.
        return False
    return newest is not None and publish_quietly(file, newest)


def _log_disagreement(why: str) -> None:
    log.error("audit_witness_disagreement place=file: %s", why)


def _event(place: str, why: str, *, now: datetime, file: str | None = None) -> AuditEvent:
    return AuditEvent(
        action=Action.AUDIT_WITNESS,
        outcome=Outcome.FAILED,
        recorded_at=now,
        code=Code.LEDGER_BROKEN,
        reason=why,
        detail=format_detail(place=place, file=file),
    )


def _witness_url(settings: GatewaySettings, history: LedgerHistory) -> Place:
    # Half a second of imports for whoever has no such witness, every command included.
    from gateway.audit.witness_url import WitnessUrl

    ca_file = Path(settings.audit_witness_ca_file) if settings.audit_witness_ca_file else None
    return WitnessUrl(settings.audit_witness_url, history=history, ca_file=ca_file)


def _ask_at_start(url: Place, history: LedgerHistory) -> None:
    try:
        newest = history.newest()
    except (LogInvalidError, SQLAlchemyError):
        # Opening the ledger says so, with what mends it.
        return
    if newest is None:
        return
    # In a thread of its own: this one may run an event loop, and the place has its own.
    with ThreadPoolExecutor(1, "audit-witness-start") as thread:
        try:
            thread.submit(url.publish, newest).result()
        except WitnessUnavailableError as exc:
            log.warning("audit_witness_unavailable place=url: %s", exc)
        except WitnessDisagreementError as exc:
            raise _rolled_back(history.verifier.name, "its witness", exc) from exc


def _rolled_back(origin: str, witness: str, exc: Exception) -> LedgerError:
    message = f"the ledger {origin} does not go on from what {witness} has of it: {exc}; {_FIX}"
    return LedgerError(Code.LEDGER_BROKEN, message, reason="witness")
