"""Reading ledgers to be exported: nothing left out, nothing that was not signed, and no transaction in between."""

import dataclasses
import json
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, delete, text, update

from gateway.audit.entries import encode_event, format_time
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.export import ExportOrder, LedgerExport, Page
from gateway.audit.export_cursor import Mark
from gateway.audit.export_lines import ExportFormat, line_writer
from gateway.audit.merkle import hash_leaf
from gateway.audit.signing import CheckpointSigner
from gateway.audit.tail import extend_tail, follow_tail
from gateway.errors import LedgerError
from gateway.store.database import write_transaction
from gateway.store.tables import audit_records
from tests.gateway.ledgers import begin_ledger, signer_of

TIME = datetime(2031, 5, 6, tzinfo=UTC)
JSONL = ExportOrder(write_line=line_writer(ExportFormat.JSONL, product_version="9"), page_records=4)
OCSF = ExportOrder(write_line=line_writer(ExportFormat.OCSF, product_version="9"), page_records=256)

Change = Callable[[str], None]


def event_at(second: int) -> AuditEvent:
    """An event whose request is called by its time."""
    return AuditEvent(
        action=Action.PREDICT,
        outcome=Outcome.ANSWERED,
        recorded_at=TIME + timedelta(seconds=second),
        request_id=f"r-{second}",
    )


def add(
    engine: Engine, seconds: Iterable[int], *, origin: str = "gw-1", is_signed: bool = True
) -> None:
    """Add records at these times to a ledger, and sign them."""
    signer = begin_ledger(engine, origin)
    with write_transaction(engine) as connection:
        tail = follow_tail(connection, origin, None)
        entries = [encode_event(event_at(second)) for second in seconds]
        tail = extend_tail(connection, origin, tail, entries)
        if is_signed:
            CheckpointSigner(signer).sign(connection, tail)


def exported(pages: Iterable[Page]) -> list[str]:
    """What went out, by ledger and request."""
    lines = [json.loads(line) for page in pages for line in page.content.splitlines()]
    return [f"{line['origin']} {line['request_id']}" for line in lines]


def requests(numbers: Iterable[int], origin: str = "gw-1") -> list[str]:
    """What exported() says of these."""
    return [f"{origin} r-{number}" for number in numbers]


def export_of(
    engine: Engine, order: ExportOrder = JSONL, marks: dict[str, Mark] | None = None
) -> LedgerExport:
    """An export from the beginning, or from marks."""
    return LedgerExport(engine, order, marks or {})


def change_record(engine: Engine, position: int, values: dict[str, object] | None) -> None:
    """Change one record as somebody with access to the database would; without values, remove it."""
    at = audit_records.c.position == position
    with write_transaction(engine) as connection:
        if values is None:
            connection.execute(delete(audit_records).where(at))
        else:
            connection.execute(update(audit_records).where(at).values(**values))


@pytest.fixture
def change(engine: Engine) -> Change:
    """Do with the database what somebody with access to it can."""

    def run(statement: str) -> None:
        with write_transaction(engine) as connection:
            connection.execute(text(statement))

    return run


def test_everything_comes_once_in_order(engine: Engine) -> None:
    """Page by page; the pages tell what is in them."""
    add(engine, range(10))
    pages = [*export_of(engine).pages()]
    assert requests(range(10)) == exported(pages)
    assert [(0, 3, 4), (4, 7, 4), (8, 9, 2)] == [
        (page.first_position, page.last.position, page.count) for page in pages
    ]


def test_the_next_round_has_what_was_added(engine: Engine) -> None:
    """And nothing twice."""
    add(engine, range(6))
    export = export_of(engine)
    assert requests(range(6)) == exported(export.pages())
    assert [] == exported(export.pages())
    add(engine, range(6, 11))
    assert requests(range(6, 11)) == exported(export.pages())


@pytest.mark.parametrize("done", range(1, 10))
def test_another_export_goes_on_from_a_mark(engine: Engine, done: int) -> None:
    """Wherever it stopped."""
    add(engine, range(10))
    order = dataclasses.replace(JSONL, page_records=1)
    pages = [*export_of(engine, order).pages()]
    resumed = export_of(engine, marks={"gw-1": pages[done - 1].last})
    assert requests(range(done, 10)) == exported(resumed.pages())


