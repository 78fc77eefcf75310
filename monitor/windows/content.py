"""How a reference is stored: compact JSON, its arrays as base64 of little-endian numbers.

Rules: what was stored comes back bit for bit, since samples are compared with it; whatever else a row holds is one
error with its fix, and nothing of it is guessed. References of format 1, which hold every value, are still read.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Row

from monitor.ranks import RankedValues, rank_values
from monitor.records import MonitorError, Reference
from monitor.summaries import (
    ALL_SAMPLES,
    HOURS_OF_DAY,
    EmbeddingFit,
    Fit,
    ReferenceSummary,
    SliceSummary,
    Stratum,
)
from monitor.windows.content_reading import (
    ContentInvalidError,
    check_names,
    member,
    members,
    read_array,
    read_embedding,
    read_shares,
    read_slices,
    read_texts,
    read_time,
    write_array,
)
from monitor.windows.fitting import to_values

FORMAT = 2
# Half of what a monitor may keep of a model version; the other half is its evidence.
MAX_CONTENT_BYTES = 128 * 1024
# A little more than what is written is still read; anything larger is not parsed.
MAX_READ_BYTES = 2 * MAX_CONTENT_BYTES
# Of format 1: 10,000 samples of every feature that a reference may have, each number in full.
_MAX_VALUES_BYTES = 32 * 1024 * 1024
# What of a stored reference of format 1 is kept of each feature.
_RANKS_OF_ALL_VALUES = 400


def dump_summary(summary: ReferenceSummary) -> str:
    """The stored form of a reference; at most MAX_CONTENT_BYTES if its ranks were chosen by windows.limits."""
    names = _names(summary.slices)
    shares = summary.fit.class_shares
    content = {
        "format": FORMAT,
        "preprocessing": summary.preprocessing,
        "examples": list(summary.examples),
        "covers_from": None if summary.covers_from is None else summary.covers_from.isoformat(),
        "class_ids": write_array(list(shares), "<i4"),
        "class_shares": write_array(list(shares.values()), "<f8"),
        "embedding": _dump_embedding(summary.fit.embedding),
        "features": names,
        "slices": [_dump_slice(each, names) for each in summary.slices],
    }
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def parse_summary(content: str, *, sample_count: int) -> ReferenceSummary:
    """The reference that dump_summary stored, or one of format 1. sample_count: as its row says.

    Raises MonitorError if the content is of another format or not what dump_summary writes.
    """
    try:
        is_large = _require_size(content)
        stored = json.loads(content, parse_constant=_no_constant)
        if not isinstance(stored, dict):
            raise ContentInvalidError("not an object")
        if stored.get("format") == 1:
            return _parse_values(stored, sample_count)
        if is_large:
            raise ContentInvalidError(f"more than {MAX_READ_BYTES} bytes")
        return _parse(stored, sample_count)
    except (ValueError, OverflowError, RecursionError) as exc:
        raise MonitorError(
            f"a stored reference cannot be read ({exc}): make a new one with `monitor reference`"
        ) from exc


def parse_reference(row: Row[Any]) -> Reference:
    """The reference of a row of drift_references. Raises MonitorError if its content is broken."""
    return Reference(
        id=row.id,
        model_name=row.model_name,
        model_version=row.model_version,
        created_at=row.created_at,
        source=row.source,
        covers_until=row.covers_until,
        summary=parse_summary(row.content, sample_count=row.sample_count),
    )


def _require_size(content: str) -> bool:
    """Whether only format 1 may be so large. Raises ContentInvalidError if even that may not."""
    size_bytes = len(content.encode("utf-8", "surrogatepass"))
    if size_bytes > _MAX_VALUES_BYTES:
        raise ContentInvalidError(f"more than {_MAX_VALUES_BYTES} bytes")
    return size_bytes > MAX_READ_BYTES


def _names(slices: Sequence[SliceSummary]) -> list[str]:
    return sorted(slices[0].strata[0].features) if slices else []


def _dump_embedding(fit: EmbeddingFit | None) -> dict[str, Any] | None:
    if fit is None:
        return None
    return {
        "mean": write_array(fit.mean, "<f4"),
        "directions": write_array(fit.directions.ravel(), "<f2"),
        "scales": write_array(fit.scales, "<f4"),
        "residual_scale": fit.residual_scale,
    }


def _dump_slice(summary: SliceSummary, names: list[str]) -> dict[str, Any]:
    return {
        "slice": summary.slice.text,
        "strata": [_dump_stratum(stratum, names) for stratum in summary.strata],
    }


def _dump_stratum(stratum: Stratum, names: list[str]) -> dict[str, Any]:
    # Features that were ranked on as many samples share their ranks.
    groups: dict[tuple[int, bytes], list[int]] = {}
    for index, name in enumerate(names):
        ranked = stratum.features[name]
        groups.setdefault((ranked.sample_count, ranked.ranks.tobytes()), []).append(index)
    dumped = [_dump_group(stratum.features, names, of) for of in groups.values()]
    return {"hours": sorted(stratum.hours), "groups": dumped}


def _dump_group(
    features: Mapping[str, RankedValues], names: list[str], of: list[int]
) -> dict[str, Any]:
    ranked = [features[names[index]] for index in of]
    lowest = np.concatenate([each.lowest for each in ranked])
    highest = np.concatenate([each.highest for each in ranked])
    group = {
        "of": write_array(of, "u1"),
        "count": ranked[0].sample_count,
        "ranks": write_array(ranked[0].ranks, "<i4"),
        "lowest": write_array(lowest, "<f4"),
    }
    if not np.array_equal(lowest, highest):
        group["highest"] = write_array(highest, "<f4")
    return group


def _parse(stored: dict[str, Any], sample_count: int) -> ReferenceSummary:
    if stored.get("format") != FORMAT:
        raise ContentInvalidError(f"format {str(stored.get('format'))[:40]}")
    members(
        stored,
        *("format", "preprocessing", "examples", "covers_from", "class_ids", "class_shares"),
        *("embedding", "features", "slices"),
    )
    embedding = read_embedding(stored["embedding"])
    names = read_texts(stored["features"], max_characters=64)
    check_names(names, embedding)
    return ReferenceSummary(
        sample_count=sample_count,
        fit=Fit(
            class_shares=read_shares(
                read_array(stored["class_ids"], "<i4"), read_array(stored["class_shares"], "<f8")
            ),
            embedding=embedding,
        ),
        slices=read_slices(stored["slices"], names, sample_count),
        preprocessing=member(stored["preprocessing"], str),
        examples=tuple(read_texts(stored["examples"], max_characters=36)),
        covers_from=read_time(stored["covers_from"]),
    )


def _parse_values(stored: dict[str, Any], sample_count: int) -> ReferenceSummary:
    members(stored, "format", "features")
    columns = member(stored["features"], dict)
    check_names(sorted(columns), None)
    features = {
        name: rank_values(
            to_values(_parse_column(values, sample_count)), limit=_RANKS_OF_ALL_VALUES
        )
        for name, values in columns.items()
    }
    stratum = Stratum(hours=HOURS_OF_DAY, features=features)
    return ReferenceSummary(
        sample_count=sample_count,
        fit=Fit(class_shares={}),
        slices=(SliceSummary(ALL_SAMPLES, (stratum,)),),
    )


def _parse_column(values: object, sample_count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    numbers = [math.nan if value is None else _number(value) for value in member(values, list)]
    if len(numbers) != sample_count or not numbers:
        raise ContentInvalidError(f"a column does not hold {sample_count} numbers")
    return np.array(numbers, np.float64)


def _number(value: object) -> float:
    # bool is an int to Python; true is not a number to us.
    if type(value) is not float and type(value) is not int:
        raise ContentInvalidError("something that is not a number")
    if not math.isfinite(value):
        raise ContentInvalidError("a number beyond a double's range")
    return float(value)


def _no_constant(name: str) -> float:
    raise ContentInvalidError(f"{name} is not a JSON number")
