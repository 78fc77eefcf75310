"""What the sampler is offered of an answered request."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from gateway.store.records import Detections, SampleMode


@dataclass(frozen=True, slots=True)
class Offer:
    """One answered request.

    image: uint8 (h, w, 3) BGR, as decoded; nobody writes to it afterwards. encoded: the bytes as received.
    image_shape: (height, width) as received, which boxes refer to; None if that is h and w.
    mode: a shadow's image is never kept, since the request's is kept with the answer that was given, or not at all.
    source: the camera's name, if one was given. embedding: the pooled feature, float32 (C,), None if there is none.
    """

    request_id: str
    received_at: datetime
    model_name: str
    model_version: str
    principal: str
    input_sha256: str
    image: NDArray[np.uint8]
    encoded: bytes
    detections: Detections
    mode: SampleMode = SampleMode.SERVED
    image_shape: tuple[int, int] | None = None
    source: str | None = None
    embedding: NDArray[np.float32] | None = None
