"""Following all ledgers at once: each record once, by ledger in the order of positions, across ledgers by time.

Rules: holds one page of each ledger; what cannot be read is told with its place and passed by, so that one bad record
hides nothing behind it.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.store.queries.audit_feed import load_bodies, load_positions
from monitor.records import Place
from monitor.security.seen import RecordInvalidError, SeenRecord, parse_record

PAGE_RECORDS = 2000


@dataclass(frozen=True, slots=True)
class Fed:
    """What stands at a place of a ledger: a record, or why there is none that can be read."""

    place: Place
    record: SeenRecord | None
    why: str = ""


class LedgerFeed:
    """Where each ledger is read on; feed it the same engine's ledgers each time."""

    def __init__(self, positions: Mapping[str, int]) -> None:
        """positions: by ledger, the first position to read."""
        self._next = dict(positions)
        self._pages: dict[str, deque[Fed]] = {origin: deque() for origin in positions}

    @property
    def positions(self) -> Mapping[str, int]:
        """By ledger, the next position that read gives."""
        return dict(self._next)

    def move(self, origin: str, position: int) -> None:
        """Read a ledger on from here: a new one, or one that has become shorter."""
        self._next[origin] = position
        self._pages[origin] = deque()

    def read(self, engine: Engine, *, limit: int) -> tuple[list[Fed], bool]:
        """The next ones, at most limit, and whether every ledger was read to its end.

        Raises SQLAlchemyError.
        """
        fed: list[Fed] = []
        ended: set[str] = set()
        heads: list[tuple[float, str]] = []
        for origin in self._next:
            self._push(engine, heads, origin, ended)
        while heads and len(fed) < limit:
            _, origin = heappop(heads)
            head = self._pages[origin].popleft()
            self._next[origin] = head.place.position + 1
            fed.append(head)
            self._push(engine, heads, origin, ended)
        return fed, not heads

    def _push(
        self, engine: Engine, heads: list[tuple[float, str]], origin: str, ended: set[str]
    ) -> None:
        page = self._pages[origin]
        if not page and origin not in ended:
            rows, count = _read_page(engine, origin, self._next[origin])
            page.extend(rows)
            if count < PAGE_RECORDS:
                ended.add(origin)
        if page:
            record = page[0].record
            heappush(heads, (float("-inf") if record is None else record.at_seconds, origin))


def _read_page(engine: Engine, origin: str, position: int) -> tuple[list[Fed], int]:
    """What stands from a position on, and how many records of it there are in the table."""
    try:
        with engine.connect() as connection:
            rows = load_bodies(connection, origin, from_position=position, limit=PAGE_RECORDS)
    except (SQLAlchemyError, ValueError, TypeError):
        return _read_singly(engine, origin, position)
    fed = (_fed(Place(origin, at), body) for at, body in rows)
    return list(_without_gaps(origin, position, fed)), len(rows)


def _read_singly(engine: Engine, origin: str, position: int) -> tuple[list[Fed], int]:
    # A value of a wrong type or text that is not UTF-8. If the positions can be read, the database is well and a
    # record is bad; if not, their error says that the database is not.
    with engine.connect() as connection:
        positions = load_positions(connection, origin, from_position=position, limit=PAGE_RECORDS)
    fed = (_read_one(engine, origin, at) for at in positions)
    return list(_without_gaps(origin, position, fed)), len(positions)


def _read_one(engine: Engine, origin: str, position: float) -> Fed:
    place = Place(origin, int(position))
    if type(position) is not int:
        return Fed(place, None, f"a record has the position {position!r}, which is none")
    try:
        with engine.connect() as connection:
            ((_, body),) = load_bodies(
                connection, place.origin, from_position=place.position, limit=1
            )
    except (SQLAlchemyError, ValueError, TypeError):
        return Fed(place, None, "the record cannot be read from the database")
    return _fed(place, body)


def _fed(place: Place, body: str) -> Fed:
    try:
        return Fed(place, parse_record(place, body))
    except RecordInvalidError as exc:
        return Fed(place, None, str(exc))


def _without_gaps(origin: str, position: int, fed: Iterable[Fed]) -> Iterable[Fed]:
    """The same, with one more where positions are missing."""
    expected = position
    for each in fed:
        if each.place.position > expected:
            count = each.place.position - expected
            last = Place(origin, each.place.position - 1)
            yield Fed(last, None, f"{count} records are missing up to here")
        # One between two positions is told with that before it.
        expected = max(expected, each.place.position + 1)
        yield each


def missing_at_end(positions: Mapping[str, int], ends: Mapping[str, int]) -> Sequence[Fed]:
    """One for each ledger that ends before what was read of it. ends: by ledger, the position after its last record."""
    return [
        Fed(
            Place(origin, end),
            None,
            f"the ledger ends here, and had {position - end} records more: it was cut, or the database rolled back",
        )
        for origin, position in positions.items()
        if (end := ends.get(origin, 0)) < position
    ]
