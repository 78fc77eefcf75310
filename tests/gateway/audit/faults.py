"""Faults of a database under the ledger, one I/O step at a time, and a way to hold a transaction where it begins."""

import re
import threading
from collections.abc import Sequence

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError

from gateway.audit.events import AuditEvent

# The statements of a batch and of a signature, by what they do.
STATEMENTS = {
    "lock": r"SELECT pg_advisory_xact_lock",
    "read tail": r"SELECT position, leaf_hash FROM audit_records WHERE origin",
    "insert records": r"INSERT INTO audit_records",
    "insert nodes": r"INSERT INTO audit_nodes",
    "read checkpoint": r"SELECT audit_checkpoints",
    "read proof": r"SELECT audit_records\.position, audit_records\.leaf_hash",
    "insert checkpoint": r"INSERT INTO audit_checkpoints",
}


class Fault:
    """Makes one I/O step of an engine fail, before or after it took effect, until it is mended."""

    def __init__(self, engine: Engine, step: str, *, persists: bool = False) -> None:
        self.is_on = True
        self.struck = 0
        self._persists = persists
        if step == "begin":
            event.listen(engine, "begin", self._at_begin, insert=not persists)
        elif step == "commit":
            event.listen(engine, "commit", self._at_commit)
        else:
            self._statement = re.compile(STATEMENTS[step])
            moment = "after_cursor_execute" if persists else "before_cursor_execute"
            event.listen(engine, moment, self._at_statement)

    def mend(self) -> None:
        """From here on everything works."""
        self.is_on = False

    def _at_begin(self, _connection: Connection) -> None:
        self._strike()

    def _at_statement(
        self, _connection: Connection, _cursor: object, statement: str, *_: object
    ) -> None:
        if self._statement.match(statement):
            self._strike()

    def _at_commit(self, connection: Connection) -> None:
        if self.is_on and self._persists:
            raw = connection.connection.dbapi_connection
            assert raw is not None
            raw.commit()
        self._strike()

    def _strike(self) -> None:
        if self.is_on:
            self.struck += 1
            raise OperationalError("", {}, OSError("the disk went away"))


class Gate:
    """Holds every transaction on an engine at its start until it is opened."""

    def __init__(self, engine: Engine) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        event.listen(engine, "begin", self._hold)

    def _hold(self, _connection: Connection) -> None:
        self.reached.set()
        assert self.opened.wait(20)


class FakeOutages:
    """Remembers in memory what the writer told it."""

    def __init__(self, pending: Sequence[AuditEvent] = ()) -> None:
        self.noted: list[tuple[str, int]] = []
        self.events = list(pending)
        self.settled = 0
        self.is_closed = False

    def note(self, *, reason: str, refused: int) -> None:
        """Remember."""
        self.noted.append((reason, refused))

    def pending(self) -> Sequence[AuditEvent]:
        """What is to be recorded."""
        return self.events

    def settle(self) -> None:
        """Forget it."""
        self.settled += 1
        self.events = []

    def close(self) -> None:
        """Nothing more comes."""
        self.is_closed = True
