"""Reading the parts of a stored reference, each checked for everything that is later relied on. Pure.

Rules: only ContentInvalidError and what the standard library raises of ValueError leave this module.
"""

import base64
import binascii
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gateway.store.queries.samples import FEATURE_NAME, SOURCE_NAME
from monitor.ranks import RankedValues
from monitor.summaries import (
    ALL_SAMPLES,
    HOURS_OF_DAY,
    EmbeddingFit,
    Slice,
    SliceKind,
    SliceSummary,
    Stratum,
    parse_slice,
)
from monitor.windows.embeddings import EMBEDDING_PREFIX, MAX_DIRECTIONS, embedding_names
from monitor.windows.fitting import CLASS_COUNT_PREFIX, MAX_FEATURES, OTHER_CLASSES
from monitor.windows.slicing import is_client_digest

Kind = TypeVar("Kind")

_MAX_CLASSES = 1 << 16
# As many as MONITOR_MAX_SLICES may be, and the one of all samples.
MAX_SLICES = 64 + 1
# Sums of stored shares are off by rounding.
_SLACK = 1e-9


class ContentInvalidError(ValueError):
    """What a stored reference holds is not what is written there."""


def write_array(numbers: ArrayLike, dtype: str) -> str:
    """Numbers as base64. dtype: of what is stored, little-endian."""
    return base64.b64encode(np.asarray(numbers).astype(dtype).tobytes()).decode("ascii")


def read_array(text: object, dtype: str) -> NDArray[Any]:
    """The numbers of write_array, in the processor's byte order. Raises ContentInvalidError."""
    try:
        stored = base64.b64decode(member(text, str), validate=True)
        numbers = np.frombuffer(stored, np.dtype(dtype))
    except (binascii.Error, ValueError) as exc:
        raise ContentInvalidError(f"an array is broken: {exc}") from exc
    return numbers.astype(numbers.dtype.newbyteorder("="))


def member(value: object, kind: type[Kind]) -> Kind:
    """A value of exactly this type: true is no number. Raises ContentInvalidError."""
    if type(value) is not kind:
        raise ContentInvalidError(f"a {type(value).__name__} where a {kind.__name__} belongs")
    return value


def members(value: object, *names: str, optional: str | None = None) -> dict[str, Any]:
    """An object of exactly these members, and perhaps an optional one. Raises ContentInvalidError."""
    found = member(value, dict)
    if found.keys() - {optional} != set(names):
        raise ContentInvalidError(f"members are not {', '.join(names)}")
    return found


def read_texts(value: object, *, max_characters: int) -> list[str]:
    """A list of short texts. Raises ContentInvalidError."""
    texts = [member(each, str) for each in member(value, list)]
    if any(len(text) > max_characters for text in texts):
        raise ContentInvalidError(f"a text is longer than {max_characters} characters")
    return texts


def read_time(value: object) -> datetime | None:
    """An aware time or None. Raises ContentInvalidError."""
    if value is None:
        return None
    time = datetime.fromisoformat(member(value, str))
    if time.tzinfo is None:
        raise ContentInvalidError("a time has no zone")
    return time


def check_names(names: Sequence[str], embedding: EmbeddingFit | None) -> None:
    """Refuse names that could break out of a page, and those of features that nothing could compute.

    Such a feature would be missing in every sample, which is drift. Raises ContentInvalidError.
    """
    if not 1 <= len(names) <= MAX_FEATURES or list(names) != sorted(set(names)):
        raise ContentInvalidError(f"not 1 to {MAX_FEATURES} feature names in order")
    computed = () if embedding is None else embedding_names(embedding)
    for name in names:
        if not FEATURE_NAME.fullmatch(name):
            raise ContentInvalidError(f"feature name {name[:40]!r}")
        if name.startswith(EMBEDDING_PREFIX) and name not in computed:
            raise ContentInvalidError(f"no embedding for {name}")
        if name.startswith(CLASS_COUNT_PREFIX) and name != OTHER_CLASSES:
            class_id = name.removeprefix(CLASS_COUNT_PREFIX)
            if not class_id.isdecimal() or class_id != str(int(class_id)):
                raise ContentInvalidError(f"feature name {name!r}")


def read_shares(class_ids: NDArray[Any], shares: NDArray[Any]) -> dict[int, float]:
    """Shares of classes by their ids. Raises ContentInvalidError."""
    if len(class_ids) != len(shares) or len(class_ids) > _MAX_CLASSES:
        raise ContentInvalidError("not as many shares as classes")
    # NaN is in no range.
    if (class_ids < 0).any() or not ((shares > 0) & (shares <= 1)).all():
        raise ContentInvalidError("a class or its share is out of range")
    if math.fsum(shares.tolist()) > 1 + _SLACK or len(set(class_ids.tolist())) != len(class_ids):
        raise ContentInvalidError("the shares of classes sum to more than 1, or one is there twice")
    return dict(zip(class_ids.tolist(), shares.tolist(), strict=True))


