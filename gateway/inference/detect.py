"""One encoded image to its detections, in the calling thread.

Rules: this is the only path from bytes to boxes; the runner, benchmarks and commands all take it.
"""

from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from gateway.inference.decode import ImageLimits, decode_covering
from gateway.inference.engine import Lane
from gateway.inference.postprocess import Thresholds
from gateway.store.records import Detections


@dataclass(frozen=True, slots=True)
class InferenceResult:
    """What was found in one image, the image itself, and where the time went.

    image: uint8 (h, w, 3), BGR, as it was decoded. image_shape: (height, width) of the image as it was sent, which
    boxes refer to and of which h and w are a fraction if the model's decode is reduced: features of pixels come from
    the decoded image. embedding: float32 (C,), the network's pooled feature, None if it has none. The stages do not
    overlap; queue_milliseconds is 0 outside the runner.
    """

    detections: Detections
    image: NDArray[np.uint8]
    image_shape: tuple[int, int]
    decode_milliseconds: float
    preprocess_milliseconds: float
    inference_milliseconds: float
    postprocess_milliseconds: float
    queue_milliseconds: float = 0.0
    embedding: NDArray[np.float32] | None = None


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
    decoded = decode_covering(unverified_body, limits, canvas_shape=lane.decode_covers)
    decode_milliseconds = (perf_counter() - start) * 1e3
    found = lane.find(decoded.pixels, thresholds, image_shape=decoded.image_shape)
    return InferenceResult(
        detections=found.detections,
        image=decoded.pixels,
        image_shape=decoded.image_shape,
        decode_milliseconds=decode_milliseconds,
        preprocess_milliseconds=found.preprocess_milliseconds,
        inference_milliseconds=found.inference_milliseconds,
        postprocess_milliseconds=found.postprocess_milliseconds,
        queue_milliseconds=queue_milliseconds,
        embedding=found.embedding,
    )