def test_a_round_ends_while_records_are_added(engine: Engine) -> None:
    """A busy gateway must not keep it for ever; they come in the next round."""
    add(engine, range(6))
    export = export_of(engine)
    pages = []
    for page in export.pages():
        pages.append(page)
        add(engine, [100 + len(pages)])
    assert requests(range(6)) == exported(pages)
    assert requests([101, 102]) == exported(export.pages())


def test_ledgers_take_turns(engine: Engine) -> None:
    """A page each, by name, so that a long one does not keep the others waiting."""
    add(engine, range(10), origin="b")
    add(engine, range(5), origin="a")
    pages = export_of(engine).pages()
    assert [("a", 0), ("b", 0), ("a", 4), ("b", 4), ("b", 8)] == [
        (page.origin, page.first_position) for page in pages
    ]


def test_an_older_record_of_another_replica_is_not_skipped(engine: Engine) -> None:
    """It was committed when newer ones of this one were out already; an order by time would lose it."""
    add(engine, [10, 11], origin="a")
    export = export_of(engine)
    assert requests([10, 11], "a") == exported(export.pages())
    add(engine, [5], origin="b")
    assert requests([5], "b") == exported(export.pages())


def test_only_the_ledgers_that_are_asked_for(engine: Engine) -> None:
    """By their origins."""
    for origin in ("a", "b", "c"):
        add(engine, range(2), origin=origin)
    order = dataclasses.replace(JSONL, origins=frozenset({"a", "c"}))
    found = exported(export_of(engine, order).pages())
    assert [*requests(range(2), "a"), *requests(range(2), "c")] == found


def test_a_ledger_that_is_not_there_is_named(engine: Engine) -> None:
    """With those that are; also when a cursor has it, for it is another database's then."""
    add(engine, range(2))
    order = dataclasses.replace(JSONL, origins=frozenset({"gw-2"}))
    with pytest.raises(LedgerError, match="has no ledger gw-2, but gw-1: correct --ledger"):
        export_of(engine, order).measure()
    with pytest.raises(LedgerError, match="has no ledger gw-2"):
        export_of(engine, marks={"gw-2": Mark(0, b"\x0a" * 32)}).measure()


def test_a_ledger_that_no_gateway_began_is_told(engine: Engine, change: Change) -> None:
    """Its name cannot drive a terminal; the others can be exported."""
    add(engine, range(2))
    change("INSERT INTO audit_ledgers SELECT 'a b\x1b[2J', verifier, created_at FROM audit_ledgers")
    with pytest.raises(LedgerError, match=r"has a ledger a b\\x1b\[2J, which no gateway began"):
        export_of(engine).measure()
    order = dataclasses.replace(JSONL, origins=frozenset({"gw-1"}))
    assert requests(range(2)) == exported(export_of(engine, order).pages())
    with pytest.raises(LedgerError, match=r"has no ledger x, but a b\\x1b\[2J, gw-1"):
        export_of(engine, dataclasses.replace(JSONL, origins=frozenset({"x"}))).measure()


def test_since_begins_at_the_first_record_of_that_time(engine: Engine) -> None:
    """And leaves out nothing behind it, though the clock jumped back."""
    add(engine, [1, 2, 9, 3, 8, 10])
    order = dataclasses.replace(JSONL, since=format_time(TIME + timedelta(seconds=8)))
    export = export_of(engine, order)
    assert requests([9, 3, 8, 10]) == exported(export.pages())
    add(engine, [4])
    assert requests([4]) == exported(export.pages())


def test_since_may_lie_ahead(engine: Engine) -> None:
    """Then it begins once there is such a record."""
    add(engine, [1, 2])
    export = export_of(engine, dataclasses.replace(JSONL, since=format_time(TIME + timedelta(3))))
    assert [] == exported(export.pages())
    add(engine, [3, 4 * 86_400])
    assert requests([4 * 86_400]) == exported(export.pages())


