"""How many code groups a lossless WebP has, counted as libwebp counts them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.inference.webp_lossless import MAX_CODE_GROUPS, count_code_groups
from tests.gateway.inference.image_files import BitWriter, lossless, photograph, webp


def vp8l(image: NDArray[np.uint8]) -> bytes:
    """What libwebp writes into the chunk."""
    body = cv2.imencode(".webp", image, (cv2.IMWRITE_WEBP_QUALITY, 101))[1].tobytes()
    at = body.index(b"VP8L")
    return body[at + 8 : at + 8 + int.from_bytes(body[at + 4 : at + 8], "little")]


def started(*, width: int = 16, height: int = 16) -> BitWriter:
    """A stream up to its first transform."""
    writer = BitWriter()
    writer.put(0x2F, 8)
    writer.put(width - 1 | height - 1 << 14, 28)
    writer.put(0, 4)
    return writer


@pytest.mark.parametrize("groups", [1, 2, 300, MAX_CODE_GROUPS])
def test_groups_are_counted(groups: int) -> None:
    """One more than the largest number in the image of numbers."""
    assert groups == count_code_groups(lossless(256, 256, groups=groups))


@pytest.mark.parametrize("groups", [MAX_CODE_GROUPS + 1, 4_096])
def test_too_many_groups_are_too_many(groups: int) -> None:
    """Counted, or given up on the way: more than may be."""
    assert MAX_CODE_GROUPS < count_code_groups(lossless(256, 256, groups=groups))


def test_what_libwebp_writes_is_walked() -> None:
    """Predictor, cross-colour and palette transforms, caches and copies; a photograph has a few groups."""
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    images = [photograph(480, 640), noise, noise // 64 * 64, np.full((40, 40, 3), 7, np.uint8)]
    images += [np.tile(noise[:, :, :1] // (256 // colors), 3) for colors in (2, 4, 16)]
    counts = [count_code_groups(vp8l(image)) for image in images]
    assert all(1 <= count <= 100 for count in counts)
    assert max(counts) > 1


def test_photographs_are_walked(test_data: Path) -> None:
    """Of real pictures; the limits are far away."""
    for path in sorted((test_data / "coco50").glob("*.jpg"))[:5]:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        assert image is not None
        assert 1 <= count_code_groups(vp8l(image.view(np.uint8))) <= 100


def test_a_walk_without_end_is_given_up() -> None:
    """Four million tiles, each a copy of one pixel that takes a single bit."""
    writer = started(width=16_384, height=16_384)
    writer.put(0, 1 + 1)
    writer.put(1, 1 + 3 + 0)
    writer.put(0, 1)
    # Green: symbols 0 and 256, one bit each, as coded lengths: 0 has one, 255 zeros, 256 has one.
    writer.put(0, 1)
    writer.put(8, 4)
    for length in (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8):
        writer.put(length in (1, 18), 3)
    writer.put(0, 1)
    writer.put(0, 1)
    for zeros in (138, 117):
        writer.put(1, 1)
        writer.put(zeros - 11, 7)
    writer.put(0, 1)
    writer.put(1, 1)
    writer.put(23 - 11, 7)
    writer.put_one_symbol_codes(4)
    assert MAX_CODE_GROUPS < count_code_groups(writer.take() + bytes(99))


@pytest.mark.parametrize("kind", [0, 1, 3])
def test_a_transform_twice_is_refused(kind: int) -> None:
    """As libwebp refuses it; without the check, a walk would be as long as somebody likes."""
    writer = started()
    for _ in range(2):
        writer.put(1, 1)
        writer.put(kind, 2)
        writer.put(0, 8 if kind == 3 else 3)
        writer.put(0, 1)
        writer.put_one_symbol_codes(5)
    with pytest.raises(ValueError, match="a transform twice"):
        count_code_groups(writer.take())


@pytest.mark.parametrize("cache_bits", [0, 12, 15])
def test_a_cache_of_another_size_is_refused(cache_bits: int) -> None:
    """One to eleven bits."""
    writer = started()
    writer.put(0, 1)
    writer.put(1, 1)
    writer.put(cache_bits, 4)
    with pytest.raises(ValueError, match="a colour cache of this size"):
        count_code_groups(writer.take())


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([8, 64, 256]),
    st.lists(st.tuples(st.integers(40, 900), st.integers(0, 7)), min_size=1, max_size=3),
)
def test_what_libwebp_takes_is_never_refused(levels: int, flips: list[tuple[int, int]]) -> None:
    """Damage that the decoder does not mind: a walk that disagreed about it would refuse good files."""
    data = bytearray(vp8l(photograph(48, 64) // (256 // levels)))
    for bit, shift in flips:
        data[(bit // 8) % len(data)] ^= 1 << shift
    image = cv2.imdecode(np.frombuffer(webp((b"VP8L", bytes(data))), np.uint8), cv2.IMREAD_COLOR)
    if image is not None:
        assert 1 <= count_code_groups(bytes(data))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 60))
def test_any_bytes_end_in_a_number_or_a_refusal(data: bytes, kept: int) -> None:
    """Random bytes behind a good beginning."""
    try:
        count = count_code_groups(vp8l(photograph(48, 64))[:kept] + data)
    except ValueError:
        return
    assert 1 <= count
