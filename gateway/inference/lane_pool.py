"""Lanes for work on many images that is done before or without a runner: golden sets, gates, commands."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from gateway.inference.decode import ImageLimits
from gateway.inference.detect import InferenceResult, detect_one
from gateway.inference.engine import Engine, Lane
from gateway.inference.postprocess import Thresholds

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class LanePool:
    """An engine's lanes at its own input size, lent to whichever thread asks."""

    def __init__(self, engine: Engine, *, workers: int, limits: ImageLimits) -> None:
        """Open as many lanes as images run at a time."""
        self._limits = limits
        self.lanes = tuple(engine.open_lane(engine.input_sizes[0]) for _ in range(workers))
        self._free: queue.SimpleQueue[Lane] = queue.SimpleQueue()
        for lane in self.lanes:
            self._free.put(lane)
        self._cold = set(map(id, self.lanes))
        self._first_run = threading.Lock()

    def detect(self, unverified_body: bytes, thresholds: Thresholds) -> InferenceResult:
        """What is in one encoded image. Raises DecodeError for what is no image within limits, RunnerError."""
        lane = self._free.get()
        try:
            with self._alone_at_first(lane):
                return detect_one(lane, unverified_body, thresholds, limits=self._limits)
        finally:
            self._free.put(lane)

    def warm_up(self) -> None:
        """Run the lanes that have not run yet, one after the other. Raises RunnerError."""
        for lane in self.lanes:
            if id(lane) in self._cold:
                with self._alone_at_first(lane):
                    lane.warm_up()

    @contextmanager
    def _alone_at_first(self, lane: Lane) -> Iterator[None]:
        if id(lane) not in self._cold:
            yield
            return
        # First runs that specialise kernels at the same time are where engines hang.
        with self._first_run:
            yield
        self._cold.discard(id(lane))

    def map(self, work: Callable[[Item], Outcome], items: Iterable[Item]) -> Iterator[Outcome]:
        """The outcome of work for each item, in order, as many at a time as there are lanes."""
        with ThreadPoolExecutor(len(self.lanes)) as threads:
            yield from threads.map(work, items)
