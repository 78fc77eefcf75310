"""Each feature says what its table says, and is a finite number for every image."""

import itertools
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from gateway.sampling.features import (
    FEATURE_NAMES,
    FEATURES,
    Feature,
    FeatureKind,
    detection_features,
    image_features,
)
from gateway.store.records import Detections

Image = NDArray[np.uint8]


def flat(height: int, width: int, bgr: tuple[int, int, int]) -> Image:
    """An image of one colour."""
    return np.full((height, width, 3), bgr, np.uint8)


def detections(
    boxes: list[list[float]],
    confidences: list[float],
    class_ids: list[int],
    *,
    candidate_count: int | None = None,
) -> Detections:
    """Detections from plain lists."""
    return Detections(
        boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        confidences=np.array(confidences, np.float32),
        class_ids=np.array(class_ids, np.int64),
        candidate_count=candidate_count,
    )


@pytest.fixture(scope="module")
def photographs(test_data: Path) -> list[Image]:
    """Real photographs."""
    images = [cv2.imread(str(path)) for path in sorted((test_data / "coco50").glob("*.jpg"))[:25]]
    return [image.astype(np.uint8) for image in images if image is not None]


def check_range(feature: Feature, value: float | None) -> None:
    """A value is finite and in its table's range, or missing where the table allows it."""
    if value is None:
        assert feature.is_optional
        return
    assert type(value) is float
    assert math.isfinite(value)
    assert feature.minimum - 1e-9 <= value <= feature.maximum + 1e-9


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))),
    st.integers(0, 10**9),
)
def test_any_image_gives_finite_numbers_in_range(image: Image, encoded_bytes: int) -> None:
    """From 1x1 up, whatever its pixels."""
    numbers = image_features(image, encoded_bytes=encoded_bytes)
    table = [feature for feature in FEATURES if feature.kind is FeatureKind.IMAGE]
    assert list(numbers) == [feature.name for feature in table]
    for feature in table:
        check_range(feature, numbers[feature.name])


@pytest.mark.parametrize(
    ("height", "width"), [(1, 9000), (9000, 1), (2, 700), (257, 255), (1080, 1920)]
)
def test_any_shape_gives_finite_numbers(height: int, width: int) -> None:
    """Very long and very flat images too."""
    noise = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    for image in (noise, flat(height, width, (0, 0, 0)), flat(height, width, (255, 255, 255))):
        numbers = image_features(image, encoded_bytes=1)
        for feature in FEATURES:
            if feature.kind is FeatureKind.IMAGE:
                check_range(feature, numbers[feature.name])


@st.composite
def any_detections(draw: st.DrawFn) -> Detections:
    """Up to nine boxes inside an image of 100x50."""
    count = draw(st.integers(0, 9))
    pairs = [
        [sorted(draw(st.tuples(st.floats(0, n, width=32), st.floats(0, n, width=32))))
         for n in (100, 50)]
        for _ in range(count)
    ]  # fmt: skip
    return detections(
        [[x[0], y[0], x[1], y[1]] for x, y in pairs],
        draw(st.lists(st.floats(0, 1, width=32), min_size=count, max_size=count)),
        draw(st.lists(st.integers(0, 90), min_size=count, max_size=count)),
        candidate_count=draw(st.none() | st.integers(0, 30_000)),
    )


@given(any_detections())
def test_any_detections_give_finite_numbers_or_none(found: Detections) -> None:
    """Also for boxes without width or height."""
    numbers = detection_features(found, width=100, height=50)
    for feature in FEATURES:
        if feature.kind is FeatureKind.DETECTIONS:
            check_range(feature, numbers[feature.name])


def test_table_and_functions_agree() -> None:
    """Every feature in the table is computed, every computed one is in the table, names are plain."""
    found = detections([[0, 0, 1, 1]], [0.5], [0])
    computed = [
        *image_features(flat(8, 8, (1, 2, 3)), encoded_bytes=1),
        *detection_features(found, width=8, height=8),
    ]
    assert sorted(computed) == sorted(FEATURE_NAMES)
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES)
    assert all(name.replace("_", "").isalpha() and name.islower() for name in FEATURE_NAMES)


def test_every_feature_says_where_it_comes_from() -> None:
    """A number without unit, direction and source cannot be checked by anybody."""
    for feature in FEATURES:
        assert all((feature.unit, feature.meaning, feature.source))
        assert feature.minimum < feature.maximum


