"""Detail of an image: sharpness, noise, blocks and fineness, from the middle in full resolution. Pure.

Why not from a reduced copy: all of these live between neighbours, and any scaling destroys them.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

MAX_CROP_PIXELS = 256  # a multiple of 8
BLOCK_PIXELS = 8
# Rows down and columns right from a pixel to its neighbour: along, down and both diagonals.
_DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))
_FAR_PIXELS = 4
_STEP_LEVELS = 0.25  # in flat images the ratio of two tiny steps means nothing


def detail_features(image: Image) -> dict[str, float]:
    """The features of detail. image: uint8 (h, w, 3) BGR, h, w >= 1."""
    luma = _centre(image)
    laplacian = cv2.Laplacian(luma, cv2.CV_16S, ksize=1)
    deviation = float(cv2.meanStdDev(laplacian)[1][0, 0])
    fineness = [_fineness(luma, direction) for direction in _DIRECTIONS]
    return {
        "sharpness": math.log1p(deviation * deviation),
        "fineness": min(fineness),
        "fineness_spread": max(fineness) - min(fineness),
        "noise": _noise(luma),
        "blockiness": _blockiness(luma),
    }


def _centre(image: Image) -> Image:
    # Luma of the middle; its first pixel is the first of a JPEG block.
    height, width = image.shape[:2]
    top = max(0, height - MAX_CROP_PIXELS) // 2 // BLOCK_PIXELS * BLOCK_PIXELS
    left = max(0, width - MAX_CROP_PIXELS) // 2 // BLOCK_PIXELS * BLOCK_PIXELS
    crop = image[top : top + MAX_CROP_PIXELS, left : left + MAX_CROP_PIXELS]
    return _image(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY))


def _fineness(luma: Image, direction: tuple[int, int]) -> float:
    # Natural images have the same share of detail at all scales (Field 1987), so the steps to the next pixel against
    # those to a farther one hardly depend on the scene; whatever blurs along the direction takes the near ones first.
    near = _mean_step(luma, direction, pixels=1)
    far = _mean_step(luma, direction, pixels=_FAR_PIXELS)
    if near is None or far is None:
        return 0.0
    return math.log((near + _STEP_LEVELS) / (far + _STEP_LEVELS))


def _mean_step(luma: Image, direction: tuple[int, int], *, pixels: int) -> float | None:
    height, width = luma.shape
    down, right = direction[0] * pixels, direction[1] * pixels
    if height <= down or width <= abs(right):
        return None
    first = luma[: height - down, max(0, -right) : width - max(0, right)]
    second = luma[down:, max(0, right) : width - max(0, -right)]
    return float(cv2.norm(first, second, cv2.NORM_L1)) / first.size


def _noise(luma: Image) -> float:
    height, width = luma.shape
    if height < 3 or width < 3:
        return 0.0
    second_difference = np.array([1, -2, 1], dtype=np.float32)
    residual = cv2.sepFilter2D(luma, cv2.CV_16S, second_difference, second_difference)
    inner = residual[1:-1, 1:-1]
    return math.sqrt(math.pi / 2) / 6 * cv2.norm(inner, cv2.NORM_L1) / inner.size


def _blockiness(luma: Image) -> float:
    height, width = luma.shape
    steps = [np.zeros(0)]
    if width > 1:
        across = _image(cv2.absdiff(luma[:, 1:], luma[:, :-1]))
        steps.append(_line_sums(across, axis=0) / height)
    if height > 1:
        down = _image(cv2.absdiff(luma[1:], luma[:-1]))
        steps.append(_line_sums(down, axis=1) / width)
    at_borders = [line[BLOCK_PIXELS - 1 :: BLOCK_PIXELS] for line in steps]
    border_count = sum(len(line) for line in at_borders)
    other_count = sum(len(line) for line in steps) - border_count
    if border_count == 0:
        return 0.0
    border_sum = sum(float(line.sum()) for line in at_borders)
    other_sum = sum(float(line.sum()) for line in steps) - border_sum
    # One level added on both sides: in flat images the ratio of two tiny steps means nothing.
    return math.log((border_sum / border_count + 1) / (other_sum / other_count + 1))


def _line_sums(steps: Image, *, axis: int) -> NDArray[np.float64]:
    sums = cv2.reduce(steps, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
    return sums.ravel().astype(np.float64)


def _image(array: NDArray[np.generic]) -> Image:
    # OpenCV's stubs lose the type of the pixels.
    return array.astype(np.uint8, copy=False)
