"""What an image file says about itself, read without decoding a pixel.

Rules: JPEG, PNG, WebP and BMP only, told by their first bytes; sizes come from the header that the decoder will
believe; a file that ends before its own structure does is corrupt, bytes after its end are ignored (cameras append
them); animations are refused, because a detector sees one image; the work is bounded by the segment limits below,
whatever the bytes say. Pixel data is not judged here.
"""

import re
import struct
from dataclasses import dataclass
from enum import StrEnum

from gateway.errors import Code, DecodeError

# Each segment costs interpreter time. Colour profiles and metadata need a few hundred at most.
MAX_JPEG_SEGMENTS = 2_000
# Each scan is a full pass over the image. Progressive encoders write about ten, exotic ones forty.
MAX_JPEG_SCANS = 64
# libpng splits pixel data into pieces of 8 KiB, so a large honest file has thousands.
MAX_PNG_CHUNKS = 65_536
MAX_WEBP_CHUNKS = 64

JPEG_START = b"\xff\xd8\xff"
PNG_START = b"\x89PNG\r\n\x1a\n"
BMP_START = b"BM"

# Baseline, extended and progressive, Huffman or arithmetic: what libjpeg decodes. The rest is lossless or hierarchical.
_JPEG_FRAMES = frozenset((0xC0, 0xC1, 0xC2, 0xC9, 0xCA))
# DC is here too: it gives the height after the first scan, when the header said zero, and nothing honest writes it.
_JPEG_OTHER_FRAMES = frozenset((0xC3, 0xC5, 0xC6, 0xC7, 0xC8, 0xCB, 0xCD, 0xCE, 0xCF, 0xDC))
_JPEG_END, _JPEG_SCAN = 0xD9, 0xDA
# Inside entropy-coded data FF 00 is a data byte and FF D0..D7 restart it; any other FF starts a segment (T.81 B.1.1).
# One literal byte in front, so that the search runs at the speed of memchr.
_JPEG_MARKER_AFTER_DATA = re.compile(rb"\xff[^\x00\xd0-\xd7]")

_PNG_ANIMATION = frozenset((b"acTL", b"fcTL", b"fdAT"))
_WEBP_ANIMATED = 0x02


class ImageFormat(StrEnum):
    """The formats that the gateway takes."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    BMP = "bmp"


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the header says: pixels as stored, before an EXIF orientation turns them. Both sides >= 1.

    end: where a JPEG's end marker stands; None for the other formats.
    """

    format: ImageFormat
    width: int
    height: int
    end: int | None = None


def read_header(body: bytes) -> ImageHeader:
    """Format and size of an encoded image, after walking its structure to the end.

    Raises DecodeError with IMAGE_UNSUPPORTED for other formats, animations and exotic JPEG processes, IMAGE_CORRUPT
    for a file that contradicts itself or ends early.
    Source: ITU-T T.81 annex B (JPEG), PNG third edition section 5, RFC 9649 (WebP), BITMAPINFOHEADER (BMP).
    """
    if body.startswith(JPEG_START):
        header = _read_jpeg(body)
    elif body.startswith(PNG_START):
        header = ImageHeader(ImageFormat.PNG, *_read_png(body))
    elif body.startswith(b"RIFF") and body[8:12] == b"WEBP":
        header = ImageHeader(ImageFormat.WEBP, *_read_webp(body))
    elif body.startswith(BMP_START):
        header = ImageHeader(ImageFormat.BMP, *_read_bmp(body))
    else:
        raise unsupported("the body is not a JPEG, PNG, WebP or BMP image", reason="magic")
    if header.width < 1 or header.height < 1:
        raise corrupt("a side of zero pixels")
    return header


def corrupt(reason: str) -> DecodeError:
    """The error for a damaged or truncated image."""
    return DecodeError(
        Code.IMAGE_CORRUPT, "the image is damaged or incomplete", reason=f"image_corrupt: {reason}"
    )


def unsupported(message: str, *, reason: str) -> DecodeError:
    """The error for an image of a kind that the gateway does not take."""
    return DecodeError(Code.IMAGE_UNSUPPORTED, message, reason=f"image_unsupported: {reason}")


