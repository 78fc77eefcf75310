"""Creating and migrating the database, because an operator asked."""

from sqlalchemy.exc import SQLAlchemyError

from gateway.errors import Code, OperatorError
from gateway.settings import GatewaySettings
from gateway.store.migrations import upgrade_database


def upgrade(settings: GatewaySettings) -> None:
    """Bring the database to this release's tables. Raises OperatorError if it does not answer."""
    try:
        upgrade_database(settings.database_url)
    except (SQLAlchemyError, OSError, ValueError) as exc:
        message = f"GATEWAY_DATABASE_URL: the database cannot be migrated: {exc}"
        raise OperatorError(Code.SETTINGS_INVALID, message) from exc
