"""An image of any size onto the fixed canvas that a network sees.

Rules: geometry and pixels equal Ultralytics' LetterBox for static shapes (centred, grey 114, bilinear, enlarging too);
one pass over the pixels, straight into a buffer that the engine reads. Colour order, scale and layout are the
engine's work, inside the compiled network.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

PADDING = 114
# What stands in sealed headers: a model sealed for other steps than these answers other boxes.
PREPROCESSING = "letterbox centred, bilinear, grey 114; RGB; 0..1"


@dataclass(frozen=True, slots=True)
class Fit:
    """Where an image lies on a canvas; all in pixels, shapes as (height, width)."""

    image_shape: tuple[int, int]
    resized_shape: tuple[int, int]
    top: int
    left: int


def fit_image(image_shape: tuple[int, int], canvas_shape: tuple[int, int]) -> Fit:
    """The largest centred placement that keeps the aspect ratio, each side at least one pixel.

    Source: Ultralytics 8.4 LetterBox.get_params and scale_boxes, whose rounding (half to even, pads less 0.1) is kept.
    """
    (height, width), (canvas_height, canvas_width) = image_shape, canvas_shape
    ratio = min(canvas_height / height, canvas_width / width)
    resized_height, resized_width = max(round(height * ratio), 1), max(round(width * ratio), 1)
    return Fit(
        image_shape=image_shape,
        resized_shape=(resized_height, resized_width),
        top=round((canvas_height - resized_height) / 2 - 0.1),
        left=round((canvas_width - resized_width) / 2 - 0.1),
    )


class Canvas:
    """The input of one engine request, reused from image to image; for one thread at a time.

    pixels: uint8 (H, W, 3), BGR, C-contiguous, the same memory for the canvas's whole life.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.pixels: NDArray[np.uint8] = np.full((*shape, 3), PADDING, np.uint8)
        self._covered = (0, 0, 0, 0)

    def place(self, image: NDArray[np.uint8], *, image_shape: tuple[int, int] | None = None) -> Fit:
        """Resize an image, uint8 (h, w, 3) BGR, onto the canvas and grey the rest.

        image_shape: (height, width) of the whole image, if this is a reduced copy of it; the fit is the whole one's.
        """
        shape = (image.shape[0], image.shape[1])
        fit = fit_image(image_shape or shape, self.shape)
        (height, width), top, left = fit.resized_shape, fit.top, fit.left
        area = (top, left, height, width)
        if area != self._covered:
            # The last image reached elsewhere. Images of one camera never do, and skip this.
            self.pixels[:] = PADDING
            self._covered = area
        target = self.pixels[top : top + height, left : left + width]
        if shape == fit.resized_shape:
            np.copyto(target, image)
        else:
            cv2.resize(image, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
        return fit
