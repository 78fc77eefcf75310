"""Canaries, shadows and changes of the registry on their way through the pipeline."""

from dataclasses import replace

import pytest

from gateway.audit.events import Action
from gateway.errors import (
    AuditUnavailableError,
    AuthzError,
    Code,
    RegistryError,
    RequestError,
    RunnerError,
)
from gateway.identity.policy import Permission
from gateway.models.directory import Lineup, Shared
from gateway.pipeline import Change, Changed
from gateway.store.records import SampleMode
from tests.gateway.pipeline_world import BODY, CALL, World, unavailable
from tests.gateway.versions import fake_version, served_by

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the gateway runs on."""
    return "asyncio"


@pytest.fixture
def world() -> World:
    """A world in which everything works."""
    return World()


def give_canary(world: World, runner_error: Exception | None = None) -> None:
    """Let version 4 answer every request."""
    canary = fake_version("4")
    canary.runner.error = runner_error
    world.directory.swap("belt", Lineup(world.served, canary=Shared(canary.served, 1.0)))


async def test_records_and_samples_name_the_canary_that_answered(world: World) -> None:
    """And so does the answer."""
    give_canary(world)
    assert (await world.predict()).model_label == "belt@4"
    assert [(e.outcome, e.model_version) for e in world.events] == [
        ("admitted", "4"), ("answered", "4"),
    ]  # fmt: skip
    (offer,) = world.offers
    assert (offer.model_version, offer.mode) == ("4", SampleMode.CANARY)


async def test_production_answers_for_a_canary_that_fails(world: World) -> None:
    """Its caller notices nothing; ledger, sample and counter do."""
    give_canary(world, RunnerError(Code.RUNNER_FAILED, "m"))
    assert (await world.predict()).model_label == "belt@3"
    assert [(e.outcome, e.model_version, e.reason) for e in world.events] == [
        ("admitted", "4", None), ("answered", "3", "in place of belt@4"),
    ]  # fmt: skip
    assert world.offers[0].mode is SampleMode.SERVED
    assert world.metrics.registry.get_sample_value("gateway_canary_fallbacks_total") == 1


async def test_a_shadow_gets_the_request_after_the_answer(world: World) -> None:
    """What it finds is sampled beside what was served."""
    shadow = fake_version("4")
    world.directory.swap("belt", Lineup(world.served, shadow=Shared(shadow.served, 1.0)))
    world.queue_depth = 0  # type: ignore[attr-defined]  # the world is its own runner
    await world.predict()
    assert [offer.model_version for offer in world.offers] == ["3"]
    await shadow.served.drain(timeout_seconds=5)
    assert shadow.runner.bodies == [BODY]
    assert [(o.request_id, o.model_version, o.mode) for o in world.offers] == [
        ("request-1", "3", SampleMode.SERVED), ("request-1", "4", SampleMode.SHADOW),
    ]  # fmt: skip


async def test_a_model_that_is_not_served_reads_no_body(world: World) -> None:
    """Whoever may ask for it hears that it is not here, on record."""
    with pytest.raises(RequestError) as caught:
        await world.predict(replace(CALL, model_name="gate"))
    assert caught.value.code is Code.MODEL_UNKNOWN
    assert "read" not in world.steps
    assert [(e.outcome, e.model_name, e.model_version) for e in world.events] == [
        ("refused", "gate", None)
    ]


async def test_a_role_for_one_model_opens_no_other(world: World) -> None:
    """The name in the path is what roles are compared with."""
    world.principal = replace(world.principal, roles=frozenset({"client:gate"}))
    with pytest.raises(AuthzError):
        await world.predict()


CHANGE = replace(CALL, action=Action.MODELS_PROMOTE, permission=Permission.MODELS_WRITE)


class Operator:
    """Changes what it is asked to change, as the world lets it."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.principal = replace(world.principal, roles=frozenset({"operator"}))

    async def read(self) -> Change:
        """What is asked."""
        self.world._step("read")
        return Change(version="4", detail="share=1")

    async def act(self, asked: Change) -> Changed:
        """Do it."""
        assert asked.version == "4"
        self.world._step("act")
        return Changed("4", b"done", "sha256=ab")

    async def change(self) -> bytes:
        """One change."""
        return await self.world.pipeline.change(CHANGE, self.read, self.act)


async def test_a_change_is_on_record_before_it_is_made(world: World) -> None:
    """And after, with the version that it is about."""
    assert await Operator(world).change() == b"done"
    assert [step for step in world.steps if not step.startswith("begin")] == [
        "enter", "authenticate", "require None", "spend 0", "read", "confirm", "require 4",
        "record admitted",
        "act", "record answered", "leave",
    ]  # fmt: skip
    assert [(e.action, e.outcome, e.model_version, e.detail) for e in world.events] == [
        ("models.promote", "admitted", "4", "share=1"),
        ("models.promote", "answered", "4", "share=1 sha256=ab"),
    ]


async def test_a_change_that_is_not_recorded_is_not_made(world: World) -> None:
    """Fails closed."""
    world.fails["record admitted"] = unavailable()
    with pytest.raises(AuditUnavailableError):
        await Operator(world).change()
    assert "act" not in world.steps


async def test_a_change_that_fails_is_on_record_with_its_cause(world: World) -> None:
    """Code and reason."""
    world.fails["act"] = RegistryError(Code.GOLDEN_FAILED, "m", reason="bus.jpg: 0 of 3 boxes")
    with pytest.raises(RegistryError):
        await Operator(world).change()
    last = world.events[-1]
    assert (last.outcome, last.code, last.reason) == (
        "failed", "golden_failed", "bus.jpg: 0 of 3 boxes",
    )  # fmt: skip


@pytest.mark.parametrize("role", ["client", "analyst", "auditor", "metrics", "operator:gate"])
async def test_a_change_needs_an_operator(world: World, role: str) -> None:
    """Of this model."""
    operator = Operator(world)
    world.principal = replace(world.principal, roles=frozenset({role}))
    with pytest.raises(AuthzError):
        await operator.change()
    assert "read" not in world.steps


async def test_a_change_of_an_unnamed_version_needs_a_role_for_any(world: World) -> None:
    """A rollback goes to whatever was there before, which a role for one version does not cover."""
    operator = Operator(world)
    world.principal = replace(world.principal, roles=frozenset({"operator:belt@4"}))

    async def read() -> Change:
        return Change()

    with pytest.raises(AuthzError) as caught:
        await world.pipeline.change(CHANGE, read, operator.act)
    assert caught.value.reason == "other_version"
    assert "act" not in world.steps


async def test_a_canary_that_the_role_does_not_cover_is_passed_by(world: World) -> None:
    """Its caller gets production, and does not notice."""
    canary = served_by(world, version="4")
    world.directory.swap("belt", Lineup(world.served, canary=Shared(canary, 1.0)))
    world.principal = replace(world.principal, roles=frozenset({"client:belt@3"}))
    assert (await world.predict()).model_label == "belt@3"
    world.principal = replace(world.principal, roles=frozenset({"client:belt"}))
    assert (await world.predict()).model_label == "belt@4"
