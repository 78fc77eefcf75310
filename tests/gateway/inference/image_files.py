"""Image files made by hand: bombs, lies, damage, and what looks like them. A function makes the bytes of one.

The builders know the four formats well enough to write what no encoder would.
"""

import struct
import zlib
from collections.abc import Iterable
from functools import cache
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
SOI, EOI = b"\xff\xd8", b"\xff\xd9"
HTML = b"<html><script>alert(1)</script></html>"
ZIP = b"PK\x03\x04" + bytes(26) + b"payload" + b"PK\x05\x06" + bytes(18)


@cache
def photograph(height: int = 240, width: int = 320) -> NDArray[np.uint8]:
    """Something with gradients and noise."""
    rows, columns = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(3).integers(0, 20, (height, width, 3))
    smooth = np.stack((rows, columns, rows + columns), axis=2) % 200
    return (smooth + noise).astype(np.uint8)


def encoded(extension: str, *parameters: int, alpha: bool = False) -> bytes:
    """The photograph in a format."""
    image = photograph()
    pixels = np.dstack((image, image[:, :, 0])) if alpha else image
    return cv2.imencode(extension, pixels, parameters)[1].tobytes()


# PNG ------------------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    """One PNG chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def squeeze(pieces: Iterable[bytes]) -> bytes:
    """A zlib stream, made piece by piece."""
    compressor = zlib.compressobj(9)
    return b"".join(map(compressor.compress, pieces)) + compressor.flush()


