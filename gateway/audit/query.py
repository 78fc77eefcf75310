"""Asking the ledgers of a database: filters and pages, the same for the command and for the API.

Rules: parameters are parsed strictly, for a filter that is misspelt and ignored would hide records; every record that
is shown was compared with the filters by its own body; a page says where the next begins, and no page reads for long.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from gateway.audit.details import format_detail
from gateway.audit.entries import format_time, is_origin
from gateway.audit.events import MAX_CHARACTERS, Action, Outcome, printable
from gateway.audit.found import FoundRecord, read_record, unreadable
from gateway.audit.query_cursors import (
    Cursor,
    QueryInvalidError,
    digest_of,
    format_cursor,
    is_sound_key,
    parse_cursor,
)
from gateway.errors import Code
from gateway.store.queries.audit_search import (
    RecordKey,
    RecordSearch,
    find_nth_key,
    search_records,
)

MAX_LIMIT = 1000
DEFAULT_LIMIT = 100
# Members that a filter of the same name asks for; those of a principal first.
TEXT_FILTERS = (
    "issuer",
    "subject",
    "client_id",
    "token_id",
    "certificate_thumbprint",
    "address",
    "request_id",
)
FILTERS = (*TEXT_FILTERS, "model", "action", "outcome", "code", "origin", "since", "until")
PARAMETERS = (*FILTERS, "order", "limit", "cursor")

# How far is read at a time where no index finds the records.
_CHUNK_RECORDS = 20_000
_SETS: Mapping[str, type[Action] | type[Outcome] | type[Code]] = {
    "action": Action,
    "outcome": Outcome,
    "code": Code,
}
# What has a column, or an index that goes by it.
_COLUMNS = frozenset({"request_id", "subject", "action", "outcome"})
_RELATIVE = re.compile(r"([1-9][0-9]{0,4})([smhd])")
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?)(Z|[+-][0-9]{2}:[0-9]{2})"
)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

# Every form in which a value of a member may stand in records, the present one first (gateway.audit.pseudonyms).
Forms = Callable[[str, str], tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerQuery:
    """One page that is asked for.

    asked: the filters as they were written, for the record of the reading. demands: members and what they may be.
    after: where the page before ended; None for the first.
    """

    asked: Mapping[str, str]
    asked_at: datetime
    search: RecordSearch
    demands: tuple[tuple[str, tuple[str, ...]], ...]
    limit: int
    after: RecordKey | None


@dataclass(frozen=True, slots=True)
class Page:
    """Records in order, and the cursor of the next page; None where there is none yet.

    A page that ran out of time may have few records, or none, and a cursor all the same.
    """

    records: tuple[FoundRecord, ...]
    next_cursor: str | None


def parse_query(values: Mapping[str, str], *, now: datetime, forms: Forms) -> LedgerQuery:
    """The page that these parameters ask for; now: UTC, what relative times go by on a first page.

    Raises QueryInvalidError naming the parameter and what it takes; unknown ones are refused.
    """
    for name in values:
        if name not in PARAMETERS:
            raise QueryInvalidError(f"{name[:40]}: unknown; known are {', '.join(PARAMETERS)}")
    asked = {name: text for name, text in values.items() if name not in ("limit", "cursor")}
    cursor = parse_cursor(values["cursor"]) if "cursor" in values else None
    if cursor is not None and cursor.filters != digest_of(asked):
        raise QueryInvalidError("cursor: it is of other filters: ask with those of its page")
    asked_at = now if cursor is None else cursor.asked_at
    demands = dict(_demands(asked, forms))
    return LedgerQuery(
        asked=asked,
        asked_at=asked_at,
        search=_search(asked, demands, asked_at),
        demands=tuple(demands.items()),
        limit=_limit(values.get("limit")),
        after=None if cursor is None else cursor.key,
    )


def detail_of(query: LedgerQuery) -> str | None:
    """What the record of a reading says of what was asked."""
    continued = None if query.after is None else "yes"
    return format_detail(**query.asked, limit=query.limit, continued=continued)


def read_page(
    connection: Connection, query: LedgerQuery, *, is_out_of_time: Callable[[], bool]
) -> Page:
    """The page. is_out_of_time: whether to end it with what was found by now.

    Raises LedgerError if a record that was found is not as it was written, SQLAlchemyError.
    """
    found: list[FoundRecord] = []
    key, end = query.after, None
    while True:
        if not query.search.is_indexed:
            end = find_nth_key(connection, query.search, key, count=_CHUNK_RECORDS)
            if end is not None and not is_sound_key(end):
                raise unreadable(end.origin, end.position)
        found += _found(connection, query, key, end, limit=query.limit + 1 - len(found))
        if len(found) > query.limit or end is None or is_out_of_time():
            break
        key = end
    records = tuple(found[: query.limit])
    if len(found) > query.limit:
        end = _key_of(records[-1])
    return Page(records, None if end is None else _cursor(query, end))


def parse_moment(text: str, *, now: datetime) -> datetime:
    """A moment in UTC: an RFC 3339 time, or how long before now, such as 90s, 15m, 2h or 7d.

    Raises ValueError for any other text.
    """
    relative = _RELATIVE.fullmatch(text)
    if relative is not None:
        return now - timedelta(**{_UNITS[relative[2]]: int(relative[1])})
    absolute = _RFC3339.fullmatch(text)
    if absolute is None:
        raise ValueError("no time")
    zone = "+00:00" if absolute[2] == "Z" else absolute[2]
    try:
        return datetime.fromisoformat(absolute[1] + zone).astimezone(UTC)
    except OverflowError as exc:
        raise ValueError("no time") from exc


def _demands(asked: Mapping[str, str], forms: Forms) -> Iterable[tuple[str, tuple[str, ...]]]:
    for name in TEXT_FILTERS:
        if name in asked:
            yield name, _stored(name, asked[name], forms)
    if "model" in asked:
        model, at, version = asked["model"].partition("@")
        yield "model_name", _stored("model_name", model, forms)
        if at:
            yield "model_version", _stored("model_version", version, forms)
    for name, known in _SETS.items():
        if name in asked:
            if asked[name] not in tuple(known):
                raise QueryInvalidError(f"{name}: known are {', '.join(known)}")
            yield name, (asked[name],)


def _stored(name: str, text: str, forms: Forms) -> tuple[str, ...]:
    if not 1 <= len(text) <= MAX_CHARACTERS[name]:
        parameter = "model" if name.startswith("model") else name
        raise QueryInvalidError(f"{parameter}: 1 to {MAX_CHARACTERS[name]} characters")
    # As a caller wrote it, or as a record shows it: what is unprintable is escaped there, and no database is asked for.
    escaped = printable(text, max_characters=MAX_CHARACTERS[name])
    shown = filter(str.isprintable, forms(name, text))
    return tuple(dict.fromkeys([*shown, escaped]))


def _search(
    asked: Mapping[str, str], demands: Mapping[str, tuple[str, ...]], asked_at: datetime
) -> RecordSearch:
    origin = asked.get("origin")
    if origin is not None and not is_origin(origin):
        raise QueryInvalidError("origin: the name of a ledger, without spaces")
    since, until = (_time(asked, name, asked_at) for name in ("since", "until"))
    if since is not None and until is not None and since >= until:
        raise QueryInvalidError("until: it must be after since")
    order = asked.get("order", "newest")
    if order not in ("newest", "oldest"):
        raise QueryInvalidError("order: newest or oldest, whichever comes first")
    return RecordSearch(
        is_newest_first=order == "newest",
        origin=origin,
        request_ids=demands.get("request_id", ()),
        subjects=demands.get("subject", ()),
        action=asked.get("action"),
        outcome=asked.get("outcome"),
        body_texts=tuple(
            tuple(f'"{name}":{json.dumps(text)}' for text in texts)
            for name, texts in demands.items()
            if name not in _COLUMNS
        ),
        since=since,
        until=until,
    )


def _time(asked: Mapping[str, str], name: str, asked_at: datetime) -> str | None:
    if name not in asked:
        return None
    try:
        return format_time(parse_moment(asked[name], now=asked_at))
    except ValueError as exc:
        message = f"{name}: a time such as 2031-05-06T07:08:09Z, or how long ago, such as 90s, 15m, 2h or 7d"
        raise QueryInvalidError(message) from exc


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text) or int(text) > MAX_LIMIT:
        raise QueryInvalidError(f"limit: a whole number from 1 to {MAX_LIMIT}")
    return int(text)


def _found(
    connection: Connection,
    query: LedgerQuery,
    after: RecordKey | None,
    up_to: RecordKey | None,
    *,
    limit: int,
) -> list[FoundRecord]:
    try:
        rows = search_records(connection, query.search, after, up_to=up_to, limit=limit)
    except ValueError as exc:
        raise unreadable() from exc
    # The statement went by copies and by text; the members of the body decide.
    return [record for record in map(read_record, rows) if _fits(record, query)]


def _fits(record: FoundRecord, query: LedgerQuery) -> bool:
    return all(record.members.get(name) in texts for name, texts in query.demands)


def _key_of(record: FoundRecord) -> RecordKey:
    return RecordKey(record.members["recorded_at"], record.origin, record.position)


def _cursor(query: LedgerQuery, key: RecordKey) -> str:
    return format_cursor(Cursor(digest_of(query.asked), query.asked_at, key))
