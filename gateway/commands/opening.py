"""Opening what commands share: settings, the database, keys; each refusal names its fix."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.details import DetailValue, format_detail
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.opened import open_audit_log
from gateway.audit.operators import operating_system_event
from gateway.audit.waiting import unavailable
from gateway.audit.writer import AuditLog
from gateway.errors import Code, GatewayError, OperatorError, SettingsError
from gateway.models.loading import ProvedVersion
from gateway.sealing.kek_specs import KekOpener, split_specs
from gateway.sealing.kek_specs import open_keks as open_specs
from gateway.sealing.keys import KeyProvider
from gateway.sealing.public_files import why_changeable
from gateway.sealing.signers import TrustedSigner, load_trusted_signer
from gateway.sealing.termination import signals_deferred, unwinding_on_signals
from gateway.settings import GatewaySettings, read_settings
from gateway.store.database import open_database
from gateway.store.environment import EnvironmentInvalidError, read_environment
from gateway.store.revision import is_current


def utc_now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def settings_of_process(**overrides: object) -> GatewaySettings:
    """The settings from this process's environment and .env. Raises SettingsError."""
    try:
        environment = read_environment(os.environ, dotenv_file=Path(".env"))
    except EnvironmentInvalidError as exc:
        raise SettingsError(Code.SETTINGS_INVALID, f"the configuration is wrong:\n{exc}") from exc
    return read_settings(environment, **overrides)


def open_store(settings: GatewaySettings) -> Engine:
    """The database, at the tables of this release. Raises OperatorError naming what to do otherwise."""
    try:
        engine = open_database(settings.database_url)
        current = is_current(engine)
    except (FileNotFoundError, ValueError) as exc:
        raise OperatorError(Code.SETTINGS_INVALID, f"GATEWAY_DATABASE_URL: {exc}") from exc
    except SQLAlchemyError as exc:
        message = f"GATEWAY_DATABASE_URL: the database does not answer ({type(exc).__name__})"
        if "readonly" in str(getattr(exc, "orig", "")):
            message += "; SQLite writes beside the file: copy it to a folder that you may write"
        raise OperatorError(Code.SETTINGS_INVALID, message) from exc
    if not current:
        engine.dispose()
        message = "the database has other tables than this release: run `gateway db upgrade`"
        raise OperatorError(Code.SETTINGS_INVALID, message)
    return engine


@contextmanager
def opened_store(settings: GatewaySettings) -> Iterator[Engine]:
    """The database for the length of one command. Raises OperatorError as open_store does."""
    engine = open_store(settings)
    try:
        yield engine
    finally:
        engine.dispose()


def open_keks(settings: GatewaySettings, *, opener: KekOpener | None = None) -> list[KeyProvider]:
    """The KEKs that are configured, the one that wraps what is new first.

    opener: shared by whatever else opens KEKs in this process, for a secret variable can be taken only once.
    Raises KeyFileError.
    """
    return open_specs(split_specs(settings.keks), opener=opener)


def open_trusted_signers(settings: GatewaySettings) -> list[TrustedSigner]:
    """The public keys whose models may run.

    Raises KeyFileError for a bad one, OperatorError if there is none or others can change the folder.
    """
    folder = settings.trusted_signers_folder
    _check_signers_folder(folder)
    files = sorted(folder.glob("*.pem"))
    if not files:
        message = (
            f"no trusted signer: put a public key (*.pem) into {folder}, or `gateway keys create`"
        )
        raise OperatorError(Code.KEY_INVALID, message)
    return [load_trusted_signer(file) for file in files]


def _check_signers_folder(folder: Path) -> None:
    # Whoever can put a file there decides whose models run.
    try:
        fault = why_changeable(folder.stat(), safe_mode=0o755)
    except OSError:
        # That there is none is said with what to do about it.
        return
    if fault is not None:
        raise OperatorError(Code.KEY_INVALID, f"GATEWAY_TRUSTED_SIGNERS_FOLDER: {folder} {fault}")


class Recording:
    """One action of an operator between its two records: what becomes known of it meanwhile."""

    def __init__(self, log: AuditLog, event: AuditEvent) -> None:
        """log: open for writing. event: the first record."""
        self._log = log
        self.event = event

    def add(self, *, image: bytes | None = None, **pairs: DetailValue) -> None:
        """Say more in the last record: pairs for its detail; image: what was looked at, by its digest and length."""
        parts = (self.event.detail, format_detail(**pairs))
        self.event = replace(self.event, detail=" ".join(filter(None, parts)) or None)
        if image is not None:
            sha256 = hashlib.sha256(image).hexdigest()
            self.event = replace(self.event, input_sha256=sha256, input_bytes=len(image))

    def used_keys(self, kek_ids: Iterable[str], use: str, **pairs: DetailValue) -> None:
        """Put on record that these KEKs were used, and for what. Raises AuditUnavailableError."""
        event = replace(
            self.event,
            action=Action.KEYS_USE,
            outcome=Outcome.ANSWERED,
            recorded_at=utc_now(),
            reason=None,
            detail=format_detail(kek=kek_ids, use=use, **pairs),
        )
        self._log.append_blocking(event)

    def used_model(self, proved: ProvedVersion) -> None:
        """Put on record which KEK opened a model, and say in the last record which weights and whose they are."""
        version = proved.version
        self.event = replace(self.event, model_name=version.name, model_version=version.version)
        self.used_keys([proved.kek_id], "open-model")
        self.add(sha256=proved.header.plaintext_sha256, signer=proved.header.signer)


def record_once(engine: Engine, settings: GatewaySettings, event: AuditEvent) -> None:
    """Append one record to the ledger that the settings name. Raises GatewayError if that fails."""
    try:
        log = open_audit_log(engine, settings)
    except SQLAlchemyError as exc:
        raise unavailable(f"the database failed: {type(exc).__name__}") from exc
    try:
        log.append_blocking(event)
    finally:
        log.close()


@contextmanager
def recorded(engine: Engine, settings: GatewaySettings, event: AuditEvent) -> Iterator[Recording]:
    """Run an operator's action between two durable records: that it began, and how it ended, whatever ended it.

    SIGTERM and SIGHUP raise TerminatedError inside the block. Raises AuditUnavailableError before the action if it
    cannot be recorded.
    """
    log = open_audit_log(engine, settings)
    try:
        with unwinding_on_signals():
            log.append_blocking(event)
            recording = Recording(log, event)
            try:
                yield recording
            except BaseException as exc:
                _record_end(log, _failed(recording.event, exc))
                raise
            _record_end(log, replace(recording.event, outcome=Outcome.ANSWERED))
    finally:
        log.close()


def _record_end(log: AuditLog, event: AuditEvent) -> None:
    with signals_deferred():
        log.append_blocking(replace(event, recorded_at=utc_now()))


def _failed(event: AuditEvent, exc: BaseException) -> AuditEvent:
    code, reason = code_and_reason(exc)
    return replace(event, outcome=Outcome.FAILED, code=code, reason=reason)


def code_and_reason(exc: BaseException) -> tuple[Code, str]:
    """How a failure is named in the ledger."""
    if isinstance(exc, GatewayError):
        return exc.code, exc.reason
    # Its text may hold anything.
    return Code.INTERNAL, type(exc).__name__


def operator_event(
    action: Action,
    *,
    model_name: str | None = None,
    model_version: str | None = None,
    detail: str | None = None,
) -> AuditEvent:
    """The first record of a command: who runs it is the operating system's word."""
    event = operating_system_event(action, client_id="gateway-cli", now=utc_now())
    return replace(event, model_name=model_name, model_version=model_version, detail=detail)
