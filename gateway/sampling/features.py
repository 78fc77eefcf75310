"""Numbers about one image and what was found in it. Pure; FEATURES documents each.

Rules: every number is finite, for any image from 1x1 up; a number that does not exist is None; names are
lower_case_words and never depend on the model, so that samples of two versions compare. How many boxes each class has
is not repeated here: the sample's detections say it.

Two small views make this cheap. Colour and light come from single pixels on a regular grid over the whole picture,
whose statistics are those of all pixels. Sharpness, noise and blocks live between neighbours, and any scaling destroys
them, so they come from a crop of the middle in full resolution, cut on the 8x8 grid of JPEG.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway.store.records import Detections

Image = NDArray[np.uint8]

MAX_GRID_PIXELS = 256  # the grid's longer side
MAX_CROP_PIXELS = 256  # a multiple of 8
BLOCK_PIXELS = 8
DARK_BELOW = 16  # of 255: crushed shadows
BRIGHT_FROM = 240  # of 255: blown highlights
LOW_CONFIDENCE = 0.5


class FeatureKind(StrEnum):
    """What a feature describes."""

    IMAGE = "image"
    DETECTIONS = "detections"


@dataclass(frozen=True, slots=True)
class Feature:
    """What a number means. meaning says what it is when larger; optional ones are None without boxes."""

    name: str
    kind: FeatureKind
    unit: str
    minimum: float
    maximum: float
    meaning: str
    is_optional: bool = False


_INF = math.inf
_IMAGE, _BOXES = FeatureKind.IMAGE, FeatureKind.DETECTIONS

# Sources. noise: Immerkær, "Fast noise variance estimation", CVIU 64(2), 1996, eq. 3. sharpness: the logarithm of
# Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000. blockiness: steps at the borders of
# JPEG blocks against steps elsewhere, after Wang, Sheikh and Bovik, "No-reference perceptual quality assessment of
# JPEG compressed images", ICIP 2002. Luma: ITU-R BT.601. The others are plain statistics.
FEATURES: tuple[Feature, ...] = (
    Feature("width", _IMAGE, "pixels", 1, _INF, "wider"),
    Feature("height", _IMAGE, "pixels", 1, _INF, "taller"),
    Feature("aspect_ratio", _IMAGE, "width / height", 0, _INF, "wider for its height"),
    Feature("bits_per_pixel", _IMAGE, "bits", 0, _INF, "less compressed, or richer in detail"),
    Feature("brightness", _IMAGE, "mean luma / 255", 0, 1, "brighter"),
    Feature("contrast", _IMAGE, "deviation of luma / 255", 0, 0.5, "richer in contrast"),
    Feature("dark_share", _IMAGE, "share of pixels", 0, 1, "more crushed shadows"),
    Feature("bright_share", _IMAGE, "share of pixels", 0, 1, "more blown highlights"),
    Feature("entropy", _IMAGE, "bits of luma", 0, 8, "more levels of grey in use"),
    Feature("saturation", _IMAGE, "chroma / brightest channel", 0, 1, "more colourful"),
    Feature("red_cast", _IMAGE, "log2 (red / green)", -8, 8, "redder"),
    Feature("blue_cast", _IMAGE, "log2 (blue / green)", -8, 8, "bluer"),
    Feature("sharpness", _IMAGE, "ln (1 + variance)", 0, 14, "sharper"),
    Feature("noise", _IMAGE, "grey levels", 0, 427, "noisier"),
    Feature("blockiness", _IMAGE, "ln of a ratio", -6, 6, "more heavily compressed as JPEG"),
    Feature("detection_count", _BOXES, "boxes", 0, _INF, "more found"),
    Feature("class_variety", _BOXES, "classes", 0, _INF, "more kinds found"),
    Feature("mean_confidence", _BOXES, "ratio", 0, 1, "surer", is_optional=True),
    Feature("max_confidence", _BOXES, "ratio", 0, 1, "surer of the best box", is_optional=True),
    Feature(
        "confidence_spread", _BOXES, "ratio", 0, 0.5, "less alike in confidence", is_optional=True
    ),
    Feature("low_confidence_share", _BOXES, "share of boxes", 0, 1, "less sure", is_optional=True),
    Feature(
        "mean_box_area", _BOXES, "share of the image", 0, 1, "larger or nearer", is_optional=True
    ),
    Feature("mean_box_x", _BOXES, "share of the width", 0, 1, "further right", is_optional=True),
    Feature("mean_box_y", _BOXES, "share of the height", 0, 1, "further down", is_optional=True),
    Feature(
        "mean_box_aspect", _BOXES, "log2 (width / height)", -32, 32, "flatter", is_optional=True
    ),
)

FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)


def image_features(
    image: Image, *, encoded_bytes: int, image_shape: tuple[int, int] | None = None
) -> dict[str, float]:
    """The features of kind image.

    image: uint8 (H, W, 3) BGR, H, W >= 1. encoded_bytes: length of the file it was decoded from, >= 0. image_shape:
    (height, width) of the file's image if this is a reduced copy, whose light, colour and detail are then measured.
    """
    height, width = image_shape or image.shape[:2]
    return {
        "width": float(width),
        "height": float(height),
        "aspect_ratio": width / height,
        "bits_per_pixel": 8.0 * encoded_bytes / (width * height),
        **_light_and_colour(_grid(image)),
        **_detail(_centre(image)),
    }


def detection_features(
    detections: Detections, *, width: int, height: int
) -> dict[str, float | None]:
    """The features of kind detections. width, height: of the image, pixels, >= 1."""
    count = len(detections)
    numbers: dict[str, float | None] = {
        "detection_count": float(count),
        "class_variety": float(len(set(detections.class_ids.tolist()))),
    }
    if count == 0:
        return numbers | dict.fromkeys(f.name for f in FEATURES if f.is_optional)
    confidences = detections.confidences.astype(np.float64)
    x1, y1, x2, y2 = detections.boxes_xyxy.astype(np.float64).T
    box_width, box_height = x2 - x1, y2 - y1
    # Boxes thinner than a pixel count as one pixel: a ratio against nothing says nothing.
    aspect = np.log2(np.maximum(box_width, 1.0) / np.maximum(box_height, 1.0))
    return numbers | {
        "mean_confidence": float(confidences.mean()),
        "max_confidence": float(confidences.max()),
        "confidence_spread": float(confidences.std()),
        "low_confidence_share": float((confidences < LOW_CONFIDENCE).mean()),
        "mean_box_area": float((box_width * box_height).mean()) / (width * height),
        "mean_box_x": float((x1 + x2).mean()) / (2 * width),
        "mean_box_y": float((y1 + y2).mean()) / (2 * height),
        "mean_box_aspect": float(aspect.mean()),
    }


def _grid(image: Image) -> Image:
    # Nearest neighbour on purpose: averaging would be thirty times slower and would take away contrast.
    height, width = image.shape[:2]
    step = -(-max(height, width) // MAX_GRID_PIXELS)
    if step == 1:
        return image
    size = (max(1, width // step), max(1, height // step))
    return _image(cv2.resize(image, size, interpolation=cv2.INTER_NEAREST))


def _centre(image: Image) -> Image:
    # Luma of the middle; its first pixel is the first of a JPEG block.
    height, width = image.shape[:2]
    top = max(0, height - MAX_CROP_PIXELS) // 2 // BLOCK_PIXELS * BLOCK_PIXELS
    left = max(0, width - MAX_CROP_PIXELS) // 2 // BLOCK_PIXELS * BLOCK_PIXELS
    crop = image[top : top + MAX_CROP_PIXELS, left : left + MAX_CROP_PIXELS]
    return _image(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY))


def _light_and_colour(grid: Image) -> dict[str, float]:
    luma = cv2.cvtColor(grid, cv2.COLOR_BGR2GRAY)
    histogram = cv2.calcHist([luma], [0], None, [256], [0, 256]).ravel().astype(np.float64)
    shares = histogram / histogram.sum()
    levels = np.arange(256.0)
    mean = float(shares @ levels)
    variance = float(shares @ (levels - mean) ** 2)
    used = shares[shares > 0]
    blue, green, red = cv2.mean(grid)[:3]
    return {
        "brightness": mean / 255,
        "contrast": math.sqrt(variance) / 255,
        "dark_share": float(shares[:DARK_BELOW].sum()),
        "bright_share": float(shares[BRIGHT_FROM:].sum()),
        "entropy": max(0.0, float(-(used @ np.log2(used)))),
        "saturation": _saturation(grid),
        # One level added on both sides keeps black images finite and leaves others as they are.
        "red_cast": math.log2((red + 1) / (green + 1)),
        "blue_cast": math.log2((blue + 1) / (green + 1)),
    }


def _saturation(grid: Image) -> float:
    # A ratio of sums: a mean of ratios would be ruled by the noise of dark pixels.
    blue, green, red = cv2.split(grid)
    brightest = cv2.mean(cv2.max(cv2.max(blue, green), red))[0]
    weakest = cv2.mean(cv2.min(cv2.min(blue, green), red))[0]
    return (brightest - weakest) / brightest if brightest > 0 else 0.0


def _detail(luma: Image) -> dict[str, float]:
    laplacian = cv2.Laplacian(luma, cv2.CV_16S, ksize=1)
    deviation = float(cv2.meanStdDev(laplacian)[1][0, 0])
    return {
        "sharpness": math.log1p(deviation * deviation),
        "noise": _noise(luma),
        "blockiness": _blockiness(luma),
    }


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
