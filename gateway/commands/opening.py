"""Opening what commands share: settings, the database, keys; each refusal names its fix."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.opened import open_audit_log
from gateway.audit.writer import AuditLog
from gateway.errors import Code, GatewayError, OperatorError, SettingsError
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


@contextmanager
def recorded(engine: Engine, settings: GatewaySettings, event: AuditEvent) -> Iterator[None]:
    """Run an operator's action between two durable records: that it began, and how it ended, whatever ended it.

    SIGTERM and SIGHUP raise TerminatedError inside the block. Raises AuditUnavailableError before the action if it
    cannot be recorded.
    """
    log = open_audit_log(engine, settings)
    try:
        with unwinding_on_signals():
            log.append_blocking(event)
            try:
                yield
            except BaseException as exc:
                _record_end(log, _failed(event, exc))
                raise
            _record_end(log, replace(event, outcome=Outcome.ANSWERED))
    finally:
        log.close()


def _record_end(log: AuditLog, event: AuditEvent) -> None:
    with signals_deferred():
        log.append_blocking(replace(event, recorded_at=utc_now()))


def _failed(event: AuditEvent, exc: BaseException) -> AuditEvent:
    if isinstance(exc, GatewayError):
        code, reason = exc.code, exc.reason
    else:
        # Its text may hold anything.
        code, reason = Code.INTERNAL, type(exc).__name__
    return replace(event, outcome=Outcome.FAILED, code=code, reason=reason)


def operator_event(
    action: Action, *, model_name: str | None = None, model_version: str | None = None
) -> AuditEvent:
    """The first record of a command: who runs it is the operating system's word."""
    return AuditEvent(
        action=action,
        outcome=Outcome.ADMITTED,
        recorded_at=utc_now(),
        issuer="operating-system",
        subject=_account(),
        client_id="gateway-cli",
        model_name=model_name,
        model_version=model_version,
    )


def _account() -> str:
    # Not getpass.getuser: that believes LOGNAME and USER, which whoever runs the command sets.
    user_id = os.getuid()
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)
