"""Where following the ledgers begins: the cursors, and far enough before them that the rules know what they knew.

Rules: changes nothing. A monitor that never ran begins a window before the end of each ledger, and takes what is there
as usual; a ledger that is new to one that did is read from its first record.
"""

import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.entries import format_time, is_origin
from gateway.audit.events import Action
from gateway.store.queries.audit_feed import (
    find_end,
    find_position_since,
    find_record_from,
    load_bodies_of_actions,
)
from gateway.store.queries.audit_trees import list_ledger_names
from monitor.jobs.ledger_feed import LedgerFeed
from monitor.records import Cursor, Place
from monitor.security.loads import ORDERS
from monitor.security.rules import Rules, longest_window_seconds
from monitor.security.seen import RecordInvalidError, parse_record
from monitor.security.thresholds import Thresholds
from monitor.settings import MonitorSettings
from monitor.tables.security_queries import list_cursors, list_known_keys

logger = logging.getLogger(__name__)

# Of each ledger: the rules know no more than these, should the longest window hold more.
MAX_REPLAYED_RECORDS = 1_000_000
_MAX_ORDERS = 10_000
# Somebody who can write the database could add a million; each costs memory and questions.
MAX_LEDGERS = 256
# Of each ledger's first look.
_MAX_LOADS = 10_000


@dataclass(slots=True)
class Following:
    """What one process knows of the ledgers between two looks.

    stored: the cursors as the table has them. judged_until: by ledger, what stands below was judged before this
    process began. misplaced: the ledgers of which it was told that they have records at impossible positions.
    has_all: whether every ledger is followed, as was told.
    """

    rules: Rules
    feed: LedgerFeed
    cursors: dict[str, Cursor]
    stored: dict[str, Cursor]
    judged_until: dict[str, int]
    misplaced: set[str] = field(default_factory=set)
    has_all: bool = True


def begin_following(engine: Engine, thresholds: Thresholds) -> Following:
    """Rules that know nothing yet, and a feed that begins before the cursors. Raises SQLAlchemyError."""
    window = timedelta(seconds=longest_window_seconds(thresholds))
    with engine.connect() as connection:
        stored = list_cursors(connection)
        cursors = dict(stored)
        rules = Rules(thresholds, known=list_known_keys(connection))
        is_first = not cursors
        judged_until = {origin: cursor.next_position for origin, cursor in cursors.items()}
        for origin in new_ledgers(connection, cursors)[0]:
            end = find_end(connection, origin) if is_first else 0
            start = _position_before(connection, origin, end, window)
            cursors[origin] = Cursor(origin, start, learn_until=end)
        starts = {
            origin: _position_before(connection, origin, judged_until[origin], window)
            if origin in judged_until
            else cursor.next_position
            for origin, cursor in cursors.items()
        }
        _teach(connection, rules, starts, _learnt_spans(connection, cursors, starts, window))
    return Following(rules, LedgerFeed(starts), cursors, stored, judged_until)


def new_ledgers(connection: Connection, known: Collection[str]) -> tuple[list[str], bool]:
    """The names of ledgers that are not known, as far as there is room for them, and whether there is for all.

    A name that no ledger can have is none, and is the witness's to tell.
    """
    limit = MAX_LEDGERS + len(known) + 1
    names = list_ledger_names(connection, limit=limit)
    new = [name for name in names if isinstance(name, str) and is_origin(name)]
    new = [name for name in new if name not in known]
    room = max(0, MAX_LEDGERS - len(known))
    return new[:room], len(new) <= room and len(names) < limit


def thresholds_of(settings: MonitorSettings) -> Thresholds:
    """What the settings say, as the rules take it."""
    return Thresholds(
        address_failures=settings.security_address_failures,
        all_failures=settings.security_all_failures,
        subject_failures=settings.security_subject_failures,
        failure_window_seconds=settings.security_failure_window_seconds,
        token_addresses=settings.security_token_addresses,
        token_certificates=settings.security_token_certificates,
        token_kept_seconds=settings.security_token_hours * 3600,
        operator_denials=settings.security_operator_denials,
        operator_unproven=settings.security_operator_unproven,
        working_hours=settings.working_hours(),
        off_hours_excepted=settings.off_hours_excepted(),
        looks_at_new_issuers=settings.security_new_issuers,
        looks_at_new_keys=settings.security_new_keys,
        sample_views=settings.security_sample_views,
        audit_reads=settings.security_audit_reads,
        audit_records=settings.security_audit_records,
        exporters=settings.exporters(),
        predictions=settings.security_predictions,
        looks_at_loads=settings.security_unordered_loads,
        clock_tolerance_seconds=settings.security_clock_tolerance_seconds,
        looks_at_outages=settings.security_outages,
        max_keys=settings.security_max_keys,
    )


def _position_before(connection: Connection, origin: str, position: int, window: timedelta) -> int:
    """The position that a window before the record ahead of this one begins at, by the ledger's own clock."""
    floor = max(0, position - MAX_REPLAYED_RECORDS)
    try:
        found = find_record_from(connection, origin, position - 1) if position > 0 else None
        if found is None:
            return floor
        since = format_time(datetime.fromisoformat(found[1]) - window)
        return max(floor, find_position_since(connection, origin, since, end=position))
    except (ValueError, OverflowError, SQLAlchemyError):
        # No time, no text, or text that is not UTF-8, which the driver refuses. A database that is ill fails again at
        # what is read next.
        return floor


def _learnt_spans(
    connection: Connection, cursors: dict[str, Cursor], starts: dict[str, int], window: timedelta
) -> list[tuple[str, int, int]]:
    """What the first look learnt from, as far as it is not read again: ledger, first position, position after."""
    spans = []
    for origin, cursor in cursors.items():
        end = min(cursor.learn_until, starts[origin])
        start = _position_before(connection, origin, cursor.learn_until, window)
        if start < end:
            spans.append((origin, start, end))
    return spans


def _teach(
    connection: Connection,
    rules: Rules,
    starts: dict[str, int],
    learnt: Sequence[tuple[str, int, int]],
) -> None:
    orders = sorted(action.value for action in ORDERS)
    try:
        rows = load_bodies_of_actions(connection, orders, limit=_MAX_ORDERS)
        for span in learnt:
            loads = [Action.MODELS_LOAD.value]
            rows += load_bodies_of_actions(connection, loads, limit=_MAX_LOADS, span=span)
    except ValueError:
        # The feed tells which record it is when it comes there; `gateway audit verify` for those before.
        logger.warning(
            "orders_not_read error=ValueError: a record of an operator's change cannot be read"
        )
        return
    records = []
    for origin, position, body in rows:
        if position < starts.get(origin, 0):
            # What cannot be read was told when it was new.
            with suppress(RecordInvalidError):
                records.append(parse_record(Place(origin, position), body))
    # As the feed would give them: an order ends what was learnt before it.
    for record in sorted(records, key=lambda each: each.at_seconds):
        rules.teach(record)
