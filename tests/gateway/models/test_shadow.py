"""A shadow that looks at what others were answered."""

import asyncio
from datetime import UTC, datetime
from typing import cast

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from gateway.errors import Code, RunnerError
from gateway.inference.postprocess import Thresholds
from gateway.metrics import GatewayMetrics
from gateway.models.directory import Directory, Lineup, Shared
from gateway.models.shadow import AnsweredRequest, Shadows
from gateway.sampling.offers import Offer
from gateway.sampling.sampler import Sampler
from gateway.store.records import SampleMode
from tests.gateway.versions import fake_version, result

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the gateway runs on."""
    return "asyncio"


class World:
    """Production belt@1 and its shadow belt@2, which gets everything."""

    def __init__(self) -> None:
        self.production = fake_version("1")
        self.shadow = fake_version("2")
        self.directory = Directory()
        self.share(1.0)
        self.offers: list[Offer] = []
        self.metrics = GatewayMetrics(CollectorRegistry())
        self.shadows = Shadows(
            directory=self.directory, sampler=cast("Sampler", self), metrics=self.metrics
        )

    def share(self, share: float) -> None:
        """Give the shadow a share."""
        lineup = Lineup(self.production.served, shadow=Shared(self.shadow.served, share))
        self.directory.swap("belt", lineup)

    def offer(self, offer: Offer) -> None:
        """What the sampler gets."""
        self.offers.append(offer)

    def answer(self, request_id: str = "r", model_name: str = "belt") -> None:
        """A request was answered by production."""
        answered = result()
        offer = Offer(
            request_id=request_id,
            received_at=datetime(2031, 5, 6, tzinfo=UTC),
            model_name=model_name,
            model_version="1",
            principal="p",
            input_sha256="ab",
            image=answered.image,
            encoded=b"image",
            detections=answered.detections,
            source="cam-3",
            embedding=np.ones(4, np.float32),
        )
        self.shadows.offer(AnsweredRequest(offer, Thresholds(), None))

    async def settle(self) -> None:
        """Let everything that was started end."""
        await asyncio.gather(*self.shadows._tasks)
        await asyncio.sleep(0)

    def counted(self, outcome: str) -> float:
        """Requests for the shadow by outcome."""
        value = self.metrics.registry.get_sample_value
        return value("gateway_shadow_answers_total", {"outcome": outcome}) or 0.0


@pytest.fixture
def world() -> World:
    """One."""
    return World()


async def test_what_a_shadow_finds_is_sampled_under_its_own_version(world: World) -> None:
    """Beside the request's own sample, with the same id."""
    world.answer()
    await world.settle()
    (offer,) = world.offers
    assert (offer.request_id, offer.model_version, offer.mode) == ("r", "2", SampleMode.SHADOW)
    # The camera is the request's; the numbers are of the network that saw it.
    assert "cam-3" == offer.source
    assert offer.embedding is None
    assert world.shadow.runner.bodies == [b"image"]
    assert world.counted("answered") == 1
    assert world.shadow.served.leases == 0


async def test_a_busy_shadow_is_asked_nothing_more(world: World) -> None:
    """One image at a time, also for requests of the same moment."""
    world.shadow.runner.may_answer.clear()
    for number in range(3):
        world.answer(str(number))
    assert world.counted("skipped") == 2
    world.shadow.runner.may_answer.set()
    await world.settle()
    world.answer("later")
    await world.settle()
    assert [offer.request_id for offer in world.offers] == ["0", "later"]


async def test_a_shadow_waits_while_images_wait_for_production(world: World) -> None:
    """It runs on the same cores."""
    world.production.runner.queue_depth = 1
    world.answer()
    assert (world.counted("skipped"), world.shadow.runner.bodies) == (1, [])


async def test_a_shadow_gets_its_share(world: World) -> None:
    """Of 400 requests between 60 and 140 at a quarter."""
    world.share(0.25)
    for number in range(400):
        world.answer(str(number))
        await world.settle()
    assert 60 < len(world.offers) < 140
    assert world.counted("skipped") == 0


async def test_a_shadow_that_fails_is_counted_and_nothing_else(world: World) -> None:
    """Nobody was waiting for it."""
    world.shadow.runner.error = RunnerError(Code.RUNNER_FAILED, "m")
    world.answer()
    await world.settle()
    assert (world.counted("failed"), world.offers) == (1, [])
    assert world.shadow.served.leases == 0


async def test_models_without_a_shadow_have_none(world: World) -> None:
    """Nor those that are not served any more."""
    world.directory.swap("belt", Lineup(world.production.served))
    world.answer()
    world.answer(model_name="gone")
    await world.settle()
    assert world.shadow.runner.bodies == []


async def test_closing_gives_up_what_runs(world: World) -> None:
    """And its lease, so that the version can be drained."""
    world.shadow.runner.may_answer.clear()
    world.answer()
    await asyncio.sleep(0)
    await world.shadows.close()
    await asyncio.sleep(0)
    assert (world.offers, world.shadow.served.leases) == ([], 0)
