"""Reading ledgers to ship them elsewhere: page by page, each shown to be what was signed before it is given out.

Rules: one ledger is read in the order of its positions and has a mark of its own, so that a record that another replica
commits late is never skipped, as an order by time would; ledgers take turns, a page each. A page is one short read
transaction, so that the database can tidy up while a slow reader takes it. What is not signed yet waits, unless it is
asked for. Nothing is given out behind a record that is missing, changed or unreadable.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from gateway.audit.checkpoints import Checkpoint, open_checkpoint
from gateway.audit.entries import is_origin
from gateway.audit.events import printable
from gateway.audit.export_cursor import Mark
from gateway.audit.export_lines import Leaf, LineWriter, checked_leaf
from gateway.audit.merkle import (
    EMPTY_FRONTIER,
    Frontier,
    LogInvalidError,
    append_leaves,
    frontier_root,
    verify_consistency,
)
from gateway.audit.notes import parse_verifier
from gateway.audit.stored_tree import load_frontier, prove_consistency
from gateway.errors import Code, LedgerError
from gateway.store.queries.audit import find_last_position
from gateway.store.queries.audit_export import find_first_since, load_leaves
from gateway.store.queries.audit_trees import (
    find_newest_checkpoint,
    list_ledgers,
    load_checkpoints,
)
from gateway.store.records import AuditLedger, StoredCheckpoint

# A multiple of 256: pages then end where the ledger stores hashes, and proving them takes few of those.
PAGE_RECORDS = 1024


@dataclass(frozen=True, slots=True)
class ExportOrder:
    """What is exported and how.

    origins: of the ledgers; empty for every ledger of the database, those that are begun meanwhile too. since: a time
    in the ledger's form (gateway.audit.entries.format_time): a ledger without a mark begins at its first record of
    that time or later; None for the first there is. is_unsigned_included: also what no checkpoint covers yet.
    """

    write_line: LineWriter
    origins: frozenset[str] = frozenset()
    since: str | None = None
    is_unsigned_included: bool = False
    page_records: int = PAGE_RECORDS


@dataclass(frozen=True, slots=True)
class Page:
    """Neighbouring records of one ledger. content: their lines, each ended by a newline."""

    origin: str
    first_position: int
    last: Mark
    content: bytes

    @property
    def count(self) -> int:
        """Its records."""
        return self.last.position - self.first_position + 1


class LedgerExport:
    """Goes through ledgers. Its methods raise SQLAlchemyError if the database fails, and can be called again then.

    engine: of gateway.store.database. marks: how far an export before came, by origin.
    """

    def __init__(self, engine: Engine, order: ExportOrder, marks: Mapping[str, Mark]) -> None:
        self._engine = engine
        self._order = order
        self._marks = marks
        self._readers: dict[str, LedgerReader] = {}

    def measure(self) -> dict[str, tuple[int, int]]:
        """By origin, the position that comes next, and the size up to which records can be given out now.

        Raises LedgerError if a ledger of the order or of a mark is not there, has a name that none has, or its
        checkpoint is none of it.
        """
        with self._engine.connect() as connection:
            ledgers = {ledger.origin: ledger for ledger in list_ledgers(connection)}
        chosen = self._order.origins or ledgers.keys() | self._marks.keys()
        for origin in sorted(chosen):
            if origin not in ledgers:
                raise _unknown(origin, ledgers)
            if not is_origin(origin):
                # Whoever put it there did more than the gateway does, and no cursor can name it.
                raise _misnamed(origin)
            if origin not in self._readers:
                mark = self._marks.get(origin)
                self._readers[origin] = LedgerReader(
                    self._engine, ledgers[origin], self._order, mark
                )
        return {
            o: (self._readers[o].next_position, self._readers[o].size()) for o in sorted(chosen)
        }

    def pages(self) -> Iterator[Page]:
        """Everything that can be given out now, ledgers in turns; what is added meanwhile is left for the next call.

        Raises LedgerError as measure does, and at the first record that is missing, changed or unreadable, when what
        stands before it in its ledger has been given out.
        """
        ends = {origin: end for origin, (_, end) in self.measure().items()}
        while ends:
            for origin, end in [*ends.items()]:
                page = self._readers[origin].next_page(end=end)
                if page is None:
                    del ends[origin]
                else:
                    yield page


class LedgerReader:
    """Goes through one ledger; see LedgerExport."""

    def __init__(
        self, engine: Engine, ledger: AuditLedger, order: ExportOrder, mark: Mark | None
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._order = order
        self._mark = mark
        # Of the records before the next one. It comes from stored hashes, and each proof shows whether it was right.
        self._frontier = EMPTY_FRONTIER

    @property
    def next_position(self) -> int:
        """The position after the last record that was given out."""
        return 0 if self._mark is None else self._mark.position + 1

    def size(self) -> int:
        """The number of records from the first on that can be given out now."""
        with self._engine.connect() as connection:
            return self._size(connection, self._signed_size(connection))

    def next_page(self, *, end: int) -> Page | None:
        """The next records, all before position end; None if there is none."""
        with self._engine.connect() as connection:
            signed_size = self._signed_size(connection)
            start = self._start(connection)
            if start is None:
                return None
            stop = self._stop(start, min(end, self._size(connection, signed_size)), signed_size)
            leaves = self._load(connection, start, stop)
            is_signed = start < signed_size
            frontier = self._proven(connection, start, leaves) if is_signed else EMPTY_FRONTIER
        if not leaves:
            return None
        lines = self._lines(leaves)
        last = leaves[len(lines) - 1]
        self._mark = Mark(last.position, last.leaf_hash)
        self._frontier = frontier
        content = "".join(f"{line}\n" for line in lines).encode("ascii")
        return Page(self._ledger.origin, start, self._mark, content)

    def _signed_size(self, connection: Connection) -> int:
        newest = find_newest_checkpoint(connection, self._ledger.origin)
        return 0 if newest is None else self._opened(newest).size

    def _opened(self, stored: StoredCheckpoint) -> Checkpoint:
        try:
            verifier = parse_verifier(self._ledger.verifier)
            note = stored.note.encode()
            return open_checkpoint(
                note, origin=self._ledger.origin, verifiers=[verifier]
            ).checkpoint
        except (LogInvalidError, AttributeError, UnicodeError) as exc:
            raise self._broken(
                f"its checkpoint of size {stored.size} is not one of this ledger: {exc}"
            ) from exc

    def _size(self, connection: Connection, signed_size: int) -> int:
        if not self._order.is_unsigned_included:
            return signed_size
        last = find_last_position(connection, self._ledger.origin)
        # SQLite stores any type in any column; where the last position is no number, what is signed is known.
        is_number = last is not None and type(last[0]) is int
        return max(signed_size, last[0] + 1) if last is not None and is_number else signed_size

    def _start(self, connection: Connection) -> int | None:
        if self._mark is not None or self._order.since is None:
            return self.next_position
        found = find_first_since(connection, self._ledger.origin, self._order.since)
        return found if type(found) is int else None

    def _stop(self, start: int, end: int, signed_size: int) -> int:
        page = self._order.page_records
        stop = min(end, (start // page + 1) * page)
        # What is not signed comes in pages of its own, for only what is can be proven.
        return max(start, min(stop, signed_size) if start < signed_size else stop)

    def _load(self, connection: Connection, start: int, stop: int) -> list[Leaf]:
        # The last record that was given out is read again: a ledger that lost or changed it does not go on from there.
        first = start if self._mark is None else self._mark.position
        rows = load_leaves(connection, self._ledger.origin, first, stop)
        if self._mark is not None:
            if not rows or (rows[0][0], rows[0][2]) != (self._mark.position, self._mark.leaf_hash):
                raise self._broken(
                    f"record {first} is not the one that was exported: the ledger was cut, changed or restored since"
                )
            del rows[0]
        leaves: list[Leaf] = []
        for expected in range(start, stop):
            try:
                leaves.append(self._leaf(rows, expected, expected - start))
            except LogInvalidError as exc:
                if leaves:
                    # What is good goes out first; the next page begins with this one.
                    break
                raise self._broken(f"record {expected} {exc}") from exc
        return leaves

    def _leaf(self, rows: Sequence[tuple[int, object, object]], position: int, index: int) -> Leaf:
        if index >= len(rows) or rows[index][0] != position:
            raise LogInvalidError("is missing")
        _, body, leaf_hash = rows[index]
        return checked_leaf(
            origin=self._ledger.origin, position=position, body=body, leaf_hash=leaf_hash
        )

    def _proven(self, connection: Connection, start: int, leaves: Sequence[Leaf]) -> Frontier:
        # Whoever can write to the database can change a body and its hash, but cannot sign the tree that they make.
        if not leaves:
            return EMPTY_FRONTIER
        end = start + len(leaves)
        try:
            before = self._frontier
            if before.size != start:
                before = load_frontier(connection, self._ledger.origin, start)
            after, _ = append_leaves(before, [leaf.leaf_hash for leaf in leaves])
            self._require_signed(connection, after)
        except LogInvalidError as exc:
            message = (
                f"records {start} to {end - 1} are not shown to be those that were signed: {exc}"
            )
            raise self._broken(message) from exc
        return after

    def _require_signed(self, connection: Connection, tree: Frontier) -> None:
        # The first checkpoint that covers it, not the newest: what is wrong far behind it then keeps nothing back.
        origin = self._ledger.origin
        covering = load_checkpoints(connection, origin, after_size=tree.size - 1, limit=1)
        if not covering:
            raise LogInvalidError("no checkpoint covers them")
        signed = self._opened(covering[0])
        verify_consistency(
            old_size=tree.size,
            size=signed.size,
            old_root=frontier_root(tree),
            root=signed.root,
            proof=prove_consistency(connection, origin, old_size=tree.size, size=signed.size),
        )

    def _lines(self, leaves: Sequence[Leaf]) -> list[str]:
        lines: list[str] = []
        for leaf in leaves:
            try:
                lines.append(self._order.write_line(leaf))
            except ValueError as exc:
                if lines:
                    break
                raise self._broken(f"record {leaf.position} cannot be read: {exc}") from exc
        return lines

    def _broken(self, what: str) -> LedgerError:
        origin = _shown(self._ledger.origin)
        message = f"{origin}: {what}; `gateway audit verify` with GATEWAY_AUDIT_ORIGIN={origin} finds the first bad one"
        return LedgerError(Code.LEDGER_BROKEN, message, reason="export")


def _unknown(origin: str, ledgers: Mapping[str, AuditLedger]) -> LedgerError:
    known = ", ".join(map(_shown, sorted(ledgers))) or "none at all"
    fix = "correct --ledger, --cursor or GATEWAY_DATABASE_URL"
    message = f"this database has no ledger {_shown(origin)}, but {known}: {fix}"
    return LedgerError(Code.LEDGER_BROKEN, message, reason="missing")


def _misnamed(origin: str) -> LedgerError:
    message = (
        f"this database has a ledger {_shown(origin)}, which no gateway began: look into it, and export the others "
        "with --ledger meanwhile"
    )
    return LedgerError(Code.LEDGER_BROKEN, message, reason="misnamed")


def _shown(unverified_origin: str) -> str:
    # Somebody who wrote to the table may have chosen it for the terminal that shows it.
    return printable(str(unverified_origin), max_characters=128)
