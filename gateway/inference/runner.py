"""Worker threads between the event loop and the engine.

Rules: one hop: decode, placing, inference and suppression of an image run in one worker, beside others, because all
of it leaves the interpreter lock; the queue is bounded in images and in time, and one that is full or too slow refuses
at once; an image whose caller went away, or that waited longer than it may, is never started; an engine that does not
return is reported, not waited for. All methods but the workers' own run on one event loop.
"""

import asyncio
import itertools
import logging
import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

import cv2

from gateway.errors import (
    Code,
    GatewayError,
    OverloadedError,
    RequestError,
    RunnerError,
    ServiceError,
)
from gateway.inference.decode import ImageLimits
from gateway.inference.detect import InferenceResult, detect_one
from gateway.inference.engine import Engine, Lane
from gateway.inference.postprocess import Thresholds

__all__ = ["InferenceResult", "Runner"]

MAX_RETRY_AFTER_SECONDS = 60
# Each new image moves the estimate of how long one takes by this share.
_SPEED_SHARE = 0.1
# How long threads that have no image may take to end.
_START_SECONDS = 5.0

_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Job:
    """One image on its way. deadline: when it must have been started. started_at: set by the worker, under the lock."""

    body: bytes
    thresholds: Thresholds
    size: tuple[int, int]
    queued_at: float
    deadline: float
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[InferenceResult]
    started_at: float | None = None


@dataclass(eq=False, slots=True)
class _Worker:
    """One thread's lanes by input size, and what it is busy with."""

    lanes: dict[tuple[int, int], Lane]
    thread: threading.Thread | None = None
    job: _Job | None = None
    is_stuck: bool = False


@dataclass(slots=True)
class _State:
    """What loop and workers share; touched under the lock only."""

    pending: deque[_Job] = field(default_factory=deque)
    seconds_per_image: float | None = None
    is_closing: bool = False


