"""Following the registry, and an operator's changes, with a loader that needs no network."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from gateway.errors import Code, RegistryError, ServiceError
from gateway.metrics import GatewayMetrics
from gateway.models import changes
from gateway.models.directory import Directory
from gateway.models.loading import Loader
from gateway.models.names import ServedNames
from gateway.models.operations import Operations
from gateway.models.served import ServedVersion
from gateway.models.watch import RegistryWatch
from gateway.store.database import write_transaction
from gateway.store.queries.audit import load_audit_records
from gateway.store.queries.models import insert_model_version
from gateway.store.records import ModelVersion, Traffic
from tests.gateway.ledgers import open_log
from tests.gateway.versions import FakeLoader, registered

pytestmark = pytest.mark.anyio

NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
FAULT = RegistryError(Code.GOLDEN_FAILED, "belt@2 does not reproduce it", reason="bus.jpg: gone")


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the gateway runs on."""
    return "asyncio"


def clock() -> datetime:
    """Now."""
    return NOW


class World:
    """A registry with three versions of belt and one of gate; belt@1 is in production and loaded."""

    def __init__(self, store: Engine, names: ServedNames) -> None:
        self.store = store
        self.loader = FakeLoader()
        self.directory = Directory()
        self.metrics = GatewayMetrics(CollectorRegistry())
        self.audit = open_log(store)
        self.seconds = 0.0
        with write_transaction(store) as connection:
            for version in ("1", "2", "3"):
                insert_model_version(connection, registered(version))
            insert_model_version(connection, registered("1", "gate"))
        changes.promote(store, "belt", "1", clock=clock)
        self.watch = RegistryWatch(
            store=store,
            loader=cast("Loader", self.loader),
            names=names,
            directory=self.directory,
            metrics=self.metrics,
            audit=self.audit,
            clock=clock,
            monotonic=lambda: self.seconds,
            drain_timeout_seconds=60,
        )
        self.operations = Operations(store=store, watch=self.watch, clock=clock)
        self.watch.load_default()

    def promote(self, version: str, name: str = "belt") -> None:
        """As a command or another gateway does."""
        changes.promote(self.store, name, version, clock=clock)

    @property
    def serving(self) -> dict[str, list[str]]:
        """The labels of each lineup, production first."""
        return {
            name: [served.label for served in lineup.versions()]
            for name, lineup in self.directory.lineups.items()
        }

    def production(self) -> ServedVersion:
        """What answers for belt."""
        return self.directory.check("belt").production

    def records(self) -> list[tuple[str, str, str, str | None]]:
        """Action, outcome, version and reason of all audit records."""
        members = ("action", "outcome", "model_version", "reason")
        return [tuple(body[name] for name in members) for body in self.bodies()]

    def bodies(self) -> list[dict[str, Any]]:
        """All audit records."""
        with self.store.connect() as connection:
            loaded = load_audit_records(connection, "gateway", limit=100)
        return [json.loads(record.body) for record in loaded]

    def counted(self, name: str, **labels: str) -> float | None:
        """One metric."""
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
def names() -> ServedNames:
    """Only the default, as every gateway that says nothing."""
    return ServedNames("belt")


@pytest.fixture
def world(sqlite_engine: Engine, names: ServedNames) -> Iterator[World]:
    """A running gateway's models."""
    built = World(sqlite_engine, names)
    yield built
    built.audit.close()


async def test_the_default_is_loaded_before_anything_else(world: World) -> None:
    """And shown."""
    assert world.serving == {"belt": ["belt@1"]}
    labels = {"model": "belt", "version": "1", "precision": "f32", "engine": "openvino"}
    assert world.counted("gateway_model_info", **labels) == 1


async def test_nothing_is_loaded_while_nothing_changes(world: World) -> None:
    """Looking costs one query."""
    for _ in range(3):
        await world.watch.look()
    assert world.loader.labels == ["belt@1"]
    assert world.records() == []


async def test_what_was_loaded_is_on_record_by_its_digests(world: World) -> None:
    """Which KEK opened which weights, and who had signed them."""
    world.promote("2")
    await world.watch.look()
    used, loaded = world.bodies()
    sha256 = registered("2").plaintext_sha256
    signer = "cd" * 32
    assert "kek=0123456789abcdef use=open-model" == used["detail"]
    expected = f"sha256={sha256} signer={signer} engine=openvino precision=f32"
    assert expected == loaded["detail"]


