"""Checkpoints reach a place in the background, newest first, again after failures, and once more at the end."""

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

import pytest

from gateway.audit.checkpoints import SignedCheckpoint, open_checkpoint, sign_checkpoint
from gateway.audit.places import WitnessDisagreementError, WitnessUnavailableError
from gateway.audit.publishing import MAX_PAUSE_SECONDS, Published, Publisher
from tests.gateway.audit.sample_log import ORIGIN, SIGNER, checkpoint_of

WAIT_SECONDS = 20.0


def signed(size: int) -> SignedCheckpoint:
    """The checkpoint of the first entries."""
    note = sign_checkpoint(checkpoint_of(size), SIGNER)
    return open_checkpoint(note, origin=ORIGIN, verifiers=[SIGNER.verifier])


class FakePlace:
    """Says of each attempt what came, and waits for what to do about it."""

    name = "file"

    def __init__(self) -> None:
        self.came: SimpleQueue[int] = SimpleQueue()
        self.answers: SimpleQueue[Exception | None] = SimpleQueue()

    def publish(self, signed: SignedCheckpoint) -> int:
        """Place.publish."""
        self.came.put(signed.checkpoint.size)
        answer = self.answers.get(timeout=WAIT_SECONDS)
        if answer is not None:
            raise answer
        return signed.checkpoint.size


class World:
    """A publisher whose clock stands still until a test moves it."""

    def __init__(self) -> None:
        self.place = FakePlace()
        self.now = 100.0
        self.ended: SimpleQueue[Published] = SimpleQueue()
        self.publisher = Publisher(
            self.place,
            interval_seconds=1.0,
            on_attempt=lambda published, _why: self.ended.put(published),
            monotonic=lambda: self.now,
        )

    def came(self) -> int:
        """The size of the attempt that is being made."""
        return self.place.came.get(timeout=WAIT_SECONDS)

    def answer(self, answer: Exception | None = None) -> Published:
        """End the attempt; how the publisher saw it."""
        self.place.answers.put(answer)
        return self.ended.get(timeout=WAIT_SECONDS)

    def pass_time(self, seconds: float) -> None:
        """Move the clock; offering wakes the thread that looks at it."""
        self.now += seconds


@pytest.fixture
def world() -> World:
    """A publisher that runs."""
    world = World()
    world.publisher.start()
    return world


def test_a_checkpoint_is_published(world: World) -> None:
    """As soon as it is offered; the size that the place has then is known."""
    world.publisher.offer(signed(3))
    assert 3 == world.came()
    assert Published.DONE is world.answer()
    assert 3 == world.publisher.size
    assert world.publisher.close()


def test_whoever_offers_never_waits_and_only_the_newest_is_published(world: World) -> None:
    """While one attempt hangs, four checkpoints come."""
    world.publisher.offer(signed(1))
    assert 1 == world.came()
    for size in (2, 3, 4, 5):
        world.publisher.offer(signed(size))
    assert Published.DONE is world.answer()
    world.pass_time(1.0)
    world.publisher.offer(signed(6))
    assert 6 == world.came()
    assert Published.DONE is world.answer()
    assert world.publisher.close()
    assert world.place.came.empty()


def test_not_more_often_than_the_interval(world: World) -> None:
    """What comes within it waits; the end of the process does not."""
    world.publisher.offer(signed(1))
    assert 1 == world.came()
    assert Published.DONE is world.answer()
    world.pass_time(0.5)
    world.publisher.offer(signed(2))
    assert world.place.came.empty()
    world.place.answers.put(None)
    assert world.publisher.close()
    assert 2 == world.came()


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (WitnessUnavailableError("away"), Published.UNAVAILABLE),
        (WitnessDisagreementError("fork"), Published.DISAGREEMENT),
        (ZeroDivisionError("bug"), Published.UNAVAILABLE),
    ],
)
def test_what_fails_is_tried_again_after_growing_pauses(
    world: World, error: Exception, seen: Published
) -> None:
    """1, 2, 4, ... up to a minute; a newer checkpoint does not shorten the pause."""
    world.publisher.offer(signed(1))
    pause = 1.0
    for number in range(2, 9):
        assert number - 1 == world.came()
        assert seen is world.answer(error)
        newer = signed(min(number, 7))
        world.pass_time(0.9 * pause)
        world.publisher.offer(newer)
        assert world.place.came.empty()
        world.pass_time(0.2 * pause)
        # The same again, only to wake it.
        world.publisher.offer(newer)
        pause = min(2 * pause, MAX_PAUSE_SECONDS)
    assert 7 == world.came()
    assert Published.DONE is world.answer()
    assert world.publisher.close()


