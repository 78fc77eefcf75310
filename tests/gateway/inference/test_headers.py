"""The header parsers: formats, sizes, and files that end early or lie."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, DecodeError
from gateway.inference.headers import (
    MAX_JPEG_FILL_BYTES,
    MAX_JPEG_SEGMENTS,
    MIN_PNG_CHUNKS,
    ImageFormat,
    ImageHeader,
    read_header,
)

PIXELS = np.random.default_rng(1).integers(0, 256, (20, 30, 3)).astype(np.uint8)
EXIF = b"\xff\xe1" + struct.pack(">H", 8) + b"Exif\0\0"
FRAME = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, 20, 30, 1) + b"\x01\x11\x00"
SCAN = b"\xff\xda" + struct.pack(">H", 8) + b"\x01\x01\x00\x00\x3f\x00"
PROGRESSIVE = FRAME.replace(b"\xff\xc0", b"\xff\xc2")
DATA = b"\x12\xff\x00\x34\xff\xd0\x56"
END = b"\xff\xd9"


def encoded(extension: str, *parameters: int) -> bytes:
    """The random test image in a format."""
    return cv2.imencode(extension, PIXELS, parameters)[1].tobytes()


def scan(first: int, last: int, high: int, low: int) -> bytes:
    """One scan of a progressive grey JPEG: coefficients first..last, from bit high down to bit low."""
    return (
        b"\xff\xda" + struct.pack(">H", 8) + bytes((1, 1, 0, first, last, high << 4 | low)) + DATA
    )


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One PNG chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, width: int = 30, height: int = 20) -> bytes:
    """A PNG file of the given chunks after its header."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + b"".join(chunks)


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP container of chunks."""
    content = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
        for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(content)) + content


def refusal(body: bytes) -> tuple[Code, str]:
    """How a body is refused."""
    with pytest.raises(DecodeError) as caught:
        read_header(body)
    return caught.value.code, caught.value.reason


@pytest.mark.parametrize(
    ("extension", "parameters", "expected"),
    [
        (".jpg", [], ImageFormat.JPEG),
        (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], ImageFormat.JPEG),
        (".jpg", [cv2.IMWRITE_JPEG_RST_INTERVAL, 1], ImageFormat.JPEG),
        (".png", [], ImageFormat.PNG),
        (".webp", [cv2.IMWRITE_WEBP_QUALITY, 80], ImageFormat.WEBP),
        (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101], ImageFormat.WEBP),
        (".bmp", [], ImageFormat.BMP),
    ],
)
def test_format_and_size_of_what_an_encoder_writes(
    extension: str, parameters: list[int], expected: ImageFormat
) -> None:
    """Each format's header is read."""
    header = read_header(encoded(extension, *parameters))
    assert (expected, 30, 20) == (header.format, header.width, header.height)


@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp", ".bmp"])
def test_trailing_bytes_are_ignored(extension: str) -> None:
    """Cameras append maker notes, depth maps and films."""
    body = encoded(extension)
    assert read_header(body) == read_header(body + b"\xff\xd9 depth map \xff\xd8" * 9)


@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp"])
def test_every_truncation_is_refused(extension: str) -> None:
    """Half an image would be half the boxes, without a word."""
    body = encoded(extension)
    for length in range(len(body)):
        refusal(body[:length])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"\xff\xd8",
        b"GIF89a" + bytes(50),
        b"\0\0\0\x1cftypavif" + bytes(50),
        b"II*\0" + bytes(50),
        b"RIFF\x10\0\0\0WAVE" + bytes(50),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"P6 1 1 255 abc",
        b"#?RADIANCE\n",
    ],
)
def test_other_formats_are_refused(body: bytes) -> None:
    """OpenCV would read most of these; each is a decoder that nobody asked for."""
    assert refusal(body) == (Code.IMAGE_UNSUPPORTED, "image_unsupported: magic")


