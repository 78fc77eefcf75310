"""Folders of labelled images: what is read, and what is refused with its file and line."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, OperatorError
from gateway.inference.accuracy import RelativeLabels
from gateway.inference.labelled import (
    MAX_IMAGES,
    LabelledImage,
    parse_labels,
    read_labelled_folder,
)


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    """A folder with these files."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def rows(labels: RelativeLabels | None) -> list[tuple[int, list[float]]]:
    """Labels as plain numbers."""
    assert labels is not None
    boxes = labels.boxes_xyxy.round(6).tolist()
    return list(zip(labels.class_ids.tolist(), boxes, strict=True))


def refusal(content: bytes, **arguments: int) -> str:
    """Why a label file is refused."""
    with pytest.raises(OperatorError) as caught:
        parse_labels(content, source="a.txt", **arguments)
    assert Code.DATASET_INVALID == caught.value.code
    return caught.value.message


def folder_refusal(folder: Path) -> str:
    """Why a folder is refused."""
    with pytest.raises(OperatorError) as caught:
        read_labelled_folder(folder, class_count=3)
    assert Code.DATASET_INVALID == caught.value.code
    return caught.value.message


def test_labels_lie_beside_the_images_folder(tmp_path: Path) -> None:
    """The layout of Ultralytics; from the dataset or from its images."""
    folder = fill(
        tmp_path,
        {
            "images/b.jpg": b"second",
            "images/a.PNG": b"first",
            "images/notes.md": b"",
            "labels/a.txt": b"1 0.5 0.5 0.2 0.4\n",
            "labels/b.txt": b"",
        },
    )
    for place in (folder, folder / "images"):
        first, second = read_labelled_folder(place, class_count=3)
        assert ("a.PNG", b"first", "b.jpg") == (first.name, first.read(), second.name)
        assert [(1, [0.4, 0.3, 0.6, 0.7])] == rows(first.labels)
        assert [] == rows(second.labels)


def test_labels_lie_beside_each_image(tmp_path: Path) -> None:
    """All in one folder."""
    fill(tmp_path, {"a.jpg": b"", "a.txt": b"0 0.5 0.5 1 1"})
    (one,) = read_labelled_folder(tmp_path)
    assert [(0, [0, 0, 1, 1])] == rows(one.labels)


def test_parts_of_a_dataset_have_labels_of_their_own(tmp_path: Path) -> None:
    """images/val has its labels in labels/val."""
    fill(tmp_path, {"images/val/a.jpg": b"", "labels/val/a.txt": b"2 0.5 0.5 1 1"})
    (one,) = read_labelled_folder(tmp_path / "images" / "val")
    assert [(2, [0, 0, 1, 1])] == rows(one.labels)


def test_an_unlabelled_image_is_not_an_empty_one(tmp_path: Path) -> None:
    """Nobody has said what is in it."""
    fill(tmp_path, {"a.jpg": b"", "b.jpg": b"", "b.txt": b"\n"})
    unlabelled, empty = read_labelled_folder(tmp_path)
    assert unlabelled.labels is None
    assert [] == rows(empty.labels)


def test_cocos_file_labels_the_images_that_it_lists(tmp_path: Path) -> None:
    """It goes before text files."""
    coco = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 100, "height": 50}],
        "annotations": [{"image_id": 7, "category_id": 9, "bbox": [10, 10, 20, 30]}],
        "categories": [{"id": 4}, {"id": 9}],
    }
    content = json.dumps(coco).encode()
    fill(tmp_path, {"a.jpg": b"", "b.jpg": b"", "b.txt": b"bad", "instances.json": content})
    listed, other = read_labelled_folder(tmp_path, class_count=2)
    assert [(1, [0.1, 0.2, 0.3, 0.8])] == rows(listed.labels)
    assert other.labels is None


def test_an_outline_becomes_its_box() -> None:
    """From 3 points on."""
    labels = parse_labels(b"4 0.1 0.2 0.5 0.3 0.3 0.9\n", source="a.txt")
    assert [(4, [0.1, 0.2, 0.5, 0.9])] == rows(labels)


def test_a_line_that_is_there_twice_counts_once() -> None:
    """As for Ultralytics, which says that it found a duplicate."""
    labels = parse_labels(b"1 0.5 0.5 1 1\r\n1 0.5 0.5 1 1\r\n2 0.5 0.5 1 1", source="a.txt")
    assert [1, 2] == labels.class_ids.tolist()


