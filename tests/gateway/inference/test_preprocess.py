"""Placing images on the canvas: geometry, pixels, reuse."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.inference.preprocess import PADDING, Canvas, Fit, fit_image


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A random image."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("image", "canvas", "expected"),
    [
        ((480, 640), (640, 640), Fit((480, 640), (480, 640), 80, 0)),
        ((1080, 810), (640, 640), Fit((1080, 810), (640, 480), 0, 80)),
        ((427, 640), (640, 640), Fit((427, 640), (427, 640), 106, 0)),
        ((30, 20), (64, 96), Fit((30, 20), (64, 43), 0, 26)),
        ((1, 3000), (640, 640), Fit((1, 3000), (1, 640), 319, 0)),
        ((640, 640), (640, 640), Fit((640, 640), (640, 640), 0, 0)),
    ],
)
def test_placements(image: tuple[int, int], canvas: tuple[int, int], expected: Fit) -> None:
    """Centred, as large as fits, odd pixels of padding at the bottom and right, thin images kept."""
    assert expected == fit_image(image, canvas)


sides = st.integers(1, 5000)


@given(
    image=st.tuples(sides, sides), canvas=st.tuples(st.integers(32, 1280), st.integers(32, 1280))
)
def test_placements_stay_on_the_canvas(image: tuple[int, int], canvas: tuple[int, int]) -> None:
    """Whatever the shape; one side always touches both edges."""
    fit = fit_image(image, canvas)
    bottom, right = fit.top + fit.resized_shape[0], fit.left + fit.resized_shape[1]
    assert 0 <= fit.top < bottom <= canvas[0]
    assert 0 <= fit.left < right <= canvas[1]
    assert canvas[0] == fit.resized_shape[0] or canvas[1] == fit.resized_shape[1]


def test_an_image_that_fits_is_copied() -> None:
    """No resampling where none is needed, and grey around."""
    image = noise(20, 64)
    canvas = Canvas((64, 64))
    canvas.place(image)
    np.testing.assert_array_equal(image, canvas.pixels[22:42])
    assert {PADDING} == set(np.unique(np.delete(canvas.pixels, np.s_[22:42], axis=0)))


@pytest.mark.parametrize("shape", [(20, 40), (333, 500), (128, 64), (1, 400)])
def test_pixels_are_bilinear(shape: tuple[int, int]) -> None:
    """The resized area equals OpenCV's, bit for bit, although it is written into a part of the canvas."""
    image = noise(*shape)
    canvas = Canvas((96, 128))
    fit = canvas.place(image)
    (height, width), top, left = fit.resized_shape, fit.top, fit.left
    expected = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(expected, canvas.pixels[top : top + height, left : left + width])


def test_nothing_of_the_last_image_remains() -> None:
    """A canvas used before gives the same pixels as a new one: no caller sees another's image."""
    used = Canvas((64, 64))
    for seed, shape in enumerate([(64, 64), (64, 20), (20, 64), (20, 64), (21, 64), (100, 30)]):
        image, fresh = noise(*shape, seed), Canvas((64, 64))
        fresh.place(image)
        used.place(image)
        np.testing.assert_array_equal(fresh.pixels, used.pixels)


def test_the_memory_stays_the_same() -> None:
    """The engine reads it without being told where it is."""
    canvas = Canvas((64, 64))
    before = canvas.pixels.ctypes.data
    canvas.place(noise(100, 30))
    canvas.place(noise(30, 100))
    assert before == canvas.pixels.ctypes.data
    assert canvas.pixels.flags.c_contiguous
