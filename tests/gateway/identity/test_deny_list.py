"""A token that was revoked is refused, in every process, and nobody is let in by a list that cannot be read."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, event, text

from gateway.errors import AuthnError, IdentityUnavailableError, OperatorError
from gateway.identity.deny_list import DenyList, index_denials, is_denied
from gateway.identity.principal import Principal
from gateway.store.database import write_transaction
from gateway.store.queries.token_denials import insert_denial, lift_denial
from gateway.store.records import TokenDenial

NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
WAIT_SECONDS = 20
MAX_AGE_SECONDS = 30.0
PRINCIPAL = Principal(
    issuer="https://issuer.example",
    subject="camera-7",
    client_id="belt",
    roles=frozenset({"client"}),
    token_id="token-1",
    issued_at=NOW,
    expires_at=NOW + timedelta(hours=1),
)
EVERYBODY = TokenDenial(
    issuer=PRINCIPAL.issuer,
    subject=None,
    token_id=None,
    issued_before=None,
    ends_at=None,
    why="leaked",
    created_at=NOW,
    created_by="root",
)
TOKEN = replace(EVERYBODY, token_id="token-1")


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The event loops that the gateway runs on."""
    return "asyncio", {"use_uvloop": request.param}


class Replica:
    """One process's deny list, with clocks that are set by hand."""

    def __init__(self, engine: Engine, on_change: Callable[[], None] = lambda: None) -> None:
        self.now = NOW
        self.seconds = 100.0
        self.changed = asyncio.Event()
        self._on_change = on_change
        self.list = DenyList(
            engine=engine,
            clock=lambda: self.now,
            max_age_seconds=MAX_AGE_SECONDS,
            on_change=self._note_change,
            monotonic=lambda: self.seconds,
        )

    def refuses(self, principal: Principal = PRINCIPAL) -> bool:
        """Whether the principal's token is denied now."""
        try:
            self.list.check(principal, self.now)
        except AuthnError as exc:
            return (exc.code, exc.reason) == ("authn_invalid", "denied")
        return False

    def _note_change(self) -> None:
        self.changed.set()
        self._on_change()


@pytest.fixture
def replica(sqlite_engine: Engine) -> Replica:
    """One that has read an empty list."""
    made = Replica(sqlite_engine)
    made.list.load()
    return made


@asynccontextmanager
async def running(*replicas: Replica) -> AsyncIterator[None]:
    """The lists follow the database, as in a gateway."""
    tasks = [asyncio.create_task(replica.list.run()) for replica in replicas]
    yield
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@contextmanager
def statements(engine: Engine, note: Callable[[str], None]) -> Iterator[None]:
    """Each statement is shown to `note` before the database gets it."""

    def before(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        note(statement)

    event.listen(engine, "before_cursor_execute", before)
    yield
    event.remove(engine, "before_cursor_execute", before)


def deny(engine: Engine, denial: TokenDenial) -> int:
    """As a command does; the id."""
    with write_transaction(engine) as connection:
        return insert_denial(connection, denial)


def lift(engine: Engine, denial_id: int) -> None:
    """As a command does."""
    with write_transaction(engine) as connection:
        assert lift_denial(connection, denial_id, now=NOW)


# What a denial reaches.

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("members", "is_refused"),
    [
        ({}, True),
        ({"issuer": "https://other.example"}, False),
        ({"token_id": "token-1"}, True),
        ({"token_id": "token-2"}, False),
        ({"token_id": "camera-7"}, False),
        ({"subject": "camera-7"}, True),
        ({"subject": "camera-8"}, False),
        ({"subject": "token-1"}, False),
        ({"subject": "camera-7", "token_id": "token-1"}, True),
        ({"subject": "camera-8", "token_id": "token-1"}, False),
        ({"subject": "camera-7", "token_id": "token-2"}, False),
        ({"issuer": "https://other.example", "token_id": "token-1"}, False),
        ({"issuer": "https://other.example", "subject": "camera-7"}, False),
        ({"issued_before": NOW}, False),
        ({"issued_before": NOW + SECOND}, True),
        ({"subject": "camera-7", "issued_before": NOW}, False),
        ({"subject": "camera-7", "issued_before": NOW + SECOND}, True),
        ({"token_id": "token-1", "issued_before": NOW}, False),
        ({"ends_at": NOW}, False),
        ({"ends_at": NOW + SECOND}, True),
    ],
)
def test_a_denial_refuses_what_every_member_fits(members: dict[str, Any], is_refused: bool) -> None:
    """And nothing else: of the issuer, the subject, the token and the time of issue."""
    index = index_denials([replace(EVERYBODY, **members)])
    assert is_refused == is_denied(index, PRINCIPAL, NOW)


MOMENTS = st.one_of(st.none(), st.integers(-3, 3).map(lambda n: NOW + n * SECOND))
DENIALS = st.builds(
    lambda subject, token_id, issued_before, ends_at: replace(
        EVERYBODY,
        subject=subject,
        token_id=token_id,
        issued_before=issued_before,
        ends_at=ends_at,
    ),
    st.sampled_from([None, "camera-7", "camera-8"]),
    st.sampled_from([None, "token-1", "token-2"]),
    MOMENTS,
    MOMENTS,
)


