"""The bytes of a golden set: read back as written, one encoding only, nothing breaks the parser."""

import contextlib
import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, OperatorError
from gateway.inference.golden_file import GoldenImage, pack_golden, parse_golden
from gateway.inference.postprocess import Thresholds
from gateway.store.records import ClassRanking, Detections

RNG = np.random.default_rng(1)


def floats(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Some numbers."""
    return RNG.random(shape, np.float32)


def golden(name: str, image: bytes, count: int = 2) -> GoldenImage:
    """An image with so many boxes."""
    return GoldenImage(
        name=name,
        image=image,
        image_shape=(48, 64),
        thresholds=Thresholds(confidence=0.05, iou=0.7, max_detections=50),
        detections=Detections(floats(count, 4), floats(count), np.arange(count, dtype=np.int64)),
        embedding=floats(8),
    )


def with_shapes() -> GoldenImage:
    """All that any task can answer."""
    ranking = ClassRanking(np.array([3, 1], np.int64), floats(2))
    plain = golden("shapes", b"png")
    shapes = dataclasses.replace(
        plain.detections,
        polygons=(floats(5, 2), floats(0, 2)),
        keypoints=floats(2, 17, 3),
        corners=floats(2, 4, 2),
        ranking=ranking,
    )
    return dataclasses.replace(plain, detections=shapes, embedding=None)


SET = pack_golden([golden("a", b"first"), with_shapes(), golden("c", b"third", count=0)])
INDEX_END = 4 + int.from_bytes(SET[:4], "big")


def assert_equal(expected: object, actual: object) -> None:
    """Field by field, because arrays do not compare to one truth."""
    if dataclasses.is_dataclass(expected):
        for one in dataclasses.fields(expected):
            assert_equal(getattr(expected, one.name), getattr(actual, one.name))
    elif isinstance(expected, tuple):
        assert isinstance(actual, tuple)
        for first, second in zip(expected, actual, strict=True):
            assert_equal(first, second)
    elif isinstance(expected, np.ndarray):
        assert isinstance(actual, np.ndarray)
        assert expected.dtype == actual.dtype
        np.testing.assert_array_equal(expected, actual)
    else:
        assert expected == actual


def rewritten(**changes: object) -> bytes:
    """The set with members of its first image changed in the index."""
    index = json.loads(SET[4:INDEX_END])
    index["images"][0] |= changes
    return framed(json.dumps(index, sort_keys=True, separators=(",", ":")).encode())


def framed(index: bytes, images: bytes = SET[INDEX_END:]) -> bytes:
    """An index before the images."""
    return len(index).to_bytes(4, "big") + index + images


def refuse(content: bytes) -> None:
    """It is refused, with one message."""
    with pytest.raises(OperatorError) as caught:
        parse_golden(content)
    assert Code.MODEL_UNSUPPORTED == caught.value.code
    assert "seal the model again" in caught.value.message


def test_a_set_is_read_as_it_was_written() -> None:
    """To the last bit, from memory that cannot be copied for free, too."""
    written = [golden("a", b"first"), with_shapes(), golden("c", b"third", count=0)]
    for actual in (
        parse_golden(pack_golden(written)),
        parse_golden(memoryview(pack_golden(written))),
    ):
        assert_equal(tuple(written), tuple(actual))


def test_rewriting_changes_nothing_by_itself() -> None:
    """So that what the next test refuses is refused for its change."""
    assert SET == rewritten()


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "shapes"},
        {"length": 6},
        {"length": 0},
        {"length": "5"},
        {"height": 0},
        {"width": 64.0},
        {"confidence_millionths": 0},
        {"iou_millionths": 10**6},
        {"max_detections": 301},
        {"class_ids": [0]},
        {"class_ids": [0, -1]},
        {"class_ids": [0, True]},
        {"confidences": "AAAA"},
        {"confidences": "AACAfwAAgD8="},
        {"boxes": ""},
        {"boxes": "!"},
        {"embedding": None},
        {"polygons": []},
        {"keypoints": {"points": 17, "numbers": 4, "values": ""}},
        {"corners": "AAAA"},
        {"ranking": {"class_ids": [1], "confidences": ""}},
        {"more": 1},
    ],
    ids=str,
)
def test_a_member_that_does_not_fit_is_refused(changes: dict[str, object]) -> None:
    """Types, ranges, shapes, numbers that are not finite, members nobody knows."""
    refuse(rewritten(**changes))


def test_another_spelling_is_refused() -> None:
    """Spaces, other order, a member twice."""
    index = SET[4:INDEX_END]
    refuse(framed(index.replace(b'"format":1', b'"format": 1')))
    refuse(framed(index.replace(b'"format":1', b'"format":1,"format":1')))
    refuse(framed(json.dumps(json.loads(index), separators=(",", ":")).encode() + b" "))


def test_other_formats_and_lengths_are_refused() -> None:
    """A later format, nothing, bytes too few or too many, no image at all."""
    index = SET[4:INDEX_END]
    refuse(framed(index.replace(b'"format":1', b'"format":2')))
    refuse(framed(b'{"format":1,"images":[]}', b""))
    for content in (b"", SET[:3], SET[:-1], SET + b"\0", b"\xff" * 4 + SET[4:]):
        refuse(content)


def test_sets_have_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 images, 16 MiB; the message says which."""
    with pytest.raises(OperatorError, match="1 to 16 images, not 0"):
        pack_golden([])
    with pytest.raises(OperatorError, match="1 to 16 images, not 17"):
        pack_golden([golden(str(number), b"x") for number in range(17)])
    with pytest.raises(OperatorError, match="larger than 16 MiB"):
        pack_golden([golden("a", bytes(16 * 1024 * 1024))])
    with pytest.raises(OperatorError, match="larger than 16 MiB"):
        pack_golden([golden("a", bytes(16 * 1024 * 1024 + 1))])
    for name in ("\udcff.jpg", "a" * 256):
        with pytest.raises(OperatorError, match="because of its name"):
            pack_golden([golden(name, b"x")])
    monkeypatch.setattr("gateway.inference.golden_file.MAX_CONTENT_BYTES", len(SET) - 1)
    refuse(SET)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_parser(content: bytes) -> None:
    """An index of any bytes, and any bytes."""
    for unverified in (content, framed(content)):
        with contextlib.suppress(OperatorError):
            parse_golden(unverified)


@given(st.integers(0, len(SET) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_read_as_it_stands(place: int, change: int) -> None:
    """What is read encodes back to the very bytes."""
    content = bytearray(SET)
    content[place] ^= change
    with contextlib.suppress(OperatorError):
        assert bytes(content) == pack_golden(parse_golden(bytes(content)))