def test_a_jpeg_is_walked_to_its_end_marker() -> None:
    """Metadata, fill bytes, stuffed bytes and restarts are passed; the end is where the marker is."""
    body = b"\xff\xd8" + EXIF + b"\xff\xff\xff" + FRAME + SCAN + DATA + END + END
    header = read_header(body)
    assert (30, 20, len(body) - 4) == (header.width, header.height, header.end)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([EXIF, FRAME, SCAN, DATA], "ends inside its scan"),
        ([EXIF, FRAME], "no marker where one belongs, or the end is missing"),
        (
            [EXIF, FRAME, SCAN, DATA, b"\xff\xff"],
            "no marker where one belongs, or the end is missing",
        ),
        (
            [EXIF, b"junk", FRAME, SCAN, DATA, END],
            "no marker where one belongs, or the end is missing",
        ),
        ([EXIF, b"\xff\xd8", FRAME, SCAN, DATA, END], "a marker out of place"),
        ([b"\xff\xe0\x00\x01", FRAME, SCAN, DATA, END], "a segment shorter than its length field"),
        ([FRAME, FRAME, SCAN, DATA, END], "two frames"),
        ([EXIF, END], "no frame, no scan or too many scans"),
        ([FRAME, END], "no frame, no scan or too many scans"),
        ([SCAN, DATA, END], "no frame, no scan or too many scans"),
        ([EXIF, b"\xff\xc0\x00\x0b\x08"], "ends inside its header"),
        ([EXIF, b"\xff\xc0"], "ends inside its header"),
        ([EXIF * MAX_JPEG_SEGMENTS, FRAME, SCAN, DATA, END], "too many segments"),
        (
            [PROGRESSIVE, *(scan(n, n, 0, n == 0) for n in range(64)), scan(0, 0, 1, 0), END],
            "no frame, no scan or too many scans",
        ),
        ([FRAME, SCAN, DATA, SCAN, DATA, END], "a scan out of order or twice"),
        (
            [FRAME, SCAN.replace(b"\x01\x01", b"\x01\x02"), DATA, END],
            "a scan of an unknown component",
        ),
        ([PROGRESSIVE, scan(0, 0, 0, 1), scan(0, 0, 0, 1), END], "a scan out of order or twice"),
        ([PROGRESSIVE, scan(1, 5, 0, 0), scan(5, 63, 0, 0), END], "a scan out of order or twice"),
        ([PROGRESSIVE, scan(0, 0, 0, 2), scan(0, 0, 1, 0), END], "a scan out of order or twice"),
        ([PROGRESSIVE, scan(0, 0, 0, 0), scan(5, 1, 0, 0), END], "a scan of no coefficients"),
        ([PROGRESSIVE, scan(0, 0, 0, 0), scan(1, 64, 0, 0), END], "a scan of no coefficients"),
        ([PROGRESSIVE, scan(0, 0, 0, 0), END], "a scan is missing"),
        ([PROGRESSIVE, scan(0, 0, 0, 0), scan(1, 62, 0, 0), END], "a scan is missing"),
        ([PROGRESSIVE, scan(0, 0, 0, 0), scan(1, 63, 0, 1), END], "a scan is missing"),
        ([b"\xff" * (MAX_JPEG_FILL_BYTES + 2), FRAME, SCAN, DATA, END], "too much fill"),
        ([(b"\xff" * 1001 + EXIF) * 2 + FRAME, SCAN, DATA, b"\xff" + END], "too much fill"),
        ([FRAME.replace(b"\x00\x14", b"\x00\x00"), SCAN, DATA, END], "a side of zero pixels"),
    ],
)
def test_broken_jpegs_are_corrupt(parts: list[bytes], expected: str) -> None:
    """Each contradiction is refused by its own check."""
    body = b"\xff\xd8" + b"".join(parts)
    assert (Code.IMAGE_CORRUPT, f"image_corrupt: {expected}") == refusal(body)


def test_the_scans_of_a_progressive_jpeg_are_counted() -> None:
    """Each is a pass over the image, and its end says nothing about the others."""
    parts = [scan(0, 0, 0, 1), scan(1, 5, 0, 0), scan(6, 63, 0, 1), scan(0, 0, 1, 0)]
    header = read_header(b"\xff\xd8" + PROGRESSIVE + b"".join(parts) + scan(6, 63, 1, 0) + END)
    assert (2, None) == (header.work, header.end)


def test_only_pixels_count_as_pixels() -> None:
    """Metadata, fill and what follows the end do not make an image richer."""
    padding = png_chunk(b"tEXt", bytes(999))
    parts = [padding, png_chunk(b"IDAT", b"abc"), png_chunk(b"IDAT", b"de")]
    assert read_header(png(*parts, png_chunk(b"IEND", b""), padding)).pixel_bytes == 5
    jpeg = b"\xff\xd8" + EXIF * 9 + FRAME + SCAN + DATA + END + bytes(999)
    assert read_header(jpeg).pixel_bytes == len(DATA)
    assert read_header(webp(vp8x(8, 30, 20), (b"ICCP", bytes(999)), VP8)).pixel_bytes == 10
    assert read_header(encoded(".bmp") + bytes(999)).pixel_bytes == 20 * 92


