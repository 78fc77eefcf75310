"""Decoding hostile bytes: limits first, parity with OpenCV's reader, and nothing but DecodeError."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.errors import Code, DecodeError
from gateway.inference.decode import DecodedImage, ImageLimits, decode_covering, decode_image
from gateway.inference.headers import read_header

LIMITS = ImageLimits(max_side=400, max_pixels=90_000)
EOI = b"\xff\xd9"


def photograph(height: int = 120, width: int = 160) -> NDArray[np.uint8]:
    """A smooth image with noise, which every encoder likes."""
    rows, columns = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(2).integers(0, 40, (height, width, 3))
    smooth = np.stack((rows, columns, rows + columns), axis=2) % 200
    return (smooth + noise).astype(np.uint8)


def encoded(extension: str, image: NDArray[np.uint8], *parameters: int) -> bytes:
    """An image in a format."""
    return cv2.imencode(extension, image, parameters)[1].tobytes()


def png(width: int, height: int, depth: int, color: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG of raw rows, each with its filter byte."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = [(b"IHDR", header), *((c[:4], c[4:]) for c in more)]
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def code_of(body: bytes, limits: ImageLimits = LIMITS) -> Code:
    """How a body is refused."""
    with pytest.raises(DecodeError) as caught:
        decode_image(body, limits)
    return caught.value.code


KINDS: list[tuple[str, bytes]] = [
    ("jpeg", encoded(".jpg", photograph())),
    ("jpeg progressive", encoded(".jpg", photograph(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
    ("jpeg restarts", encoded(".jpg", photograph(), cv2.IMWRITE_JPEG_RST_INTERVAL, 2)),
    (
        "jpeg 4:4:4",
        encoded(
            ".jpg",
            photograph(),
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        ),
    ),
    ("jpeg grey", encoded(".jpg", photograph()[:, :, 0])),
    ("png", encoded(".png", photograph())),
    ("png grey", encoded(".png", photograph()[:, :, 0])),
    ("png alpha", encoded(".png", np.dstack((photograph(), photograph()[:, :, 0])))),
    ("png 16 bit", png(9, 7, 16, 2, b"".join(b"\0" + bytes(range(n, n + 54)) for n in range(7)))),
    ("png palette", png(8, 2, 8, 3, b"\0\0\1\0\1\0\1\0\1" * 2, b"PLTE\x0a\x14\x1e\xff\x80\x00")),
    ("webp", encoded(".webp", photograph(), cv2.IMWRITE_WEBP_QUALITY, 70)),
    ("webp lossless", encoded(".webp", photograph(), cv2.IMWRITE_WEBP_QUALITY, 101)),
    ("bmp", encoded(".bmp", photograph())),
]


@pytest.mark.parametrize("body", [body for _, body in KINDS], ids=[kind for kind, _ in KINDS])
def test_pixels_equal_opencvs_reader(body: bytes) -> None:
    """Ultralytics reads files with the same call, so the network sees the same pixels."""
    expected = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    actual = decode_image(body, LIMITS)
    assert expected is not None
    assert actual.dtype == np.uint8
    assert actual.flags.c_contiguous
    np.testing.assert_array_equal(expected, actual)


def test_cmyk_jpegs_equal_opencvs_reader(tmp_path: Path) -> None:
    """Printers' files have four channels and come out as three."""
    image_module = pytest.importorskip("PIL.Image")
    path = tmp_path / "cmyk.jpg"
    image_module.fromarray(photograph()).convert("CMYK").save(path)
    expected = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert expected is not None
    np.testing.assert_array_equal(expected, decode_image(path.read_bytes(), LIMITS))


def test_photographs_are_accepted(test_data: Path) -> None:
    """Real files pass every check, also with bytes after their end."""
    for path in sorted((test_data / "coco50").glob("*.jpg")):
        body = path.read_bytes()
        image = decode_image(body, ImageLimits())
        header = read_header(body)
        assert (header.height, header.width, 3) == image.shape
        np.testing.assert_array_equal(image, decode_image(body + b"\0" * 4096, ImageLimits()))


def test_truncated_photographs_are_refused(test_data: Path) -> None:
    """Wherever the upload stopped."""
    for path in sorted((test_data / "coco50").glob("*.jpg"))[:10]:
        body = path.read_bytes()
        for share in (0.01, 0.2, 0.5, 0.9, 0.999):
            assert code_of(body[: int(len(body) * share)], ImageLimits()) == Code.IMAGE_CORRUPT


