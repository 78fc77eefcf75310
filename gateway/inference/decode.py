"""An image from hostile bytes: the header first, then the pixels, then the two compared.

Rules: OpenCV only sees bytes whose header passed the limits, and of those only what pixels depend on; an image that
takes more memory or time than a 4K frame has to pay for it with bytes of pixels; what is returned is what Ultralytics'
reader returns (8 bits, BGR, alpha dropped, EXIF orientation applied); a reduced decode, which is for JPEGs alone,
passes the same checks against the whole image's size; the only exception that leaves is DecodeError.

Memory, measured: 3 bytes a pixel for the image that is returned; until then 6 for most files, 9 for a progressive JPEG
without subsampling and 11 for one in CMYK. OpenCV's own copy is one of them.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway.errors import Code, DecodeError
from gateway.inference.headers import ImageFormat, ImageHeader, corrupt, read_header
from gateway.inference.preprocess import fit_image
from gateway.inference.strip import pixels_only

# What a JPEG decoder can leave out on its way: the higher frequencies of each block.
_READ_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}

_SMALLEST = max(_READ_FLAGS)

# What a JPEG decoder paints where the entropy-coded data ran out: all coefficients zero.
_UNDECODED = 128
# An image of the most pixels may take so many units of 3 ns for each: a second. Smaller ones may have more.
_MAX_WORK = 10
# What needs no bytes to pay for it: the pixels of a 4K frame, and the time of one as a PNG of 8 bits.
_FREE_PIXELS = 4096 * 2176
_FREE_WORK = 6 * _FREE_PIXELS
# A JPEG of one colour has 64 pixels a byte, an honest photograph under 30, even of a night sky: the limit lets a frame
# of one colour pass up to 24 megapixels. PNGs of one colour have 340, lossless WebPs 20,000.
_PIXELS_PER_BYTE = 44
# A PNG of 5K that shows a text editor has 40 in RGB; photographs have 10.
_WORK_PER_BYTE = 64
# Entropy-coded bits with values of every length and no FF.
_MORE_DATA = bytes(range(0x11, 0xEF, 3)) * 2


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The largest image that is decoded. The default holds an 8K frame: 7680 x 4320, 100 MB of pixels."""

    max_side: int = 8_192
    max_pixels: int = 33_554_432


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """Pixels, uint8 (h, w, 3), BGR, C-contiguous, and the shape (height, width) that the image has in full."""

    pixels: NDArray[np.uint8]
    image_shape: tuple[int, int]


def decode_image(body: bytes, limits: ImageLimits) -> NDArray[np.uint8]:
    """The pixels of an encoded image: uint8 (H, W, 3), BGR, C-contiguous, turned upright as EXIF says.

    Raises DecodeError: IMAGE_UNSUPPORTED (not JPEG, PNG, WebP or BMP; animated), IMAGE_TOO_LARGE (the header says
    more than limits; no pixel was decoded), IMAGE_CORRUPT (damaged, truncated; a
    progressive JPEG whose last scan alone was cut is taken, it lacks only the finest detail).
    """
    return decode_covering(body, limits, canvas_shape=None).pixels


def decode_covering(
    body: bytes, limits: ImageLimits, *, canvas_shape: tuple[int, int] | None
) -> DecodedImage:
    """An encoded image with no more pixels than a canvas needs, as far as its decoder can leave some out.

    canvas_shape: (height, width). A JPEG is decoded at the smallest of 1/1, 1/2, 1/4 and 1/8 at which it still covers
    its place on the canvas, sides rounded up; None, and any other format, means in full. Raises as decode_image does.
    """
    header = read_header(body)
    _check_size(header, limits)
    reduction = 1 if canvas_shape is None else _reduction(header, canvas_shape)
    body = pixels_only(body, header)
    image = _decode(body, reduction)
    stated, turned = (header.height, header.width), (header.width, header.height)
    # EXIF may turn the image by a quarter. Any other difference means that decoder and header parser disagree about
    # the size, and the limits were checked against the wrong one.
    found = [shape for shape in (stated, turned) if image.shape[:2] == _reduced(shape, reduction)]
    if not found:
        raise corrupt("decoded to another size than its header says")
    if header.end is not None and _may_lack_data(image) and _lacks_data(body, header.end):
        raise corrupt("scan data ends early")
    return DecodedImage(image, found[0])


