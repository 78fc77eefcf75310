"""Creating and migrating the database, because an operator asked."""

from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.creation import verifier_of_ledger
from gateway.errors import Code, OperatorError
from gateway.settings import GatewaySettings
from gateway.store.database import open_database
from gateway.store.migrations import upgrade_database


def upgrade(settings: GatewaySettings) -> None:
    """Bring the database to this release's tables. Raises OperatorError if it does not answer."""
    try:
        upgrade_database(settings.database_url)
    except (SQLAlchemyError, OSError, ValueError) as exc:
        message = f"GATEWAY_DATABASE_URL: the database cannot be migrated: {exc}"
        raise OperatorError(Code.SETTINGS_INVALID, message) from exc


def next_step(settings: GatewaySettings) -> str | None:
    """What the upgraded database still lacks before a gateway may serve, in words; None if it lacks nothing."""
    engine = open_database(settings.database_url)
    try:
        is_begun = verifier_of_ledger(engine, settings.audit_origin) is not None
    finally:
        engine.dispose()
    if is_begun:
        return None
    return (
        f"the database has no ledger {settings.audit_origin} yet: `gateway audit create` begins it, with the key of "
        f"GATEWAY_AUDIT_KEY_FILE (`gateway keys create {settings.audit_key_file.parent}` makes one that is missing); "
        "then `monitor ledger create`"
    )
