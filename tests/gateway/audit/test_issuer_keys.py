"""The ledger hears of each key that an issuer adds, removes or replaces, once."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from gateway.audit.events import MAX_CHARACTERS, printable
from gateway.audit.issuer_keys import IssuerKeyRecords, change_details, replay
from gateway.audit.writer import AuditLog
from gateway.errors import AuditUnavailableError
from gateway.store.queries.audit import load_audit_records
from tests.gateway.ledgers import open_log

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ISSUER = "https://idp.example/realm"
KEY_SETS = st.dictionaries(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=128),
    st.text("0123456789abcdef", min_size=32, max_size=32),
    max_size=40,
)


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the gateway runs on."""
    return "asyncio"


@pytest.fixture
def audit(sqlite_engine: Engine) -> Iterator[AuditLog]:
    """An open ledger."""
    log = open_log(sqlite_engine)
    yield log
    log.close()


def records_of(engine: Engine, audit: AuditLog) -> IssuerKeyRecords:
    """As a process that has just started has them."""
    return IssuerKeyRecords(engine=engine, audit=audit, clock=lambda: NOW)


def details(engine: Engine) -> list[str]:
    """Of all records, which are of this one action."""
    with engine.connect() as connection:
        records = load_audit_records(connection, "gateway", limit=1000)
    bodies = [json.loads(record.body) for record in records]
    assert {"issuer.keys"} >= {body["action"] for body in bodies}
    return [body["detail"] for body in bodies]


def test_a_change_names_ids_and_digests() -> None:
    """Who reads it knows which key came and which went."""
    expected = f"issuer={ISSUER} removed=a added=b digests=22"
    assert [expected] == change_details(ISSUER, {"a": "11"}, {"b": "22"})


def test_a_key_replaced_under_its_id_is_removed_and_added() -> None:
    """Another key under a known id would otherwise pass unseen."""
    expected = f"issuer={ISSUER} removed=a added=a digests=22"
    assert [expected] == change_details(ISSUER, {"a": "11"}, {"a": "22"})


def test_no_change_is_no_record() -> None:
    """Each refresh would write one."""
    assert [] == change_details(ISSUER, {"a": "11"}, {"a": "11"})


@given(KEY_SETS, KEY_SETS)
def test_what_is_recorded_tells_the_keys_again(
    before: dict[str, str], after: dict[str, str]
) -> None:
    """Whatever the ids are, however many there are, and none is lost to the bound of a record."""
    told = [*change_details(ISSUER, {}, before), *change_details(ISSUER, before, after)]
    limit = MAX_CHARACTERS["detail"]
    stored = [printable(detail, max_characters=limit) for detail in told]
    assert stored == told
    assert after == replay(stored).get(ISSUER, {})


@pytest.mark.anyio
async def test_a_start_tells_only_what_the_ledger_does_not_know(
    sqlite_engine: Engine, audit: AuditLog
) -> None:
    """Restarted a hundred times a day, the same keys are no news."""
    for _ in range(2):
        records = records_of(sqlite_engine, audit)
        await records.record_start(issuers=[ISSUER], file_keys={ISSUER: {"a": "11"}})
    assert [f"issuer={ISSUER} added=a digests=11"] == details(sqlite_engine)


@pytest.mark.anyio
async def test_a_change_between_two_starts_is_told(sqlite_engine: Engine, audit: AuditLog) -> None:
    """Somebody exchanged the file while nothing ran."""
    for keys in ({"a": "11"}, {"a": "11", "b": "22"}):
        records = records_of(sqlite_engine, audit)
        await records.record_start(issuers=[ISSUER], file_keys={ISSUER: keys})
    assert f"issuer={ISSUER} added=b digests=22" == details(sqlite_engine)[-1]


@pytest.mark.anyio
async def test_an_issuer_that_is_no_longer_trusted_loses_its_keys(
    sqlite_engine: Engine, audit: AuditLog
) -> None:
    """Trusted again later, its keys are news again."""
    await records_of(sqlite_engine, audit).record(ISSUER, {"a": "11"})
    await records_of(sqlite_engine, audit).record_start(issuers=[], file_keys={})
    assert f"issuer={ISSUER} removed=a" == details(sqlite_engine)[-1]


@pytest.mark.anyio
async def test_a_change_while_it_runs_is_told(sqlite_engine: Engine, audit: AuditLog) -> None:
    """Key by key, against what was told before."""
    records = records_of(sqlite_engine, audit)
    await records.record(ISSUER, {"a": "11"})
    await records.record(ISSUER, {"b": "22"})
    expected = [
        f"issuer={ISSUER} added=a digests=11",
        f"issuer={ISSUER} removed=a added=b digests=22",
    ]
    assert expected == details(sqlite_engine)


@pytest.mark.anyio
async def test_a_change_that_is_not_recorded_is_told_again(
    sqlite_engine: Engine, audit: AuditLog
) -> None:
    """The caller does not use the keys, and the next try records them."""
    records = records_of(sqlite_engine, audit)
    audit.close()
    with pytest.raises(AuditUnavailableError):
        await records.record(ISSUER, {"a": "11"})
    again = open_log(sqlite_engine)
    await records_of(sqlite_engine, again).record(ISSUER, {"a": "11"})
    again.close()
    assert [f"issuer={ISSUER} added=a digests=11"] == details(sqlite_engine)


@pytest.mark.anyio
async def test_a_ledger_that_cannot_be_read_is_unavailable(
    sqlite_engine: Engine, audit: AuditLog
) -> None:
    """What is known is not guessed."""
    with sqlite_engine.begin() as connection:
        connection.execute(text("ALTER TABLE audit_records RENAME TO gone"))
    with pytest.raises(AuditUnavailableError) as caught:
        await records_of(sqlite_engine, audit).record(ISSUER, {"a": "11"})
    assert "the ledger cannot be read" in caught.value.reason
