"""EXIF orientation: pixels land where Ultralytics' reader puts them, in every format that may carry it."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.inference.decode import ImageLimits, decode_covering, decode_image
from tests.gateway.inference.image_files import chunk, turned, webp, with_exif

SIDE = 16
LEVELS = {"A": 20, "B": 60, "C": 100, "D": 140, "E": 180, "F": 220}
STORED = ("ABC", "DEF")
# Source: Exif 2.32 section 4.6.4, Orientation: where the stored row 0 and column 0 are seen.
SEEN = {
    1: ("ABC", "DEF"),
    2: ("CBA", "FED"),
    3: ("FED", "CBA"),
    4: ("DEF", "ABC"),
    5: ("AD", "BE", "CF"),
    6: ("DA", "EB", "FC"),
    7: ("FC", "EB", "DA"),
    8: ("CF", "BE", "AD"),
}


def painted(rows: tuple[str, ...]) -> NDArray[np.uint8]:
    """Squares of one colour each."""
    levels = np.array([[LEVELS[letter] for letter in row] for row in rows], np.uint8)
    grey = levels.repeat(SIDE, axis=0).repeat(SIDE, axis=1)
    return np.stack((grey, 255 - grey, grey // 2), axis=2)


def letters(image: NDArray[np.uint8]) -> tuple[str, ...]:
    """The nearest letter at the middle of each square."""
    middles = image[SIDE // 2 :: SIDE, SIDE // 2 :: SIDE, 0].astype(int)
    names, levels = list(LEVELS), np.array(list(LEVELS.values()))
    return tuple("".join(names[abs(levels - value).argmin()] for value in row) for row in middles)


def with_orientation(extension: str, orientation: int) -> bytes:
    """The stored squares as a file of a format that says how it is to be turned."""
    quality = {".jpg": cv2.IMWRITE_JPEG_QUALITY, ".webp": cv2.IMWRITE_WEBP_QUALITY}
    parameters = (
        (quality[extension], 101 if extension == ".webp" else 95) if extension in quality else ()
    )
    body = cv2.imencode(extension, painted(STORED), parameters)[1].tobytes()
    exif = turned(orientation)
    if extension == ".jpg":
        return with_exif(body, exif)
    if extension == ".png":
        return body[:33] + chunk(b"eXIf", exif) + body[33:]
    height, width = SIDE * len(STORED), SIDE * len(STORED[0])
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    length = int.from_bytes(body[16:20], "little")
    frame = (body[12:16], body[20 : 20 + length])
    return webp((b"VP8X", b"\x08\0\0\0" + sides), frame, (b"EXIF", exif))


FORMATS = pytest.mark.parametrize("extension", [".jpg", ".png", ".webp"])
ORIENTATIONS = pytest.mark.parametrize("orientation", SEEN)


@FORMATS
@ORIENTATIONS
def test_squares_are_seen_where_exif_puts_them(extension: str, orientation: int) -> None:
    """All eight, in every format that carries EXIF."""
    image = decode_image(with_orientation(extension, orientation), ImageLimits())
    assert SEEN[orientation] == letters(image)
    if extension != ".jpg":
        np.testing.assert_array_equal(painted(SEEN[orientation]), image)


@pytest.mark.needs_seal
@FORMATS
@ORIENTATIONS
def test_pixels_are_those_of_ultralytics(
    extension: str, orientation: int, tmp_path: Path, ultralytics: Any
) -> None:
    """Its own reader, from a file, pixel by pixel."""
    assert ultralytics is not None
    from ultralytics.utils.patches import imread

    path = tmp_path / f"turned{extension}"
    path.write_bytes(with_orientation(extension, orientation))
    expected = imread(str(path))
    np.testing.assert_array_equal(expected, decode_image(path.read_bytes(), ImageLimits()))


@pytest.mark.parametrize("orientation", [0, 9, 255, 65_535])
@FORMATS
def test_an_orientation_that_does_not_exist_turns_nothing(extension: str, orientation: int) -> None:
    """As in OpenCV: the image is taken as it is stored."""
    image = decode_image(with_orientation(extension, orientation), ImageLimits())
    assert STORED == letters(image)


@ORIENTATIONS
def test_a_reduced_decode_turns_alike(orientation: int) -> None:
    """At a half, with the shape of the whole."""
    decoded = decode_covering(
        with_orientation(".jpg", orientation), ImageLimits(), canvas_shape=(24, 24)
    )
    rows = SEEN[orientation]
    assert (len(rows) * SIDE, len(rows[0]) * SIDE) == decoded.image_shape
    assert rows == letters(decoded.pixels.repeat(2, axis=0).repeat(2, axis=1))