def test_flat_image_has_these_numbers() -> None:
    """A grey image of 4x2 in 100 bytes: nothing but its shape and brightness."""
    assert image_features(flat(2, 4, (51, 51, 51)), encoded_bytes=100) == {
        "width": 4.0, "height": 2.0, "aspect_ratio": 2.0, "bits_per_pixel": 100.0,
        "brightness": 0.2, "contrast": 0.0, "dark_share": 0.0, "bright_share": 0.0,
        "black_level": 0.2, "white_level": 0.2, "entropy": 0.0,
        "saturation": 0.0, "red_cast": 0.0, "blue_cast": 0.0, "haze": 0.2,
        "red_edge_cast": 0.0, "blue_edge_cast": 0.0,
        "sharpness": 0.0, "fineness": 0.0, "fineness_spread": 0.0, "noise": 0.0, "blockiness": 0.0,
    }  # fmt: skip


def test_half_black_half_white_has_these_numbers() -> None:
    """Two levels of equal share: one bit, the largest contrast, half shadow, half highlight."""
    image = flat(64, 64, (0, 0, 0))
    image[:, 32:] = 255
    numbers = image_features(image, encoded_bytes=0)
    names = ("brightness", "contrast", "dark_share", "bright_share", "entropy")
    assert [numbers[name] for name in names] == [0.5, 0.5, 0.5, 0.5, 1.0]
    assert (0.0, 1.0) == (numbers["black_level"], numbers["white_level"])


def test_specks_are_no_level() -> None:
    """A few dead pixels, black or white, are not how dark or light a picture gets."""
    image = flat(100, 100, (102, 102, 102))
    image[:, 0], image[:50, 1], image[50:, 1] = 51, 0, 255
    numbers = image_features(image, encoded_bytes=0)
    assert (0.2, 0.4) == (numbers["black_level"], numbers["white_level"])


def test_light_is_told_from_things_by_their_edges() -> None:
    """Grey bars on a red wall: the wall casts red, and its light does not; a red lamp moves both."""
    bars = np.random.default_rng(8).integers(0, 120, (1, 64, 1), dtype=np.uint8).repeat(64, axis=0)
    wall = bars + np.array([20, 20, 120], np.uint8)
    lit = (wall * np.array([0.5, 0.5, 1.0])).astype(np.uint8)
    of_wall = image_features(wall, encoded_bytes=0)
    of_lit = image_features(lit, encoded_bytes=0)
    assert of_wall["red_cast"] > 0.5
    assert abs(of_wall["red_edge_cast"]) < 0.02
    assert of_lit["red_edge_cast"] == pytest.approx(1.0, abs=0.1)
    assert of_lit["blue_edge_cast"] == pytest.approx(0.0, abs=0.1)


def test_a_veil_leaves_nothing_dark_anywhere() -> None:
    """A clear picture has a dark corner in each quarter, whatever its mean."""
    image = flat(64, 64, (200, 200, 200))
    image[::16, ::16] = 0
    assert 0.0 == image_features(image, encoded_bytes=0)["haze"]
    veiled = image // 2 + 127
    assert image_features(veiled, encoded_bytes=0)["haze"] == pytest.approx(127 / 255)


def test_motion_blurs_one_direction() -> None:
    """Fineness is that of the blurriest direction, and differs from that of the others."""
    sharp = (
        np.random.default_rng(9).integers(0, 256, (128, 128, 1), dtype=np.uint8).repeat(3, axis=2)
    )
    moved = cv2.blur(sharp, (9, 1)).astype(np.uint8)
    before, after = image_features(sharp, encoded_bytes=0), image_features(moved, encoded_bytes=0)
    assert before["fineness"] == pytest.approx(0.0, abs=0.05)
    assert before["fineness_spread"] < 0.05
    assert after["fineness"] < -0.5
    assert after["fineness_spread"] > 0.5


def test_casts_know_their_colour() -> None:
    """BGR order: a red image is red, a blue one blue, and both are fully saturated."""
    red = image_features(flat(8, 8, (0, 0, 255)), encoded_bytes=0)
    blue = image_features(flat(8, 8, (255, 0, 0)), encoded_bytes=0)
    assert (red["red_cast"], red["blue_cast"], red["saturation"]) == (8.0, 0.0, 1.0)
    assert (blue["red_cast"], blue["blue_cast"], blue["saturation"]) == (0.0, 8.0, 1.0)