def _fits(denial: TokenDenial, now: datetime) -> bool:
    return (
        denial.subject in (None, PRINCIPAL.subject)
        and denial.token_id in (None, PRINCIPAL.token_id)
        and (denial.issued_before is None or PRINCIPAL.issued_at < denial.issued_before)
        and (denial.ends_at is None or now < denial.ends_at)
    )


@given(st.lists(DENIALS, max_size=8), st.integers(-4, 4))
def test_an_index_refuses_what_one_of_its_denials_refuses(
    denials: list[TokenDenial], seconds: int
) -> None:
    """Whatever else lies under the same name, and in any order."""
    now = NOW + seconds * SECOND
    expected = any(_fits(denial, now) for denial in denials)
    assert expected == is_denied(index_denials(denials), PRINCIPAL, now)


def test_many_denials_of_one_name_cost_what_one_costs() -> None:
    """Revoking the same principal again and again does not make its requests slower."""
    denials = [replace(EVERYBODY, issued_before=NOW + n * SECOND) for n in range(100)]
    (spans,) = index_denials(denials).values()
    assert 1 == len(spans)


# The copy of one process.


def test_nobody_passes_before_the_list_was_read(sqlite_engine: Engine) -> None:
    """An empty copy that nobody has read is no empty list."""
    replica = Replica(sqlite_engine)
    assert float("inf") == replica.list.age_seconds
    with pytest.raises(IdentityUnavailableError) as caught:
        replica.list.check(PRINCIPAL, NOW)
    assert "deny_list_stale" == caught.value.reason


def test_the_first_read_finds_what_was_denied_before(engine: Engine) -> None:
    """A gateway that starts knows the tokens that were revoked while it was down."""
    deny(engine, TOKEN)
    lift(engine, deny(engine, replace(EVERYBODY, subject="camera-8")))
    replica = Replica(engine)
    replica.list.load()
    assert replica.refuses()
    assert not replica.refuses(replace(PRINCIPAL, token_id="token-2", subject="camera-8"))
    assert (1, 0.0) == (replica.list.entry_count, replica.list.age_seconds)


def test_a_first_read_that_fails_ends_the_start(sqlite_engine: Engine) -> None:
    """With cause and fix."""
    with write_transaction(sqlite_engine) as connection:
        connection.execute(text("DROP TABLE token_denials"))
    with pytest.raises(OperatorError, match=r"cannot be read \(OperationalError\): see that"):
        Replica(sqlite_engine).list.load()


@pytest.mark.anyio
async def test_denying_and_lifting_reach_a_running_list(
    replica: Replica, sqlite_engine: Engine
) -> None:
    """Each at the next look, and each tells whoever remembers verified tokens."""
    denial_id = deny(sqlite_engine, TOKEN)
    assert not replica.refuses()
    await replica.list.look()
    assert replica.refuses()
    assert replica.changed.is_set()
    replica.changed.clear()
    lift(sqlite_engine, denial_id)
    await replica.list.look()
    assert not replica.refuses()
    assert replica.changed.is_set()


@pytest.mark.anyio
async def test_what_did_not_change_is_not_read_again(
    replica: Replica, sqlite_engine: Engine
) -> None:
    """A look at an unchanged list is one small statement, and nobody is told of a change."""
    deny(sqlite_engine, TOKEN)
    await replica.list.look()
    replica.changed.clear()
    seen: list[str] = []
    with statements(sqlite_engine, seen.append):
        await replica.list.look()
    (statement,) = (sent for sent in seen if "token_denials" in sent)
    assert "count" in statement
    assert not replica.changed.is_set()


@pytest.mark.anyio
async def test_a_denial_ends_at_its_time(replica: Replica, sqlite_engine: Engine) -> None:
    """To the moment for a request; the copy lets it go at the next look."""
    deny(sqlite_engine, replace(TOKEN, ends_at=NOW + SECOND))
    await replica.list.look()
    assert replica.refuses()
    replica.now = NOW + SECOND
    assert not replica.refuses()
    assert 1 == replica.list.entry_count
    await replica.list.look()
    assert 0 == replica.list.entry_count


# Databases that do not answer.


@pytest.mark.anyio
async def test_a_list_that_was_not_read_for_too_long_refuses_everybody(
    replica: Replica, sqlite_engine: Engine
) -> None:
    """A token that was revoked meanwhile must not pass; the next good read lets callers in again."""
    replica.seconds += MAX_AGE_SECONDS
    assert not replica.refuses()
    replica.seconds += 0.1
    with pytest.raises(IdentityUnavailableError) as caught:
        replica.list.check(PRINCIPAL, NOW)
    assert "deny_list_stale" == caught.value.reason
    await replica.list.look()
    assert not replica.refuses()


