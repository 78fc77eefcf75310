"""The corpus of hostile images: each has its one answer, and little is done before it is given."""

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.errors import DecodeError
from gateway.inference.decode import ImageLimits, decode_image
from tests.gateway.inference.hostile_images import HONEST, HOSTILE, MAX_BYTES, Case

TAKEN = [name for name, case in HOSTILE.items() if case.code is None]
CASES = pytest.mark.parametrize("case", HOSTILE.values(), ids=HOSTILE.keys())


NO_IMAGE = np.zeros((1, 1, 3), np.uint8)


def decoded(body: bytes, limits: ImageLimits) -> tuple[str | None, NDArray[np.uint8]]:
    """The code of a refusal, or None and the image."""
    try:
        return None, decode_image(body, limits)
    except DecodeError as exc:
        return exc.code.value, NO_IMAGE


def answer_of(body: bytes) -> str | None:
    """The code of a refusal, None where the image is taken."""
    return decoded(body, ImageLimits())[0]


@CASES
def test_has_its_answer(case: Case) -> None:
    """The code that the table says, from a file of at most 2 MB."""
    body = case.make()
    assert len(body) <= MAX_BYTES
    assert case.code == answer_of(body)


@pytest.mark.parametrize("name", [name for name in TAKEN if "inflate" not in name])
def test_what_is_taken_looks_as_in_opencv(name: str) -> None:
    """Leaving out what pixels do not depend on changes none of them; what inflates would take OpenCV ten seconds."""
    body = HOSTILE[name].make()
    expected = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    assert expected is not None
    np.testing.assert_array_equal(expected, decode_image(body, ImageLimits()))


@pytest.mark.parametrize(
    "name", [name for name, case in HOSTILE.items() if case.code == "image_too_large"]
)
def test_no_decoder_sees_what_is_too_large(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The header is enough, and its limits come first."""
    reached: list[object] = []
    monkeypatch.setattr(cv2, "imdecode", lambda *arguments: reached.append(arguments))
    assert "image_too_large" == answer_of(HOSTILE[name].make())
    assert [] == reached


@pytest.mark.parametrize("make", HONEST.values(), ids=HONEST.keys())
def test_honest_images_are_taken(make: Callable[[], bytes]) -> None:
    """Black frames of a camera at night, photographs of 24 megapixels, frames of 8K."""
    assert answer_of(make()) is None


@cache
def small() -> list[bytes]:
    """The short ones: a mutation of 2 MB meets nothing that matters."""
    bodies = (case.make() for name, case in HOSTILE.items() if "inflate" not in name)
    return [body for body in bodies if len(body) <= 4_096]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A hostile image made worse: bytes set, cut out, doubled, or taken from another one."""
    body = bytearray(draw(st.sampled_from(small())))
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, max(len(body) - 1, 0)))
        length = draw(st.integers(1, 40))
        match draw(st.sampled_from(("set", "cut", "double", "splice"))):
            case "set":
                body[start : start + 1] = draw(st.binary(min_size=1, max_size=4))
            case "cut":
                del body[start : start + length]
            case "double":
                body[start:start] = body[start : start + length]
            case _:
                body[start:] = draw(st.sampled_from(small()))[start:]
    return bytes(body)


@settings(max_examples=500, deadline=None)
@given(mutated())
def test_nothing_but_a_refusal_leaves(body: bytes) -> None:
    """Whatever is made of the corpus, it ends in an image within the limits or a DecodeError."""
    limits = ImageLimits(max_side=2_048, max_pixels=1 << 20)
    answer, image = decoded(body, limits)
    assert answer in {None, "image_corrupt", "image_unsupported", "image_too_large"}
    assert max(image.shape) <= limits.max_side