def _unpack(layout: str, body: bytes, offset: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(layout, body, offset)
    except struct.error as exc:
        raise corrupt("ends inside its header") from exc


def _read_jpeg(body: bytes) -> ImageHeader:
    size: tuple[int, int] | None = None
    offset, scans = 2, 0
    for _ in range(MAX_JPEG_SEGMENTS):
        marker, start = _jpeg_marker(body, offset)
        if marker == _JPEG_END:
            break
        offset = start + _jpeg_segment_length(body, start)
        if marker in _JPEG_FRAMES:
            if size is not None:
                raise corrupt("two frames")
            size = _jpeg_frame(body, start)
        elif marker in _JPEG_OTHER_FRAMES:
            raise unsupported(
                "this JPEG process is not taken: send baseline or progressive", reason="process"
            )
        elif marker == _JPEG_SCAN:
            scans += 1
            offset = _jpeg_data_end(body, offset)
    else:
        raise corrupt("too many segments")
    if size is None or not 1 <= scans <= MAX_JPEG_SCANS:
        raise corrupt("no frame, no scan or too many scans")
    return ImageHeader(ImageFormat.JPEG, *size, end=offset)


def _jpeg_segment_length(body: bytes, offset: int) -> int:
    (length,) = _unpack(">H", body, offset)
    if length < 2:
        raise corrupt("a segment shorter than its length field")
    return length


def _jpeg_marker(body: bytes, offset: int) -> tuple[int, int]:
    """The marker at offset and the offset after it; any number of fill bytes may stand before it (T.81 B.1.1.2)."""
    fill_end = offset
    while body[fill_end : fill_end + 1] == b"\xff":
        fill_end += 1
        if fill_end - offset > MAX_JPEG_SEGMENTS:
            raise corrupt("too much fill")
    if fill_end == offset or fill_end >= len(body):
        raise corrupt("no marker where one belongs, or the end is missing")
    marker = body[fill_end]
    if marker in (0x00, 0x01, 0xD8) or 0xD0 <= marker <= 0xD7:
        raise corrupt("a marker out of place")
    return marker, fill_end + 1


def _jpeg_frame(body: bytes, offset: int) -> tuple[int, int]:
    _, precision, height, width = _unpack(">HBHH", body, offset)
    if precision != 8:
        raise unsupported("only JPEG images of 8 bits a channel are taken", reason="precision")
    return width, height


def _jpeg_data_end(body: bytes, offset: int) -> int:
    """Where the segment after entropy-coded data starts; without one the file was cut and holds half an image."""
    found = _JPEG_MARKER_AFTER_DATA.search(body, offset)
    if found is None:
        raise corrupt("ends inside its scan")
    return found.start()


def _read_png(body: bytes) -> tuple[int, int]:
    length, kind, width, height = struct.unpack_from(">I4sII", body.ljust(24, b"\0"), 8)
    if length != 13 or kind != b"IHDR":
        raise corrupt("no header chunk")
    offset, has_pixels = len(PNG_START), False
    for _ in range(MAX_PNG_CHUNKS):
        (length,) = _unpack(">I", body, offset)
        kind = body[offset + 4 : offset + 8]
        if kind in _PNG_ANIMATION:
            raise unsupported("animated images are not taken: send one frame", reason="animation")
        has_pixels = has_pixels or kind == b"IDAT"
        offset += 12 + length
        if offset > len(body):
            raise corrupt("ends inside a chunk")
        if kind == b"IEND":
            break
    else:
        raise corrupt("too many chunks")
    if not has_pixels:
        raise corrupt("no pixels")
    return width, height


def _read_webp(body: bytes) -> tuple[int, int]:
    (riff_length,) = _unpack("<I", body, 4)
    end = 8 + riff_length
    if end > len(body):
        raise corrupt("ends inside its container")
    offset, canvas = 12, None
    for _ in range(MAX_WEBP_CHUNKS):
        kind = body[offset : offset + 4]
        (length,) = _unpack("<I", body, offset + 4)
        if offset + 8 + length > end:
            raise corrupt("ends inside a chunk")
        if kind in (b"VP8 ", b"VP8L"):
            size = _webp_frame(kind, body, offset + 8)
            if canvas not in (None, size):
                raise corrupt("two sizes")
            return size
        if kind == b"VP8X" and canvas is None:
            canvas = _webp_canvas(body, offset + 8)
        offset += 8 + length + length % 2
    raise corrupt("no pixels")


def _webp_canvas(body: bytes, offset: int) -> tuple[int, int]:
    flags, width_low, width_high, height_low, height_high = _unpack("<B3xHBHB", body, offset)
    if flags & _WEBP_ANIMATED:
        raise unsupported("animated images are not taken: send one frame", reason="animation")
    return (width_low | width_high << 16) + 1, (height_low | height_high << 16) + 1


def _webp_frame(kind: bytes, body: bytes, offset: int) -> tuple[int, int]:
    if kind == b"VP8L":
        signature, bits = _unpack("<BI", body, offset)
        if signature != 0x2F:
            raise corrupt("no lossless signature")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    start_low, start_high, width, height = _unpack("<3xHBHH", body, offset)
    if start_low | start_high << 16 != 0x2A019D:
        raise corrupt("no key frame")
    return width & 0x3FFF, height & 0x3FFF


def _read_bmp(body: bytes) -> tuple[int, int]:
    (header_length,) = _unpack("<I", body, 14)
    if header_length == 12:
        width, height = _unpack("<HH", body, 18)
    elif 40 <= header_length <= 124:
        width, height = _unpack("<ii", body, 18)
    else:
        raise corrupt("unknown header")
    # A negative height says that the rows run from the top.
    return width, abs(height)
