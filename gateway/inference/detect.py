"""One encoded image to its detections, in the calling thread.

Rules: this is the only path from bytes to boxes; the runner, benchmarks and commands all take it.
"""

from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from gateway.inference.decode import ImageLimits, decode_image
from gateway.inference.engine import Engine, EngineRequest
from gateway.inference.postprocess import Thresholds, find_detections
from gateway.inference.preprocess import Canvas
from gateway.store.records import Detections


@dataclass(frozen=True, slots=True)
class Lane:
    """An open engine request and the canvas it reads; for one thread at a time."""

    canvas: Canvas
    request: EngineRequest


@dataclass(frozen=True, slots=True)
class InferenceResult:
    """What was found in one image, the image itself, and where the time went.

    image: uint8 (H, W, 3), BGR. The decode is part of preprocess_milliseconds; queue_milliseconds is 0 outside the
    runner.
    """

    detections: Detections
    image: NDArray[np.uint8]
    decode_milliseconds: float
    preprocess_milliseconds: float
    inference_milliseconds: float
    postprocess_milliseconds: float
    queue_milliseconds: float = 0.0

    @property
    def image_shape(self) -> tuple[int, int]:
        """(height, width), pixels."""
        return self.image.shape[0], self.image.shape[1]


def open_lane(engine: Engine, size: tuple[int, int]) -> Lane:
    """A lane for one of the engine's input sizes (height, width)."""
    canvas = Canvas(size)
    return Lane(canvas, engine.open_request(canvas.pixels))


def detect_one(
    lane: Lane,
    unverified_body: bytes,
    thresholds: Thresholds,
    *,
    limits: ImageLimits,
    queue_milliseconds: float = 0.0,
) -> InferenceResult:
    """Decode, place, infer, postprocess.

    Raises DecodeError for what is not an image within limits, RunnerError if the engine fails.
    """
    start = perf_counter()
    image = decode_image(unverified_body, limits)
    decoded = perf_counter()
    fit = lane.canvas.place(image)
    placed = perf_counter()
    head = lane.request.infer()
    inferred = perf_counter()
    detections = find_detections(head, thresholds=thresholds, fit=fit)
    end = perf_counter()
    return InferenceResult(
        detections=detections,
        image=image,
        decode_milliseconds=(decoded - start) * 1e3,
        preprocess_milliseconds=(placed - start) * 1e3,
        inference_milliseconds=(inferred - placed) * 1e3,
        postprocess_milliseconds=(end - inferred) * 1e3,
        queue_milliseconds=queue_milliseconds,
    )
