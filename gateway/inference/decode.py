"""An image from hostile bytes: the header first, then the pixels, then the two compared.

Rules: OpenCV only sees bytes whose header passed the limits; what it returns is what Ultralytics' reader returns
(8 bits, BGR, alpha dropped, EXIF orientation applied); the only exception that leaves is DecodeError.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway.errors import Code, DecodeError
from gateway.inference.headers import ImageHeader, corrupt, read_header

# What a JPEG decoder paints where the entropy-coded data ran out: all coefficients zero.
_UNDECODED = 128
# A progressive JPEG of the most pixels has ten scans, as encoders write them: 1.5 s. Smaller images may have more.
_MAX_WORK = 10
# Entropy-coded bits with values of every length and no FF.
_MORE_DATA = bytes(range(0x11, 0xEF, 3)) * 2


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The largest image that is decoded. The default holds an 8K frame: 7680 x 4320, 100 MB of pixels."""

    max_side: int = 8_192
    max_pixels: int = 33_554_432


def decode_image(body: bytes, limits: ImageLimits) -> NDArray[np.uint8]:
    """The pixels of an encoded image: uint8 (H, W, 3), BGR, C-contiguous, turned upright as EXIF says.

    Raises DecodeError: IMAGE_UNSUPPORTED (not JPEG, PNG, WebP or BMP; animated), IMAGE_TOO_LARGE (the header says
    more than limits; no pixel was decoded), IMAGE_CORRUPT (damaged, truncated; a
    progressive JPEG whose last scan alone was cut is taken, it lacks only the finest detail).
    """
    header = read_header(body)
    _check_size(header, limits)
    image = _decode(body)
    # EXIF may turn the image by a quarter. Any other difference means that decoder and header parser disagree about
    # the size, and the limits were checked against the wrong one.
    if image.shape[:2] not in ((header.height, header.width), (header.width, header.height)):
        raise corrupt("decoded to another size than its header says")
    if header.end is not None and _may_lack_data(image) and _lacks_data(body, header.end, image):
        raise corrupt("scan data ends early")
    return image


def _check_size(header: ImageHeader, limits: ImageLimits) -> None:
    if max(header.width, header.height) > limits.max_side:
        raise DecodeError(
            Code.IMAGE_TOO_LARGE, f"a side of the image is longer than {limits.max_side} pixels"
        )
    if header.width * header.height > limits.max_pixels:
        raise DecodeError(
            Code.IMAGE_TOO_LARGE, f"the image has more than {limits.max_pixels} pixels"
        )
    if header.width * header.height * header.work > limits.max_pixels * _MAX_WORK:
        raise DecodeError(
            Code.IMAGE_TOO_LARGE,
            "the image takes too long to decode: send a baseline JPEG, 8 bits a channel or fewer pixels",
        )


def _decode(body: bytes) -> NDArray[np.uint8]:
    try:
        image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as exc:
        raise corrupt("the decoder raised") from exc
    if image is None or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise corrupt("the decoder gave nothing")
    return image.view(np.uint8)


def _may_lack_data(image: NDArray[np.uint8]) -> bool:
    """True if a corner is the exact grey of missing data. The last block is at a corner, which one depends on EXIF."""
    corners = image[:: max(image.shape[0] - 1, 1), :: max(image.shape[1] - 1, 1)]
    return bool((corners == _UNDECODED).all(axis=2).any())


def _lacks_data(body: bytes, end: int, image: NDArray[np.uint8]) -> bool:
    """True if a JPEG's scan ran out before its image was full, which libjpeg reports on stderr only.

    A complete scan ignores bytes between its last block and the end marker; one that ran out decodes them. So the
    image is decoded again with more data in that place, and must not change. Lost packets of a camera stream leave
    such files: a valid head, a valid end and a grey rest.
    """
    return not np.array_equal(_decode(body[:end] + _MORE_DATA + body[end:]), image)
