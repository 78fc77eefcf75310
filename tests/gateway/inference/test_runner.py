"""The runner: order, refusal, cancellation, failure and hanging, with an engine whose every step is held by events."""

import asyncio
import math
import random
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.errors import (
    Code,
    DecodeError,
    OverloadedError,
    RequestError,
    RunnerError,
    ServiceError,
)
from gateway.inference import runner as runner_module
from gateway.inference.canvas_lane import CanvasLane, Outputs
from gateway.inference.decode import ImageLimits
from gateway.inference.postprocess import Thresholds
from gateway.inference.preprocess import Canvas
from gateway.inference.runner import Runner

WAIT_SECONDS = 20.0
HANG_SECONDS = 0.05


def image(shade: int) -> bytes:
    """A small encoded image whose shade tells it from others."""
    return cv2.imencode(".png", np.full((8, 8, 3), shade, np.uint8))[1].tobytes()


@dataclass
class FakeEngine:
    """An engine that finds one box whose confidence is the shade of the image / 256, when it is allowed to."""

    name: str = "fake"
    precision: str = "f32"
    task: str = "detect"
    versions: dict[str, str] = field(default_factory=dict)
    input_sizes: tuple[tuple[int, int], ...] = ((32, 32), (64, 64))
    gate: threading.Event = field(default_factory=threading.Event)
    started: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    seen: list[tuple[int, int]] = field(default_factory=list)
    opened: int = 0
    running: int = 0
    most_running: int = 0
    failure: Exception | None = None
    pause_seconds: float = 0.0

    def open_lane(self, size: tuple[int, int]) -> CanvasLane:
        """Count the lane."""
        self.opened += 1
        canvas = Canvas(size)
        return CanvasLane(canvas, FakeRequest(self, canvas.pixels))


@dataclass
class FakeRequest:
    """One request of the fake engine."""

    engine: FakeEngine
    pixels: NDArray[np.uint8]

    def infer(self) -> Outputs:
        """Report the start, wait for the gate, answer."""
        engine = self.engine
        shade = int(self.pixels[16, 16, 0])
        engine.running += 1
        engine.most_running = max(engine.most_running, engine.running)
        engine.started.release()
        assert engine.gate.wait(WAIT_SECONDS)
        if engine.pause_seconds:
            threading.Event().wait(engine.pause_seconds)
        engine.running -= 1
        engine.seen.append((self.pixels.shape[0], shade))
        if engine.failure is not None:
            raise engine.failure
        raw_head = np.array([[[10.5], [10.5], [19], [19], [shade / 256]]], np.float32)
        return Outputs(raw_head, np.array([[shade, 1]], np.float32))


@asynccontextmanager
async def running(
    engine: FakeEngine,
    *,
    workers: int = 1,
    queue_size: int = 2,
    hang_seconds: float = WAIT_SECONDS,
    request_timeout_seconds: float = math.inf,
) -> AsyncIterator[Runner]:
    """A warm runner, closed at the end, with the gate open for what is left."""
    runner = Runner(
        engine=engine,
        workers=workers,
        queue_size=queue_size,
        limits=ImageLimits(),
        infer_timeout_seconds=hang_seconds,
        request_timeout_seconds=request_timeout_seconds,
    )
    engine.gate.set()
    runner.warm_up()
    for _ in range(workers * len(engine.input_sizes)):
        assert engine.started.acquire(blocking=False)
    engine.seen.clear()
    engine.gate.clear()
    try:
        yield runner
    finally:
        engine.gate.set()
        await runner.close()


def test_opencv_is_silenced(capfd: pytest.CaptureFixture[str]) -> None:
    """A caller who sends damaged images must not fill the log with OpenCV's words."""
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_WARNING)
    try:
        limits = ImageLimits()
        Runner(
            engine=FakeEngine(), workers=1, queue_size=1, limits=limits, infer_timeout_seconds=1.0
        )
        assert cv2.imdecode(np.frombuffer(image(7)[:50], np.uint8), cv2.IMREAD_COLOR) is None
        assert capfd.readouterr().err == ""
    finally:
        cv2.utils.logging.setLogLevel(before)