def test_pixels_are_those_of_the_upright_image() -> None:
    """(height, width) of the image, x before y in the box."""
    labels = parse_labels(b"1 0.5 0.5 0.5 1", source="a.txt").in_pixels((100, 400))
    assert [[100, 0, 300, 100]] == labels.boxes_xyxy.tolist()
    assert np.float32 == labels.boxes_xyxy.dtype


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"part 0.5 0.5 1 1", "the first word is no class id"),
        (b"-1 0.5 0.5 1 1", "the first word is no class id"),
        (b"1.0 0.5 0.5 1 1", "the first word is no class id"),
        (b"3 0.5 0.5 1 1", "class 3 is unknown: the classes are 0 to 2"),
        (b"1 0.5 0.5 1", "3 numbers after the class"),
        (b"1 0.5 0.5 1 1 0.9", "5 numbers after the class"),
        (b"1 0.5 0.5 1 1 1 1 1", "7 numbers after the class"),
        (b"1", "0 numbers after the class"),
        (b"1 0.5 0.5 nan 1", "'nan' is no number"),
        (b"1 0.5 0.5 inf 1", "'inf' is no number"),
        (b"1 0.5 0.5 1_0 1", "'1_0' is no number"),
        (b"1 0,5 0.5 1 1", "'0,5' is no number"),
        (b"1 320 240 64 64", "320 is outside 0..1"),
        (b"1 0.5 0.5 -0.5 1", "-0.5 is outside 0..1"),
        (b"1 0.5 0.5 0 1", "the object has no width or no height"),
        (b"1 0.5 0.1 0.5 0.2 0.5 0.3", "the object has no width or no height"),
    ],
)
def test_a_wrong_line_is_named(line: bytes, why: str) -> None:
    """Empty lines count."""
    message = refusal(b"1 0.5 0.5 1 1\n\n" + line + b"\n", class_count=3)
    assert f"a.txt, line 3: {why}" in message


def test_a_label_file_is_plain_text() -> None:
    """A byte order mark would hide in the first class id."""
    assert "a.txt is not plain text" in refusal(b"\xef\xbb\xbf1 0.5 0.5 1 1")


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(content: bytes) -> None:
    """Labels with area, or a refusal."""
    with contextlib.suppress(OperatorError):
        x1, y1, x2, y2 = parse_labels(content, source="a.txt").boxes_xyxy.T
        assert ((x1 < x2) & (y1 < y2)).all()


NUMBERS = st.integers(1, 10**6).map(lambda value: value / 10**6)


@given(st.lists(st.tuples(st.integers(0, 79), NUMBERS, NUMBERS, NUMBERS, NUMBERS), unique=True))
def test_written_labels_are_read_back(
    written: list[tuple[int, float, float, float, float]],
) -> None:
    """To the last of six places."""
    text = "".join(f"{row[0]} {' '.join(f'{value:.6f}' for value in row[1:])}\n" for row in written)
    labels = parse_labels(text.encode(), source="a.txt", class_count=80)
    x1, y1, x2, y2 = labels.boxes_xyxy.T
    back = np.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), axis=1)
    assert [row[0] for row in written] == labels.class_ids.tolist()
    np.testing.assert_allclose(
        back, np.array([row[1:] for row in written]).reshape(-1, 4), atol=1e-12
    )


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    """And one that is not there; the message names it."""
    assert f"{tmp_path} holds no image" in folder_refusal(tmp_path)
    assert f"{tmp_path / 'x'} cannot be read: No such file" in folder_refusal(tmp_path / "x")


def test_too_many_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A calibration takes hundreds."""
    assert 10_000 == MAX_IMAGES
    monkeypatch.setattr("gateway.inference.labelled.MAX_IMAGES", 1)
    fill(tmp_path, {"a.jpg": b"", "b.jpg": b""})
    assert "holds 2 images: take at most 1" in folder_refusal(tmp_path)


def test_too_large_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images and labels."""
    monkeypatch.setattr("gateway.inference.labelled.MAX_IMAGE_BYTES", 3)
    monkeypatch.setattr("gateway.inference.labelled.MAX_LABEL_BYTES", 3)
    fill(tmp_path, {"a.jpg": b"1234", "a.txt": b"1 0.5 0.5 1 1"})
    assert f"{tmp_path / 'a.txt'} is larger" in folder_refusal(tmp_path)
    with pytest.raises(OperatorError, match=r"a\.jpg is larger"):
        LabelledImage(tmp_path / "a.jpg", None).read()


def test_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    """Between listing and reading."""
    with pytest.raises(OperatorError, match=r"gone\.jpg cannot be read: No such file") as caught:
        LabelledImage(tmp_path / "gone.jpg", None).read()
    assert Code.DATASET_INVALID == caught.value.code


def test_the_photographs_are_read(test_data: Path) -> None:
    """COCO's own labels; 5 of the 470 are crowds."""
    images = read_labelled_folder(test_data / "coco50", class_count=80)
    assert 50 == len(images)
    assert 465 == sum(len(rows(image.labels)) for image in images)
