"""Which version a request gets, and that none is drained before it is done."""

import random
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, DecodeError, OverloadedError, RequestError, RunnerError
from gateway.inference.postprocess import Thresholds
from gateway.models.directory import Answered, Directory, Lineup, Shared, falls_to
from gateway.store.records import SampleMode
from tests.gateway.versions import Fake, fake_version

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the gateway runs on."""
    return "asyncio"


def directory_of(production: Fake, canary: Fake | None = None, share: float = 1.0) -> Directory:
    """A directory with one name."""
    shared = None if canary is None else Shared(canary.served, share)
    directory = Directory()
    directory.swap("belt", Lineup(production.served, canary=shared))
    return directory


async def ask(directory: Directory, request_id: str = "r") -> Answered:
    """One request."""
    with directory.chosen("belt", request_id, is_allowed=lambda _: True) as choice:
        return await choice.detect(b"image", Thresholds(), None)


async def test_production_answers() -> None:
    """All requests, where there is nothing else."""
    production = fake_version("1")
    answered = await ask(directory_of(production))
    assert (answered.served, answered.mode, answered.failed) == (
        production.served, SampleMode.SERVED, None,
    )  # fmt: skip


async def test_a_canary_answers_its_share() -> None:
    """Of 400 requests between 60 and 140 at a quarter: seven standard deviations to either side."""
    production, canary = fake_version("1"), fake_version("2")
    directory = directory_of(production, canary, 0.25)
    rng = random.Random(7)
    ids = [str(uuid.UUID(int=rng.getrandbits(128))) for _ in range(400)]
    modes = [(await ask(directory, request_id)).mode for request_id in ids]
    assert 60 < modes.count(SampleMode.CANARY) < 140
    assert len(canary.runner.bodies) == modes.count(SampleMode.CANARY)


@pytest.mark.parametrize(
    "error",
    [
        RunnerError(Code.RUNNER_FAILED, "m"),
        OverloadedError("m", retry_after_seconds=1),
        RequestError(Code.PARAMETER_INVALID, "this size is not compiled"),
    ],
)
async def test_production_answers_where_a_canary_cannot(error: Exception) -> None:
    """Its caller had no say in who answers."""
    production, canary = fake_version("1"), fake_version("2")
    canary.runner.error = error
    answered = await ask(directory_of(production, canary))
    assert (answered.served, answered.mode, answered.failed) == (
        production.served, SampleMode.SERVED, canary.served,
    )  # fmt: skip


async def test_a_bad_image_is_not_tried_twice() -> None:
    """It is as bad to production."""
    production, canary = fake_version("1"), fake_version("2")
    canary.runner.error = DecodeError(Code.IMAGE_CORRUPT, "m")
    with pytest.raises(DecodeError):
        await ask(directory_of(production, canary))
    assert production.runner.bodies == []


async def test_a_request_holds_what_may_answer_it_until_its_end() -> None:
    """The canary, and production which may have to step in."""
    production, canary = fake_version("1"), fake_version("2")
    directory = directory_of(production, canary)
    with directory.chosen("belt", "r", is_allowed=lambda _: True):
        assert (production.served.leases, canary.served.leases) == (1, 1)
    assert (production.served.leases, canary.served.leases) == (0, 0)


async def test_a_name_that_is_not_served_is_refused() -> None:
    """With where to look."""
    with pytest.raises(RequestError, match="GET /v1/models") as caught:
        Directory().check("gate")
    assert caught.value.code is Code.MODEL_UNKNOWN


async def test_a_swap_names_what_nobody_gets_any_more() -> None:
    """A canary that becomes production stays loaded."""
    one, two, three = fake_version("1"), fake_version("2"), fake_version("3")
    directory = directory_of(one, two)
    assert directory.swap("belt", Lineup(two.served)) == (one.served,)
    assert directory.swap("belt", Lineup(three.served, shadow=Shared(two.served, 0.5))) == ()
    assert directory.swap("belt", None) == (three.served, two.served)
    assert directory.lineups == {}


@given(request_id=st.text(), share=st.floats(0, 1))
def test_a_larger_share_takes_no_request_away(request_id: str, share: float) -> None:
    """Whoever had the canary's answer keeps having it while its share grows; all is all and none is none."""
    assert falls_to("canary", request_id, 1.0)
    assert not falls_to("canary", request_id, 0.0)
    if falls_to("canary", request_id, share):
        assert falls_to("canary", request_id, (1 + share) / 2)


def test_shadow_and_canary_are_drawn_apart() -> None:
    """Else a shadow at half would never see what a canary at half answered, or nothing else."""
    ids = [str(number) for number in range(400)]
    both = sum(falls_to("canary", i, 0.5) and falls_to("shadow", i, 0.5) for i in ids)
    assert 60 < both < 140
