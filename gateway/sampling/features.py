"""Numbers about one image and what was found in it. Pure; FEATURES documents each.

Rules: every number is finite, for any image from 1x1 up; a number that does not exist is None; names are
lower_case_words and never depend on the model, so that samples of two versions compare. How many boxes each class has
is not repeated here: the sample's detections say it.

Two small views make this cheap: single pixels on a grid over the whole picture (gateway.sampling.light), whose
statistics are those of all pixels, and the middle in full resolution, cut on the 8x8 grid of JPEG
(gateway.sampling.detail).
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from gateway.sampling.detail import detail_features
from gateway.sampling.light import light_features
from gateway.store.records import Detections

Image = NDArray[np.uint8]

LOW_CONFIDENCE = 0.5
OVERLAP_ROWS = 64


class FeatureKind(StrEnum):
    """What a feature describes."""

    IMAGE = "image"
    DETECTIONS = "detections"


@dataclass(frozen=True, slots=True)
class Feature:
    """What a number means. meaning says what it is when larger; source, whose formula it is.

    Optional ones are None without boxes, but for candidate_count, which is None where the engine cannot tell.
    """

    name: str
    kind: FeatureKind
    unit: str
    minimum: float
    maximum: float
    meaning: str
    source: str
    is_optional: bool = False


_INF = math.inf

_HEADER = "the file's header"
_BT601 = "luma of ITU-R BT.601-7 section 2.5.1"
_SHANNON = "Shannon, A mathematical theory of communication, 1948, section 6, of " + _BT601
_HSV = "chroma over value as in HSV, Smith, SIGGRAPH 1978, of sums"
_GREY_WORLD = "grey world, Buchsbaum, J. Franklin Institute 310(1), 1980"
_PERCENTILES = "1st and 99th percentile of " + _BT601
_DARK = "dark channel, He, Sun and Tang, CVPR 2009, within a quarter of the picture"
_GREY_EDGE = (
    "grey edge, van de Weijer, Gevers and Gijsenij, IEEE Trans. Image Processing 16(9), 2007"
)
_STEPS = "mean steps to the next pixel over those to the 4th, after Field, J. Opt. Soc. Am. A 4(12), 1987"
_LAPLACIAN = "variance of the Laplacian, Pech-Pacheco et al., ICPR 2000, of " + _BT601
_IMMERKAER = "Immerkaer, Fast noise variance estimation, CVIU 64(2), 1996, eq. 3"
_BLOCKS = "steps at borders of JPEG's 8x8 blocks against others, after Wang et al., ICIP 2002"
_STATISTIC = "statistic of the boxes that were answered"
_IOU = "intersection over union, Jaccard 1901, of the boxes that were answered"
_HEAD = "the network's head before suppression"


def _of_image(
    name: str, unit: str, minimum: float, maximum: float, meaning: str, source: str
) -> Feature:
    return Feature(name, FeatureKind.IMAGE, unit, minimum, maximum, meaning, source)


def _of_boxes(
    name: str, unit: str, minimum: float, maximum: float, meaning: str, source: str = _STATISTIC
) -> Feature:
    return Feature(
        name, FeatureKind.DETECTIONS, unit, minimum, maximum, meaning, source, is_optional=True
    )


def _count(name: str, unit: str, meaning: str) -> Feature:
    return Feature(name, FeatureKind.DETECTIONS, unit, 0, _INF, meaning, _STATISTIC)


FEATURES: tuple[Feature, ...] = (
    _of_image("width", "pixels", 1, _INF, "wider", _HEADER),
    _of_image("height", "pixels", 1, _INF, "taller", _HEADER),
    _of_image("aspect_ratio", "width / height", 0, _INF, "wider for its height", _HEADER),
    _of_image(
        "bits_per_pixel", "bits", 0, _INF, "less compressed, or richer in detail",
        "length of the file over width * height",
    ),
    _of_image("brightness", "mean luma / 255", 0, 1, "brighter", _BT601),
    _of_image("contrast", "deviation of luma / 255", 0, 0.5, "richer in contrast", _BT601),
    _of_image("dark_share", "share of pixels", 0, 1, "more crushed shadows", _BT601),
    _of_image("bright_share", "share of pixels", 0, 1, "more blown highlights", _BT601),
    _of_image("black_level", "luma / 255", 0, 1, "less deep in its shadows", _PERCENTILES),
    _of_image("white_level", "luma / 255", 0, 1, "lighter in its highlights", _PERCENTILES),
    _of_image("entropy", "bits of luma", 0, 8, "more levels of grey in use", _SHANNON),
    _of_image("saturation", "chroma / brightest channel", 0, 1, "more colourful", _HSV),
    _of_image("red_cast", "log2 (red / green)", -8, 8, "redder", _GREY_WORLD),
    _of_image("blue_cast", "log2 (blue / green)", -8, 8, "bluer", _GREY_WORLD),
    _of_image("haze", "darkest channel nearby / 255", 0, 1, "hazier, or lit everywhere", _DARK),
    _of_image("red_edge_cast", "log2 (red / green)", -8, 8, "lit redder", _GREY_EDGE),
    _of_image("blue_edge_cast", "log2 (blue / green)", -8, 8, "lit bluer", _GREY_EDGE),
    _of_image("sharpness", "ln (1 + variance)", 0, 14, "sharper", _LAPLACIAN),
    _of_image("fineness", "ln of a ratio", -7, 7, "finer in its blurriest direction", _STEPS),
    _of_image(
        "fineness_spread", "ln of a ratio", 0, 14, "finer in one direction than in another", _STEPS
    ),
    _of_image("noise", "grey levels", 0, 427, "noisier", _IMMERKAER),
    _of_image("blockiness", "ln of a ratio", -6, 6, "more heavily compressed as JPEG", _BLOCKS),
    _count("detection_count", "boxes", "more found"),
    _count("class_variety", "classes", "more kinds found"),
    _of_boxes("mean_confidence", "ratio", 0, 1, "surer"),
    _of_boxes("max_confidence", "ratio", 0, 1, "surer of the best box"),
    _of_boxes("confidence_spread", "ratio", 0, 0.5, "less alike in confidence"),
    _of_boxes("low_confidence_share", "share of boxes below 0.5", 0, 1, "less sure"),
    _of_boxes("mean_box_area", "share of the image", 0, 1, "larger or nearer"),
    _of_boxes("mean_box_x", "share of the width", 0, 1, "further right"),
    _of_boxes("mean_box_y", "share of the height", 0, 1, "further down"),
    _of_boxes("mean_box_aspect", "log2 (width / height)", -32, 32, "flatter"),
    _of_boxes("mean_overlap", "ratio", 0, 1, "more crowded, or more often seen twice", _IOU),
    _of_boxes(
        "candidate_count", "anchors above confidence 0.25", 0, _INF,
        "more, or more clearly seen, or larger", _HEAD,
    ),
)  # fmt: skip

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
        **light_features(image),
        **detail_features(image),
    }


def detection_features(
    detections: Detections, *, width: int, height: int
) -> dict[str, float | None]:
    """The features of kind detections. width, height: of the image, pixels, >= 1."""
    count, candidates = len(detections), detections.candidate_count
    numbers: dict[str, float | None] = {
        **dict.fromkeys(feature.name for feature in FEATURES if feature.is_optional),
        "detection_count": float(count),
        "class_variety": float(len(set(detections.class_ids.tolist()))),
        "candidate_count": None if candidates is None else float(candidates),
    }
    if count == 0:
        return numbers
    return (
        numbers
        | _confidences(detections.confidences.astype(np.float64))
        | _boxes(detections.boxes_xyxy.astype(np.float64), width=width, height=height)
    )


def _confidences(confidences: NDArray[np.float64]) -> dict[str, float | None]:
    return {
        "mean_confidence": float(confidences.mean()),
        "max_confidence": float(confidences.max()),
        "confidence_spread": float(confidences.std()),
        "low_confidence_share": float((confidences < LOW_CONFIDENCE).mean()),
    }


def _boxes(boxes: NDArray[np.float64], *, width: int, height: int) -> dict[str, float | None]:
    x1, y1, x2, y2 = boxes.T
    box_width, box_height = x2 - x1, y2 - y1
    # Boxes thinner than a pixel count as one pixel: a ratio against nothing says nothing.
    aspect = np.log2(np.maximum(box_width, 1.0) / np.maximum(box_height, 1.0))
    return {
        "mean_box_area": float((box_width * box_height).mean()) / (width * height),
        "mean_box_x": float((x1 + x2).mean()) / (2 * width),
        "mean_box_y": float((y1 + y2).mean()) / (2 * height),
        "mean_box_aspect": float(aspect.mean()),
        "mean_overlap": _mean_overlap(boxes.astype(np.float32)),
    }


def _mean_overlap(boxes: NDArray[np.float32]) -> float:
    # Every pair once, so many rows at a time that the numbers stay in the cache, in single precision.
    best = np.zeros(len(boxes), np.float32)
    x1, y1, x2, y2 = np.ascontiguousarray(boxes.T)
    area = (x2 - x1) * (y2 - y1)
    for start in range(0, len(boxes), OVERLAP_ROWS):
        rows, others = slice(start, start + OVERLAP_ROWS), slice(start, None)
        shared = _shared_length(x1, x2, rows, others)
        shared *= _shared_length(y1, y2, rows, others)
        np.fill_diagonal(shared, 0)  # each with itself
        union = area[rows, None] + area[others]
        union -= shared
        # Two boxes without area share nothing, and nothing over nothing is no number.
        np.maximum(union, np.finfo(np.float32).tiny, out=union)
        shared /= union
        np.maximum(best[rows], shared.max(axis=1), out=best[rows])
        np.maximum(best[others], shared.max(axis=0), out=best[others])
    return min(1.0, float(best.mean(dtype=np.float64)))


def _shared_length(
    low: NDArray[np.float32], high: NDArray[np.float32], rows: slice, others: slice
) -> NDArray[np.float32]:
    shared: NDArray[np.float32] = np.minimum(high[rows, None], high[others])
    shared -= np.maximum(low[rows, None], low[others])
    np.maximum(shared, 0, out=shared)
    return shared