def test_what_is_not_signed_waits(engine: Engine) -> None:
    """Until a checkpoint covers it, unless it is asked for."""
    add(engine, range(5))
    add(engine, range(5, 9), is_signed=False)
    export = export_of(engine)
    assert requests(range(5)) == exported(export.pages())
    assert {"gw-1": (5, 5)} == export.measure()
    eager = export_of(engine, dataclasses.replace(JSONL, is_unsigned_included=True))
    assert requests(range(9)) == exported(eager.pages())
    add(engine, [9])
    assert requests(range(5, 10)) == exported(export.pages())
    assert requests([9]) == exported(eager.pages())


def test_a_ledger_without_a_checkpoint_gives_nothing(engine: Engine, change: Change) -> None:
    """Whoever removes them all makes no record unseen, but none that is proven either."""
    add(engine, range(5))
    change("DELETE FROM audit_checkpoints")
    assert [] == exported(export_of(engine).pages())


def body_at(second: int) -> str:
    """A body that the gateway could have written."""
    return encode_event(dataclasses.replace(event_at(second), subject="mallory")).body


def pages_until_fault(export: LedgerExport, why: str) -> list[Page]:
    """What goes out before the export ends with this fault."""
    pages: list[Page] = []

    def collect() -> None:
        for page in export.pages():
            pages.append(page)  # noqa: PERF402  (an error may follow)

    with pytest.raises(LedgerError, match=why):
        collect()
    return pages


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"body": "{}"}, "6 has a body that no release wrote"),
        (None, "6 is missing"),
        ({"body": body_at(6)}, "6 has another hash than its body"),
    ],
)
def test_a_bad_record_ends_the_export_where_it_stands(
    engine: Engine, values: dict[str, object] | None, why: str
) -> None:
    """What is before it goes out; its position and what finds more are told."""
    for seconds in (range(6), range(6, 10), range(10, 12)):
        add(engine, seconds)
    change_record(engine, 6, values)
    export = export_of(engine)
    found = pages_until_fault(export, f"gw-1: record {why}; `gateway audit verify` with GATEWAY_")
    assert requests(range(6)) == exported(found)
    assert [] == pages_until_fault(export, f"gw-1: record {why}")


def test_a_time_that_is_none_ends_the_export(engine: Engine) -> None:
    """A body can have the form and the hash, and still not be readable."""
    add(engine, range(3))
    body = encode_event(event_at(3)).body.replace("2031-05-06", "2031-02-30")
    entry = dataclasses.replace(
        encode_event(event_at(3)), body=body, leaf_hash=hash_leaf(body.encode())
    )
    with write_transaction(engine) as connection:
        tail = follow_tail(connection, "gw-1", None)
        tail = extend_tail(connection, "gw-1", tail, [entry])
        CheckpointSigner(signer_of("gw-1")).sign(connection, tail)
    export = export_of(engine, OCSF)
    pages = pages_until_fault(export, "gw-1: record 3 cannot be read")
    assert [3] == [page.count for page in pages]
    assert [] == pages_until_fault(export, "gw-1: record 3 cannot be read")


def test_a_record_with_a_new_hash_is_not_what_was_signed(engine: Engine) -> None:
    """Body and hash agree, and neither goes out: the tree that they make has no signature."""
    for seconds in (range(6), range(6, 10), range(10, 12)):
        add(engine, seconds)
    body = body_at(6)
    change_record(engine, 6, {"body": body, "leaf_hash": hash_leaf(body.encode())})
    why = "gw-1: records 4 to 7 are not shown to be those that were signed"
    assert requests(range(4)) == exported(pages_until_fault(export_of(engine), why))


def test_signed_records_without_their_checkpoint_wait_for_none(
    engine: Engine, change: Change
) -> None:
    """A note's size counts, not what stands beside it."""
    add(engine, range(4))
    add(engine, range(4, 8))
    change("UPDATE audit_checkpoints SET size = 6 WHERE size = 8")
    why = "records 4 to 7 are not shown .* no checkpoint covers them"
    assert requests(range(4)) == exported(pages_until_fault(export_of(engine), why))


