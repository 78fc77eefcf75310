"""What a sample says in numbers about one answered image: traffic and references are measured by this one function."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.sampling.features import detection_features, image_features
from gateway.store.records import Detections

DetectionRow = tuple[int, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Measured:
    """Features by name, and rows (class_id, confidence, x1, y1, x2, y2) in pixels, as store.records.Sample has them."""

    features: dict[str, float | None]
    detections: tuple[DetectionRow, ...]


def measure(
    image: NDArray[np.uint8],
    detections: Detections,
    *,
    encoded_bytes: int,
    image_shape: tuple[int, int] | None = None,
) -> Measured:
    """Measure one image.

    image: uint8 (h, w, 3) BGR. encoded_bytes: length of the file it was decoded from. image_shape: (height, width) of
    the file's image, which boxes refer to, if this is a reduced copy.
    """
    height, width = image_shape or image.shape[:2]
    return Measured(
        features={
            **image_features(image, encoded_bytes=encoded_bytes, image_shape=image_shape),
            **detection_features(detections, width=width, height=height),
        },
        detections=_rows(detections),
    )


def _rows(detections: Detections) -> tuple[DetectionRow, ...]:
    # A hundredth of a pixel is more than a detector knows.
    boxes = detections.boxes_xyxy.astype(np.float64).round(2).tolist()
    confidences = detections.confidences.astype(np.float64).round(6).tolist()
    return tuple(
        (class_id, confidence, x1, y1, x2, y2)
        for class_id, confidence, (x1, y1, x2, y2) in zip(
            detections.class_ids.tolist(), confidences, boxes, strict=True
        )
    )
