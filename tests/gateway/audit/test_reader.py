"""Reading ledgers beside calls: threads, time, and a checkpoint where a proof wants one."""

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from gateway.audit import query as query_module
from gateway.audit.checkpoints import open_checkpoint
from gateway.audit.proof_check import check_proof
from gateway.audit.query import LedgerQuery, parse_query
from gateway.audit.reader import LedgerReader
from gateway.audit.writer import AuditLog
from gateway.errors import AuditUnavailableError, LedgerError, OverloadedError, ServiceError
from tests.gateway.audit.stored_events import MOMENT, event, store_events
from tests.gateway.ledgers import open_log, signer_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the gateway runs on."""
    return "asyncio"


@pytest.fixture
def audit(sqlite_engine: Engine) -> Iterator[AuditLog]:
    """The ledger of this process, which signs only when it is asked to."""
    log = open_log(sqlite_engine, checkpoint_seconds=60.0)
    yield log
    log.close()


def reader_of(engine: Engine, audit: AuditLog, *seconds: float) -> LedgerReader:
    """A reader for which these times pass."""
    times = iter(seconds)
    return LedgerReader(
        engine=engine,
        audit=audit,
        forms=lambda _name, text: (text,),
        monotonic=lambda: next(times, 0.0),
    )


def asked(**values: str) -> LedgerQuery:
    """The query of these parameters."""
    return parse_query(values, now=MOMENT, forms=lambda _name, text: (text,))


async def test_a_search_that_takes_long_ends_with_what_was_found(
    sqlite_engine: Engine, audit: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After two seconds, between two chunks; the cursor goes on."""
    monkeypatch.setattr(query_module, "_CHUNK_RECORDS", 2)
    store_events(sqlite_engine, [event(n) for n in range(6)])
    reader = reader_of(sqlite_engine, audit, 100.0, 101.9, 102.0)
    page = await reader.page(asked(action="predict", order="oldest"))
    assert [0, 1, 2, 3] == [record.position for record in page.records]
    rest = await reader.page(asked(action="predict", order="oldest", cursor=str(page.next_cursor)))
    assert [4, 5] == [record.position for record in rest.records]


async def test_a_place_among_those_that_wait_is_given_back(
    sqlite_engine: Engine, audit: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends a search: a hundred that fail or are cancelled leave room for the next."""
    reader = reader_of(sqlite_engine, audit)
    with sqlite_engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE audit_records RENAME TO away")
    for _ in range(20):
        with pytest.raises(AuditUnavailableError):
            await reader.page(asked())
        task = asyncio.create_task(reader.page(asked()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    with sqlite_engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO audit_records")
    pages = await asyncio.gather(*(reader.page(asked()) for _ in range(8)))
    assert 8 == len(pages)
    asked_at_once = [reader.page(asked()) for _ in range(9)]
    results = await asyncio.gather(*asked_at_once, return_exceptions=True)
    assert [OverloadedError] == [type(r) for r in results if isinstance(r, Exception)]


async def test_a_proof_of_its_own_ledger_has_a_checkpoint_signed(
    sqlite_engine: Engine, audit: AuditLog
) -> None:
    """Nobody waits for the next one to be due."""
    reader = reader_of(sqlite_engine, audit)
    index = await audit.append(event())
    assert "gateway" == reader.origin
    record = await reader.record("gateway", index)
    assert record is not None
    proof = await reader.prove(record)
    assert index + 1 == check_proof(proof, log=signer_of().verifier).size
    assert proof == await reader.prove(record)
    note = await reader.newest_note("gateway")
    assert note is not None
    verifiers = [signer_of().verifier]
    assert index + 1 == open_checkpoint(note, origin="gateway", verifiers=verifiers).checkpoint.size


async def test_a_proof_of_another_ledger_waits(sqlite_engine: Engine, audit: AuditLog) -> None:
    """This process has no key for it."""
    reader = reader_of(sqlite_engine, audit)
    store_events(sqlite_engine, [event()], "other", is_signed=False)
    record = await reader.record("other", 0)
    assert record is not None
    with pytest.raises(ServiceError, match="ask again in a moment"):
        await reader.prove(record)
    assert await reader.record("other", 1) is None
    assert await reader.newest_note("nowhere") is None


async def test_a_checkpoint_that_is_no_text_points_at_the_check(
    sqlite_engine: Engine, audit: AuditLog
) -> None:
    """SQLite stores any type in any column."""
    with sqlite_engine.begin() as connection:
        connection.exec_driver_sql("UPDATE audit_checkpoints SET note = x'ff'")
    with pytest.raises(LedgerError, match="`gateway audit verify`"):
        await reader_of(sqlite_engine, audit).newest_note("gateway")