def read_embedding(value: object) -> EmbeddingFit | None:
    """The projection of embeddings, if there is one. Raises ContentInvalidError."""
    if value is None:
        return None
    stored = members(value, "mean", "directions", "scales", "residual_scale")
    mean, scales = read_array(stored["mean"], "<f4"), read_array(stored["scales"], "<f4")
    directions = read_array(stored["directions"], "<f2").astype(np.float32)
    residual_scale = member(stored["residual_scale"], float)
    if not len(mean) or len(scales) > MAX_DIRECTIONS:
        raise ContentInvalidError("an embedding of another size")
    if len(directions) != len(mean) * len(scales):
        raise ContentInvalidError("directions of another size")
    for numbers in (mean, directions, scales, np.array([residual_scale])):
        if not np.isfinite(numbers).all():
            raise ContentInvalidError("an embedding has only finite numbers")
    if (scales <= 0).any() or residual_scale <= 0:
        raise ContentInvalidError("a scale is not above 0")
    return EmbeddingFit(mean, directions.reshape(len(scales), len(mean)), scales, residual_scale)


def read_slices(value: object, names: Sequence[str], sample_count: int) -> tuple[SliceSummary, ...]:
    """The slices, the first of all samples, each stratum with every feature. Raises ContentInvalidError."""
    stored = member(value, list)
    if len(stored) > MAX_SLICES:
        raise ContentInvalidError(f"more than {MAX_SLICES} slices")
    slices = tuple(_read_slice(each, names, sample_count) for each in stored)
    if not slices or slices[0].slice != ALL_SAMPLES:
        raise ContentInvalidError("the first slice is not of all samples")
    if len({summary.slice for summary in slices}) != len(slices):
        raise ContentInvalidError("a slice is there twice")
    return slices


def _read_slice(value: object, names: Sequence[str], sample_count: int) -> SliceSummary:
    stored = members(value, "slice", "strata")
    strata = tuple(
        _read_stratum(each, names, sample_count) for each in member(stored["strata"], list)
    )
    hours = [hour for stratum in strata for hour in stratum.hours]
    if not hours or len(set(hours)) != len(hours):
        raise ContentInvalidError("no hour, or one in two strata")
    return SliceSummary(_read_slice_name(member(stored["slice"], str)), strata)


def _read_slice_name(text: str) -> Slice:
    # It becomes a label of metrics and a word of logs and webhooks: a principal's name must not.
    of = parse_slice(text)
    if of.kind is SliceKind.SOURCE and not SOURCE_NAME.fullmatch(of.value):
        raise ContentInvalidError(f"slice {text[:40]!r} names no source")
    if of.kind is SliceKind.CLIENT and not is_client_digest(of.value):
        raise ContentInvalidError("a slice names a client otherwise than by a digest")
    return of


def _read_stratum(value: object, names: Sequence[str], sample_count: int) -> Stratum:
    stored = members(value, "hours", "groups")
    hours = [member(hour, int) for hour in member(stored["hours"], list)]
    if not hours or len(set(hours)) != len(hours) or not HOURS_OF_DAY.issuperset(hours):
        raise ContentInvalidError("hours that a day does not have")
    features: dict[str, RankedValues] = {}
    for group in member(stored["groups"], list):
        for name, ranked in _read_group(group, names, sample_count):
            if name in features:
                raise ContentInvalidError("a feature is in two groups")
            features[name] = ranked
    if len(features) != len(names):
        raise ContentInvalidError("a feature is in no group")
    return Stratum(frozenset(hours), {name: features[name] for name in names})


def _read_group(
    value: object, names: Sequence[str], sample_count: int
) -> list[tuple[str, RankedValues]]:
    stored = members(value, "of", "count", "ranks", "lowest", optional="highest")
    of, count = read_array(stored["of"], "u1"), member(stored["count"], int)
    ranks = read_array(stored["ranks"], "<i4").astype(np.int64)
    lowest = read_array(stored["lowest"], "<f4")
    highest = read_array(stored["highest"], "<f4") if "highest" in stored else lowest
    if not 1 <= count <= sample_count or not len(of) or (of >= len(names)).any():
        raise ContentInvalidError("a group of other features or samples")
    if not len(ranks) or (ranks[0], ranks[-1]) != (1, count) or (np.diff(ranks) <= 0).any():
        raise ContentInvalidError("ranks are not in order from the first to the last")
    if not len(lowest) == len(highest) == len(of) * len(ranks):
        raise ContentInvalidError("not a value for each rank")
    shape = (len(of), len(ranks))
    lows, highs = lowest.reshape(shape), highest.reshape(shape)
    _check_values(lows, highs)
    return [
        (names[index], RankedValues(count, ranks, low, high))
        for index, low, high in zip(of.tolist(), lows, highs, strict=True)
    ]


def _check_values(lows: NDArray[np.float32], highs: NDArray[np.float32]) -> None:
    for values in (lows, highs):
        if np.isnan(values).any() or np.isposinf(values).any():
            raise ContentInvalidError("a value is no number")
        if (values[:, 1:] < values[:, :-1]).any():
            raise ContentInvalidError("values are not in order")
    if (lows > highs).any():
        raise ContentInvalidError("a value lies above itself")
