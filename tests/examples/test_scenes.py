"""The scene generator: deterministic frames, boxes that fit, and the dataset on disk."""

import functools
from pathlib import Path

import cv2
import numpy as np
import pytest

from examples.conveyor.scenes import (
    CLASS_NAMES,
    Scene,
    Situation,
    draw_scene,
    label_lines,
    main,
    scene_rng,
    write_dataset,
)


def render(index: int, situation: Situation | None = None) -> Scene:
    """A training scene of seed 1."""
    return draw_scene(scene_rng("train", 1, index), situation)


@functools.cache
def scene(index: int) -> Scene:
    """The same, rendered once for all tests; nobody changes it."""
    return render(index)


def test_same_seed_gives_the_same_scene() -> None:
    """Pixels, boxes, classes and JPEG quality repeat."""
    first, second = render(0), render(0)
    assert np.array_equal(first.image, second.image)
    assert first.boxes.tolist() == second.boxes.tolist()
    assert first.encode() == second.encode()


@pytest.mark.parametrize("other", [("train", 1, 1), ("train", 2, 0), ("test", 1, 0)])
def test_other_stream_seed_or_index_gives_another_scene(other: tuple[str, int, int]) -> None:
    """Each of the three tells scenes apart."""
    assert not np.array_equal(draw_scene(scene_rng(*other)).image, scene(0).image)


def test_boxes_and_classes_of_a_known_scene() -> None:
    """Two nuts and a washer, one nut and the washer with rust, at these very pixels."""
    drawn = scene(0)
    assert drawn.boxes.tolist() == [
        [92, 117, 147, 166],
        [61, 400, 136, 475],
        [67, 455, 88, 473],
        [231, 346, 284, 393],
        [264, 351, 283, 375],
    ]
    names = [CLASS_NAMES[class_id] for class_id in drawn.class_ids]
    assert names == ["nut", "washer", "rust", "nut", "rust"]
    assert drawn.jpeg_quality == 64


def test_boxes_lie_inside_the_frame() -> None:
    """No box leaves the picture, and none is thinner than 8 pixels."""
    for index in range(16):
        drawn = scene(index)
        assert drawn.boxes.shape == (len(drawn.class_ids), 4)
        assert drawn.boxes.min() >= 0
        assert drawn.boxes[:, [0, 2]].max() <= 640
        assert drawn.boxes[:, [1, 3]].max() <= 480
        assert (drawn.boxes[:, 2:] - drawn.boxes[:, :2]).min() >= 8


def test_boxes_are_tight() -> None:
    """The metal nearly touches all four sides: just inside is not like just outside."""
    drawn = scene(0)
    grey = cv2.cvtColor(drawn.image, cv2.COLOR_BGR2GRAY).astype(float)
    x1, y1, x2, y2 = drawn.boxes[1].astype(int)  # the washer
    x, y = (x1 + x2) // 2, (y1 + y2) // 2
    inside = [grey[y, x1 + 3], grey[y, x2 - 4], grey[y1 + 3, x], grey[y2 - 4, x]]
    outside = [grey[y, x1 - 4], grey[y, x2 + 3], grey[y1 - 4, x], grey[y2 + 2, x]]
    assert min(np.subtract(inside, outside)) > 25


def test_every_class_occurs() -> None:
    """Sixteen scenes contain every part and every defect."""
    seen = {int(class_id) for index in range(16) for class_id in scene(index).class_ids}
    assert seen == {0, 1, 2, 3, 4, 5, 6}


def test_jpeg_is_the_frame() -> None:
    """The encoded file decodes to a picture of the same size that differs little."""
    drawn = scene(1)
    decoded = cv2.imdecode(np.frombuffer(drawn.encode(), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded.shape == (480, 640, 3)
    assert np.abs(decoded.astype(int) - drawn.image.astype(int)).mean() < 8


def test_novel_parts_are_not_labelled() -> None:
    """A scene of novel parts only has no boxes."""
    assert render(0, Situation(novel_share=1.0)).boxes.shape == (0, 4)


def test_label_line_holds_class_centre_and_size() -> None:
    """Ultralytics' label format: shares of the frame's width and height."""
    boxes = np.array([[160, 120, 480, 240]], np.float32)
    drawn = Scene(np.zeros((480, 640, 3), np.uint8), boxes, np.array([3], np.int64), 90)
    assert label_lines(drawn) == "3 0.500000 0.375000 0.500000 0.250000\n"


def test_dataset_has_ultralytics_layout(tmp_path: Path) -> None:
    """One image and one label file a scene, in folders by split, and a data.yaml."""
    write_dataset(tmp_path, seed=1, counts={"train": 2, "val": 1, "test": 1})
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert files == [
        "data.yaml",
        "images/test/00000.jpg",
        "images/train/00000.jpg",
        "images/train/00001.jpg",
        "images/val/00000.jpg",
        "labels/test/00000.txt",
        "labels/train/00000.txt",
        "labels/train/00001.txt",
        "labels/val/00000.txt",
    ]


def test_data_yaml_names_splits_and_classes(tmp_path: Path) -> None:
    """Without a train and val split, which Ultralytics insists on, the first one stands in."""
    write_dataset(tmp_path, seed=1, counts={"test": 1})
    lines = (tmp_path / "data.yaml").read_text("utf-8").splitlines()
    assert lines[1:4] == ["train: images/test", "val: images/test", "test: images/test"]
    assert lines[4:7] == ["names:", "  0: bolt", "  1: nut"]


def test_command_writes_a_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line renders the counts asked for and says where they are."""
    counts = ["--count", "2", "--val-count", "1", "--test-count", "1"]
    assert main(["--out", str(tmp_path), *counts]) == 0
    assert len(list((tmp_path / "images" / "train").iterdir())) == 2
    assert "wrote 4 scenes" in capsys.readouterr().out


def test_command_refuses_empty_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A count below 1 is an error that says so."""
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), "--count", "0"])
    assert "at least 1" in capsys.readouterr().err