async def started(engine: FakeEngine, count: int = 1) -> None:
    """Wait until workers have begun that many more images."""
    for _ in range(count):
        assert await asyncio.to_thread(engine.started.acquire, timeout=WAIT_SECONDS)


def submit(runner: Runner, shade: int) -> asyncio.Task[int]:
    """Ask for one image; the result is the shade that the engine saw."""

    async def ask() -> int:
        result = await runner.detect(image(shade), Thresholds(confidence=0.01))
        return round(float(result.detections.confidences[0]) * 256)

    return asyncio.create_task(ask())


def test_an_image_becomes_detections() -> None:
    """The result carries boxes, the image and where the time went."""

    async def scenario() -> None:
        engine = FakeEngine()
        async with running(engine) as runner:
            engine.gate.set()
            result = await runner.detect(image(200), Thresholds(confidence=0.1))
        assert result.detections.boxes_xyxy.tolist() == [[0.25, 0.25, 5.0, 5.0]]
        assert result.image_shape == (8, 8)
        assert (result.image == 200).all()
        assert result.embedding is not None
        assert [200.0, 1.0] == result.embedding.tolist()
        assert 1 == result.detections.candidate_count
        assert result.decode_milliseconds > 0
        assert result.preprocess_milliseconds > 0
        assert result.inference_milliseconds > 0
        assert result.postprocess_milliseconds > 0
        assert result.queue_milliseconds > 0

    asyncio.run(scenario())


def test_thresholds_reach_the_suppression() -> None:
    """What is below the caller's confidence is not found."""

    async def scenario() -> None:
        engine = FakeEngine()
        async with running(engine) as runner:
            engine.gate.set()
            result = await runner.detect(image(200), Thresholds(confidence=0.8))
        assert len(result.detections) == 0

    asyncio.run(scenario())


def test_warm_up_runs_every_lane_alone() -> None:
    """First runs at the same time are where engines hang."""

    async def scenario() -> None:
        engine = FakeEngine()
        async with running(engine, workers=3):
            assert engine.opened == 6
            assert engine.most_running == 1

    asyncio.run(scenario())


def test_workers_run_side_by_side() -> None:
    """As many images at a time as there are workers."""

    async def scenario() -> None:
        engine = FakeEngine()
        async with running(engine, workers=2) as runner:
            tasks = [submit(runner, 50), submit(runner, 60)]
            await started(engine, 2)
            assert engine.running == 2
            engine.gate.set()
            assert await asyncio.gather(*tasks) == [50, 60]

    asyncio.run(scenario())


def test_images_are_taken_in_order() -> None:
    """First come, first served."""

    async def scenario() -> None:
        engine = FakeEngine()
        async with running(engine, queue_size=5) as runner:
            tasks = [submit(runner, shade) for shade in (10, 20, 30, 40)]
            await started(engine)
            engine.gate.set()
            assert await asyncio.gather(*tasks) == [10, 20, 30, 40]
        assert engine.seen == [(32, 10), (32, 20), (32, 30), (32, 40)]

    asyncio.run(scenario())


def test_a_full_queue_refuses_at_once() -> None:
    """With the time after which it may be empty; room is taken again when there is some."""

    async def scenario() -> None:
        engine = FakeEngine()
        async with running(engine, queue_size=2) as runner:
            tasks = [submit(runner, 10)]
            await started(engine)
            tasks += [submit(runner, 20), submit(runner, 30)]
            await asyncio.sleep(0)
            assert runner.queue_depth == 2
            with pytest.raises(OverloadedError) as caught:
                await runner.detect(image(40), Thresholds())
            assert caught.value.retry_after_seconds == 1
            engine.gate.set()
            assert await asyncio.gather(*tasks) == [10, 20, 30]
            assert await submit(runner, 50) == 50
            assert runner.queue_depth == 0

    asyncio.run(scenario())


def test_retry_after_follows_queue_and_speed() -> None:
    """Five waiting, two workers, three seconds an image: eight seconds; never more than a minute."""

    async def scenario() -> None:
        async with running(FakeEngine(), workers=2) as runner:
            state = runner._state
            state.seconds_per_image = 3.0
            state.pending.extend([None] * 5)  # type: ignore[list-item]  # only counted
            assert runner._retry_after_seconds() == 8
            state.seconds_per_image = 300.0
            assert runner._retry_after_seconds() == 60
            state.pending.clear()

    asyncio.run(scenario())


