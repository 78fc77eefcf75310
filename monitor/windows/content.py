"""How a reference is stored: JSON text with one list of numbers a feature, null where a value is missing."""

import json
from typing import Any

import numpy as np
from sqlalchemy import Row

from gateway.store.queries.samples import FEATURE_NAME
from monitor.records import FeatureArray, MonitorError, Reference, Window
from monitor.windows.arrays import MISSING

FORMAT = 1


def dump_window(window: Window) -> str:
    """The stored form of a reference's window."""
    features = {name: _dump_column(column) for name, column in window.features.items()}
    return json.dumps({"format": FORMAT, "features": features}, separators=(",", ":"))


def parse_window(content: str, *, sample_count: int) -> Window:
    """The window that dump_window stored.

    Raises MonitorError if the content is of another format or its columns do not hold sample_count numbers, or
    have names that FEATURE_NAME refuses.
    """
    try:
        features = _parse_features(json.loads(content), sample_count)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as exc:
        raise MonitorError(
            f"a stored reference cannot be read ({exc}): make a new one with `monitor reference`"
        ) from exc
    return Window(features=features, sample_count=sample_count)


def parse_reference(row: Row[Any]) -> Reference:
    """The reference of a row of drift_references. Raises MonitorError if its content is broken."""
    return Reference(
        id=row.id,
        model_name=row.model_name,
        model_version=row.model_version,
        created_at=row.created_at,
        source=row.source,
        covers_until=row.covers_until,
        window=parse_window(row.content, sample_count=row.sample_count),
    )


def _parse_features(stored: dict[str, Any], sample_count: int) -> dict[str, FeatureArray]:
    if stored["format"] != FORMAT:
        raise ValueError(f"format {stored['format']!r}")
    for name in stored["features"]:
        # Names go into reports and metrics as they are.
        if not FEATURE_NAME.fullmatch(name):
            raise ValueError(f"feature name {name[:40]!r}")
    return {
        name: _parse_column(values, sample_count) for name, values in stored["features"].items()
    }


def _dump_column(column: FeatureArray) -> list[float | None]:
    return [None if value == MISSING else value for value in column.tolist()]


def _parse_column(values: list[float | None], sample_count: int) -> FeatureArray:
    column = np.array([MISSING if value is None else value for value in values], dtype=np.float64)
    if column.shape != (sample_count,) or np.isnan(column).any() or np.isposinf(column).any():
        raise ValueError(f"a column does not hold {sample_count} numbers")
    return column