@cache
def inflating_to(size: int) -> bytes:
    """A zlib stream of so many zero bytes, a thousandth of that long, put together from one compressed mebibyte."""
    compressor = zlib.compressobj(9, wbits=-15)
    mebibyte = compressor.compress(bytes(1 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    compressor = zlib.compressobj(9, wbits=-15)
    rest = compressor.compress(bytes(size % (1 << 20))) + compressor.flush()
    checksum = (size % 65_521) << 16 | 1
    return b"\x78\xda" + mebibyte * (size >> 20) + rest + struct.pack(">I", checksum)


def png(
    width: int,
    height: int,
    *,
    depth: int = 8,
    color: int = 2,
    interlace: int = 0,
    before: bytes = b"",
    after: bytes = b"",
    pixels: bytes | None = None,
) -> bytes:
    """A PNG of one colour, or of other compressed pixels, with more chunks around them."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)
    data = (
        flat_rows(width, height, depth * PNG_CHANNELS[color], interlace)
        if pixels is None
        else pixels
    )
    return (
        PNG_START
        + chunk(b"IHDR", header)
        + before
        + chunk(b"IDAT", data)
        + after
        + chunk(b"IEND", b"")
    )


def flat_rows(width: int, height: int, pixel_bits: int, interlace: int) -> bytes:
    """Zero rows of an image, compressed; the seven images of an interlaced one."""
    starts = (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    )
    passes = starts if interlace else ((0, 0, 1, 1),)
    sizes = [(-(-(width - x) // right), -(-(height - y) // down)) for x, y, right, down in passes]
    return inflating_to(
        sum(
            rows * (1 + (columns * pixel_bits + 7) // 8)
            for columns, rows in sizes
            if columns > 0 < rows
        )
    )


def exif(*entries: tuple[int, int, int, int], next_offset: int = 0) -> bytes:
    """EXIF with one directory of (tag, type, count, value)."""
    fields = b"".join(
        struct.pack(">HHI", tag, kind, count)
        + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value))
        for tag, kind, count, value in entries
    )
    return b"MM\0*" + struct.pack(">IH", 8, len(entries)) + fields + struct.pack(">I", next_offset)


def turned(orientation: int) -> bytes:
    """EXIF that holds an orientation alone."""
    return exif((0x0112, 3, 1, orientation))


PALETTE = chunk(b"PLTE", bytes((10, 20, 30, 255, 128, 0)))


def palette_png(index: int, *, before: bytes = PALETTE) -> bytes:
    """A palette PNG whose pixels all have one index."""
    return png(32, 32, color=3, before=before, pixels=squeeze([b"\0" + bytes((index,)) * 32] * 32))


def filter_png(kind: int) -> bytes:
    """A PNG whose rows all have one filter type."""
    return png(32, 32, pixels=squeeze([bytes((kind,)) + bytes(96)] * 32))


def half(body: bytes) -> bytes:
    """A file whose upload stopped in the middle."""
    return body[: len(body) // 2]


def spoiled(body: bytes, offset: int) -> bytes:
    """One byte changed."""
    return body[:offset] + bytes((body[offset] ^ 0x55,)) + body[offset + 1 :]


# JPEG -----------------------------------------------------------------------------------------------------------------


def segment(marker: int, data: bytes) -> bytes:
    """One JPEG segment."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data


QUANTISATION = segment(0xDB, b"\0" + bytes((1,)) * 64)
# One code of one bit each: a DC difference of zero, the end of a block; in AC_RUN the end of 16,384 blocks and more.
DC = segment(0xC4, b"\x00\x01" + bytes(15) + b"\x00")
AC = segment(0xC4, b"\x10\x01" + bytes(15) + b"\x00")
AC_RUN = segment(0xC4, b"\x10\x01" + bytes(15) + b"\xe0")
ADOBE_YCCK = segment(0xEE, b"Adobe" + bytes((0, 100, 0, 0, 0, 0, 2)))


def frame(
    width: int,
    height: int,
    *,
    marker: int = 0xC0,
    components: int = 3,
    precision: int = 8,
    sampling: int = 0x11,
) -> bytes:
    """A frame header."""
    parts = b"".join(bytes((n + 1, sampling if n == 0 else 0x11, 0)) for n in range(components))
    return segment(marker, struct.pack(">BHHB", precision, height, width, components) + parts)


def scan(components: Iterable[int], *, first: int = 0, last: int = 63, levels: int = 0) -> bytes:
    """A scan header."""
    parts = b"".join(bytes((number, 0)) for number in components)
    return segment(0xDA, bytes((len(parts) // 2,)) + parts + bytes((first, last, levels)))


def jpeg(
    width: int = 64,
    height: int = 48,
    *,
    components: int = 3,
    before: bytes = b"",
    data: bytes | None = None,
    tables: bytes = QUANTISATION + DC + AC,
    header: bytes | None = None,
) -> bytes:
    """A baseline JPEG of one colour, or of other entropy-coded data."""
    blocks = -(-width // 8) * -(-height // 8) * components
    start = SOI + before + tables + (header or frame(width, height, components=components))
    return (
        start
        + scan(range(1, components + 1))
        + (bytes(-(-blocks // 4)) if data is None else data)
        + EOI
    )


def progressive(width: int, height: int, scans: int) -> bytes:
    """A grey progressive JPEG of one colour: one scan of means, the other coefficients in as many scans as asked."""
    blocks = -(-width // 8) * -(-height // 8)
    # Bit 0 is the code, 14 bits count: 16,384 blocks and 16,383 more.
    run = int("0" + "1" * 14, 2) << 1
    runs = struct.pack(">H", run).replace(b"\xff", b"\xff\0") * (blocks // 32_767 + 1)
    edges = [1 + 63 * n // (scans - 1) for n in range(scans)]
    bands = b"".join(scan([1], first=first, last=end - 1) + runs for first, end in pairwise(edges))
    start = SOI + QUANTISATION + DC + AC_RUN + frame(width, height, marker=0xC2, components=1)
    return start + scan([1], last=0) + bytes(-(-blocks // 8)) + bands + EOI


def with_exif(body: bytes, data: bytes) -> bytes:
    """A JPEG with EXIF in front."""
    return SOI + segment(0xE1, b"Exif\0\0" + data) + body[2:]


def icc_segments(count: int) -> bytes:
    """A colour profile in pieces of the most bytes, as many as 2 MB hold."""
    return b"".join(
        segment(0xE2, b"ICC_PROFILE\0" + bytes((n + 1, count)) + bytes(65_000))
        for n in range(count)
    )


def thumbnail_exif() -> bytes:
    """EXIF whose thumbnail says that it is 65,000 pixels wide and high."""
    data = jpeg(65_000, 65_000, data=bytes(4))
    head = exif((0x0112, 3, 1, 1), next_offset=26)
    second = exif((0x0201, 4, 1, 26 + 30), (0x0202, 4, 1, len(data)))[8:]
    return head + second + data


def cut_jpeg(share: float) -> bytes:
    """A photograph whose upload stopped."""
    body = encoded(".jpg")
    return body[: int(len(body) * share)]


def patched_frame(body: bytes, width: int, height: int) -> bytes:
    """A JPEG whose frame says another size."""
    at = body.index(b"\xff\xc0") + 5
    return body[:at] + struct.pack(">HH", height, width) + body[at + 4 :]


# WebP -----------------------------------------------------------------------------------------------------------------


class BitWriter:
    """Bits in the order of lossless WebP, lowest first."""

    def __init__(self) -> None:
        self._bits: list[int] = []

    def put(self, value: int, count: int) -> None:
        """Append a number of count bits."""
        self._bits += [value >> n & 1 for n in range(count)]

    def put_one_symbol_codes(self, count: int) -> None:
        """Append codes, each with the symbol 0 alone."""
        self._bits += [1, 0, 0, 0] * count

    def put_bytes_code(self, symbols: int) -> None:
        """Append a code that gives the first 256 symbols of an alphabet 8 bits each."""
        self.put(0, 1)
        self.put(8, 4)
        for length in (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8):
            self.put(length in (8, 18), 3)
        self.put(0, 1 + 256)
        if symbols > 256:
            self.put(1, 1)
            self.put(symbols - 256 - 11, 7)

    def take(self) -> bytes:
        """All bits as bytes."""
        return np.packbits(np.array(self._bits, np.uint8), bitorder="little").tobytes() + bytes(8)


def reverse_bits(value: int) -> int:
    """A code of 8 bits as it is read."""
    return int(f"{value:08b}"[::-1], 2)


def lossless(width: int, height: int, *, groups: int = 1) -> bytes:
    """The content of a VP8L chunk: one colour, tiles of 4 x 4 pixels, of which each has a code group of its own."""
    writer = BitWriter()
    writer.put(0x2F, 8)
    writer.put(width - 1 | height - 1 << 14, 28)
    writer.put(0, 4 + 1 + 1)
    if groups == 1:
        writer.put(0, 1)
    else:
        writer.put(1, 1 + 3 + 1)
        writer.put_bytes_code(280)
        writer.put_bytes_code(256)
        writer.put_one_symbol_codes(3)
        for tile in range(-(-width // 4) * -(-height // 4)):
            group = min(tile, groups - 1)
            writer.put(reverse_bits(group & 255) | reverse_bits(group >> 8) << 8, 16)
    writer.put_one_symbol_codes(5 * groups)
    return writer.take()


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP container."""
    content = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
        for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(content)) + content


def canvas(flags: int, width: int, height: int) -> tuple[bytes, bytes]:
    """An extended WebP header."""
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X", bytes((flags, 0, 0, 0)) + sides


def lossy_webp() -> bytes:
    """The photograph as a lossy WebP."""
    return encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 60)


def lossy_chunk(*, width: int | None = None, height: int | None = None) -> tuple[bytes, bytes]:
    """The photograph as a VP8 chunk, whose header may say another size."""
    body = lossy_webp()
    data = body[20 : 20 + int.from_bytes(body[16:20], "little")]
    if width is None or height is None:
        return b"VP8 ", data
    return b"VP8 ", data[:6] + struct.pack("<HH", width, height) + data[10:]


# BMP ------------------------------------------------------------------------------------------------------------------


def bmp(
    width: int,
    height: int,
    *,
    depth: int = 24,
    compression: int = 0,
    between: bytes = b"",
    data: bytes | None = None,
) -> bytes:
    """A BMP of one colour, or of other rows; between header and rows a palette or masks."""
    rows = bytes(abs(height) * ((width * depth + 31) // 32 * 4)) if data is None else data
    offset = 54 + len(between)
    header = struct.pack("<iiiHHI", 40, width, height, 1, depth, compression) + bytes(20)
    return b"BM" + struct.pack("<III", offset + len(rows), 0, offset) + header + between + rows


def os2_bmp() -> bytes:
    """A BMP with the header of OS/2."""
    header = struct.pack("<IHHHH", 12, 32, 24, 1, 24)
    return b"BM" + struct.pack("<III", 26 + 96 * 24, 0, 26) + header + bytes(96 * 24)


# Honest ones ---------------------------------------------------------------------------------------------------------


def flat_encoded(extension: str, height: int, width: int, *parameters: int) -> bytes:
    """A black frame."""
    return cv2.imencode(extension, np.zeros((height, width, 3), np.uint8), parameters)[1].tobytes()


def enlarged(height: int, width: int) -> bytes:
    """A JPEG with the detail of a sharp photograph, about 1 bit a pixel."""
    noise = np.random.default_rng(4).integers(0, 60, (height // 4, width // 4, 3)).astype(np.uint8)
    pixels = cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, 80))[1].tobytes()
