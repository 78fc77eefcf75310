"""Light and colour of an image, from single pixels on a grid over the whole picture. Pure."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

MAX_GRID_PIXELS = 256  # the grid's longer side
DARK_BELOW = 16  # of 255: crushed shadows
BRIGHT_FROM = 240  # of 255: blown highlights
LEVEL_SHARE = 0.01  # of the pixels: specks, and dead pixels, are no level
EDGE_ROWS = 8  # of the grid, every so many rows and columns are looked along for edges
EDGE_LEVELS = 30  # of all three channels together: less may be noise
MIN_EDGES = 16
_NEIGHBOURHOOD = np.ones((MAX_GRID_PIXELS // 4 - 1, MAX_GRID_PIXELS // 4 - 1), np.uint8)
_SUM = np.ones((1, 3), np.float32)


def light_features(image: Image) -> dict[str, float]:
    """The features of light and colour. image: uint8 (h, w, 3) BGR, h, w >= 1."""
    grid = _grid(image)
    luma = cv2.cvtColor(grid, cv2.COLOR_BGR2GRAY)
    histogram = cv2.calcHist([luma], [0], None, [256], [0, 256]).ravel().astype(np.float64)
    return {**_levels(histogram / histogram.sum()), **_colours(grid), **_edge_casts(grid)}


def _levels(shares: NDArray[np.float64]) -> dict[str, float]:
    levels = np.arange(256.0)
    mean = float(shares @ levels)
    variance = float(shares @ (levels - mean) ** 2)
    used = shares[shares > 0]
    black, white = np.searchsorted(shares.cumsum(), (LEVEL_SHARE, 1 - LEVEL_SHARE)).tolist()
    return {
        "brightness": mean / 255,
        "contrast": math.sqrt(variance) / 255,
        "dark_share": float(shares[:DARK_BELOW].sum()),
        "bright_share": float(shares[BRIGHT_FROM:].sum()),
        "black_level": black / 255,
        "white_level": min(1.0, white / 255),
        "entropy": max(0.0, float(-(used @ np.log2(used)))),
    }


def _colours(grid: Image) -> dict[str, float]:
    blue, green, red = cv2.mean(grid)[:3]
    return {
        "saturation": _saturation(grid),
        # One level added on both sides keeps black images finite and leaves others as they are.
        "red_cast": math.log2((red + 1) / (green + 1)),
        "blue_cast": math.log2((blue + 1) / (green + 1)),
        "haze": _haze(grid),
    }


def _haze(grid: Image) -> float:
    # Something within a quarter of a clear picture is nearly black in one channel: a shadow, or a strong colour.
    blue, green, red = cv2.split(grid)
    darkest = cv2.erode(cv2.min(cv2.min(blue, green), red), _NEIGHBOURHOOD)
    return cv2.mean(darkest)[0] / 255


def _edge_casts(grid: Image) -> dict[str, float]:
    # Edges are mostly steps of light, whatever the colours beside them, so the usual ratio of a step's channels is the
    # light's own colour. Usual is the median: one red bus has many red edges.
    steps = _steps(grid)
    edges = np.zeros((0, 3), np.float32)
    if len(steps) > 0:
        is_edge = cv2.transform(steps, _SUM).ravel() > EDGE_LEVELS
        edges = steps[is_edge, 0].astype(np.float32) + 1
    if len(edges) < MIN_EDGES:
        return dict.fromkeys(("red_edge_cast", "blue_edge_cast"), 0.0)
    blue, green, red = edges.T
    return {
        "red_edge_cast": math.log2(_median(red / green)),
        "blue_edge_cast": math.log2(_median(blue / green)),
    }


def _steps(grid: Image) -> Image:
    """How each channel differs between neighbours along some rows and columns: uint8 (n, 1, 3)."""
    rows, columns = grid[::EDGE_ROWS], grid[:, ::EDGE_ROWS]
    steps = np.zeros((0, 1, 3), np.uint8)
    # OpenCV gives nothing, not an array of none, for images of one row or column.
    if grid.shape[1] > 1:
        steps = (
            cv2.absdiff(rows[:, 1:], rows[:, :-1]).reshape(-1, 1, 3).astype(np.uint8, copy=False)
        )
    if grid.shape[0] > 1:
        down = cv2.absdiff(columns[1:], columns[:-1]).reshape(-1, 1, 3)
        steps = np.concatenate((steps, down.astype(np.uint8, copy=False)))
    return steps


def _median(ratios: NDArray[np.float32]) -> float:
    middle = len(ratios) // 2
    return float(np.partition(ratios, middle)[middle])


def _saturation(grid: Image) -> float:
    # A ratio of sums: a mean of ratios would be ruled by the noise of dark pixels.
    blue, green, red = cv2.split(grid)
    brightest = cv2.mean(cv2.max(cv2.max(blue, green), red))[0]
    weakest = cv2.mean(cv2.min(cv2.min(blue, green), red))[0]
    return (brightest - weakest) / brightest if brightest > 0 else 0.0


def _grid(image: Image) -> Image:
    # Nearest neighbour on purpose: averaging would be thirty times slower and would take away contrast.
    height, width = image.shape[:2]
    step = -(-max(height, width) // MAX_GRID_PIXELS)
    if step == 1:
        return image
    size = (max(1, width // step), max(1, height // step))
    # OpenCV's stubs lose the type of the pixels.
    return cv2.resize(image, size, interpolation=cv2.INTER_NEAREST).astype(np.uint8, copy=False)
