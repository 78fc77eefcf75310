"""Which stored samples stand for what the gateway saw. Pure; references and ticks choose alike.

Rules: nothing here looks at a sample's content, so that what is chosen is distributed as what was not; what is decided
about a sample is the same whenever it is asked.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.store.records import Sample

# Told apart from whatever else is drawn by a request's id.
_DRAW = b"gatewatch thinning\x00"
_DRAWS = 1 << 64


def is_taken(request_id: str, kept_probability: float, base_probability: float) -> bool:
    """Whether a sample is among those that all requests had the same chance of.

    kept_probability: with which it was stored; 1 for those that low confidence forced. base_probability: of the
    others. Both 0 < p <= 1. Of the samples that were likelier to be kept, so many are left out that they are as
    frequent as in the traffic (Horvitz and Thompson's weights, by thinning).
    """
    if kept_probability <= base_probability:
        return True
    digest = hashlib.sha256(_DRAW + request_id.encode("utf-8", "surrogatepass")).digest()
    draw = int.from_bytes(digest[:8], "big")
    return draw < base_probability / kept_probability * _DRAWS


def is_too_soon(
    received_at: datetime, last_taken_at: datetime | None, *, thin_seconds: float
) -> bool:
    """Whether a sample follows the last one that was taken of its camera by less than thin_seconds, >= 0.

    One that was received so much earlier is none too soon: a clock was set back.
    """
    if last_taken_at is None:
        return False
    return abs(received_at - last_taken_at) < timedelta(seconds=thin_seconds)


def thin_by_time(samples: Sequence[Sample], seconds: float) -> list[Sample]:
    """At most one sample of each named camera within so many seconds, >= 0, in their order.

    Samples without a source stay: nobody knows which of them show one scene.
    """
    last_taken: dict[str, datetime] = {}
    taken: list[Sample] = []
    for sample in samples:
        if sample.source is not None:
            last = last_taken.get(sample.source)
            if is_too_soon(sample.received_at, last, thin_seconds=seconds):
                continue
            last_taken[sample.source] = sample.received_at
        taken.append(sample)
    return taken


@dataclass(frozen=True, slots=True)
class Chosen:
    """The samples that stand for the traffic, in their order, and how many were left out for what."""

    samples: list[Sample]
    over_kept: int
    too_soon: int


def choose_samples(samples: Sequence[Sample], *, thin_seconds: float) -> Chosen:
    """Those that stand for the traffic: by their chances first, then by time.

    The smallest chance of any is that of all that are left. Where many were forced it need not be the commonest.
    """
    base = min((sample.kept_probability for sample in samples), default=1.0)
    fair = [s for s in samples if is_taken(s.request_id, s.kept_probability, base)]
    thinned = thin_by_time(fair, thin_seconds)
    return Chosen(thinned, len(samples) - len(fair), len(fair) - len(thinned))