def test_a_checkpoint_of_another_key_is_none(engine: Engine, change: Change) -> None:
    """Whoever writes to the database can put one there."""
    add(engine, range(3))
    add(engine, range(3), origin="gw-2")
    change("DELETE FROM audit_checkpoints WHERE origin = 'gw-1'")
    change("UPDATE audit_checkpoints SET origin = 'gw-1' WHERE origin = 'gw-2'")
    with pytest.raises(
        LedgerError, match="gw-1: its checkpoint of size 3 is not one of this ledger"
    ):
        export_of(engine, dataclasses.replace(JSONL, origins=frozenset({"gw-1"}))).measure()


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_checkpoints SET note = x'00' WHERE origin = 'gw-1'",
        "UPDATE audit_checkpoints SET note = CAST(x'ff' AS TEXT) WHERE origin = 'gw-1'",
        "UPDATE audit_ledgers SET verifier = x'00' WHERE origin = 'gw-1'",
        "UPDATE audit_ledgers SET created_at = 'never' WHERE origin = 'gw-1'",
    ],
)
def test_what_cannot_be_read_of_a_ledger_stops_that_ledger(
    engine: Engine, change: Change, statement: str
) -> None:
    """And no other, where others are asked for."""
    for origin in ("gw-1", "gw-2"):
        add(engine, range(3), origin=origin)
    change(statement)
    with pytest.raises(LedgerError, match=r"gw-1: its .*`gateway audit verify`"):
        export_of(engine).measure()
    others = dataclasses.replace(JSONL, origins=frozenset({"gw-2"}))
    assert {"gw-2": (0, 3)} == export_of(engine, others).measure()


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_ledger_whose_name_is_no_text_is_named(engine: Engine, change: Change) -> None:
    """Nothing is left out in silence."""
    add(engine, range(3))
    add(engine, range(3), origin="gw-2")
    change("UPDATE audit_ledgers SET origin = x'ff' WHERE origin = 'gw-1'")
    with pytest.raises(LedgerError, match="which no gateway began"):
        export_of(engine).measure()


@pytest.mark.parametrize("is_unsigned_included", [False, True])
def test_a_ledger_that_was_cut_does_not_go_on(
    engine: Engine, change: Change, *, is_unsigned_included: bool
) -> None:
    """What was exported is not there any more, so what follows is another history."""
    add(engine, range(10))
    order = dataclasses.replace(JSONL, is_unsigned_included=is_unsigned_included)
    export = export_of(engine, order)
    assert 10 == len(exported(export.pages()))
    change("DELETE FROM audit_records WHERE position >= 8")
    change("DELETE FROM audit_checkpoints WHERE size > 8")
    with pytest.raises(LedgerError, match="gw-1: record 9 is not the one that was exported"):
        [*export.pages()]


def test_a_ledger_that_was_restored_and_grew_does_not_go_on(engine: Engine, change: Change) -> None:
    """It has as many records again, and they are others."""
    add(engine, range(10))
    [*_, last] = export_of(engine).pages()
    change("DELETE FROM audit_records WHERE position >= 8")
    change("DELETE FROM audit_checkpoints WHERE size > 0")
    add(engine, range(20, 29))
    with pytest.raises(LedgerError, match="gw-1: record 9 is not the one that was exported"):
        [*export_of(engine, marks={"gw-1": last.last}).pages()]


def test_a_slow_reader_holds_no_transaction(sqlite_engine: Engine) -> None:
    """Between two pages SQLite can put its whole log into the database, which it could not for a reader in it."""
    add(sqlite_engine, range(10))
    pages = export_of(sqlite_engine).pages()
    next(pages)
    add(sqlite_engine, range(10, 20))
    with sqlite_engine.connect() as connection:
        connection.rollback()
        raw = connection.connection.driver_connection
        assert raw is not None
        assert (0, 0, 0) == raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert requests(range(4, 10)) == exported(pages)


def memory_of(pages: Iterable[Page]) -> tuple[int, int]:
    """The bytes that Python held at most while pages came and went, and their records."""
    tracemalloc.start()
    try:
        count = sum(page.count for page in pages)
        return tracemalloc.get_traced_memory()[1], count
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_ledger(sqlite_engine: Engine) -> None:
    """Ten times the records, and the same memory: a page."""
    peaks: list[Sequence[int]] = []
    for total in (1_000, 10_000):
        add(sqlite_engine, range(0 if not peaks else 1_000, total))
        peaks.append(memory_of(export_of(sqlite_engine, OCSF).pages()))
    assert [1_000, 10_000] == [count for _, count in peaks]
    assert peaks[1][0] < 1.3 * peaks[0][0]
