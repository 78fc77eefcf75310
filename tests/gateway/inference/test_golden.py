"""The golden set finds what changes answers, and forgives what rounding does."""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.errors import Code, OperatorError
from gateway.inference.decode import ImageLimits, decode_image
from gateway.inference.golden import (
    SMALL_IMAGE,
    Detect,
    check_golden,
    choose_golden,
    record_golden,
    synthetic_images,
)
from gateway.inference.golden_file import parse_golden
from gateway.inference.postprocess import Thresholds
from gateway.store.records import ClassRanking, Detections
from tests.gateway.inference.raw_network import (
    CONVEYOR,
    FRAME,
    RawAnswer,
    Steps,
    detect_with,
    with_weights,
)

FRAMES = {path.name: path.read_bytes() for path in (FRAME, FRAME.with_name("boxes.jpg"))}


@pytest.fixture(scope="module")
def conveyor() -> bytes:
    """The bundled demo model."""
    return CONVEYOR.read_bytes()


@pytest.fixture(scope="module")
def right(conveyor: bytes) -> Detect:
    """The demo model as it should run."""
    return detect_with(conveyor)


@pytest.fixture(scope="module")
def golden(right: Detect) -> bytes:
    """Its set: two photographs and one that has to be enlarged."""
    small = SMALL_IMAGE
    return record_golden(FRAMES | {small: synthetic_images((320, 320))[small]}, right)


def test_the_same_network_reproduces_its_set(golden: bytes, right: Detect) -> None:
    """In a second run, from any memory."""
    assert [] == check_golden(golden, right, precision="f32")
    assert [] == check_golden(memoryview(golden), right, precision="f32")


def test_a_check_costs_an_inference_an_image(golden: bytes, right: Detect) -> None:
    """With the thresholds that it was recorded with."""
    seen: list[float] = []

    def counting(image: bytes, thresholds: Thresholds) -> Any:
        seen.append(thresholds.confidence)
        return right(image, thresholds)

    check_golden(golden, counting, precision="f32")
    assert [0.05, 0.05, 0.05] == seen


@pytest.mark.parametrize(
    "wrong",
    [
        Steps(is_rgb=False),
        Steps(padding=0),
        Steps(padding=128),
        Steps(is_centred=False),
        Steps(interpolation=cv2.INTER_CUBIC),
        Steps(interpolation=cv2.INTER_NEAREST),
        Steps(interpolation=cv2.INTER_AREA),
        Steps(scale=256.0),
        Steps(class_order=(6, 5, 4, 3, 2, 1, 0)),
        Steps(class_order=(0, 1, 2, 6, 4, 5, 3)),
    ],
    ids=str,
)
def test_other_preprocessing_is_found(golden: bytes, conveyor: bytes, wrong: Steps) -> None:
    """Colours swapped, other padding, place, resize, scale; classes exchanged. The image is named."""
    differences = check_golden(golden, detect_with(conveyor, steps=wrong), precision="f32")
    assert differences
    assert differences[0].split(": ")[0] in (*FRAMES, SMALL_IMAGE)


@pytest.mark.parametrize("wrong", [Steps(is_rgb=False), Steps(class_order=(6, 5, 4, 3, 2, 1, 0))])
def test_gross_faults_are_found_in_bf16_too(conveyor: bytes, wrong: Steps) -> None:
    """Its tolerances are wide; colours and classes are far outside."""
    as_sealed = detect_with(conveyor, precision="bf16")
    content = record_golden(FRAMES, as_sealed, precision="bf16")
    assert [] == check_golden(content, as_sealed, precision="bf16")
    assert check_golden(
        content, detect_with(conveyor, steps=wrong, precision="bf16"), precision="bf16"
    )


def test_bf16_is_reproduced_by_f32(conveyor: bytes, right: Detect) -> None:
    """What a processor without bfloat16 computes."""
    recorded = record_golden(FRAMES, detect_with(conveyor, precision="bf16"), precision="bf16")
    assert [] == check_golden(recorded, right, precision="bf16")


def lowered(tensor: NDArray[np.float32]) -> None:
    """A thousandth of one weight's size less in all of them, as a coarser number format would."""
    tensor *= np.float32(0.999)


def one_byte(tensor: NDArray[np.float32]) -> None:
    """One byte of the largest weight: its sign."""
    weights = tensor.reshape(-1)
    largest = int(np.abs(weights).argmax())
    weights.view(np.uint8)[4 * largest + 3] ^= 0x80