def test_the_lag_is_that_of_the_oldest_checkpoint_that_is_missing(world: World) -> None:
    """It grows over failures, and after a success counts from what came meanwhile."""
    assert 0.0 == world.publisher.lag_seconds
    world.publisher.offer(signed(1))
    assert 1 == world.came()
    world.pass_time(5.0)
    assert 5.0 == world.publisher.lag_seconds
    world.answer(WitnessUnavailableError("away"))
    world.pass_time(5.0)
    world.publisher.offer(signed(2))
    assert 2 == world.came()
    world.pass_time(1.0)
    world.publisher.offer(signed(3))
    world.pass_time(2.0)
    assert Published.DONE is world.answer()
    assert 2.0 == world.publisher.lag_seconds
    world.pass_time(1.0)
    world.publisher.offer(signed(4))
    assert 4 == world.came()
    assert Published.DONE is world.answer()
    assert 0.0 == world.publisher.lag_seconds
    assert world.publisher.close()


def test_the_end_makes_one_last_attempt_and_no_more(world: World) -> None:
    """However long the pause is; a place that is away does not keep the process."""
    world.publisher.offer(signed(1))
    assert 1 == world.came()
    world.answer(WitnessUnavailableError("away"))
    world.publisher.offer(signed(2))
    world.place.answers.put(WitnessUnavailableError("still away"))
    assert world.publisher.close()
    assert 2 == world.came()
    assert world.place.came.empty()


def test_nothing_is_done_at_the_end_where_nothing_is_missing(world: World) -> None:
    """The place has it."""
    world.publisher.offer(signed(1))
    assert 1 == world.came()
    world.answer()
    assert world.publisher.close()
    assert world.place.came.empty()


def test_a_place_that_hangs_does_not_keep_the_process(world: World) -> None:
    """It is left behind after a while, and said so."""
    world.publisher.offer(signed(1))
    assert 1 == world.came()
    assert not world.publisher.close(timeout_seconds=0.05)
    world.place.answers.put(None)
    assert world.publisher.close()


def test_a_failure_is_told_once_a_cause_and_so_is_its_end(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The same line every minute for a night would hide the others."""
    with caplog.at_level(logging.WARNING):
        for size, why in ((1, "away"), (2, "away"), (3, "full")):
            world.publisher.offer(signed(size))
            assert size == world.came()
            world.answer(WitnessUnavailableError(why))
            world.pass_time(60.0)
        world.publisher.offer(signed(4))
        assert 4 == world.came()
        world.answer()
        assert world.publisher.close()
    assert [
        "audit_witness_unavailable place=file: away",
        "audit_witness_unavailable place=file: full",
        "audit_witness_reached place=file size=4",
    ] == [record.getMessage() for record in caplog.records]


def test_offers_from_many_threads_end_with_the_newest(world: World) -> None:
    """The writer's thread and the closing one are two."""
    offer: Callable[[int], None] = lambda size: world.publisher.offer(signed(size))  # noqa: E731
    world.publisher.offer(signed(1))
    assert 1 == world.came()
    threads = [threading.Thread(target=offer, args=(2,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.answer()
    world.place.answers.put(None)
    assert world.publisher.close()
    assert 2 == world.came()
    assert world.place.came.empty()
