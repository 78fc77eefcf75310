"""Folders of images with ground truth in YOLO's or COCO's form: what calibration and the accuracy gate read.

Rules: COCO's form is one `instances.json` among the images or above them; without it, YOLO's is looked for: a line is
`class x y width height` or `class x1 y1 x2 y2 x3 y3 ...` (an outline, which becomes the box around it), all but the
class relative to the upright image, 0..1; labels lie in `labels/` beside `images/`, or beside the image. An image
without a label file is unlabelled; one with an empty file has nothing in it. Labels of pose models look like outlines
and are not told apart. Anything else is refused with its file and line.
Source: https://docs.ultralytics.com/datasets/detect and Ultralytics 8.4 data/utils.py (verify_image_label).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gateway.errors import Code, OperatorError
from gateway.inference.accuracy import RelativeLabels
from gateway.inference.coco_labels import parse_coco

MAX_IMAGES = 10_000
MAX_IMAGE_BYTES = 64 * 1024 * 1024
MAX_LABEL_BYTES = 4 * 1024 * 1024
MAX_COCO_BYTES = 256 * 1024 * 1024
COCO_NAME = "instances.json"
MAX_CLASSES = 10_000

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
_CLASS_ID = re.compile(r"[0-9]{1,5}", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{0,20})?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
# Labelling tools round, so that a corner at the border can lie a little outside; as much is allowed by Ultralytics.
_SLACK = 0.01
_BOX_NUMBERS, _FEWEST_OUTLINE_NUMBERS = 4, 6


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image file and what is in it; labels is None if nobody has said."""

    path: Path
    labels: RelativeLabels | None

    @property
    def name(self) -> str:
        """Its file name."""
        return self.path.name

    def read(self) -> bytes:
        """The encoded image. Raises OperatorError with DATASET_INVALID if it cannot be read or is too large."""
        return _read(self.path, MAX_IMAGE_BYTES)


def read_labelled_folder(folder: Path, *, class_count: int = MAX_CLASSES) -> list[LabelledImage]:
    """All images of `folder/images`, or of the folder itself, by file name, with their labels.

    class_count: how many classes the model knows; a label of another one is refused. The images themselves are read
    when asked for. Raises OperatorError with DATASET_INVALID if there are no images or too many, or a label file is
    not in its form.
    """
    images = folder / "images" if (folder / "images").is_dir() else folder
    try:
        paths = sorted(
            path
            for path in images.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
        )
    except OSError as exc:
        raise _invalid(f"{images} cannot be read: {exc.strerror}; name a folder of images") from exc
    if not paths:
        raise _invalid(f"{images} holds no image: name a folder of JPEG, PNG, WebP or BMP files")
    if len(paths) > MAX_IMAGES:
        raise _invalid(f"{images} holds {len(paths)} images: take at most {MAX_IMAGES}")
    coco = _coco_of(folder, images, class_count)
    return [
        LabelledImage(path, _labels_of(path, class_count) if coco is None else coco.get(path.name))
        for path in paths
    ]


def parse_labels(
    unverified: bytes, *, source: str, class_count: int = MAX_CLASSES
) -> RelativeLabels:
    """The content of one label file; a line that is there twice counts once, as for Ultralytics.

    source: what messages call the file. Raises OperatorError with DATASET_INVALID that names file and line.
    """
    try:
        text = unverified.decode("ascii")
    except UnicodeDecodeError as exc:
        raise _invalid(f"{source} is not plain text: write it as ASCII without a mark") from exc
    rows: dict[tuple[float, ...], None] = {}
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1):
        if line.strip(" \t"):
            try:
                rows[_parse_line(line, class_count)] = None
            except ValueError as exc:
                raise _invalid(f"{source}, line {number}: {exc}") from exc
    table = np.array(list(rows), np.float64).reshape(-1, 5)
    return RelativeLabels(table[:, 0].astype(np.int64), table[:, 1:].copy())


def _coco_of(folder: Path, images: Path, class_count: int) -> Mapping[str, RelativeLabels] | None:
    for path in (images / COCO_NAME, folder / COCO_NAME):
        if path.is_file():
            content = _read(path, MAX_COCO_BYTES)
            return parse_coco(content, source=str(path), class_count=class_count)
    return None


def _labels_of(image: Path, class_count: int) -> RelativeLabels | None:
    for path in _label_paths(image):
        if path.is_file():
            content = _read(path, MAX_LABEL_BYTES)
            return parse_labels(content, source=str(path), class_count=class_count)
    return None


def _label_paths(image: Path) -> list[Path]:
    """Where the labels of an image may be: below `labels` in place of the last `images` folder, or beside it."""
    beside = image.with_suffix(".txt")
    parts = list(beside.absolute().parts)
    if "images" not in parts[:-1]:
        return [beside]
    last = len(parts) - 2 - parts[-2::-1].index("images")
    return [Path(*parts[:last], "labels", *parts[last + 1 :]), beside]


def _parse_line(line: str, class_count: int) -> tuple[float, ...]:
    class_text, *rest = line.split()
    if not _CLASS_ID.fullmatch(class_text):
        raise ValueError("the first word is no class id: write a whole number, 0 or more")
    class_id = int(class_text)
    if class_id >= class_count:
        raise ValueError(f"class {class_id} is unknown: the classes are 0 to {class_count - 1}")
    numbers = [_parse_number(word) for word in rest]
    return class_id, *_box_of(numbers)


def _parse_number(word: str) -> float:
    if not _NUMBER.fullmatch(word):
        raise ValueError(f"{word[:20]!r} is no number")
    value = float(word)
    if not -_SLACK <= value <= 1 + _SLACK:
        raise ValueError(
            f"{word[:20]} is outside 0..1: write parts of the image's sides, not pixels"
        )
    return value


def _box_of(numbers: list[float]) -> tuple[float, float, float, float]:
    if len(numbers) == _BOX_NUMBERS:
        x, y, width, height = numbers
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    elif len(numbers) >= _FEWEST_OUTLINE_NUMBERS and len(numbers) % 2 == 0:
        xs, ys = numbers[::2], numbers[1::2]
        box = (min(xs), min(ys), max(xs), max(ys))
    else:
        raise ValueError(
            f"{len(numbers)} numbers after the class: write 4 for a box, or at least 3 points of 2 for an outline"
        )
    if not all(map(math.isfinite, box)) or box[0] >= box[2] or box[1] >= box[3]:
        raise ValueError("the object has no width or no height")
    return box


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as exc:
        raise _invalid(f"{path} cannot be read: {exc.strerror}; make it readable") from exc
    if len(content) > max_bytes:
        raise _invalid(f"{path} is larger than {max_bytes >> 20} MiB: take a smaller one")
    return content


def _invalid(what: str) -> OperatorError:
    return OperatorError(Code.DATASET_INVALID, what)