class Runner:
    """The detector as the event loop sees it. Order of life: construct, warm_up, detect..., close."""

    def __init__(
        self,
        *,
        engine: Engine,
        workers: int,
        queue_size: int,
        limits: ImageLimits,
        infer_timeout_seconds: float,
        request_timeout_seconds: float = math.inf,
        warm_lanes: Sequence[Lane] = (),
    ) -> None:
        """Open the engine's lanes; nothing runs yet.

        workers: >= 1, as many as the engine was compiled for. queue_size: images that wait while all workers are
        busy, >= 1. infer_timeout_seconds: from a worker's start on an image to its answer. request_timeout_seconds:
        from detect's call to a worker's start, where the call does not say. warm_lanes: lanes for the default size that
        are open and have run, taken over in place of new ones.
        """
        # OpenCV would spread one resize over all cores, which the other workers are using.
        cv2.setNumThreads(1)
        # It would write a line for every damaged image, of which a caller may send any number.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        self._limits = limits
        self._queue_size = queue_size
        self._timeout_seconds = infer_timeout_seconds
        self._deadline_seconds = request_timeout_seconds
        self._sizes = engine.input_sizes
        self._warm_lanes = tuple(warm_lanes)
        default_lanes = itertools.chain(
            warm_lanes, map(engine.open_lane, itertools.repeat(self._sizes[0]))
        )
        self._workers = [
            _Worker(
                {self._sizes[0]: next(default_lanes)}
                | {size: engine.open_lane(size) for size in self._sizes[1:]}
            )
            for _ in range(workers)
        ]
        self._condition = threading.Condition()
        self._state = _State()
        self._watchdog: asyncio.TimerHandle | None = None

    @property
    def image_sizes(self) -> tuple[tuple[int, int], ...]:
        """The sizes (height, width) that detect takes, the default first."""
        return self._sizes

    @property
    def queue_depth(self) -> int:
        """Images that wait for a worker."""
        return len(self._state.pending)

    @property
    def is_ready(self) -> bool:
        """True from warm-up to close, while no worker is stuck in the engine."""
        has_threads = all(worker.thread is not None for worker in self._workers)
        return has_threads and not self._state.is_closing and not self._stuck()

    def warm_up(self) -> None:
        """Run every lane once, one after the other, then start the workers.

        Serially, because first runs that specialise kernels at the same time are where engines hang.
        Raises RunnerError if a lane fails, and what the system raises where it gives no thread; none is left then.
        """
        for worker in self._workers:
            for lane in worker.lanes.values():
                if lane not in self._warm_lanes:
                    lane.warm_up()
        try:
            for number, worker in enumerate(self._workers):
                # A daemon: a thread that hangs in the engine must not keep the process from ending.
                thread = threading.Thread(
                    target=self._work, args=(worker,), name=f"runner-{number}", daemon=True
                )
                thread.start()
                worker.thread = thread
        except BaseException:
            # Nobody gets this runner to close it, and its threads would hold the engine's memory for ever.
            self._end_threads(_START_SECONDS)
            raise

    async def detect(
        self,
        unverified_body: bytes,
        thresholds: Thresholds,
        image_size_pixels: int | None = None,
        *,
        deadline_seconds: float | None = None,
    ) -> InferenceResult:
        """What is in one encoded image.

        image_size_pixels: the side of the square that the network sees; None is the model's own size.
        deadline_seconds: from now to a worker's start on the image; None is the runner's own.
        Raises DecodeError for what is not an image within limits, RequestError for a size that is not compiled,
        OverloadedError at once if the queue is full or so slow that the image would miss its deadline, and when it
        has missed it; RunnerError if the engine fails or takes too long, ServiceError with NOT_READY before warm-up
        and after close.
        """
        size = self._size(image_size_pixels)
        loop = asyncio.get_running_loop()
        wait_seconds = self._deadline_seconds if deadline_seconds is None else deadline_seconds
        now = monotonic()
        future: asyncio.Future[InferenceResult] = loop.create_future()
        job = _Job(unverified_body, thresholds, size, now, now + wait_seconds, loop, future)
        self._queue(job)
        if self._watchdog is None:
            self._watchdog = loop.call_later(self._timeout_seconds, self._watch, loop)
        timer = (
            loop.call_later(wait_seconds, self._expire, job) if wait_seconds < math.inf else None
        )
        try:
            return await future
        finally:
            if timer is not None:
                timer.cancel()
            if future.cancelled():
                self._withdraw(job)

    async def close(self) -> None:
        """Take no more images, answer those already taken, in order, and end the workers that still return."""
        timeout_seconds = self._timeout_seconds + self._drain_seconds()
        await asyncio.to_thread(self._end_threads, timeout_seconds)
        self._fail_pending("runner_failed: closed")
        for job in [worker.job for worker in self._workers if worker.job is not None]:
            _settle(job, _timed_out())
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    def _end_threads(self, timeout_seconds: float) -> None:
        with self._condition:
            self._state.is_closing = True
            self._condition.notify_all()
        threads = [worker.thread for worker in self._workers if worker.thread is not None]
        _join(threads, timeout_seconds)

    def _size(self, image_size_pixels: int | None) -> tuple[int, int]:
        if image_size_pixels is None:
            return self._sizes[0]
        size = (image_size_pixels, image_size_pixels)
        if size not in self._sizes:
            taken = ", ".join(str(width) for height, width in self._sizes if height == width)
            raise RequestError(
                Code.PARAMETER_INVALID,
                f"imgsz {image_size_pixels} is not served by this model: leave it out"
                + (f" or send one of {taken}" if taken else ""),
            )
        return size

    def _queue(self, job: _Job) -> None:
        with self._condition:
            if self._state.is_closing or self._workers[0].thread is None:
                raise ServiceError(Code.NOT_READY, "the detector is not ready")
            if len(self._stuck()) == len(self._workers):
                raise RunnerError(
                    Code.RUNNER_FAILED,
                    "the detector does not answer",
                    reason="runner_failed: stuck",
                )
            if len(self._state.pending) >= self._queue_size:
                raise OverloadedError(
                    "all workers are busy and the queue is full: try again later",
                    retry_after_seconds=self._retry_after_seconds(),
                )
            if self._wait_seconds() > job.deadline - job.queued_at:
                raise self._too_slow("overloaded: would wait too long")
            self._state.pending.append(job)
            self._condition.notify()

    def _drain_seconds(self) -> float:
        per_image = self._state.seconds_per_image or 0.0
        return len(self._state.pending) * per_image / len(self._workers)

    def _wait_seconds(self) -> float:
        """How long one more image would probably wait; nothing while a worker is free, however slow the last were."""
        working = len(self._workers) - len(self._stuck())
        busy = sum(worker.job is not None and not worker.is_stuck for worker in self._workers)
        ahead = max(len(self._state.pending) + 1 - (working - busy), 0)
        return ahead * (self._state.seconds_per_image or 0.0) / working

    def _too_slow(self, reason: str) -> OverloadedError:
        return OverloadedError(
            "the image would wait longer for a worker than a request may: try again later",
            retry_after_seconds=self._retry_after_seconds(),
            reason=reason,
        )

    def _expire(self, job: _Job) -> None:
        self._withdraw(job)
        if job.started_at is None:
            _settle(job, self._too_slow("overloaded: waited too long"))

    def _retry_after_seconds(self) -> int:
        return min(max(math.ceil(self._drain_seconds()), 1), MAX_RETRY_AFTER_SECONDS)

    def _withdraw(self, job: _Job) -> None:
        with self._condition:
            if job in self._state.pending:
                self._state.pending.remove(job)

    def _stuck(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.is_stuck]

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Report images that took too long, then look again when the next one could have.

        One timer in any timeout's length, not one an image.
        """
        now = monotonic()
        with self._condition:
            jobs = [(worker, worker.job) for worker in self._workers if worker.job is not None]
            deadlines = []
            for worker, job in jobs:
                deadline = (job.started_at or now) + self._timeout_seconds
                if deadline <= now:
                    worker.is_stuck = True
                    _settle(job, _timed_out())
                else:
                    deadlines.append(deadline)
            are_all_stuck = len(self._stuck()) == len(self._workers)
            if self._state.pending and not are_all_stuck:
                deadlines.append(now + self._timeout_seconds)
        if are_all_stuck:
            self._fail_pending("runner_failed: stuck")
        self._watchdog = (
            loop.call_later(min(deadlines) - now, self._watch, loop) if deadlines else None
        )

    def _fail_pending(self, reason: str) -> None:
        with self._condition:
            jobs = list(self._state.pending)
            self._state.pending.clear()
        for job in jobs:
            _settle(
                job, RunnerError(Code.RUNNER_FAILED, "the detector does not answer", reason=reason)
            )

    def _work(self, worker: _Worker) -> None:
        while (job := self._next_job(worker)) is not None:
            outcome = self._run(worker, job)
            self._finish(worker, job)
            _hand_over(job, outcome)
            del job, outcome  # a thread that waits would hold its last image, up to 100 MB

    def _next_job(self, worker: _Worker) -> _Job | None:
        with self._condition:
            while True:
                while not self._state.pending:
                    if self._state.is_closing:
                        return None
                    self._condition.wait()
                job = self._state.pending.popleft()
                now = monotonic()
                # Between a caller's going and the loop's next turn its image is still in the queue.
                if job.future.cancelled():
                    continue
                if now > job.deadline:
                    # The loop is late with its own timer: whoever waits is told by this one.
                    _hand_over(job, self._too_slow("overloaded: waited too long"))
                    continue
                job.started_at = now
                worker.job = job
                return job

    def _run(self, worker: _Worker, job: _Job) -> InferenceResult | GatewayError:
        waited_seconds = (job.started_at or job.queued_at) - job.queued_at
        try:
            return detect_one(
                worker.lanes[job.size],
                job.body,
                job.thresholds,
                limits=self._limits,
                queue_milliseconds=waited_seconds * 1e3,
            )
        except GatewayError as exc:
            return exc
        except Exception:  # noqa: BLE001  (the worker's top loop: it has to outlive every image)
            _log.exception("runner_failed")
            return RunnerError(Code.RUNNER_FAILED, "the detector failed on this image")

    def _finish(self, worker: _Worker, job: _Job) -> None:
        now = monotonic()
        with self._condition:
            worker.job = None
            # A call that came back after all proves that the worker lives.
            worker.is_stuck = False
            seconds = now - (job.started_at or now)
            known = self._state.seconds_per_image
            self._state.seconds_per_image = (
                seconds if known is None else known + _SPEED_SHARE * (seconds - known)
            )


def _hand_over(job: _Job, outcome: InferenceResult | GatewayError) -> None:
    try:
        job.loop.call_soon_threadsafe(_settle, job, outcome)
    except RuntimeError:
        # The loop was closed without closing the runner: nobody is left to answer.
        _log.warning("runner_answer_dropped")


def _settle(job: _Job, outcome: InferenceResult | GatewayError) -> None:
    if job.future.done():
        return
    if isinstance(outcome, GatewayError):
        job.future.set_exception(outcome)
    else:
        job.future.set_result(outcome)


def _timed_out() -> RunnerError:
    return RunnerError(
        Code.RUNNER_FAILED, "the detector took too long", reason="runner_failed: timeout"
    )


def _join(threads: Sequence[threading.Thread], timeout_seconds: float) -> None:
    end = monotonic() + timeout_seconds
    for thread in threads:
        thread.join(max(end - monotonic(), 0))