async def test_what_a_start_loads_is_on_record(world: World) -> None:
    """The default's version, which is there before any look."""
    await world.watch.record_loaded()
    assert world.records() == [
        ("keys.use", "answered", "1", None),
        ("models.load", "answered", "1", None),
    ]


async def test_a_key_that_opened_what_is_not_served_is_on_record(world: World) -> None:
    """A promotion that is refused after loading had the weights in the clear all the same."""
    async with world.watch.lock:
        await world.watch.prepare(registered("2"))
        world.watch.discard()
    assert world.records() == [("keys.use", "answered", "2", None)]


async def test_a_promotion_by_others_is_followed(world: World) -> None:
    """Loaded beside the old, which then finishes and goes; recorded, counted, shown."""
    (one,) = world.loader.loaded
    with one.served.lease():
        world.promote("2")
        await world.watch.look()
        assert world.serving == {"belt": ["belt@2"]}
        closed_before = one.runner.is_closed
    await world.watch.close()
    assert (closed_before, one.runner.is_closed) == (False, True)
    assert world.records() == [
        ("keys.use", "answered", "2", None),
        ("models.load", "answered", "2", None),
    ]
    assert world.counted("gateway_model_loads_total", outcome="loaded") == 1
    labels = {"model": "belt", "version": "1", "precision": "f32", "engine": "openvino"}
    assert world.counted("gateway_model_info", **labels) is None


async def test_traffic_given_by_others_is_followed(world: World) -> None:
    """Also a change of the share alone, which loads nothing."""
    changes.direct_traffic(world.store, "belt", "2", traffic=Traffic.CANARY, share=0.1)
    changes.direct_traffic(world.store, "belt", "3", traffic=Traffic.SHADOW, share=0.2)
    await world.watch.look()
    assert world.serving == {"belt": ["belt@1", "belt@2", "belt@3"]}
    changes.direct_traffic(world.store, "belt", "2", traffic=Traffic.CANARY, share=0.5)
    await world.watch.look()
    canary = world.directory.check("belt").canary
    assert canary is not None
    assert canary.share == 0.5
    assert len(world.loader.labels) == 3
    world.promote("2")
    await world.watch.look()
    assert world.serving == {"belt": ["belt@2", "belt@3"]}
    assert len(world.loader.labels) == 3


async def test_a_version_that_cannot_be_loaded_leaves_the_old_one_serving(world: World) -> None:
    """Tried again with growing pauses, recorded once, and taken when it can be."""
    world.loader.errors["2"] = FAULT
    world.promote("2")
    tried = []
    for second in range(16):
        world.seconds = float(second)
        await world.watch.look()
        tried.append(world.watch.failures["belt", "2"].attempts)
    assert tried == [1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 4, 4]
    assert world.watch.failures["belt", "2"].code is Code.GOLDEN_FAILED
    assert world.serving == {"belt": ["belt@1"]}
    assert world.records() == [("models.load", "failed", "2", "bus.jpg: gone")]
    assert world.counted("gateway_model_loads_total", outcome="failed") == 4
    del world.loader.errors["2"]
    world.seconds = 100.0
    await world.watch.look()
    assert world.serving == {"belt": ["belt@2"]}
    assert world.watch.failures == {}


