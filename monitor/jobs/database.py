"""Opening the database for one job; what can go wrong with it becomes one error."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gateway.store.database import open_database
from monitor.records import DatabaseUnavailableError, InputError


@contextmanager
def opened_database(url: str) -> Iterator[Engine]:
    """The database for the time of one job.

    A job opens it anew, so a database that was moved, restarted or did not exist yet is found again by the next one.
    Raises InputError if the URL is wrong, DatabaseUnavailableError for whatever fails inside, at opening or later.
    """
    try:
        engine = open_database(url)
    except FileNotFoundError as exc:
        raise DatabaseUnavailableError(str(exc)) from exc
    except (ValueError, SQLAlchemyError) as exc:
        raise InputError(f"MONITOR_DATABASE_URL is wrong: {exc}") from exc
    try:
        yield engine
    except SQLAlchemyError as exc:
        raise DatabaseUnavailableError(
            f"the database cannot be used: {_short(exc)}: "
            "check MONITOR_DATABASE_URL, and that `gateway db upgrade` has run"
        ) from exc
    finally:
        engine.dispose()


def _short(exc: SQLAlchemyError) -> str:
    # The statement and its parameters stay out: they fill a screen and may hold names of principals.
    cause = exc.orig if isinstance(exc, DBAPIError) else exc
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(exc).__name__
