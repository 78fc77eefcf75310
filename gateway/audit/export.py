"""Reading ledgers to ship them elsewhere: page by page, each shown to be what was signed before it is given out.

Rules: one ledger is read in the order of its positions and has a mark of its own, so that a record that another replica
commits late is never skipped, as an order by time would; ledgers take turns, a page each. A page is one short read
transaction, so that the database can tidy up while a slow reader takes it. What is not signed yet waits, unless it is
asked for. Nothing is given out behind a record that is missing, changed or unreadable.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from gateway.audit.checkpoints import Checkpoint
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
from gateway.audit.notes import Verifier, parse_verifier
from gateway.audit.stored_notes import (
    Find,
    open_stored,
    read_covering,
    read_ledger,
    read_newest,
)
from gateway.audit.stored_tree import load_frontier, prove_consistency
from gateway.errors import Code, LedgerError
from gateway.store.queries.audit import find_last_position
from gateway.store.queries.audit_export import find_first_since, load_leaves
from gateway.store.queries.audit_trees import list_ledger_names
from gateway.store.records import AuditLedger

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
            names = list_ledger_names(connection)
        chosen = self._order.origins or self._all_of(names)
        for origin in sorted(chosen):
            if origin not in names:
                raise _unknown(origin, names)
            if not is_origin(origin):
                raise _misnamed(origin)
            if origin not in self._readers:
                self._readers[origin] = self._reader(origin)
        return {
            o: (self._readers[o].next_position, self._readers[o].size()) for o in sorted(chosen)
        }

    def _all_of(self, names: Sequence[object]) -> set[str]:
        # Whoever put another one there did more than the gateway does, and no cursor can name it.
        strange = next((name for name in names if not isinstance(name, str)), None)
        if strange is not None:
            raise _misnamed(strange)
        return {*map(str, names), *self._marks}

    def _reader(self, origin: str) -> "LedgerReader":
        with self._engine.connect() as connection:
            try:
                ledger = read_ledger(connection, origin)
                if ledger is None:
                    raise _unknown(origin, ())
                verifier = _verifier_of(ledger)
            except LogInvalidError as exc:
                raise _broken(origin, f"its own row cannot be read: {exc}") from exc
        return LedgerReader(self._engine, verifier, self._order, self._marks.get(origin))

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
        self, engine: Engine, verifier: Verifier, order: ExportOrder, mark: Mark | None
    ) -> None:
        """verifier: of the key that its row names."""
        self._engine = engine
        self._origin = verifier.name
        self._verifiers = [verifier]
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
        return Page(self._origin, start, self._mark, content)

    def _signed_size(self, connection: Connection) -> int:
        newest = self._signed(connection, read_newest)
        return 0 if newest is None else newest.size

    def _signed(self, connection: Connection, read: Find) -> Checkpoint | None:
        which = "its checkpoint"
        try:
            stored = read(connection, self._origin)
            if stored is None:
                return None
            which = f"its checkpoint of size {stored.size}"
            return open_stored(stored, verifiers=self._verifiers).checkpoint
        except LogInvalidError as exc:
            raise self._broken(f"{which} is not one of this ledger: {exc}") from exc

    def _size(self, connection: Connection, signed_size: int) -> int:
        if not self._order.is_unsigned_included:
            return signed_size
        last = find_last_position(connection, self._origin)
        # SQLite stores any type in any column; where the last position is no number, what is signed is known.
        is_number = last is not None and type(last[0]) is int
        return max(signed_size, last[0] + 1) if last is not None and is_number else signed_size

    def _start(self, connection: Connection) -> int | None:
        if self._mark is not None or self._order.since is None:
            return self.next_position
        found = find_first_since(connection, self._origin, self._order.since)
        return found if type(found) is int else None

    def _stop(self, start: int, end: int, signed_size: int) -> int:
        page = self._order.page_records
        stop = min(end, (start // page + 1) * page)
        # What is not signed comes in pages of its own, for only what is can be proven.
        return max(start, min(stop, signed_size) if start < signed_size else stop)

    def _load(self, connection: Connection, start: int, stop: int) -> list[Leaf]:
        # The last record that was given out is read again: a ledger that lost or changed it does not go on from there.
        first = start if self._mark is None else self._mark.position
        rows = load_leaves(connection, self._origin, first, stop)
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
        return checked_leaf(origin=self._origin, position=position, body=body, leaf_hash=leaf_hash)

    def _proven(self, connection: Connection, start: int, leaves: Sequence[Leaf]) -> Frontier:
        # Whoever can write to the database can change a body and its hash, but cannot sign the tree that they make.
        if not leaves:
            return EMPTY_FRONTIER
        end = start + len(leaves)
        try:
            before = self._frontier
            if before.size != start:
                before = load_frontier(connection, self._origin, start)
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
        origin = self._origin
        signed = self._signed(connection, read_covering(tree.size))
        if signed is None:
            raise LogInvalidError("no checkpoint covers them")
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
        return _broken(self._origin, what)


def _verifier_of(ledger: AuditLedger) -> Verifier:
    verifier = parse_verifier(ledger.verifier)
    if verifier.name != ledger.origin:
        raise LogInvalidError("it names the key of another ledger")
    return verifier


def _broken(origin: str, what: str) -> LedgerError:
    name = _shown(origin)
    message = f"{name}: {what}; `gateway audit verify` with GATEWAY_AUDIT_ORIGIN={name} finds the first bad one"
    return LedgerError(Code.LEDGER_BROKEN, message, reason="export")


def _unknown(origin: str, names: Sequence[object]) -> LedgerError:
    known = ", ".join(map(_shown, names)) or "none at all"
    fix = "correct --ledger, --cursor or GATEWAY_DATABASE_URL"
    message = f"this database has no ledger {_shown(origin)}, but {known}: {fix}"
    return LedgerError(Code.LEDGER_BROKEN, message, reason="missing")


def _misnamed(origin: object) -> LedgerError:
    message = (
        f"this database has a ledger {_shown(origin)}, which no gateway began: look into it, and export the others "
        "with --ledger meanwhile"
    )
    return LedgerError(Code.LEDGER_BROKEN, message, reason="misnamed")


def _shown(unverified_origin: object) -> str:
    # Somebody who wrote to the table may have chosen it for the terminal that shows it.
    return printable(str(unverified_origin), max_characters=128)