async def test_a_load_that_gets_no_thread_is_a_failed_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tried again after a pause, recorded once, and shown."""
    in_thread = asyncio.to_thread

    async def without_threads(call: Callable[..., Any], *arguments: Any) -> Any:
        if call == world.loader.load:
            raise RuntimeError("can't start new thread")
        return await in_thread(call, *arguments)

    monkeypatch.setattr(asyncio, "to_thread", without_threads)
    world.promote("2")
    for _ in range(3):
        await world.watch.look()
    assert world.watch.failures["belt", "2"].code is Code.MODEL_UNSUPPORTED
    assert world.watch.failures["belt", "2"].attempts == 1
    reason = "load_failed: RuntimeError: can't start new thread"
    assert world.records() == [("models.load", "failed", "2", reason)]
    assert world.counted("gateway_model_loads_total", outcome="failed") == 1
    assert world.serving == {"belt": ["belt@1"]}


async def test_a_failure_is_forgotten_when_nobody_wants_the_version(world: World) -> None:
    """Going back mends it as well."""
    world.loader.errors["2"] = FAULT
    world.promote("2")
    await world.watch.look()
    world.promote("1")
    await world.watch.look()
    assert world.watch.failures == {}
    assert world.loader.labels == ["belt@1"]


async def test_a_canary_that_cannot_be_loaded_leaves_production_alone(world: World) -> None:
    """And the shadow beside it."""
    world.loader.errors["2"] = FAULT
    changes.direct_traffic(world.store, "belt", "2", traffic=Traffic.CANARY, share=0.1)
    changes.direct_traffic(world.store, "belt", "3", traffic=Traffic.SHADOW, share=0.2)
    await world.watch.look()
    assert world.serving == {"belt": ["belt@1", "belt@3"]}


async def test_a_database_that_does_not_answer_changes_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once, and followed again when it answers."""
    for statement in ("ALTER TABLE model_versions RENAME TO gone",):
        with write_transaction(world.store) as connection:
            connection.exec_driver_sql(statement)
    await world.watch.look()
    await world.watch.look()
    assert world.serving == {"belt": ["belt@1"]}
    assert caplog.text.count("registry_not_read") == 1
    with write_transaction(world.store) as connection:
        connection.exec_driver_sql("ALTER TABLE gone RENAME TO model_versions")
    world.promote("2")
    await world.watch.look()
    assert world.serving == {"belt": ["belt@2"]}