@pytest.mark.parametrize("length", [1 << 18, (1 << 18) - 1, (1 << 18) - 2, (1 << 19) + 1])
def test_the_end_of_a_long_scan_is_found(length: int) -> None:
    """Also where the marker stands on both sides of the end of a piece of the search."""
    body = b"\xff\xd8" + FRAME + SCAN + bytes(length) + END
    assert read_header(body).end == len(body) - 2


def test_parameters_of_a_sequential_scan_are_ignored() -> None:
    """Some cameras write zeros, and libjpeg decodes all coefficients."""
    body = b"\xff\xd8" + FRAME + SCAN.replace(b"\x3f", b"\x00") + DATA + END
    assert read_header(body).work == 1


def test_components_may_share_an_identifier() -> None:
    """Some cameras write the same for all three; the scan names them in order."""
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, 20, 30, 3) + b"\x01\x11\x00" * 3
    one_scan = b"\xff\xda" + struct.pack(">H", 12) + b"\x03" + b"\x01\x00" * 3 + b"\x00\x3f\x00"
    assert read_header(b"\xff\xd8" + frame + one_scan + DATA + END).work == 1


@pytest.mark.parametrize("marker", [0xC3, 0xC5, 0xC7, 0xC8, 0xC9, 0xCA, 0xCB, 0xCF, 0xDC])
def test_exotic_jpeg_processes_are_refused(marker: int) -> None:
    """Lossless, hierarchical, arithmetic, and heights that come after the pixels."""
    frame = FRAME.replace(b"\xff\xc0", bytes((0xFF, marker)))
    body = b"\xff\xd8" + frame + SCAN + DATA + END
    assert refusal(body) == (Code.IMAGE_UNSUPPORTED, "image_unsupported: process")


def test_twelve_bit_jpegs_are_refused() -> None:
    """OpenCV does not read them as Ultralytics does."""
    frame = FRAME.replace(b"\x00\x0b\x08", b"\x00\x0b\x0c")
    body = b"\xff\xd8" + frame + SCAN + DATA + END
    assert refusal(body) == (Code.IMAGE_UNSUPPORTED, "image_unsupported: precision")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (png(png_chunk(b"IEND", b"")), "no pixels"),
        (png(png_chunk(b"IDAT", b"x")), "ends inside its header"),
        (png(png_chunk(b"IDAT", b"x") + b"\0\0\0\x10tEXt"), "ends inside a chunk"),
        (png(png_chunk(b"tEXt", b"") * (MIN_PNG_CHUNKS + 20)), "too many chunks"),
        (b"\x89PNG\r\n\x1a\n" + png_chunk(b"tEXt", bytes(13)), "no header chunk"),
        (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", bytes(12)), "no header chunk"),
        (
            png(png_chunk(b"IDAT", b"x"), png_chunk(b"IEND", b""), width=0),
            "a side of zero pixels",
        ),
    ],
)
def test_broken_pngs_are_corrupt(body: bytes, expected: str) -> None:
    """Each contradiction is refused by its own check."""
    assert (Code.IMAGE_CORRUPT, f"image_corrupt: {expected}") == refusal(body)


def test_a_png_may_have_a_chunk_a_kilobyte() -> None:
    """Encoders split the pixels of large images into thousands."""
    pixels = png_chunk(b"IDAT", bytes(1012))
    assert read_header(png(pixels * 2 * MIN_PNG_CHUNKS, png_chunk(b"IEND", b""))).width == 30


@pytest.mark.parametrize("kind", [b"acTL", b"fcTL", b"fdAT"])
def test_animated_pngs_are_refused(kind: bytes) -> None:
    """A detector sees one image, and the caller has to say which."""
    body = png(png_chunk(kind, bytes(8)), png_chunk(b"IDAT", b"x"), png_chunk(b"IEND", b""))
    assert refusal(body) == (Code.IMAGE_UNSUPPORTED, "image_unsupported: animation")


def vp8x(flags: int, width: int, height: int) -> tuple[bytes, bytes]:
    """An extended WebP header."""
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X", bytes((flags, 0, 0, 0)) + sides


