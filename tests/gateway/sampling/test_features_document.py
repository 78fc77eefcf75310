"""docs/features.md says of every feature what its table says."""

import math
from pathlib import Path

from gateway.sampling.features import FEATURES, Feature

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "features.md").read_text(encoding="utf-8")


def row_of(feature: Feature) -> str:
    """The line of the document."""
    maximum = "" if math.isinf(feature.maximum) else f"{feature.maximum:g}"
    cells = (
        f"`{feature.name}`",
        feature.unit,
        f"{feature.minimum:g}..{maximum}",
        feature.meaning,
        feature.source,
    )
    return f"| {' | '.join(cells)} |"


def test_the_document_is_the_table() -> None:
    """Each feature once, in order: a reader of the database finds what a number means."""
    listed = [line for line in TEXT.splitlines() if line.startswith("| `")]
    assert [row_of(feature) for feature in FEATURES] == listed
