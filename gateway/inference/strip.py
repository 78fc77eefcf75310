"""An image file without what its pixels do not depend on, so that no decoder reads it.

Rules: the pixels stay those of the whole file, EXIF orientation included; alpha goes, because a detector sees none.
Compressed texts and colour profiles of a PNG inflate to 8 MB each before a pixel is decoded, alpha of a WebP is a
second image in a format of its own. Only files that gateway.inference.headers has walked come here. JPEG decoders pass
metadata without a look, and BMP has none.
"""

import struct

from gateway.inference.headers import MAX_WEBP_CHUNKS, PNG_START, ImageFormat

_PNG_KEPT = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf", b"IEND"))
_WEBP_FRAMES = frozenset((b"VP8 ", b"VP8L"))
_WEBP_HAS_EXIF = 0x08


def pixels_only(body: bytes, image_format: ImageFormat) -> bytes:
    """The file with its pixels, palette and orientation; the same object where nothing is to be left out."""
    if image_format is ImageFormat.PNG:
        return _strip_png(body)
    if image_format is ImageFormat.WEBP and body[12:16] == b"VP8X":
        return _strip_webp(body)
    return body


def _strip_png(body: bytes) -> bytes:
    # Runs of chunks that stay, each (start, end): a photograph has thousands of chunks in one run.
    runs: list[tuple[int, int]] = []
    start = offset = len(PNG_START)
    kind = b""
    while kind != b"IEND":
        (length,) = struct.unpack_from(">I", body, offset)
        kind, end = body[offset + 4 : offset + 8], offset + 12 + length
        if kind not in _PNG_KEPT:
            runs.append((start, offset))
            start = end
        offset = end
    if not runs and offset == len(body):
        return body
    runs.append((start, offset))
    return PNG_START + b"".join(body[first:last] for first, last in runs)


def _strip_webp(body: bytes) -> bytes:
    """The extended header, the frame and EXIF, in the order that RFC 9649 section 2.7 wants."""
    offset, frame, exif = 12, b"", b""
    for _ in range(MAX_WEBP_CHUNKS):
        kind, size = body[offset : offset + 4], body[offset + 4 : offset + 8]
        length = int.from_bytes(size, "little")
        end = offset + 8 + length + length % 2
        # The walk of the header ends at the frame: what comes after it may be cut.
        if len(size) < 4 or end > len(body) + length % 2:
            break
        if kind in _WEBP_FRAMES and not frame:
            frame = body[offset:end]
        elif kind == b"EXIF" and not exif:
            exif = body[offset:end]
        offset = end
    flags = bytes((_WEBP_HAS_EXIF if exif else 0,))
    content = b"WEBP" + body[12:20] + flags + body[21:30] + frame + exif
    return b"RIFF" + struct.pack("<I", len(content)) + content