@pytest.mark.anyio
async def test_a_database_that_fails_leaves_the_copy_to_age(
    replica: Replica, sqlite_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """What was denied stays denied; one line when it begins, one when it ends."""
    caplog.set_level(logging.INFO, logger="gateway.identity.deny_list")
    deny(sqlite_engine, TOKEN)
    await replica.list.look()
    replica.seconds += 5
    with write_transaction(sqlite_engine) as connection:
        connection.execute(text("ALTER TABLE token_denials RENAME TO away"))
    for _ in range(3):
        await replica.list.look()
    assert 5.0 == replica.list.age_seconds
    assert replica.refuses()
    with write_transaction(sqlite_engine) as connection:
        connection.execute(text("ALTER TABLE away RENAME TO token_denials"))
    for _ in range(2):
        await replica.list.look()
    assert 0.0 == replica.list.age_seconds
    assert [
        "deny_list_not_read cause=OperationalError", "deny_list_read_again",
    ] == caplog.messages  # fmt: skip


@pytest.mark.anyio
async def test_a_row_that_nobody_can_read_does_not_end_the_watch(
    replica: Replica, sqlite_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """The copy ages until it refuses everybody, for it may be a denial; mended, it is followed again."""
    denial_id = deny(sqlite_engine, TOKEN)
    with write_transaction(sqlite_engine) as connection:
        connection.execute(text("UPDATE token_denials SET issued_before = 'yesterday'"))
    async with running(replica):
        replica.seconds += 5
        await replica.list.look()
        await replica.list.look()
        assert 5.0 == replica.list.age_seconds
        assert ["deny_list_not_read"] == caplog.messages
        with write_transaction(sqlite_engine) as connection:
            connection.execute(text("UPDATE token_denials SET issued_before = NULL"))
        await asyncio.wait_for(replica.changed.wait(), WAIT_SECONDS)
    assert replica.refuses()
    lift(sqlite_engine, denial_id)


@pytest.mark.anyio
async def test_a_read_that_hangs_blocks_nobody_and_does_not_stop_the_clock(
    engine: Engine,
) -> None:
    """The loop goes on, the copy ages, and what the read saw counts from when it began."""
    replica = Replica(engine)
    replica.list.load()
    reached, released = threading.Event(), threading.Event()

    def hang(statement: str) -> None:
        if "token_denials" in statement:
            reached.set()
            assert released.wait(WAIT_SECONDS)

    with statements(engine, hang):
        look = asyncio.create_task(replica.list.look())
        assert await asyncio.to_thread(reached.wait, WAIT_SECONDS)
        assert not replica.refuses()
        replica.seconds += MAX_AGE_SECONDS + 1
        with pytest.raises(IdentityUnavailableError):
            replica.list.check(PRINCIPAL, NOW)
        assert not look.done()
        released.set()
        await look
    assert MAX_AGE_SECONDS + 1 == replica.list.age_seconds
    await replica.list.look()
    assert not replica.refuses()


def _until_somebody_waits(connection: Connection) -> None:
    while not connection.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar():
        pass


@pytest.mark.anyio
async def test_a_read_that_waits_for_a_lock_ends_when_the_lock_does(
    postgres_engine: Engine,
) -> None:
    """A migration, or a hand in psql, that holds the table is only a late read."""
    replica = Replica(postgres_engine)
    replica.list.load()
    with postgres_engine.connect() as locking:
        locking.execute(text("LOCK TABLE token_denials IN ACCESS EXCLUSIVE MODE"))
        insert_denial(locking, TOKEN)
        look = asyncio.create_task(replica.list.look())
        await asyncio.to_thread(_until_somebody_waits, locking)
        assert not look.done()
        locking.commit()
        await look
    assert replica.refuses()


@pytest.mark.anyio
async def test_cancelling_does_not_wait_for_a_read_that_hangs(sqlite_engine: Engine) -> None:
    """A gateway that is told to stop stops."""
    replica = Replica(sqlite_engine)
    reached, released = threading.Event(), threading.Event()

    def hang(_statement: str) -> None:
        reached.set()
        assert released.wait(WAIT_SECONDS)

    with statements(sqlite_engine, hang):
        async with running(replica):
            assert await asyncio.to_thread(reached.wait, WAIT_SECONDS)
        released.set()


# Several processes.


@pytest.mark.anyio
async def test_every_replica_follows_within_one_look(engine: Engine) -> None:
    """Two processes on one database poll by themselves; the test only waits to be told."""
    replicas = [Replica(engine), Replica(engine)]
    for replica in replicas:
        replica.list.load()
    async with running(*replicas):
        denial_id = await asyncio.to_thread(deny, engine, TOKEN)
        for replica in replicas:
            await asyncio.wait_for(replica.changed.wait(), WAIT_SECONDS)
            assert replica.refuses()
            replica.changed.clear()
        await asyncio.to_thread(lift, engine, denial_id)
        for replica in replicas:
            await asyncio.wait_for(replica.changed.wait(), WAIT_SECONDS)
            assert not replica.refuses()
