"""Lanes for commands that look at many images: as many at a time as the engine was opened for."""

import queue
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gateway.inference.decode import ImageLimits
from gateway.inference.detect import InferenceResult, detect_one
from gateway.inference.engine import Engine, Lane
from gateway.inference.postprocess import Thresholds

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class LanePool:
    """An engine's lanes at its own input size, warmed up, lent to whichever thread asks."""

    def __init__(self, engine: Engine, *, workers: int, limits: ImageLimits) -> None:
        """Open and warm up as many lanes as images run at a time. Raises RunnerError if the network does not run."""
        self._limits = limits
        self._workers = workers
        self._lanes: queue.SimpleQueue[Lane] = queue.SimpleQueue()
        for _ in range(workers):
            lane = engine.open_lane(engine.input_sizes[0])
            lane.warm_up()
            self._lanes.put(lane)

    def detect(self, unverified_body: bytes, thresholds: Thresholds) -> InferenceResult:
        """What is in one encoded image. Raises DecodeError for what is no image within limits, RunnerError."""
        lane = self._lanes.get()
        try:
            return detect_one(lane, unverified_body, thresholds, limits=self._limits)
        finally:
            self._lanes.put(lane)

    def map(self, work: Callable[[Item], Outcome], items: Iterable[Item]) -> Iterator[Outcome]:
        """The outcome of work for each item, in order, as many at a time as there are lanes."""
        with ThreadPoolExecutor(self._workers) as threads:
            yield from threads.map(work, items)
