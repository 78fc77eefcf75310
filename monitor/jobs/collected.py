"""What a reference is stored from, however it was made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from monitor.summaries import ReferenceSummary
from monitor.windows.choosing import LeftOut
from monitor.windows.slicing import WHOLE_DAY, Bands

# More adds next to nothing to what is known of a distribution.
MAX_REFERENCE_SAMPLES = 10_000

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Layout:
    """What a reference tells apart: bands of hours in UTC, and at most so many cameras and clients."""

    bands: Bands = WHOLE_DAY
    max_slices: int = 16


@dataclass(frozen=True, slots=True)
class Collected:
    """A reference of one model version before it is stored.

    seen: how many samples there were before thinning. covers_until: see Reference. notes: for whoever asked for it.
    left_out: cameras and clients with samples enough that are not told apart.
    """

    model_name: str
    model_version: str
    summary: ReferenceSummary
    seen: int
    source: str
    covers_until: datetime | None = None
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def lacking_notes(lacking: Sequence[str]) -> tuple[str, ...]:
    """What is told of features that only some samples have."""
    if not lacking:
        return ()
    return (
        f"left out {', '.join(lacking)}: part of the samples do not have them, as where gateways of several releases "
        "stored them; make a new reference once all do",
    )
