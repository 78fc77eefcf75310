"""A lane for networks that read a canvas and give a head: all but the running is the same for all.

Rules: the engine's own part is one call that turns the canvas's pixels into numbers; everything else is here, once.
"""

from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gateway.inference.engine import Found
from gateway.inference.postprocess import Thresholds, find_detections
from gateway.inference.preprocess import Canvas


@dataclass(frozen=True, slots=True)
class Outputs:
    """A network's numbers for one canvas, valid until the next run.

    head: float32 (1, 4 + classes, n) or (1, n, 6). feature: float32 (1, C), or None.
    """

    head: NDArray[np.float32]
    feature: NDArray[np.float32] | None


class Request(Protocol):
    """One open request of an engine, bound to the canvas it was opened with."""

    def infer(self) -> Outputs:
        """Run the network over the canvas as it is now. Raises RunnerError."""
        ...


class CanvasLane:
    """A canvas and the request that reads it; for one thread at a time."""

    def __init__(
        self, canvas: Canvas, request: Request, *, is_decode_reduced: bool = False
    ) -> None:
        self.canvas = canvas
        self.request = request
        self._decode_covers = canvas.shape if is_decode_reduced else None

    @property
    def decode_covers(self) -> tuple[int, int] | None:
        """The canvas (height, width) that a reduced decode still has to cover; None asks for every pixel."""
        return self._decode_covers

    def find(
        self,
        image: NDArray[np.uint8],
        thresholds: Thresholds,
        *,
        image_shape: tuple[int, int],
    ) -> Found:
        """Place an image, uint8 (h, w, 3) BGR, on the canvas, infer, suppress.

        image_shape: (height, width) of the image as it was sent; boxes are in its pixels. Raises RunnerError.
        """
        start = perf_counter()
        fit = self.canvas.place(image, image_shape=image_shape)
        placed = perf_counter()
        outputs = self.request.infer()
        inferred = perf_counter()
        detections = find_detections(outputs.head, thresholds=thresholds, fit=fit)
        # A copy, because the next image overwrites the engine's memory while the sampler still reads this.
        embedding = None if outputs.feature is None else outputs.feature[0].copy()
        end = perf_counter()
        return Found(
            detections=detections,
            embedding=embedding,
            preprocess_milliseconds=(placed - start) * 1e3,
            inference_milliseconds=(inferred - placed) * 1e3,
            postprocess_milliseconds=(end - inferred) * 1e3,
        )

    def warm_up(self) -> None:
        """Run the network once over the canvas as it is. Raises RunnerError."""
        self.request.infer()
