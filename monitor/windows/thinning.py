"""Which stored samples stand for what the gateway saw. Pure; references and ticks choose alike.

Rules: nothing here looks at a sample's content, so that what is chosen is distributed as what was not; what is decided
about a sample is the same whenever it is asked.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.store.records import Sample

# Told apart from whatever else is drawn by a request's id.
_DRAW = b"gatewatch thinning\x00"
_DRAWS = 1 << 64
# How long a chance counts after the last sample that was as unlikely; the gateway's rate may have been raised.
CHANCE_HOURS = 24
# There are as many as settings were tried within that time.
MAX_CHANCES = 16


def has_chance(sample: Sample) -> bool:
    """Whether the chance that a sample was stored with is one: 0 < p <= 1."""
    return 0 < sample.kept_probability <= 1


def is_ordinary(sample: Sample) -> bool:
    """Whether nothing but chance stored a sample; one that was certain with its image may be forced."""
    return sample.kept_probability < 1 or sample.image_probability < 1


@dataclass(frozen=True, slots=True)
class Chances:
    """The chances of the ordinary samples of late: each with the newest time it was seen, both ascending.

    A chance that a smaller one was seen after is left out. At most MAX_CHANCES.
    """

    seen: tuple[tuple[float, datetime], ...] = ()

    @property
    def base(self) -> float:
        """The smallest: that of the samples that nothing but chance stored. 1 where none was ever seen."""
        return self.seen[0][0] if self.seen else 1.0

    def with_samples(self, samples: Iterable[Sample]) -> "Chances":
        """After more samples, in any order.

        A chance is forgotten only by an ordinary sample that is CHANCE_HOURS newer than the last as unlikely one, so
        that no number of forced samples makes them seem usual.
        """
        new = [
            (sample.kept_probability, sample.received_at)
            for sample in samples
            if has_chance(sample) and is_ordinary(sample)
        ]
        if not new:
            return self
        entries = sorted([*self.seen, *new], key=lambda entry: entry[1], reverse=True)
        newest = entries[0][1]
        kept: list[tuple[float, datetime]] = []
        for probability, at in entries:
            if newest - at >= timedelta(hours=CHANCE_HOURS):
                break
            if not kept or probability < kept[-1][0]:
                kept.append((probability, at))
        # The largest of too many counts as the next smaller one, which errs towards judging fewer forced samples.
        if len(kept) > MAX_CHANCES:
            spare = len(kept) - MAX_CHANCES
            kept = [(kept[spare][0], newest), *kept[spare + 1 :]]
        return Chances(tuple(reversed(kept)))


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
    """At most one sample of each named camera of a principal within so many seconds, >= 0, in their order.

    Samples without a source stay: nobody knows which of them show one scene. Of each principal by itself: whoever says
    another's name must not take its turns.
    """
    last_taken: dict[tuple[str, str], datetime] = {}
    taken: list[Sample] = []
    for sample in samples:
        if sample.source is not None:
            camera = sample.principal, sample.source
            last = last_taken.get(camera)
            if is_too_soon(sample.received_at, last, thin_seconds=seconds):
                continue
            last_taken[camera] = sample.received_at
        taken.append(sample)
    return taken


@dataclass(frozen=True, slots=True)
class Chosen:
    """The samples that stand for the traffic, in their order, and how many were left out for what."""

    samples: list[Sample]
    over_kept: int
    too_soon: int


def smallest_chance(samples: Iterable[Sample]) -> float | None:
    """The smallest chance of the ordinary ones, however old; None if none is ordinary."""
    return min(
        (s.kept_probability for s in samples if has_chance(s) and is_ordinary(s)), default=None
    )


def choose_samples(
    samples: Sequence[Sample], *, thin_seconds: float, beside: Sequence[Sample] = ()
) -> Chosen:
    """Those that stand for the traffic: by their chances first, then by time.

    The smallest chance of any ordinary one is that of all that are left; where none is, that of the ordinary ones
    beside them. Where many were forced it need not be the commonest.
    """
    base = smallest_chance(samples) or smallest_chance(beside) or 1.0
    fair = [
        s for s in samples if has_chance(s) and is_taken(s.request_id, s.kept_probability, base)
    ]
    thinned = thin_by_time(fair, thin_seconds)
    return Chosen(thinned, len(samples) - len(fair), len(fair) - len(thinned))