# No transform, no cache, one group, whose code of five is one symbol each.
VP8L = (b"VP8L", b"\x2f" + struct.pack("<I", 29 | 19 << 14) + b"\x88\x88\x08")
VP8 = (b"VP8 ", b"\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", 30 | 1 << 14, 20 | 1 << 14))


@pytest.mark.parametrize("frame", [VP8, VP8L])
def test_extended_webp_has_the_size_of_its_frame(frame: tuple[bytes, bytes]) -> None:
    """Metadata and odd chunks before the frame are passed."""
    header = read_header(webp(vp8x(8, 30, 20), (b"ICCP", b"odd"), frame))
    assert (header.width, header.height) == (30, 20)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (webp(vp8x(0, 31, 20), VP8L), "two sizes"),
        (webp((b"EXIF", b"")), "ends inside its header"),
        (webp((b"EXIF", b""), (b"XMP ", b"")) + bytes(8), "ends inside a chunk"),
        (webp((b"VP8L", b"\x2e" + bytes(4))), "no lossless signature"),
        (webp((b"VP8 ", VP8[1].replace(b"\x9d", b"\x9c"))), "no key frame"),
        (webp((b"VP8 ", b"\0\0\0\x9d\x01\x2a" + bytes(4))), "a side of zero pixels"),
        (webp(*[(b"EXIF", b"")] * 64, VP8), "no pixels"),
        (webp(VP8)[:-1], "ends inside its container"),
        (webp(VP8).replace(b"VP8 \x0a", b"VP8 \x0b"), "ends inside a chunk"),
    ],
)
def test_broken_webps_are_corrupt(body: bytes, expected: str) -> None:
    """Each contradiction is refused by its own check."""
    assert (Code.IMAGE_CORRUPT, f"image_corrupt: {expected}") == refusal(body)


def test_animated_webps_are_refused() -> None:
    """A detector sees one image, and the caller has to say which."""
    body = webp(vp8x(2, 30, 20), (b"ANIM", bytes(6)))
    assert refusal(body) == (Code.IMAGE_UNSUPPORTED, "image_unsupported: animation")


def test_bmp_headers_of_both_generations() -> None:
    """OS/2 headers have short sides; later ones may run from the top."""
    old = b"BM" + bytes(12) + struct.pack("<IHHHH", 12, 30, 20, 1, 8) + bytes(20 * 32)
    top_down = b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 30, -20, 1, 16, 3) + bytes(20 * 60)
    assert [(h.width, h.height) for h in (read_header(old), read_header(top_down))] == [
        (30, 20)
    ] * 2


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"BM" + bytes(12) + struct.pack("<Iii", 16, 30, 20), "unknown header"),
        (b"BM" + bytes(12) + struct.pack("<Iii8x", 40, -30, 20), "a side of zero pixels"),
        (b"BM" + bytes(12) + struct.pack("<Ii", 40, 30), "ends inside its header"),
        (b"BM", "ends inside its header"),
        (
            b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 30, 20, 1, 24, 0) + bytes(20 * 92 - 35),
            "ends inside its pixels",
        ),
    ],
)
def test_broken_bmps_are_corrupt(body: bytes, expected: str) -> None:
    """Each contradiction is refused by its own check."""
    assert (Code.IMAGE_CORRUPT, f"image_corrupt: {expected}") == refusal(body)


@pytest.mark.parametrize("compression", [1, 2, 4, 5])
def test_compressed_bmps_are_refused(compression: int) -> None:
    """A run-length file of 1 KB becomes an image of any size."""
    body = b"BM" + bytes(12) + struct.pack("<Iii4xI", 40, 30, 20, compression)
    assert refusal(body) == (Code.IMAGE_UNSUPPORTED, "image_unsupported: compression")


STARTS = [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\xff\0\0\0WEBP", b"BM", b""]


@given(start=st.sampled_from(STARTS), rest=st.binary(max_size=300))
def test_any_bytes_end_in_a_size_or_a_refusal(start: bytes, rest: bytes) -> None:
    """No other exception leaves, and no size without pixels."""
    outcome = read_or_code(start + rest)
    if isinstance(outcome, Code):
        assert outcome in (Code.IMAGE_CORRUPT, Code.IMAGE_UNSUPPORTED)
    else:
        assert outcome.width >= 1
        assert outcome.height >= 1


def read_or_code(body: bytes) -> ImageHeader | Code:
    """The header or the code of its refusal."""
    try:
        return read_header(body)
    except DecodeError as exc:
        return exc.code