def test_a_caller_that_went_away_costs_nothing() -> None:
    """Its image leaves the queue, makes room and never reaches the engine."""

    async def scenario() -> None:
        engine = FakeEngine()
        async with running(engine, queue_size=1) as runner:
            first = submit(runner, 10)
            await started(engine)
            # Only now is the queue's one place free for sure.
            gone = submit(runner, 20)
            await asyncio.sleep(0)
            assert runner.queue_depth == 1
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
            assert runner.queue_depth == 0
            third = submit(runner, 30)
            engine.gate.set()
            assert list(await asyncio.gather(first, third)) == [10, 30]
        assert engine.seen == [(32, 10), (32, 30)]

    asyncio.run(scenario())


class LateClock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.late_seconds = 0.0

    def __call__(self) -> float:
        """Now, or later."""
        return monotonic() + self.late_seconds


def test_an_image_that_waits_too_long_is_refused_and_never_started() -> None:
    """Its place is free again; what is already started goes on."""

    async def scenario() -> None:
        engine = FakeEngine()
        async with running(engine, queue_size=1) as runner:
            first = submit(runner, 10)
            await started(engine)
            with pytest.raises(OverloadedError) as caught:
                await runner.detect(image(20), Thresholds(), deadline_seconds=0.01)
            assert caught.value.reason == "overloaded: waited too long"
            assert "longer for a worker than a request may" in caught.value.message
            assert caught.value.retry_after_seconds == 1
            assert runner.queue_depth == 0
            third = submit(runner, 30)
            engine.gate.set()
            assert list(await asyncio.gather(first, third)) == [10, 30]
        assert engine.seen == [(32, 10), (32, 30)]

    asyncio.run(scenario())


def test_the_runners_own_deadline_holds_where_a_call_sets_none() -> None:
    """And a started image is not bound by it."""

    async def scenario() -> None:
        engine = FakeEngine()
        async with running(engine, request_timeout_seconds=0.01) as runner:
            first = submit(runner, 10)
            await started(engine)
            with pytest.raises(OverloadedError):
                await submit(runner, 20)
            assert not first.done()
            engine.gate.set()
            assert await first == 10

    asyncio.run(scenario())


