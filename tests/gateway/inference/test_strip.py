"""What the decoder gets to see of a file: its pixels, palette and orientation, and no more."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, DecodeError
from gateway.inference.headers import read_header
from gateway.inference.strip import MAX_EXCESS_BYTES, pixels_only
from tests.gateway.inference.image_files import (
    PALETTE,
    chunk,
    encoded,
    inflating_to,
    jpeg,
    lossless,
    png,
    turned,
    webp,
)

ANCILLARY = [b"zTXt", b"iTXt", b"tEXt", b"iCCP", b"sPLT", b"gAMA", b"tIME", b"abCd"]


def stripped(body: bytes) -> bytes:
    """What is left of a file."""
    return pixels_only(body, read_header(body))


@pytest.mark.parametrize("kind", ANCILLARY)
def test_metadata_of_a_png_is_left_out(kind: bytes) -> None:
    """Before and after the pixels, and whatever follows the end."""
    extra = chunk(kind, b"key\0\0\0")
    assert png(32, 32) == stripped(png(32, 32, before=extra, after=extra) + b"tail")


def test_palette_transparency_and_orientation_of_a_png_stay() -> None:
    """Pixels depend on them."""
    kept = PALETTE + chunk(b"tRNS", b"\0") + chunk(b"eXIf", turned(6))
    body = png(32, 32, color=3, before=kept)
    assert body is stripped(body)


def test_an_unknown_critical_chunk_stays() -> None:
    """The decoder has to refuse the file, as any other reader does (PNG third edition section 5.4)."""
    body = png(32, 32, before=chunk(b"EVIL", b""))
    assert body is stripped(body)


@pytest.mark.parametrize("interlace", [0, 1])
def test_pixel_data_may_exceed_its_rows_a_little(interlace: int) -> None:
    """Some encoders write a row too many; libpng inflates whatever is there."""
    allowed = 64 * (1 + 64 * 3) + MAX_EXCESS_BYTES
    body = png(64, 64, interlace=interlace, pixels=inflating_to(allowed))
    assert body is stripped(body)
    with pytest.raises(DecodeError) as caught:
        stripped(png(64, 64, interlace=interlace, pixels=inflating_to(allowed + 1)))
    assert caught.value.code == Code.IMAGE_CORRUPT
    assert caught.value.reason == "image_corrupt: more pixels than its header says"


def test_excess_is_found_across_chunks() -> None:
    """The stream goes on from one chunk to the next."""
    data = inflating_to(100 << 20)
    parts = [chunk(b"IDAT", data[start : start + 5_000]) for start in range(0, len(data), 5_000)]
    with pytest.raises(DecodeError, match="damaged"):
        stripped(png(64, 64, before=b"".join(parts), pixels=b""))


def test_pixel_data_that_does_not_inflate_is_corrupt() -> None:
    """Noticed where it is inflated anyway; what cannot go too far is left to the decoder."""
    with pytest.raises(DecodeError) as caught:
        stripped(png(64, 64, pixels=b"\xff" * 20_000))
    assert caught.value.reason == "image_corrupt: pixels that do not inflate"
    body = png(64, 64, pixels=b"\xff" * 99)
    assert body is stripped(body)


def test_bytes_behind_the_stream_are_not_inflated() -> None:
    """An honest stream with padding in its last chunk is taken."""
    data = zlib.compress(bytes(64 * 193)) + bytes(50_000)
    body = png(64, 64, pixels=data)
    assert body is stripped(body)


def test_alpha_and_profiles_of_a_webp_are_left_out() -> None:
    """Frame and EXIF stay, the flags say so, and so does the order."""
    sides = b"\x3f\0\0\x2f\0\0"
    frame, exif = (b"VP8L", lossless(64, 48)), (b"EXIF", turned(6))
    body = webp(
        (b"VP8X", b"\x3c\0\0\0" + sides),
        (b"ICCP", b"odd"),
        (b"ALPH", b"\1" + bytes(99)),
        frame,
        (b"XMP ", b"<x/>"),
        exif,
    )
    assert webp((b"VP8X", b"\x08\0\0\0" + sides), frame, exif) == stripped(body)
    without = webp((b"VP8X", b"\x10\0\0\0" + sides), frame)
    assert webp((b"VP8X", b"\0\0\0\0" + sides), frame) == stripped(without)


def test_a_webp_that_ends_behind_its_frame_is_taken_without_the_rest() -> None:
    """The header's walk ends at the frame."""
    sides = b"\x3f\0\0\x2f\0\0"
    head = webp((b"VP8X", b"\x08\0\0\0" + sides), (b"VP8L", lossless(64, 48)))
    cut = head + b"EXIF" + struct.pack("<I", 99) + b"MM"
    assert webp((b"VP8X", b"\0\0\0\0" + sides), (b"VP8L", lossless(64, 48))) == stripped(cut)


@pytest.mark.parametrize("body", [jpeg(), encoded(".bmp"), webp((b"VP8L", lossless(64, 48)))])
def test_other_files_stay_as_they_are(body: bytes) -> None:
    """Their decoders pass metadata without a look, or there is none."""
    assert body is stripped(body)


@given(
    st.lists(st.tuples(st.sampled_from([*ANCILLARY, b"tRNS"]), st.binary(max_size=9)), max_size=6)
)
def test_what_is_left_of_a_png_is_a_png(chunks: list[tuple[bytes, bytes]]) -> None:
    """Of the same size, and nothing more can be left out."""
    before = b"".join(chunk(kind, data) for kind, data in chunks)
    body = png(32, 24, before=before, after=before)
    once = stripped(body)
    assert (32, 24) == (read_header(once).width, read_header(once).height)
    assert once is stripped(once)