@pytest.mark.parametrize("place", [0, 5, 20])
@pytest.mark.parametrize("change", [lowered, one_byte])
def test_other_weights_are_found(
    golden: bytes, conveyor: bytes, change: Callable[[NDArray[np.float32]], None], place: int
) -> None:
    """A thousandth in one layer, or one byte of one weight."""
    pytest.importorskip("onnx")
    changed = detect_with(with_weights(conveyor, change, place=place))
    assert check_golden(golden, changed, precision="f32")


def test_another_precision_is_found(golden: bytes, conveyor: bytes, right: Detect) -> None:
    """A set of f32 is not reproduced by bfloat16, where the processor has it."""
    coarse = detect_with(conveyor, precision="bf16")
    frame = FRAMES[FRAME.name]
    here, there = (run(frame, Thresholds()).detections.confidences for run in (coarse, right))
    if np.array_equal(here, there):
        pytest.skip("this processor computes bfloat16 as float32")
    assert check_golden(golden, coarse, precision="f32")


BOX = (10.0, 10.0, 50.0, 50.0)


def fixed(*rows: tuple[int, float, tuple[float, ...]], embedding: float | None = 1.0) -> RawAnswer:
    """An answer from (class, confidence, box)."""
    detections = Detections(
        np.array([box for _, _, box in rows], np.float32).reshape(-1, 4),
        np.array([confidence for _, confidence, _ in rows], np.float32),
        np.array([class_id for class_id, _, _ in rows], np.int64),
    )
    vector = None if embedding is None else np.array([embedding, 2, 3], np.float32)
    return RawAnswer(detections, vector, (100, 100))


def always(answer: RawAnswer) -> Detect:
    """A detector that answers this."""
    return lambda _image, _thresholds: answer


def checked(expected: RawAnswer, found: RawAnswer, precision: str = "f32") -> list[str]:
    """What a check of one image says."""
    content = record_golden({"a.jpg": b"image"}, always(expected), precision=precision)
    return check_golden(content, always(found), precision=precision)


def test_rounding_is_forgiven() -> None:
    """As another processor rounds."""
    expected = fixed((1, 0.5, BOX), (2, 0.4, BOX))
    other = fixed((2, 0.40005, BOX), (1, 0.49995, (10.01, 10, 50, 50)), embedding=1.00001)
    assert [] == checked(expected, other)


def test_near_the_threshold_a_box_may_be_absent() -> None:
    """It is there on one processor and not on the other; a little more and it is a difference."""
    one = fixed((1, 0.5, BOX))
    assert [] == checked(one, fixed((1, 0.5, BOX), (2, 0.01005, BOX)))
    assert checked(one, fixed((1, 0.5, BOX), (2, 0.0102, BOX)))


def spread(count: int, *, moved: int = 0) -> RawAnswer:
    """So many boxes apart from each other, the first few elsewhere over the same object."""
    rows = []
    for place in range(count):
        left = 100.0 * place + (5 if place < moved else 0)
        rows.append((1, 0.9 - place / 1000, (left, 0.0, left + 40, 40.0)))
    return fixed(*rows)


def test_one_contested_box_in_twenty_is_forgiven() -> None:
    """Suppression chose the other of two equals; not two of twenty, and not one of ten."""
    assert [] == checked(spread(20), spread(20, moved=1))
    assert 2 == len(checked(spread(20), spread(20, moved=2)))
    assert 1 == len(checked(spread(10), spread(10, moved=1)))


def test_one_box_of_another_class_is_not_forgiven() -> None:
    """No suppression explains it."""
    found = spread(20)
    found.detections.class_ids[3] = 2
    assert 2 == len(checked(spread(20), found))