def test_a_worker_starts_no_image_after_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the loop is too busy to say so in time."""

    async def scenario() -> None:
        engine, clock = FakeEngine(), LateClock()
        monkeypatch.setattr(runner_module, "monotonic", clock)
        async with running(engine) as runner:
            first = submit(runner, 10)
            await started(engine)
            late = asyncio.create_task(
                runner.detect(image(20), Thresholds(), deadline_seconds=WAIT_SECONDS)
            )
            await asyncio.sleep(0)
            clock.late_seconds = 2 * WAIT_SECONDS
            engine.gate.set()
            assert await first == 10
            with pytest.raises(OverloadedError, match="longer for a worker"):
                await late
        assert engine.seen == [(32, 10)]

    asyncio.run(scenario())


def test_an_image_that_would_wait_too_long_is_refused_at_once() -> None:
    """Two workers are busy, three images wait, each takes two seconds: the next one starts in four."""

    async def scenario() -> None:
        engine = FakeEngine()
        async with running(engine, workers=2, queue_size=9) as runner:
            tasks = [submit(runner, shade) for shade in (10, 20, 30, 40, 50)]
            await started(engine, 2)
            runner._state.seconds_per_image = 2.0
            with pytest.raises(OverloadedError) as caught:
                await runner.detect(image(60), Thresholds(), deadline_seconds=3.9)
            assert caught.value.reason == "overloaded: would wait too long"
            assert runner.queue_depth == 3
            taken = asyncio.create_task(
                runner.detect(image(60), Thresholds(), deadline_seconds=4.1)
            )
            await asyncio.sleep(0)
            assert runner.queue_depth == 4
            engine.gate.set()
            await asyncio.gather(*tasks, taken)

    asyncio.run(scenario())


def test_a_free_worker_takes_an_image_however_slow_the_last_one_was() -> None:
    """Otherwise one slow minute would refuse every later image."""

    async def scenario() -> None:
        engine = FakeEngine()
        async with running(engine) as runner:
            runner._state.seconds_per_image = 3600.0
            engine.gate.set()
            await runner.detect(image(10), Thresholds(), deadline_seconds=1.0)

    asyncio.run(scenario())


def test_an_image_whose_caller_has_just_gone_is_not_started() -> None:
    """Cancelled, but the loop has not yet taken it out of the queue when a worker comes for it."""

    async def scenario() -> None:
        engine = FakeEngine()
        async with running(engine) as runner:
            first, gone = submit(runner, 10), submit(runner, 20)
            await started(engine)
            await asyncio.sleep(0)
            with runner._condition:
                gone.cancel()
                engine.gate.set()
                # The loop stands still: only the worker moves, and finds the image in the queue.
                while runner.queue_depth:
                    runner._condition.wait(0.001)
            assert await first == 10
        assert engine.seen == [(32, 10)]

    asyncio.run(scenario())


@pytest.mark.parametrize("seed", range(6))
def test_no_image_is_lost_run_twice_or_answered_after_its_caller_went(seed: int) -> None:
    """Under random arrivals, patience, departures, damage and engine speeds every call ends in exactly one way."""

    async def scenario() -> None:
        rng = random.Random(seed)
        engine = FakeEngine(input_sizes=((32, 32),))
        engine.pause_seconds = 0.002
        ends: dict[int, list[str]] = {}

        async def call(shade: int) -> None:
            patience = rng.choice((None, 0.0, 0.003, 0.01, 5.0))
            body = b"damaged" if shade % 17 == 0 else image(shade)
            end = "lost"
            try:
                result = await runner.detect(
                    body, Thresholds(confidence=0.01), deadline_seconds=patience
                )
                end = f"answered {round(float(result.detections.confidences[0]) * 256)}"
            except OverloadedError:
                end = "refused"
            except DecodeError:
                end = "damaged"
            except asyncio.CancelledError:
                end = "gone"
            finally:
                ends.setdefault(shade, []).append(end)

        async with running(engine, workers=2, queue_size=6) as runner:
            engine.gate.set()
            tasks = []
            for shade in range(10, 250):
                tasks.append(asyncio.create_task(call(shade)))
                if rng.random() < 0.3:
                    rng.choice(tasks[-6:]).cancel()
                if rng.random() < 0.6:
                    await asyncio.sleep(rng.random() * 0.004)
            await asyncio.gather(*tasks, return_exceptions=True)
            assert runner.queue_depth == 0
        ran = [shade for _, shade in engine.seen]
        assert len(ran) == len(set(ran))
        answered = {shade for shade, (end,) in ends.items() if end == f"answered {shade}"}
        assert answered <= set(ran)
        assert {
            shade for shade, (end,) in ends.items() if end in ("refused", "damaged")
        }.isdisjoint(ran)
        allowed = {"refused", "damaged", "gone"}
        assert all(end in allowed or shade in answered for shade, (end,) in ends.items())
        assert {end.split()[0] for (end,) in ends.values()} >= {"answered", "refused", "gone"}

    asyncio.run(scenario())


def test_a_caller_that_leaves_during_inference_harms_nobody() -> None:
    """The answer is dropped, the worker goes on."""

    async def scenario() -> None:
        engine = FakeEngine()
        async with running(engine) as runner:
            gone = submit(runner, 10)
            await started(engine)
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
            engine.gate.set()
            assert await submit(runner, 20) == 20

    asyncio.run(scenario())


def test_bad_bytes_are_the_callers_fault() -> None:
    """The worker goes on."""

    async def scenario() -> None:
        engine = FakeEngine()
        async with running(engine) as runner:
            engine.gate.set()
            with pytest.raises(DecodeError):
                await runner.detect(b"not an image", Thresholds())
            assert await submit(runner, 20) == 20
            assert runner.is_ready

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "failure",
    [RunnerError(Code.RUNNER_FAILED, "engine"), ValueError("engine"), MemoryError("engine")],
)
def test_a_failing_engine_is_a_runner_error(failure: Exception) -> None:
    """Whatever it raises; the worker outlives it."""

    async def scenario() -> None:
        engine = FakeEngine()
        async with running(engine) as runner:
            engine.gate.set()
            engine.failure = failure
            with pytest.raises(RunnerError):
                await runner.detect(image(10), Thresholds())
            engine.failure = None
            assert await submit(runner, 20) == 20

    asyncio.run(scenario())


def test_a_failing_warm_up_is_reported() -> None:
    """The process must not become ready."""
    engine = FakeEngine(failure=RunnerError(Code.RUNNER_FAILED, "engine"))
    engine.gate.set()
    runner = Runner(
        engine=engine,
        workers=1,
        queue_size=1,
        limits=ImageLimits(),
        infer_timeout_seconds=WAIT_SECONDS,
    )
    with pytest.raises(RunnerError):
        runner.warm_up()
    assert not runner.is_ready


def test_a_warm_up_that_gets_no_second_thread_ends_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody could close it, and each try would leave one more."""
    engine = FakeEngine()
    engine.gate.set()
    runner = Runner(
        engine=engine,
        workers=2,
        queue_size=1,
        limits=ImageLimits(),
        infer_timeout_seconds=WAIT_SECONDS,
    )
    begun: list[threading.Thread] = []
    start = threading.Thread.start

    def start_one(thread: threading.Thread) -> None:
        if begun:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_one)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        runner.warm_up()
    assert not runner.is_ready
    assert [False] == [thread.is_alive() for thread in begun]