def test_noise_is_the_deviation_of_gaussian_noise() -> None:
    """On a flat image with noise of 10 levels the estimate is 10."""
    rng = np.random.default_rng(3)
    luma = np.clip(128 + rng.normal(0, 10, (512, 512)), 0, 255).round().astype(np.uint8)
    image = np.repeat(luma[:, :, None], 3, axis=2)
    assert image_features(image, encoded_bytes=0)["noise"] == pytest.approx(10, rel=0.03)


def test_blocks_are_seen_only_on_their_grid() -> None:
    """Squares of 8 pixels at multiples of 8 look like blocks; the same squares shifted by 3 do not."""
    rng = np.random.default_rng(4)
    squares = rng.integers(0, 256, (60, 80), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    on_grid = np.repeat(squares[:, :, None], 3, axis=2)
    off_grid = np.ascontiguousarray(on_grid[3:, 3:])
    assert image_features(on_grid, encoded_bytes=0)["blockiness"] > 3
    assert image_features(off_grid, encoded_bytes=0)["blockiness"] < 0


def share_changed(
    images: list[Image], name: str, change: Callable[[Image], Image], *, upwards: bool
) -> float:
    """In which share of the photographs a change moves a feature the way it should."""
    moved = [
        image_features(change(image), encoded_bytes=0)[name]
        - image_features(image, encoded_bytes=0)[name]
        for image in images
    ]
    return float(np.mean([(move > 0) == upwards and move != 0 for move in moved]))


def compress(image: Image) -> Image:
    """The image after strong JPEG compression."""
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 20])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(decoded, np.uint8)


def scale(image: Image, factor: float, offset: float = 0.0) -> Image:
    """The image with every channel scaled and shifted."""
    return np.asarray(np.clip(image * factor + offset, 0, 255), np.uint8)


def add_noise(image: Image) -> Image:
    """The image with noise of 20 levels."""
    rng = np.random.default_rng(6)
    return np.asarray(np.clip(image + rng.normal(0, 20, image.shape), 0, 255), np.uint8)


def blur(image: Image) -> Image:
    """The image out of focus by a pixel and a half."""
    return cv2.GaussianBlur(image, (0, 0), 1.5).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "change", "upwards"),
    [
        ("sharpness", blur, False),
        ("fineness", blur, False),
        ("fineness_spread", lambda image: cv2.blur(image, (15, 1)), True),
        ("noise", add_noise, True),
        ("blockiness", compress, True),
        ("brightness", lambda image: scale(image, 0.6), False),
        ("dark_share", lambda image: scale(image, 0.4), True),
        ("bright_share", lambda image: scale(image, 2.0), True),
        ("black_level", lambda image: scale(image, 0.8, 40), True),
        ("white_level", lambda image: scale(image, 0.6), False),
        ("haze", lambda image: scale(image, 0.5, 100), True),
        ("red_edge_cast", lambda image: image * np.array([0.8, 0.8, 1.0]), True),
        ("blue_edge_cast", lambda image: image * np.array([1.0, 0.8, 0.8]), True),
        ("contrast", lambda image: scale(image, 0.5, 64), False),
        ("entropy", lambda image: scale(image, 0.5, 64), False),
        ("saturation", lambda image: image // 2 + image.mean(2, keepdims=True) / 2, False),
        ("red_cast", lambda image: image * np.array([0.8, 0.8, 1.0]), True),
        ("blue_cast", lambda image: image * np.array([1.0, 0.8, 0.8]), True),
    ],
)
def test_photographs_move_the_way_the_table_says(
    photographs: list[Image], name: str, change: Callable[[Image], Image], upwards: bool
) -> None:
    """Each kind of damage moves its feature in nine of ten real photographs or more."""
    share = share_changed(
        photographs, name, lambda image: change(image).astype(np.uint8), upwards=upwards
    )
    assert share >= 0.9