def _reduction(header: ImageHeader, canvas_shape: tuple[int, int]) -> int:
    """The largest reduction whose result covers the image's place on the canvas, whichever way EXIF turns it."""
    if header.format is not ImageFormat.JPEG:
        return 1
    stated, turned = (header.height, header.width), (header.width, header.height)
    for reduction in (8, 4, 2):
        is_told_apart = stated == turned or _reduced(stated, reduction) != _reduced(
            turned, reduction
        )
        covers = [
            all(
                np.greater_equal(
                    _reduced(shape, reduction), fit_image(shape, canvas_shape).resized_shape
                )
            )
            for shape in (stated, turned)
        ]
        # 640 x 639 and 639 x 640 are both 80 x 80: which one it was could not be told from the pixels.
        if is_told_apart and all(covers):
            return reduction
    return 1


def _reduced(shape: tuple[int, int], reduction: int) -> tuple[int, int]:
    return -(-shape[0] // reduction), -(-shape[1] // reduction)


def _check_size(header: ImageHeader, limits: ImageLimits) -> None:
    if max(header.width, header.height) > limits.max_side:
        raise DecodeError(
            Code.IMAGE_TOO_LARGE, f"a side of the image is longer than {limits.max_side} pixels"
        )
    if header.width * header.height > limits.max_pixels:
        raise DecodeError(
            Code.IMAGE_TOO_LARGE, f"the image has more than {limits.max_pixels} pixels"
        )
    pixels = header.width * header.height
    work = pixels * header.work
    if work > limits.max_pixels * _MAX_WORK:
        raise DecodeError(
            Code.IMAGE_TOO_LARGE,
            "the image takes too long to decode: send a baseline JPEG, 8 bits a channel or fewer pixels",
        )
    if (
        pixels > _FREE_PIXELS + _PIXELS_PER_BYTE * header.pixel_bytes
        or work > _FREE_WORK + _WORK_PER_BYTE * header.pixel_bytes
    ):
        raise DecodeError(
            Code.IMAGE_TOO_LARGE,
            "the image has almost no content for its many pixels: send fewer pixels, or a baseline JPEG",
            reason="image_too_large: pixels without bytes",
        )


def _decode(body: bytes, reduction: int) -> NDArray[np.uint8]:
    try:
        image = cv2.imdecode(np.frombuffer(body, np.uint8), _READ_FLAGS[reduction])
    except cv2.error as exc:
        raise corrupt("the decoder raised") from exc
    if image is None or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise corrupt("the decoder gave nothing")
    return image.view(np.uint8)


def _may_lack_data(image: NDArray[np.uint8]) -> bool:
    """True if a corner is the exact grey of missing data. The last block is at a corner, which one depends on EXIF."""
    corners = image[:: max(image.shape[0] - 1, 1), :: max(image.shape[1] - 1, 1)]
    return bool((corners == _UNDECODED).all(axis=2).any())


def _lacks_data(body: bytes, end: int) -> bool:
    """True if a JPEG's scan ran out before its image was full, which libjpeg reports on stderr only.

    A complete scan ignores bytes between its last block and the end marker; one that ran out decodes them. So the
    image is decoded again, with and without more data in that place, and must not change: at an eighth, which shows a
    missing block as well and takes a quarter of the time and next to no memory. Lost packets of a camera stream leave
    such files: a valid head, a valid end and a grey rest.
    """
    longer = body[:end] + _MORE_DATA + body[end:]
    return not np.array_equal(_decode(longer, _SMALLEST), _decode(body, _SMALLEST))
