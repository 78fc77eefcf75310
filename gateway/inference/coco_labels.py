"""Ground truth in COCO's JSON form: one file for all images of a folder.

Rules: class ids are the places of the categories in order of their ids, as Ultralytics converts them; regions that
stand for a crowd, and boxes without width or height, are left out, as it leaves them out. Members that are not needed
are not looked at.
Source: https://cocodataset.org/#format-data and Ultralytics 8.4 data/converter.py (convert_coco).
"""

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.errors import Code, OperatorError
from gateway.inference.accuracy import RelativeLabels

_Id = Annotated[int, Field(ge=0, le=2**53)]
_Side = Annotated[int, Field(ge=1, le=100_000)]
_Pixels = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]


class _Member(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class _Image(_Member):
    id: _Id
    file_name: Annotated[str, Field(min_length=1, max_length=1024)]
    width: _Side
    height: _Side


class _Annotation(_Member):
    image_id: _Id
    category_id: _Id
    bbox: tuple[_Pixels, _Pixels, _Pixels, _Pixels]
    iscrowd: Annotated[int, Field(ge=0, le=1)] = 0


class _Category(_Member):
    id: _Id


class _Instances(_Member):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: Annotated[list[_Category], Field(min_length=1)]


def parse_coco(unverified: bytes, *, source: str, class_count: int) -> Mapping[str, RelativeLabels]:
    """The labels of every image that the file lists, by the image's file name without folders.

    source: what messages call the file. class_count: how many classes the model knows.
    Raises OperatorError with DATASET_INVALID for anything but COCO's form, an unknown image or category, an id or name
    that is there twice, and more categories than the model has classes.
    """
    try:
        instances = _Instances.model_validate_json(unverified)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise _invalid(source, f"{place}: {first['msg']}") from exc
    images = {image.id: image for image in instances.images}
    names = {_name(image) for image in instances.images}
    if len(images) < len(instances.images) or len(names) < len(images):
        raise _invalid(source, "images: an id or a file name is there twice")
    class_ids = _class_ids(source, instances.categories, class_count)
    rows: dict[int, list[tuple[float, ...]]] = {image_id: [] for image_id in images}
    for number, annotation in enumerate(instances.annotations):
        image = images.get(annotation.image_id)
        class_id = class_ids.get(annotation.category_id)
        if image is None or class_id is None:
            raise _invalid(source, f"annotations.{number}: its image or its category is not listed")
        if not annotation.iscrowd and min(annotation.bbox[2:]) > 0:
            rows[image.id].append((class_id, *_relative(annotation.bbox, image)))
    return {_name(image): _labels(rows[image.id]) for image in instances.images}


def _class_ids(source: str, categories: list[_Category], class_count: int) -> dict[int, int]:
    class_ids = {
        category: place for place, category in enumerate(sorted({one.id for one in categories}))
    }
    if len(class_ids) < len(categories):
        raise _invalid(source, "categories: an id is there twice")
    if len(class_ids) > class_count:
        raise _invalid(
            source, f"it has {len(class_ids)} categories, but the model has {class_count} classes"
        )
    return class_ids


def _relative(
    bbox: tuple[float, float, float, float], image: _Image
) -> tuple[float, float, float, float]:
    x, y, width, height = bbox
    return (
        x / image.width,
        y / image.height,
        (x + width) / image.width,
        (y + height) / image.height,
    )


def _labels(rows: list[tuple[float, ...]]) -> RelativeLabels:
    table = np.array(rows, np.float64).reshape(-1, 5)
    return RelativeLabels(table[:, 0].astype(np.int64), table[:, 1:].copy())


def _name(image: _Image) -> str:
    return image.file_name.rsplit("/", maxsplit=1)[-1]


def _invalid(source: str, why: str) -> OperatorError:
    return OperatorError(
        Code.DATASET_INVALID, f"{source} is not in COCO's form: {why}; export the labels again"
    )