def test_sizes_that_are_compiled_are_served() -> None:
    """The model's own without asking; others are refused with what there is."""

    async def scenario() -> None:
        engine = FakeEngine()
        async with running(engine) as runner:
            engine.gate.set()
            for size in (None, 64, 32):
                await runner.detect(image(10), Thresholds(), size)
            assert [size for size, _ in engine.seen] == [32, 64, 32]
            assert runner.image_sizes == ((32, 32), (64, 64))
            with pytest.raises(RequestError) as caught:
                await runner.detect(image(10), Thresholds(), 96)
        assert caught.value.code == Code.PARAMETER_INVALID
        assert caught.value.message.endswith("leave it out or send one of 32, 64")

    asyncio.run(scenario())


def test_a_hanging_engine_is_reported_and_makes_the_runner_unready() -> None:
    """All who wait get an error, and so do those who come later; a worker that returns after all serves again."""

    async def scenario() -> None:
        engine = FakeEngine()
        async with running(engine, hang_seconds=HANG_SECONDS) as runner:
            hanging = submit(runner, 10)
            await started(engine)
            waiting = submit(runner, 20)
            outcomes = await asyncio.gather(hanging, waiting, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [RunnerError, RunnerError]
            assert not runner.is_ready
            with pytest.raises(RunnerError):
                await runner.detect(image(30), Thresholds())
            engine.gate.set()
            await asyncio.to_thread(_until_ready, runner)
            assert await submit(runner, 40) == 40
            assert runner.is_ready

    asyncio.run(scenario())


def _until_ready(runner: Runner) -> None:
    with runner._condition:
        while not runner.is_ready:
            runner._condition.wait(0.005)


def test_one_hanging_worker_leaves_the_others_working() -> None:
    """The runner is unready, so that a load balancer turns away, but answers what it has."""

    async def scenario() -> None:
        hang = threading.Event()
        engine = FakeEngine()
        async with running(engine, workers=2, hang_seconds=HANG_SECONDS) as runner:
            engine.gate, released = hang, engine.gate
            hanging = submit(runner, 10)
            await started(engine)
            engine.gate = released
            released.set()
            with pytest.raises(RunnerError, match="took too long"):
                await hanging
            assert not runner.is_ready
            assert await submit(runner, 20) == 20
            hang.set()

    asyncio.run(scenario())


def test_a_second_hang_is_found_after_quiet_time() -> None:
    """The watchdog sleeps while nothing runs, and wakes with the next image."""

    async def scenario() -> None:
        engine = FakeEngine()
        async with running(engine, hang_seconds=HANG_SECONDS) as runner:
            engine.gate.set()
            assert await submit(runner, 10) == 10
            await asyncio.sleep(3 * HANG_SECONDS)
            assert runner._watchdog is None
            engine.gate.clear()
            with pytest.raises(RunnerError, match="took too long"):
                await submit(runner, 20)

    asyncio.run(scenario())


def test_lanes_that_have_run_are_taken_over_and_not_run_again() -> None:
    """The golden set has warmed them; only what is missing is opened and run."""

    async def scenario() -> None:
        engine = FakeEngine()
        engine.gate.set()
        lane = engine.open_lane(engine.input_sizes[0])
        runner = Runner(
            engine=engine,
            workers=2,
            queue_size=1,
            limits=ImageLimits(),
            infer_timeout_seconds=WAIT_SECONDS,
            warm_lanes=[lane],
        )
        sizes = len(engine.input_sizes)
        assert 2 * sizes == engine.opened
        runner.warm_up()
        assert 2 * sizes - 1 == len(engine.seen)
        assert await submit(runner, 10) == 10
        await runner.close()

    asyncio.run(scenario())


def test_nothing_is_taken_before_warm_up_or_after_close() -> None:
    """Refused with a reason that a load balancer understands."""

    async def scenario() -> None:
        engine = FakeEngine()
        cold = Runner(
            engine=engine,
            workers=1,
            queue_size=1,
            limits=ImageLimits(),
            infer_timeout_seconds=WAIT_SECONDS,
        )
        async with running(engine) as closed:
            assert [cold.is_ready, closed.is_ready] == [False, True]
        for runner in (cold, closed):
            assert not runner.is_ready
            with pytest.raises(ServiceError) as caught:
                await runner.detect(image(10), Thresholds())
            assert caught.value.code == Code.NOT_READY

    asyncio.run(scenario())


def test_close_answers_what_was_taken() -> None:
    """In order; the threads end."""

    async def scenario() -> None:
        engine = FakeEngine()
        async with running(engine, queue_size=5) as runner:
            tasks = [submit(runner, shade) for shade in (10, 20, 30)]
            await started(engine)
            closing = asyncio.create_task(runner.close())
            await asyncio.sleep(0)
            engine.gate.set()
            await closing
            assert await asyncio.gather(*tasks) == [10, 20, 30]
        assert not any(worker.thread and worker.thread.is_alive() for worker in runner._workers)

    asyncio.run(scenario())


def test_close_does_not_wait_for_ever() -> None:
    """Callers of a hanging engine get an error, and the process can end."""

    async def scenario() -> None:
        engine = FakeEngine()
        async with running(engine, hang_seconds=HANG_SECONDS) as runner:
            tasks = [submit(runner, 10), submit(runner, 20)]
            await started(engine)
            await runner.close()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [RunnerError, RunnerError]

    asyncio.run(scenario())


def test_a_loop_that_is_gone_does_not_end_a_worker() -> None:
    """An answer without anybody to take it is dropped."""
    engine = FakeEngine()
    runner = Runner(
        engine=engine,
        workers=1,
        queue_size=1,
        limits=ImageLimits(),
        infer_timeout_seconds=WAIT_SECONDS,
    )
    engine.gate.set()
    runner.warm_up()
    engine.gate.clear()

    async def leave() -> None:
        task = submit(runner, 10)
        for _ in range(3):
            assert await asyncio.to_thread(engine.started.acquire, timeout=WAIT_SECONDS)
        task.cancel()

    asyncio.run(leave())
    runner._watchdog = None
    engine.gate.set()

    async def come_back() -> None:
        assert await submit(runner, 20) == 20
        await runner.close()

    asyncio.run(come_back())


def test_a_waiting_worker_holds_no_image() -> None:
    """Otherwise each thread keeps the last one, up to 100 MB, until the next comes."""
    gone = threading.Event()

    async def scenario() -> None:
        engine = FakeEngine()
        async with running(engine) as runner:
            engine.gate.set()
            result = await runner.detect(image(100), Thresholds())
            weakref.finalize(result.image, gone.set)
            del result
            # The worker lets go a moment after it has handed the answer over.
            assert await asyncio.to_thread(gone.wait, WAIT_SECONDS)

    asyncio.run(scenario())