def test_no_boxes_leave_numbers_missing() -> None:
    """Missing is None, never 0."""
    numbers = detection_features(detections([], [], []), width=100, height=50)
    assert numbers == {
        "detection_count": 0.0, "class_variety": 0.0,
        "mean_confidence": None, "max_confidence": None, "confidence_spread": None,
        "low_confidence_share": None, "mean_box_area": None, "mean_box_x": None,
        "mean_box_y": None, "mean_box_aspect": None, "mean_overlap": None, "candidate_count": None,
    }  # fmt: skip


def test_two_boxes_have_these_numbers() -> None:
    """One wide box at the left top and one tall one at the right bottom of an image of 100x50."""
    found = detections([[0, 0, 40, 10], [80, 30, 100, 50]], [0.75, 0.25], [3, 3])
    numbers = detection_features(found, width=100, height=50)
    assert numbers == {
        "detection_count": 2.0, "class_variety": 1.0,
        "mean_confidence": 0.5, "max_confidence": 0.75, "confidence_spread": 0.25,
        "low_confidence_share": 0.5, "mean_box_area": 0.08, "mean_box_x": 0.55,
        "mean_box_y": 0.45, "mean_box_aspect": 1.0, "mean_overlap": 0.0, "candidate_count": None,
    }  # fmt: skip


def test_candidates_are_told_with_and_without_boxes() -> None:
    """Many places that the network takes for something and no box, or one, says something itself."""
    nothing = detections([], [], [], candidate_count=7)
    one = detections([[0, 0, 40, 10]], [0.75], [3], candidate_count=0)
    assert 7.0 == detection_features(nothing, width=100, height=50)["candidate_count"]
    assert 0.0 == detection_features(one, width=100, height=50)["candidate_count"]


def overlap_of(*boxes: list[float]) -> float | None:
    """The mean overlap of boxes in an image of 100x50."""
    found = detections(list(boxes), [0.5] * len(boxes), [0] * len(boxes))
    return detection_features(found, width=100, height=50)["mean_overlap"]


def test_overlap_is_each_boxs_largest_with_another() -> None:
    """Two halves over each other share a third of what they cover; a third one far away shares nothing."""
    first, second, third = [0.0, 0, 20, 10], [10.0, 0, 30, 10], [60.0, 20, 70, 40]
    assert 0.0 == overlap_of(first)
    assert 0.0 == overlap_of(first, third)
    assert pytest.approx(1 / 3) == overlap_of(first, second)
    assert pytest.approx(2 / 9) == overlap_of(first, second, third)
    assert 1.0 == overlap_of(first, first)
    assert pytest.approx((1 + 1 + 1 / 3) / 3) == overlap_of(first, second, first)


def test_boxes_without_area_overlap_nothing() -> None:
    """Nothing over nothing is 0 and no NaN."""
    point, line = [5.0, 5, 5, 5], [0.0, 5, 20, 5]
    assert 0.0 == overlap_of(point, point)
    assert 0.0 == overlap_of(point, line, line)
    assert 0.0 == overlap_of(point, [0.0, 0, 20, 10])


@pytest.mark.parametrize("count", [2, 63, 64, 65, 130])
def test_overlap_is_what_pairs_one_by_one_give(count: int) -> None:
    """However many boxes are looked at together."""
    corners = np.random.default_rng(count).random((count, 2, 2)) * (100, 50)
    boxes = np.sort(corners.astype(np.float32), axis=1).reshape(-1, 4).tolist()
    best = [0.0] * count
    for i, j in itertools.permutations(range(count), 2):
        best[i] = max(best[i], overlap_of_two(boxes[i], boxes[j]))
    assert overlap_of(*boxes) == pytest.approx(sum(best) / count, rel=1e-4)


def overlap_of_two(one: list[float], other: list[float]) -> float:
    """Intersection over union in plain numbers."""
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (one, other)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.skipif(os.cpu_count() == 1, reason="a lone core is never quiet enough to time on")
def test_features_are_cheap() -> None:
    """A full-HD image with 300 boxes costs a few milliseconds at the most; measured it is under two."""
    rng = np.random.default_rng(7)
    image = rng.integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
    corners = np.sort(rng.random((300, 2, 2)), axis=1) * (1920, 1080)
    found = detections(corners.reshape(-1, 4).tolist(), [0.5] * 300, [0] * 300)
    times = []
    for _ in range(20):
        start = time.thread_time()
        image_features(image, encoded_bytes=1)
        detection_features(found, width=1920, height=1080)
        times.append(time.thread_time() - start)
    assert min(times) < 0.005
