"""What a decoder gets to see of an image file: what the pixels depend on, and no more of it than they need.

Rules: the pixels stay those of the whole file, EXIF orientation included; alpha goes, because a detector sees none.
Compressed texts and colour profiles of a PNG inflate to 8 MB each before a pixel is decoded, alpha of a WebP is a
second image in a format of its own. JPEG decoders pass metadata without a look, and BMP has none. Only files that
gateway.inference.headers has walked come here.
"""

import struct
import zlib
from collections.abc import Iterator

from gateway.inference.headers import (
    MAX_WEBP_CHUNKS,
    PNG_CHANNELS,
    PNG_START,
    ImageFormat,
    ImageHeader,
    corrupt,
)

# Some encoders write a row too many. Each MiB more costs 3 ms.
MAX_EXCESS_BYTES = 8 << 20

# Of the chunks that a decoder may pass over; it has to judge all the others (PNG third edition section 5.4).
_PNG_KEPT = frozenset((b"tRNS", b"eXIf"))
_PNG_ANCILLARY = 0x20
# What deflate makes of a byte at most (zlib's technical notes).
_MOST_INFLATED = 1_032
_PIECE_BYTES = 1 << 20
_WEBP_FRAMES = frozenset((b"VP8 ", b"VP8L"))
_WEBP_HAS_EXIF = 0x08


def pixels_only(body: bytes, header: ImageHeader) -> bytes:
    """The file with its pixels, palette and orientation; the same object where nothing is to be left out.

    Raises DecodeError with IMAGE_CORRUPT for a PNG that inflates to more than its pixels and MAX_EXCESS_BYTES.
    """
    if header.format is ImageFormat.PNG:
        _check_excess(body, header)
        return _strip_png(body)
    if header.format is ImageFormat.WEBP and body[12:16] == b"VP8X":
        return _strip_webp(body)
    return body


def _png_chunks(body: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each chunk up to IEND."""
    kind, offset = b"", len(PNG_START)
    while kind != b"IEND":
        (length,) = struct.unpack_from(">I", body, offset)
        kind, end = body[offset + 4 : offset + 8], offset + 12 + length
        yield kind, offset, end
        offset = end


def _strip_png(body: bytes) -> bytes:
    # Runs of chunks that stay, each (start, end): a photograph has thousands of chunks in one run.
    runs: list[tuple[int, int]] = []
    start = end = len(PNG_START)
    for kind, chunk_start, end in _png_chunks(body):
        if kind[0] & _PNG_ANCILLARY and kind not in _PNG_KEPT:
            runs.append((start, chunk_start))
            start = end
    if not runs and end == len(body):
        return body
    runs.append((start, end))
    return PNG_START + b"".join(body[first:last] for first, last in runs)


def _check_excess(body: bytes, header: ImageHeader) -> None:
    """Raise for pixel data that goes on behind the last row, which libpng inflates to its end: 1 GB from 1 MB.

    Only inflating tells, so the pixel data of what could go too far is inflated once more than it has to be.
    """
    depth, color = struct.unpack_from("BB", body, 24)
    row_bytes = 1 + (header.width * depth * PNG_CHANNELS.get(color, 4) + 7) // 8
    # The seven images of an interlaced one have more rows, by less than the excess that is allowed.
    left = row_bytes * header.height + MAX_EXCESS_BYTES
    if header.pixel_bytes * _MOST_INFLATED <= left:
        return
    inflater = zlib.decompressobj()
    view = memoryview(body)
    try:
        for kind, start, end in _png_chunks(body):
            data: bytes | memoryview = view[start + 8 : end - 4] if kind == b"IDAT" else b""
            while data and not inflater.eof:
                left -= len(inflater.decompress(data, min(_PIECE_BYTES, left + 1)))
                if left < 0:
                    raise corrupt("more pixels than its header says")
                data = inflater.unconsumed_tail
    except zlib.error as exc:
        raise corrupt("pixels that do not inflate") from exc


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
