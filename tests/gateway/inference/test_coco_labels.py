"""COCO's JSON: what of it counts, and what is refused."""

import contextlib
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, OperatorError
from gateway.inference.coco_labels import parse_coco

GOOD: dict[str, Any] = {
    "images": [
        {"id": 1, "file_name": "train/a.jpg", "width": 100, "height": 50, "license": 3},
        {"id": 2, "file_name": "b.jpg", "width": 10, "height": 10},
    ],
    "annotations": [
        {"image_id": 1, "category_id": 90, "bbox": [10, 5.5, 20, 30], "iscrowd": 0},
        {"image_id": 1, "category_id": 2, "bbox": [0, 0, 100, 50], "iscrowd": 1},
        {"image_id": 1, "category_id": 2, "bbox": [0, 0, 0, 50]},
    ],
    "categories": [{"id": 90, "name": "z"}, {"id": 2, "name": "a"}],
}


def changed(*path: str | int, to: object) -> bytes:
    """The good file with one member changed."""
    value = copy.deepcopy(GOOD)
    place: Any = value
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return json.dumps(value).encode()


def test_class_ids_are_places_of_categories_in_order() -> None:
    """Crowds and boxes without area are left out; an image without boxes is known to be empty."""
    labels = parse_coco(json.dumps(GOOD).encode(), source="i.json", class_count=2)
    assert ["a.jpg", "b.jpg"] == list(labels)
    assert [1] == labels["a.jpg"].class_ids.tolist()
    assert [[0.1, 0.11, 0.3, 0.71]] == labels["a.jpg"].boxes_xyxy.tolist()
    assert (0, 4) == labels["b.jpg"].boxes_xyxy.shape


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[]", "the file: "),
        (b"{", "the file: "),
        (changed("images", 0, "width", to=0), "images.0.width: "),
        (changed("images", 0, "id", to=True), "images.0.id: "),
        (changed("annotations", 0, "bbox", to=[1, 2, 3]), "annotations.0.bbox.3: "),
        (changed("annotations", 0, "bbox", to=[1, 2, 3, "4"]), "annotations.0.bbox.3: "),
        (changed("annotations", 0, "bbox", to=[1, 2, 3, 1e999]), "annotations.0.bbox.3: "),
        (changed("annotations", 0, "image_id", to=9), "annotations.0: its image or its category"),
        (
            changed("annotations", 0, "category_id", to=3),
            "annotations.0: its image or its category",
        ),
        (changed("images", 1, "id", to=1), "images: an id or a file name is there twice"),
        (changed("images", 1, "file_name", to="a.jpg"), "images: an id or a file name is there"),
        (changed("categories", 1, "id", to=90), "categories: an id is there twice"),
        (changed("categories", to=[]), "categories: "),
        (changed("categories", to=[{"id": n} for n in (2, 3, 90)]), "it has 3 categories, but the"),
    ],
)
def test_anything_else_is_refused(content: bytes, why: str) -> None:
    """The message names file and place."""
    with pytest.raises(OperatorError) as caught:
        parse_coco(content, source="i.json", class_count=2)
    assert Code.DATASET_INVALID == caught.value.code
    assert f"i.json is not in COCO's form: {why}" in caught.value.message


@given(st.integers(0, len(json.dumps(GOOD)) - 1), st.integers(0, 255))
def test_a_changed_byte_breaks_nothing(place: int, byte: int) -> None:
    """Labels of the images listed, or a refusal."""
    content = bytearray(json.dumps(GOOD).encode())
    content[place] = byte
    with contextlib.suppress(OperatorError):
        assert 2 == len(parse_coco(bytes(content), source="i.json", class_count=2))
