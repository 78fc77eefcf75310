"""Images that somebody made to hurt: a name, bytes and the one right answer for each. Generated, at most 2 MB.

HONEST holds what looks like them and is taken: a black frame at night, a large photograph.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import cv2

from tests.gateway.inference.image_files import (
    AC,
    AC_RUN,
    ADOBE_YCCK,
    DC,
    EOI,
    HTML,
    PALETTE,
    QUANTISATION,
    SOI,
    ZIP,
    bmp,
    canvas,
    chunk,
    cut_jpeg,
    encoded,
    enlarged,
    exif,
    filter_png,
    flat_encoded,
    frame,
    half,
    icc_segments,
    inflating_to,
    jpeg,
    lossless,
    lossy_chunk,
    lossy_webp,
    os2_bmp,
    palette_png,
    patched_frame,
    png,
    progressive,
    scan,
    segment,
    spoiled,
    squeeze,
    thumbnail_exif,
    turned,
    webp,
    with_exif,
)

MAX_BYTES = 2 * 1024 * 1024

TAKEN = (200, None)
UNSUPPORTED = (415, "image_unsupported")
CORRUPT = (422, "image_corrupt")
TOO_LARGE = (413, "image_too_large")


@dataclass(frozen=True, slots=True)
class Case:
    """An image and its answer: the status and the code of the problem, None where it is taken."""

    make: Callable[[], bytes]
    status: int
    code: str | None


HOSTILE: dict[str, Case] = {
    # Size: a few bytes that say many pixels.
    "png 20000 x 20000": Case(
        lambda: png(20_000, 20_000, pixels=inflating_to(1_200_000_000)), *TOO_LARGE
    ),
    "png of the longest sides": Case(lambda: png(2**31 - 1, 2**31 - 1, pixels=b"x"), *TOO_LARGE),
    "png 1 x 65535": Case(lambda: png(1, 65_535), *TOO_LARGE),
    "png of one colour at the limit": Case(lambda: png(8_192, 4_096), *TOO_LARGE),
    "png of 1 bit at the limit": Case(lambda: png(8_192, 4_096, depth=1, color=0), *TOO_LARGE),
    "png of 16 bits, 4K, one colour": Case(
        lambda: png(4_096, 2_160, depth=16, color=6), *TOO_LARGE
    ),
    "png interlaced, 4K, one colour": Case(
        lambda: png(4_096, 2_160, color=6, interlace=1), *TOO_LARGE
    ),
    "png without a side": Case(lambda: png(0, 32), *CORRUPT),
    "jpeg 65500 x 65500": Case(lambda: jpeg(65_500, 65_500, data=bytes(9)), *TOO_LARGE),
    "jpeg of one colour at the limit": Case(lambda: jpeg(8_192, 4_096), *TOO_LARGE),
    "jpeg at the limit without data": Case(lambda: jpeg(8_192, 4_096, data=bytes(9)), *TOO_LARGE),
    "jpeg whose frame says 8192 x 4096": Case(
        lambda: patched_frame(encoded(".jpg"), 8_192, 4_096), *TOO_LARGE
    ),
    "jpeg without a side": Case(lambda: jpeg(header=frame(64, 0)), *CORRUPT),
    "webp of one colour, 16383 x 16383": Case(
        lambda: webp((b"VP8L", lossless(16_383, 16_383))), *TOO_LARGE
    ),
    "webp of one colour at the limit": Case(
        lambda: webp((b"VP8L", lossless(8_192, 4_096))), *TOO_LARGE
    ),
    "webp lossy that says 8192 x 4096": Case(
        lambda: webp(lossy_chunk(width=8_192, height=4_096)), *TOO_LARGE
    ),
    "webp without a side": Case(lambda: webp(lossy_chunk(width=0, height=8)), *CORRUPT),
    "bmp at the limit without rows": Case(lambda: bmp(8_192, 4_096, data=b""), *CORRUPT),
    "bmp of the greatest height": Case(lambda: bmp(8, -(2**31), data=bytes(999)), *CORRUPT),
    "bmp of no height": Case(lambda: bmp(8, 0), *CORRUPT),
    "bmp of negative width": Case(lambda: bmp(-8, 8, data=bytes(999)), *CORRUPT),
    # Time: little to send and much to do.
    "jpeg of 64 scans": Case(lambda: progressive(4_096, 2_048, 64), *TOO_LARGE),
    "jpeg of 64 scans, small": Case(lambda: progressive(1_024, 1_024, 64), *TAKEN),
    "jpeg of 1000 scans": Case(
        lambda: (
            SOI
            + QUANTISATION
            + DC
            + AC_RUN
            + frame(512, 512, marker=0xC2, components=1)
            + (scan([1], last=0) + bytes(512)) * 1_000
            + EOI
        ),
        *CORRUPT,
    ),
    "jpeg of 1900 scans without a frame": Case(
        lambda: SOI + (scan([1]) + bytes(1_000)) * 1_900 + jpeg()[2:], *CORRUPT
    ),
    "jpeg of 3000 segments": Case(lambda: jpeg(before=segment(0xE5, b"x") * 3_000), *CORRUPT),
    "jpeg of fill bytes": Case(
        lambda: jpeg(before=(b"\xff" * 1_900 + segment(0xE5, b"")) * 900), *CORRUPT
    ),
    "jpeg of stuffed bytes": Case(lambda: jpeg(data=b"\0" * 36 + b"\xff\0" * 990_000), *TAKEN),
    "jpeg of restarts": Case(lambda: jpeg(data=b"\0" * 36 + b"\xff\xd0" * 990_000), *TAKEN),
    "jpeg of the middle grey": Case(lambda: jpeg(1_920, 1_080), *TAKEN),
    "jpeg with 2 MB of colour profile": Case(lambda: jpeg(before=icc_segments(30)), *TAKEN),
    "png of 60000 chunks": Case(lambda: png(32, 32, before=chunk(b"tEXt", b"") * 60_000), *CORRUPT),
    "png of texts that inflate": Case(
        lambda: png(32, 32, before=chunk(b"zTXt", b"key\0\0" + inflating_to(7_900_000)) * 200),
        *TAKEN,
    ),
    "png of international texts that inflate": Case(
        lambda: png(32, 32, after=chunk(b"iTXt", b"key\0\1\0\0\0" + inflating_to(7_900_000)) * 200),
        *TAKEN,
    ),
    "png with a colour profile that inflates": Case(
        lambda: png(32, 32, before=chunk(b"iCCP", b"icc\0\0" + inflating_to(1_000_000_000))), *TAKEN
    ),
    "png with 1 GB of further rows": Case(
        lambda: png(32, 32, pixels=inflating_to(1_000_000_000)), *CORRUPT
    ),
    "webp of 65536 code groups": Case(
        lambda: webp((b"VP8L", lossless(1_024, 1_024, groups=65_536))), *UNSUPPORTED
    ),
    "webp with code groups in its alpha": Case(
        lambda: webp(
            canvas(0x10, 320, 240),
            (b"ALPH", b"\1" + lossless(320, 240, groups=4_800)[5:]),
            lossy_chunk(),
        ),
        *TAKEN,
    ),
    "bmp of 1 bit, 4K": Case(lambda: bmp(4_096, 2_160, depth=1, between=bytes(8)), *TAKEN),
    # Kinds: what is no photograph of a camera.
    "jpeg cmyk": Case(lambda: jpeg(components=4), *TAKEN),
    "jpeg ycck": Case(lambda: jpeg(components=4, before=ADOBE_YCCK), *TAKEN),
    "jpeg of 12 bits": Case(lambda: jpeg(header=frame(64, 48, precision=12)), *UNSUPPORTED),
    "jpeg arithmetic": Case(lambda: jpeg(header=frame(64, 48, marker=0xC9)), *UNSUPPORTED),
    "jpeg lossless": Case(lambda: jpeg(header=frame(64, 48, marker=0xC3)), *UNSUPPORTED),
    "jpeg hierarchical": Case(lambda: jpeg(header=frame(64, 48, marker=0xC5)), *UNSUPPORTED),
    "jpeg whose height comes later": Case(
        lambda: jpeg(header=frame(64, 0))[:-2] + segment(0xDC, b"\0\x30") + EOI, *UNSUPPORTED
    ),
    "png of 16 bits": Case(lambda: png(32, 32, depth=16), *TAKEN),
    "png of 1 bit": Case(lambda: png(32, 32, depth=1, color=0), *TAKEN),
    "png interlaced": Case(lambda: png(33, 31, interlace=1), *TAKEN),
    "png palette": Case(lambda: palette_png(1), *TAKEN),
    "png palette, transparent": Case(
        lambda: palette_png(1, before=PALETTE + chunk(b"tRNS", b"\0\x80")), *TAKEN
    ),
    "png palette, index outside": Case(lambda: palette_png(200), *TAKEN),
    "png palette, missing": Case(lambda: palette_png(1, before=b""), *CORRUPT),
    "png animated": Case(
        lambda: png(32, 32, before=chunk(b"acTL", struct.pack(">II", 1_000, 0))), *UNSUPPORTED
    ),
    "webp animated": Case(
        lambda: webp(canvas(2, 320, 240), (b"ANIM", bytes(6)), (b"ANMF", bytes(16))), *UNSUPPORTED
    ),
    "webp with alpha": Case(
        lambda: encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 60, alpha=True), *TAKEN
    ),
    "bmp run-length": Case(
        lambda: bmp(8_192, 4_096, depth=8, compression=1, data=b"\0\1"), *UNSUPPORTED
    ),
    "bmp of OS/2": Case(os2_bmp, *TAKEN),
    "bmp top down": Case(lambda: bmp(32, -24), *TAKEN),
    "bmp without masks": Case(
        lambda: bmp(32, 24, depth=16, compression=3, between=bytes(12)), *CORRUPT
    ),
    "bmp of 3 bits": Case(lambda: bmp(32, 24, depth=3), *CORRUPT),
    # Contradictions and damage.
    "jpeg of two frames": Case(lambda: jpeg(before=frame(8_192, 4_096) + QUANTISATION), *CORRUPT),
    "jpeg of 255 components": Case(lambda: jpeg(header=frame(64, 48, components=255)), *CORRUPT),
    "jpeg of 16-fold sampling": Case(
        lambda: jpeg(header=frame(64, 48, sampling=0x44), data=bytes(999)), *CORRUPT
    ),
    "jpeg without quantisation": Case(lambda: jpeg(tables=DC + AC), *CORRUPT),
    "jpeg cut at 1%": Case(lambda: cut_jpeg(0.01), *CORRUPT),
    "jpeg cut at 50%": Case(lambda: cut_jpeg(0.5), *CORRUPT),
    "jpeg cut at 99%": Case(lambda: cut_jpeg(0.99), *CORRUPT),
    "jpeg that lost its data": Case(lambda: cut_jpeg(0.5) + EOI, *CORRUPT),
    "png cut at 50%": Case(lambda: half(encoded(".png")), *CORRUPT),
    "png of too few rows": Case(lambda: png(64, 64, pixels=squeeze([bytes(193)] * 9)), *CORRUPT),
    "png with a wrong checksum": Case(lambda: spoiled(encoded(".png"), 60), *CORRUPT),
    "png of an unknown filter": Case(lambda: filter_png(9), *CORRUPT),
    "png of an unknown critical chunk": Case(
        lambda: png(32, 32, before=chunk(b"EVIL", b"x")), *CORRUPT
    ),
    "webp cut at 50%": Case(lambda: half(lossy_webp()), *CORRUPT),
    "webp of two sizes": Case(lambda: webp(canvas(0, 8, 8), lossy_chunk()), *CORRUPT),
    "webp whose container is longer": Case(
        lambda: b"RIFF\xff\xff\xff\x7f" + lossy_webp()[8:], *CORRUPT
    ),
    "bmp cut at 50%": Case(lambda: half(encoded(".bmp")), *CORRUPT),
    # Metadata that lies.
    "jpeg with orientation 0": Case(lambda: with_exif(jpeg(), turned(0)), *TAKEN),
    "jpeg with orientation 65535": Case(lambda: with_exif(jpeg(), turned(65_535)), *TAKEN),
    "jpeg whose EXIF leads to itself": Case(
        lambda: with_exif(
            jpeg(), exif((0x8769, 4, 1, 8), (0x8825, 4, 1, 8), (0xA005, 4, 1, 8), next_offset=8)
        ),
        *TAKEN,
    ),
    "jpeg with EXIF of 4 billion values": Case(
        lambda: with_exif(
            jpeg(), exif((0x0112, 3, 2**32 - 1, 6), (0x010E, 2, 2**32 - 1, 2**32 - 9))
        ),
        *TAKEN,
    ),
    "jpeg with a thumbnail of 65000 x 65000": Case(
        lambda: with_exif(jpeg(), thumbnail_exif()), *TAKEN
    ),
    "png whose EXIF leads to itself": Case(
        lambda: png(32, 32, before=chunk(b"eXIf", exif((0x8769, 4, 1, 8), next_offset=8))), *TAKEN
    ),
    # Two files in one.
    "jpeg and zip": Case(lambda: jpeg() + ZIP, *TAKEN),
    "jpeg with HTML in a comment": Case(lambda: jpeg(before=segment(0xFE, HTML)), *TAKEN),
    "png and HTML": Case(lambda: png(32, 32, before=chunk(b"tEXt", b"x\0" + HTML)) + HTML, *TAKEN),
    "png with a jpeg behind it": Case(lambda: png(32, 32) + encoded(".jpg"), *TAKEN),
    "gif and jpeg": Case(lambda: b"GIF89a" + bytes(7) + jpeg(), *UNSUPPORTED),
    "pdf and jpeg": Case(lambda: b"%PDF-1.7\n" + jpeg(), *UNSUPPORTED),
    # Decoders that OpenCV has and nobody asked for.
    "gif": Case(lambda: b"GIF89a\xff\xff\xff\xff\xf7\0\0" + bytes(900), *UNSUPPORTED),
    "tiff": Case(lambda: b"II*\0\x08\0\0\0" + bytes(900), *UNSUPPORTED),
    "svg": Case(lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", *UNSUPPORTED),
    "heic": Case(lambda: b"\0\0\0\x18ftypheic" + bytes(900), *UNSUPPORTED),
    "avif": Case(lambda: b"\0\0\0\x1cftypavif" + bytes(900), *UNSUPPORTED),
    "psd": Case(lambda: b"8BPS\0\1" + bytes(900), *UNSUPPORTED),
    "ico": Case(lambda: b"\0\0\1\0\1\0" + bytes(900), *UNSUPPORTED),
    "jpeg 2000": Case(lambda: b"\xff\x4f\xff\x51" + bytes(900), *UNSUPPORTED),
    "jpeg xl": Case(lambda: b"\xff\x0a" + bytes(900), *UNSUPPORTED),
    "pnm": Case(lambda: b"P6 65535 65535 255\n" + bytes(900), *UNSUPPORTED),
    "radiance": Case(lambda: b"#?RADIANCE\n\n-Y 65535 +X 65535\n", *UNSUPPORTED),
    "zip": Case(lambda: ZIP, *UNSUPPORTED),
}


HONEST: dict[str, Callable[[], bytes]] = {
    "black jpeg of 1080p": lambda: flat_encoded(".jpg", 1_080, 1_920),
    "black jpeg of 4K": lambda: flat_encoded(".jpg", 2_160, 3_840),
    "grey jpeg of 4K": lambda: jpeg(3_840, 2_160),
    "black png of 4K": lambda: flat_encoded(".png", 2_160, 3_840),
    "black webp of 4K": lambda: flat_encoded(".webp", 2_160, 3_840, cv2.IMWRITE_WEBP_QUALITY, 80),
    "black jpeg of 24 megapixels": lambda: flat_encoded(".jpg", 4_000, 6_000),
    "photograph of 24 megapixels": lambda: enlarged(4_000, 6_000),
    "frame of 8K": lambda: enlarged(4_320, 7_680),
}