@pytest.mark.parametrize("body", [body for _, body in KINDS], ids=[kind for kind, _ in KINDS])
def test_truncations_are_refused(body: bytes) -> None:
    """Every format, wherever the upload stopped."""
    for length in {len(body) * step // 40 for step in range(1, 40)} | {len(body) - 1}:
        with pytest.raises(DecodeError):
            decode_image(body[:length], LIMITS)


@pytest.mark.parametrize("is_progressive", [0, 1])
def test_a_jpeg_that_lost_data_in_the_middle_is_refused(is_progressive: int) -> None:
    """Lost packets of a camera stream: a valid start, a valid end, and a grey rest."""
    body = encoded(".jpg", photograph(), cv2.IMWRITE_JPEG_PROGRESSIVE, is_progressive)
    header = body.index(b"\xff\xda") + 14
    assert code_of(body[: header + 30] + EOI) == Code.IMAGE_CORRUPT


def test_progressive_photographs_are_accepted_and_their_missing_scans_noticed(
    test_data: Path,
) -> None:
    """Encoders write every coefficient to its last bit; what was cut before the last scan is refused."""
    for path in sorted((test_data / "coco50").glob("*.jpg")):
        body = encoded(
            ".jpg", decode_image(path.read_bytes(), ImageLimits()), cv2.IMWRITE_JPEG_PROGRESSIVE, 1
        )
        decode_image(body, ImageLimits())
        for share in (0.2, 0.3):
            assert (
                code_of(body[: int(len(body) * share)] + EOI, ImageLimits()) == Code.IMAGE_CORRUPT
            )


def test_a_jpeg_with_appended_thumbnail_that_lost_data_is_refused() -> None:
    """The search for missing data looks at the image's own end, not at the last end in the file."""
    body = encoded(".jpg", photograph())
    cut = body[: body.index(b"\xff\xda") + 60] + EOI
    assert code_of(cut + encoded(".jpg", photograph(20, 20))) == Code.IMAGE_CORRUPT


def test_a_grey_jpeg_is_accepted() -> None:
    """The exact grey of missing data is a colour like any other."""
    grey = np.full((50, 70, 3), 128, np.uint8)
    np.testing.assert_array_equal(grey, decode_image(encoded(".jpg", grey), LIMITS))


def test_a_short_png_with_good_checksums_is_refused() -> None:
    """The container is whole, the pixels in it are not."""
    assert code_of(png(30, 20, 8, 2, b"\0" * 300)) == Code.IMAGE_CORRUPT


def with_orientation(body: bytes, orientation: int) -> bytes:
    """A JPEG with an EXIF orientation."""
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    segment = b"\xff\xe1" + struct.pack(">H", 8 + len(tiff)) + b"Exif\0\0" + tiff
    return body[:2] + segment + body[2:]


def test_exif_orientation_is_applied() -> None:
    """A telephone held upright: the boxes refer to the turned image, as with Ultralytics."""
    body = with_orientation(encoded(".jpg", photograph(120, 160)), 6)
    image = decode_image(body, LIMITS)
    assert image.shape == (160, 120, 3)
    np.testing.assert_array_equal(
        np.rot90(decode_image(encoded(".jpg", photograph(120, 160)), LIMITS), -1), image
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_missing_data_is_found_in_turned_images(orientation: int) -> None:
    """The last block may be in any corner."""
    body = encoded(".jpg", photograph())
    cut = body[: body.index(b"\xff\xda") + 60] + EOI
    assert code_of(with_orientation(cut, orientation)) == Code.IMAGE_CORRUPT


@pytest.mark.parametrize(
    ("shape", "canvas", "expected"),
    [
        ((240, 320), (40, 40), (30, 40)),
        ((240, 320), (41, 41), (60, 80)),
        ((240, 320), (160, 160), (120, 160)),
        ((240, 320), (161, 161), (240, 320)),
        ((239, 317), (160, 160), (239, 317)),
        ((238, 317), (158, 158), (119, 159)),
        ((240, 320), (64, 160), (120, 160)),
        ((296, 296), (64, 64), (74, 74)),
        ((296, 293), (32, 32), (148, 147)),
        ((16, 320), (32, 32), (2, 40)),
    ],
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_reduced_decode_still_covers_its_place(
    shape: tuple[int, int], canvas: tuple[int, int], expected: tuple[int, int], orientation: int
) -> None:
    """As few pixels as 1/2, 1/4 and 1/8 allow; boxes will refer to the image that was sent."""
    body = with_orientation(encoded(".jpg", photograph(*shape)), orientation)
    decoded = decode_covering(body, LIMITS, canvas_shape=canvas)
    if orientation == 6:
        shape, expected = shape[::-1], expected[::-1]
    assert expected == decoded.pixels.shape[:2]
    assert shape == decoded.image_shape
    assert decoded.pixels.flags.c_contiguous


def test_a_reduced_image_looks_like_the_whole_one() -> None:
    """The mean of each square of pixels, nearly."""
    smooth = cv2.GaussianBlur(photograph(240, 320), (0, 0), 5).astype(np.uint8)
    body = encoded(".jpg", smooth, cv2.IMWRITE_JPEG_QUALITY, 95)
    reduced = decode_covering(body, LIMITS, canvas_shape=(80, 80)).pixels
    whole = decode_image(body, LIMITS).reshape(60, 4, 80, 4, 3).mean(axis=(1, 3))
    assert np.abs(whole - reduced).mean() < 2


@pytest.mark.parametrize("extension", [".png", ".webp", ".bmp"])
def test_other_formats_are_decoded_in_full(extension: str) -> None:
    """Their decoders leave nothing out, and a reduction would only be a worse resize."""
    decoded = decode_covering(
        encoded(extension, photograph(240, 320)), LIMITS, canvas_shape=(32, 32)
    )
    assert (240, 320, 3) == decoded.pixels.shape
    assert decoded.image_shape == (240, 320)


def test_limits_hold_for_the_whole_image() -> None:
    """However few of its pixels are wanted."""
    with pytest.raises(DecodeError) as caught:
        decode_covering(encoded(".jpg", photograph(301, 300)), LIMITS, canvas_shape=(32, 32))
    assert caught.value.code == Code.IMAGE_TOO_LARGE


@pytest.mark.parametrize("canvas", [20, 40, 80])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_missing_data_is_found_in_reduced_images(canvas: int, orientation: int) -> None:
    """At every reduction and in every corner, and nothing is missing where all is there."""
    body = encoded(".jpg", photograph(160, 150))
    cut = body[: len(body) * 6 // 10] + EOI
    whole = with_orientation(body, orientation)
    decode_covering(whole, LIMITS, canvas_shape=(canvas, canvas))
    with pytest.raises(DecodeError) as caught:
        decode_covering(with_orientation(cut, orientation), LIMITS, canvas_shape=(canvas, canvas))
    assert caught.value.code == Code.IMAGE_CORRUPT


def test_a_decoder_that_disagrees_about_a_reduced_size_is_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One row more than the header says."""
    monkeypatch.setattr(cv2, "imdecode", lambda *_: np.zeros((31, 40, 3), np.uint8))
    with pytest.raises(DecodeError) as caught:
        decode_covering(encoded(".jpg", photograph(240, 320)), LIMITS, canvas_shape=(40, 40))
    assert caught.value.code == Code.IMAGE_CORRUPT


def test_photographs_are_accepted_reduced(test_data: Path) -> None:
    """Whole ones pass every check; where the upload stopped is noticed."""
    for path in sorted((test_data / "coco50").glob("*.jpg")):
        body = path.read_bytes()
        decoded = decode_covering(body, ImageLimits(), canvas_shape=(320, 320))
        assert decoded.image_shape == decode_image(body, ImageLimits()).shape[:2]
        scan = body.rindex(b"\xff\xda")
        cut = body[: scan + (len(body) - scan) // 2] + EOI
        with pytest.raises(DecodeError):
            decode_covering(cut, ImageLimits(), canvas_shape=(320, 320))


@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp", ".bmp"])
@pytest.mark.parametrize(("height", "width"), [(10, 401), (401, 10), (301, 300)])
def test_images_over_the_limits_are_refused(extension: str, height: int, width: int) -> None:
    """Longer than a side may be, in both directions, and more pixels than allowed."""
    body = encoded(extension, np.zeros((height, width, 3), np.uint8))
    assert code_of(body) == Code.IMAGE_TOO_LARGE


@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp", ".bmp"])
@pytest.mark.parametrize(("height", "width"), [(10, 400), (400, 10), (300, 300)])
def test_images_at_the_limits_are_taken(extension: str, height: int, width: int) -> None:
    """The limits themselves are allowed."""
    body = encoded(extension, np.zeros((height, width, 3), np.uint8))
    assert (height, width, 3) == decode_image(body, LIMITS).shape


def test_no_pixel_of_a_bomb_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file that says 20000 x 20000 never reaches the decoder."""
    reached: list[object] = []
    monkeypatch.setattr(cv2, "imdecode", lambda *arguments: reached.append(arguments))
    assert code_of(png(20_000, 20_000, 8, 0, b"\0")) == Code.IMAGE_TOO_LARGE
    assert reached == []


def test_an_image_that_takes_too_long_is_refused() -> None:
    """Progressive JPEGs of the most pixels are taken as encoders write them; wide PNG pixels need a smaller image."""
    zeros = np.zeros((300, 300, 3), np.uint8)
    progressive = encoded(".jpg", zeros, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    assert read_header(progressive).work == 4
    assert decode_image(progressive, LIMITS).shape == (300, 300, 3)
    for depth, color, taken in ((8, 6, 300), (16, 2, 270), (16, 6, 230)):
        row = bytes(1 + taken * {2: 3, 6: 4}[color] * depth // 8)
        body = png(taken, taken, depth, color, row * taken)
        assert decode_image(body, LIMITS).shape == (taken, taken, 3)
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, 300, 300, 1) + b"\x01\x11\x00"
    scans = [b"\xff\xda\x00\x08\x01\x01\x00" + bytes((n, n, 0)) + b"\x12" for n in range(64)]
    all_scans = b"\xff\xd8" + frame + b"".join(scans) + EOI
    for body in (all_scans, png(300, 300, 16, 2, b""), png(300, 300, 16, 6, b"")):
        assert code_of(body) == Code.IMAGE_TOO_LARGE


def test_a_decoder_that_disagrees_about_the_size_is_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise the limits would have been checked against another image."""
    monkeypatch.setattr(cv2, "imdecode", lambda *_: np.zeros((121, 160, 3), np.uint8))
    assert code_of(encoded(".png", photograph(120, 160))) == Code.IMAGE_CORRUPT


@pytest.mark.parametrize(
    "result", [None, np.zeros((120, 160), np.uint8), np.zeros((120, 160, 3), np.uint16)]
)
def test_a_decoder_that_gives_something_else_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, result: object
) -> None:
    """Nothing, one channel or sixteen bits."""
    monkeypatch.setattr(cv2, "imdecode", lambda *_: result)
    assert code_of(encoded(".png", photograph(120, 160))) == Code.IMAGE_CORRUPT


def test_opencvs_own_exception_does_not_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it throws at, the caller sees a DecodeError."""

    def throw(*_: object) -> None:
        raise cv2.error("bad")

    monkeypatch.setattr(cv2, "imdecode", throw)
    assert code_of(encoded(".png", photograph(120, 160))) == Code.IMAGE_CORRUPT


SMALL = [
    encoded(".jpg", photograph(24, 40)),
    encoded(".jpg", photograph(24, 40), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    encoded(".png", photograph(24, 40)),
    encoded(".webp", photograph(24, 40), cv2.IMWRITE_WEBP_QUALITY, 50),
    encoded(".webp", photograph(24, 40), cv2.IMWRITE_WEBP_QUALITY, 101),
    encoded(".bmp", photograph(24, 40)),
    with_orientation(encoded(".jpg", photograph(24, 40)), 6),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An image with bits flipped, most of them in its header, and pieces cut out or put in."""
    body = bytearray(draw(st.sampled_from(SMALL)))
    for _ in range(draw(st.integers(1, 4))):
        ends = [min(64, len(body)), len(body)]
        position = draw(st.integers(0, draw(st.sampled_from(ends)) - 1))
        match draw(st.sampled_from(("flip", "set", "cut", "insert"))):
            case "flip":
                body[position] ^= 1 << draw(st.integers(0, 7))
            case "set":
                body[position] = draw(st.sampled_from((0x00, 0x01, 0x7F, 0x80, 0xD9, 0xFF)))
            case "cut":
                del body[position : position + draw(st.integers(1, 20))]
            case _:
                body[position:position] = draw(st.binary(min_size=1, max_size=8))
        if not body:
            body = bytearray(b"\0")
    return bytes(body)


@settings(max_examples=600, deadline=None)
@given(damaged())
def test_damage_ends_in_a_refusal_or_an_image_of_the_stated_size(body: bytes) -> None:
    """No other exception leaves, and no image that the header did not announce."""
    outcome = decode_or_code(body)
    if isinstance(outcome, Code):
        assert outcome in (Code.IMAGE_CORRUPT, Code.IMAGE_UNSUPPORTED, Code.IMAGE_TOO_LARGE)
    else:
        header = read_header(body)
        stated = (header.height, header.width)
        assert outcome.pixels.shape[:2] == outcome.image_shape
        assert outcome.image_shape in (stated, stated[::-1])
        assert max(outcome.image_shape) <= LIMITS.max_side


@settings(max_examples=300, deadline=None)
@given(damaged(), st.sampled_from((4, 8, 12, 24, 400)))
def test_damage_ends_alike_where_pixels_are_left_out(body: bytes, side: int) -> None:
    """No other exception leaves, and never fewer pixels than the canvas needs."""
    outcome = decode_or_code(body, (side, side))
    if isinstance(outcome, Code):
        assert outcome in (Code.IMAGE_CORRUPT, Code.IMAGE_UNSUPPORTED, Code.IMAGE_TOO_LARGE)
    else:
        header = read_header(body)
        stated = (header.height, header.width)
        assert outcome.image_shape in (stated, stated[::-1])
        longer = max(outcome.pixels.shape)
        assert longer == max(stated) or longer >= side


def decode_or_code(body: bytes, canvas_shape: tuple[int, int] | None = None) -> DecodedImage | Code:
    """The image or the code of its refusal."""
    try:
        return decode_covering(body, LIMITS, canvas_shape=canvas_shape)
    except DecodeError as exc:
        return exc.code