async def test_a_bug_in_one_load_does_not_end_the_watch(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """It would follow nothing any more."""
    world.loader.errors["2"] = cast("RegistryError", ZeroDivisionError())
    world.promote("2")
    await world.watch.look()
    assert "registry_not_followed model=belt" in caplog.text
    assert world.serving == {"belt": ["belt@1"]}


async def test_other_models_are_not_served_unless_they_are_named(world: World) -> None:
    """Memory is taken only when asked for."""
    world.promote("1", "gate")
    await world.watch.look()
    assert world.serving == {"belt": ["belt@1"]}


@pytest.mark.parametrize(
    "names", [ServedNames("belt", frozenset({"gate", "absent"})), ServedNames("belt", is_all=True)]
)
async def test_further_models_are_served_as_soon_as_they_are_in_production(world: World) -> None:
    """Named, or all; one that has no version yet is none."""
    await world.watch.look()
    assert world.serving == {"belt": ["belt@1"]}
    world.promote("1", "gate")
    await world.watch.look()
    assert world.serving == {"belt": ["belt@1"], "gate": ["gate@1"]}


@pytest.mark.parametrize("names", [ServedNames("belt", frozenset({"gate", "absent"}))])
async def test_names_without_production_are_told_once_and_when_they_change(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A name that is misspelt in the settings would be a model that never answers."""

    def told() -> list[str]:
        said = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
        caplog.clear()
        return [message.partition(":")[0] for message in said]

    absent, gate = (f"model_without_production model={name}" for name in ("absent", "gate"))
    await world.watch.look()
    assert told() == [absent, gate]
    await world.watch.look()
    assert told() == []
    world.promote("1", "gate")
    await world.watch.look()
    assert told() == [absent]


async def test_promoting_here_answers_when_requests_get_the_version(world: World) -> None:
    """Loaded, committed, swapped."""
    assert (await world.operations.promote("belt", "2")).label == "belt@2"
    assert world.serving == {"belt": ["belt@2"]}
    assert changes.find_production(world.store, "belt").label == "belt@2"
    assert (await world.operations.roll_back("belt")).label == "belt@1"
    assert world.serving == {"belt": ["belt@1"]}
    assert world.loader.labels == ["belt@1", "belt@2", "belt@1"]


@pytest.mark.parametrize("verb", ["promote", "traffic"])
async def test_what_cannot_be_loaded_is_not_committed(world: World, verb: str) -> None:
    """Registry and gateway stay as they were, and the cause is told."""
    world.loader.errors["2"] = FAULT
    if verb == "promote":
        change = world.operations.promote("belt", "2")
    else:
        change = world.operations.direct_traffic("belt", "2", traffic=Traffic.CANARY, share=0.5)
    with pytest.raises(RegistryError) as caught:
        await change
    assert caught.value.code is Code.GOLDEN_FAILED
    assert changes.find_production(world.store, "belt").label == "belt@1"
    await world.watch.look()
    assert world.serving == {"belt": ["belt@1"]}


async def test_what_was_loaded_for_a_refused_change_is_let_go(world: World) -> None:
    """Two canaries are one too many."""
    await world.operations.direct_traffic("belt", "2", traffic=Traffic.CANARY, share=0.5)
    with pytest.raises(RegistryError, match="belt@2 is the canary already"):
        await world.operations.direct_traffic("belt", "3", traffic=Traffic.CANARY, share=0.5)
    await world.watch.close()
    assert [fake.runner.is_closed for fake in world.loader.loaded] == [True, True, True]


async def test_a_model_that_is_not_served_here_is_checked_and_let_go(world: World) -> None:
    """Another gateway serves it."""
    await world.operations.promote("gate", "1")
    assert world.serving == {"belt": ["belt@1"]}
    assert changes.find_production(world.store, "gate").label == "gate@1"
    assert world.loader.labels == ["belt@1", "gate@1"]
    await world.watch.close()
    assert world.loader.loaded[1].runner.is_closed


async def test_retiring_ends_traffic(world: World) -> None:
    """At once."""
    await world.operations.direct_traffic("belt", "2", traffic=Traffic.SHADOW, share=0.5)
    await world.operations.retire("belt", "2")
    assert world.serving == {"belt": ["belt@1"]}


async def test_promotions_at_once_come_one_after_the_other(world: World) -> None:
    """Never two loads at the same time: memory for one more version has to do."""
    together: list[int] = []
    running = threading.Semaphore(1)
    load = world.loader.load

    def load_alone(version: ModelVersion) -> ServedVersion:
        together.append(int(running.acquire(blocking=False)))
        try:
            return load(version)
        finally:
            running.release()

    world.loader.load = load_alone  # type: ignore[method-assign]  # looks while it loads
    await asyncio.gather(
        *(world.operations.promote("belt", version) for version in ("2", "3", "2", "3")),
        world.watch.look(),
    )
    assert together == [1] * len(together)
    assert len(together) >= 2
    assert world.serving == {"belt": [changes.find_production(world.store, "belt").label]}


async def test_a_registry_that_cannot_be_written_is_not_ready(world: World) -> None:
    """The caller may try again; nothing was swapped."""
    with write_transaction(world.store) as connection:
        connection.exec_driver_sql("DROP TABLE model_promotions")
    with pytest.raises(ServiceError) as caught:
        await world.operations.promote("belt", "2")
    assert (caught.value.code, caught.value.reason) == (Code.NOT_READY, "registry_failed")
    assert world.serving == {"belt": ["belt@1"]}


async def test_a_load_that_cannot_be_recorded_is_followed_all_the_same(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The registry has decided, and answers are on record with their version or do not leave."""
    world.audit.close()
    world.promote("2")
    await world.watch.look()
    assert world.serving == {"belt": ["belt@2"]}
    assert "model_load_not_recorded model=belt@2" in caplog.text


async def test_a_default_without_production_is_refused(sqlite_engine: Engine, world: World) -> None:
    """Before anything is loaded."""
    world.watch._names = replace(world.watch._names, default="absent")
    with pytest.raises(RegistryError, match="no version of 'absent' is in production"):
        world.watch.load_default()


async def test_a_row_that_cannot_be_read_does_not_end_the_watch(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later release may write stages that this one does not know."""
    with write_transaction(world.store) as connection:
        connection.exec_driver_sql("UPDATE model_versions SET traffic = 'x' WHERE version = '2'")
    with pytest.raises(ValueError, match="'x' is not a valid Traffic") as caught:
        await world.watch.look()
    has_looked_again = asyncio.Event()
    errors = [caught.value]

    async def look() -> None:
        if errors:
            raise errors.pop()
        has_looked_again.set()

    monkeypatch.setattr("gateway.models.watch.LOOK_SECONDS", 0.0)
    monkeypatch.setattr(world.watch, "look", look)
    watching = asyncio.create_task(world.watch.run())
    await asyncio.wait_for(has_looked_again.wait(), 20)
    watching.cancel()
    assert "registry_not_followed" in caplog.text
