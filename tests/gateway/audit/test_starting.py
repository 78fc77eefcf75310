"""A start says what it was told, and that its policy is another than before."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, text

from gateway.audit.details import parse_detail
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.starting import StartFacts, record_policy
from gateway.audit.writer import AuditLog
from gateway.errors import AuditUnavailableError
from gateway.store.queries.audit import load_audit_records
from tests.gateway.ledgers import open_log

NOW = datetime(2030, 1, 1, tzinfo=UTC)


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


def facts(policy: str | None) -> StartFacts:
    """Of a start with this policy."""
    return StartFacts(
        configuration="c" * 64,
        policy_sha256=policy,
        version="0.1.0",
        origin="gateway",
        kek_ids=("k1", "k2"),
        signer_ids=("s1",),
    )


async def start(
    engine: Engine, audit: AuditLog, policy: str | None, outcome: Outcome = Outcome.ANSWERED
) -> None:
    """What a start writes of its policy, and the record of the start itself; a refused one does not know its policy."""
    event = AuditEvent(action=Action.GATEWAY_START, outcome=outcome, recorded_at=NOW)
    if outcome is Outcome.ANSWERED:
        await record_policy(engine, audit, facts(policy), clock=lambda: NOW)
        event = AuditEvent(
            action=Action.GATEWAY_START,
            outcome=outcome,
            recorded_at=NOW,
            detail=facts(policy).detail(),
        )
    await audit.append(event)


def changes(engine: Engine) -> list[Any]:
    """The details of all changes of the policy."""
    with engine.connect() as connection:
        records = load_audit_records(connection, "gateway", limit=1000)
    bodies = [json.loads(record.body) for record in records]
    return [body["detail"] for body in bodies if body["action"] == "policy.change"]


def test_a_start_says_what_it_was_told() -> None:
    """Digests of configuration and policy first, which a cut must not take."""
    expected = {
        "configuration": ("c" * 64,),
        "policy": ("p" * 64,),
        "version": ("0.1.0",),
        "ledger": ("gateway",),
        "keks": ("k1", "k2"),
        "signers": ("s1",),
    }
    assert expected == parse_detail(facts("p" * 64).detail())
    assert ["configuration", "policy"] == list(parse_detail(facts(None).detail()))[:2]


@pytest.mark.anyio
async def test_the_first_start_changes_no_policy(sqlite_engine: Engine, audit: AuditLog) -> None:
    """There was none before."""
    await start(sqlite_engine, audit, "p1")
    assert [] == changes(sqlite_engine)


@pytest.mark.anyio
async def test_the_same_policy_is_no_change(sqlite_engine: Engine, audit: AuditLog) -> None:
    """However often it is started."""
    for _ in range(3):
        await start(sqlite_engine, audit, "p1")
    assert [] == changes(sqlite_engine)


@pytest.mark.anyio
async def test_another_policy_is_a_change(sqlite_engine: Engine, audit: AuditLog) -> None:
    """From and to which is said; taking the file away is a change as well."""
    for policy in ("p1", "p2", None):
        await start(sqlite_engine, audit, policy)
    assert ["before=p1 after=p2", "before=p2 after=none"] == changes(sqlite_engine)


@pytest.mark.anyio
async def test_starts_that_were_refused_in_between_hide_no_change(
    sqlite_engine: Engine, audit: AuditLog
) -> None:
    """They do not say a policy."""
    await start(sqlite_engine, audit, "p1")
    await start(sqlite_engine, audit, None, Outcome.FAILED)
    await start(sqlite_engine, audit, "p2")
    assert ["before=p1 after=p2"] == changes(sqlite_engine)


@pytest.mark.anyio
async def test_a_ledger_that_cannot_be_read_ends_the_start(
    sqlite_engine: Engine, audit: AuditLog
) -> None:
    """A change must not pass for none."""
    with sqlite_engine.begin() as connection:
        connection.execute(text("ALTER TABLE audit_records RENAME TO gone"))
    with pytest.raises(AuditUnavailableError):
        await record_policy(sqlite_engine, audit, facts("p1"), clock=lambda: NOW)