def test_where_the_best_are_taken_the_last_may_change() -> None:
    """51 candidates for 50 places, two of them equal up to rounding."""
    expected, found = spread(50), spread(50)
    found.detections.boxes_xyxy[49] += 7000
    assert [] == checked(expected, found)
    found.detections.boxes_xyxy[48] += 7000
    assert checked(expected, found)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (fixed((1, 0.5, BOX), embedding=None), "the model gave an embedding and gives none now"),
        (fixed((1, 0.5, BOX), embedding=1.1), "the embedding, 3.74 long, is off by 0.1 (at most"),
        (fixed((1, 0.5, BOX), embedding=float("nan")), "the embedding, 3.74 long, is off by nan"),
        (
            dataclasses.replace(fixed((1, 0.5, BOX)), embedding=np.ones(2, np.float32)),
            "the embedding has shape (2,), not (3,)",
        ),
        (
            dataclasses.replace(fixed((1, 0.5, BOX)), image_shape=(50, 100)),
            "decoded to (50, 100) pixels, not (100, 100)",
        ),
        (fixed(), "class 1 with 0.5000 at (10.0, 10.0, 50.0, 50.0) is missing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_differs_is_said(found: RawAnswer, text: str) -> None:
    """After the image's name."""
    (difference,) = checked(fixed((1, 0.5, BOX)), found)
    assert difference.startswith(f"a.jpg: {text}")


def test_a_set_without_embeddings_asks_for_none() -> None:
    """The model may have been sealed without the second output."""
    assert [] == checked(fixed((1, 0.5, BOX), embedding=None), fixed((1, 0.5, BOX)))


def test_coarse_precisions_compare_strong_boxes() -> None:
    """Weak ones come and go; what is far off is found."""
    expected = fixed((1, 0.5, BOX), (2, 0.2, BOX))
    assert [] == checked(expected, fixed((1, 0.55, BOX)), precision="int8")
    assert checked(expected, fixed((1, 0.35, BOX)), precision="int8")
    assert checked(expected, fixed((2, 0.5, BOX)), precision="int8")


def test_a_set_that_proves_nothing_is_refused() -> None:
    """Nothing found and no embedding: every model would pass."""
    for answer, precision in (
        (fixed(embedding=None), "f32"),
        (fixed((1, 0.3, BOX), embedding=None), "bf16"),
    ):
        with pytest.raises(OperatorError, match="could prove nothing") as caught:
            record_golden({"a.jpg": b"image"}, always(answer), precision=precision)
        assert Code.DATASET_INVALID == caught.value.code
    assert record_golden({"a.jpg": b"image"}, always(fixed()))


def test_what_classifies_is_compared_by_its_ranking() -> None:
    """It finds no boxes."""
    ranking = ClassRanking(np.array([3, 1], np.int64), np.array([0.8, 0.1], np.float32))
    other = dataclasses.replace(ranking, class_ids=np.array([1, 3], np.int64))
    answers = [
        dataclasses.replace(
            fixed(embedding=None),
            detections=dataclasses.replace(fixed().detections, ranking=one),
        )
        for one in (ranking, other)
    ]
    assert [] == checked(answers[0], answers[0])
    assert 2 == len(checked(answers[0], answers[1]))


def test_where_little_is_found_the_strongest_candidates_are_taken() -> None:
    """At the lowest threshold there is."""
    seen: list[Thresholds] = []

    def sparse(_image: bytes, thresholds: Thresholds) -> RawAnswer:
        seen.append(thresholds)
        return fixed((1, 0.02, BOX)) if thresholds.confidence < 0.02 else fixed()

    (image,) = parse_golden(record_golden({"a.jpg": b"image"}, sparse))
    assert [0.05, 0.01] == [thresholds.confidence for thresholds in seen]
    assert (0.01, 1) == (image.thresholds.confidence, len(image.detections))


def test_choices_are_spread_and_repeatable() -> None:
    """By name; from any order; all if there are few; none that is too large."""
    images = {f"{number:02}.jpg": b"x" for number in range(20)}
    backwards = dict(reversed(images.items()))
    expected = ["02.jpg", "07.jpg", "12.jpg", "17.jpg"]
    assert expected == list(choose_golden(images)) == list(choose_golden(backwards))
    assert ["00.jpg", "01.jpg"] == list(choose_golden({"01.jpg": b"", "00.jpg": b""}))
    assert {} == choose_golden({"a": bytes(4 * 1024 * 1024)})
    assert {} == choose_golden({})
    assert 16 == len(choose_golden({str(number): b"" for number in range(40)}, 30))


def test_drawn_images_have_the_same_pixels_everywhere() -> None:
    """Integers only; a set that was sealed elsewhere can be compared with one drawn here."""
    images = synthetic_images((96, 128))
    digest = hashlib.sha256()
    shapes = []
    for body in images.values():
        image = decode_image(body, ImageLimits())
        shapes.append(image.shape[:2])
        digest.update(image.tobytes())
    assert [(96, 128), (72, 160), (121, 85), (51, 64)] == shapes
    assert "01f685f2c0e49ff1fd4ee7224ab17c4c11d1df988b38c0f557e66871f11b5c57" == digest.hexdigest()


def test_drawn_images_make_detectors_answer(right: Detect) -> None:
    """Something in each, at the threshold that is used first."""
    for body in synthetic_images((320, 320)).values():
        assert len(right(body, Thresholds(confidence=0.05)).detections) >= 5
        assert len(body) < 100_000
