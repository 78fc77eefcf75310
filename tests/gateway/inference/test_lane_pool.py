"""Lanes lent to threads: each to one at a time, and each alone in its first run."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.errors import Code, DecodeError, RunnerError
from gateway.inference.decode import ImageLimits
from gateway.inference.engine import Found
from gateway.inference.lane_pool import LanePool
from gateway.inference.postprocess import Thresholds
from gateway.store.records import Detections

WAIT_SECONDS = 20
IMAGE = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
NOTHING = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))


@dataclass
class FakeEngine:
    """An engine whose lanes say how many of them run at a time."""

    lanes: "list[FakeLane]" = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    together: threading.Barrier | None = None
    name: str = "fake"
    precision: str = "f32"
    task: str = "detect"
    versions: Mapping[str, str] = field(default_factory=dict)
    input_sizes: tuple[tuple[int, int], ...] = ((32, 32), (64, 64))

    def open_lane(self, size: tuple[int, int]) -> "FakeLane":
        """A lane of this engine."""
        self.lanes.append(FakeLane(self, size))
        return self.lanes[-1]


@dataclass
class FakeLane:
    """A lane that finds nothing, and counts."""

    engine: FakeEngine
    size: tuple[int, int]
    runs: int = 0
    is_failing: bool = False
    decode_covers: tuple[int, int] | None = None

    def find(
        self, image: NDArray[np.uint8], thresholds: Thresholds, *, image_shape: tuple[int, int]
    ) -> Found:
        """Meet the other lanes, if that is wanted."""
        with self.engine.lock:
            self.engine.running += 1
            self.engine.most_running = max(self.engine.most_running, self.engine.running)
        if self.engine.together is not None:
            self.engine.together.wait(WAIT_SECONDS)
        with self.engine.lock:
            self.engine.running -= 1
        self.runs += 1
        if self.is_failing:
            raise RunnerError(Code.RUNNER_FAILED, "it fails")
        return Found(NOTHING, None, 0.0, 0.0, 0.0)

    def warm_up(self) -> None:
        """A run like any other."""
        self.find(np.zeros((8, 8, 3), np.uint8), Thresholds(), image_shape=(8, 8))


def pool_of(engine: FakeEngine, workers: int = 2) -> LanePool:
    """A pool of so many lanes."""
    return LanePool(engine, workers=workers, limits=ImageLimits())


def look(pool: LanePool, count: int) -> None:
    """Look at so many images, as many at a time as there are lanes."""
    assert count == len(
        list(pool.map(lambda body: pool.detect(body, Thresholds()), [IMAGE] * count))
    )


def test_lanes_are_opened_at_the_default_size() -> None:
    """As many as images run at a time."""
    engine = FakeEngine()
    pool_of(engine, workers=3)
    assert [(32, 32)] * 3 == [lane.size for lane in engine.lanes]


def test_first_runs_are_one_after_the_other() -> None:
    """Where kernels are specialised at the same time, engines hang."""
    engine = FakeEngine()
    look(pool_of(engine), 2)
    assert [1, 1, 1] == [engine.most_running, *(lane.runs for lane in engine.lanes)]


def test_later_runs_are_beside_each_other() -> None:
    """Both lanes meet at the barrier, which only two at a time can pass."""
    engine = FakeEngine()
    pool = pool_of(engine)
    pool.warm_up()
    engine.together = threading.Barrier(2)
    look(pool, 4)
    assert 2 == engine.most_running


def test_lanes_that_have_run_are_warm() -> None:
    """Warming up runs the others only, and once."""
    engine = FakeEngine()
    pool = pool_of(engine)
    pool.detect(IMAGE, Thresholds())
    pool.warm_up()
    pool.warm_up()
    assert [1, 1] == [lane.runs for lane in engine.lanes]


def test_a_lane_comes_back_after_a_failure() -> None:
    """One bad image does not shrink the pool."""
    engine = FakeEngine()
    pool = pool_of(engine, workers=1)
    with pytest.raises(DecodeError):
        pool.detect(b"no image", Thresholds())
    engine.lanes[0].is_failing = True
    with pytest.raises(RunnerError):
        pool.detect(IMAGE, Thresholds())
    engine.lanes[0].is_failing = False
    look(pool, 2)
