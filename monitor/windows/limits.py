"""How many ranks of each feature a reference keeps, so that its stored form has a bounded size. Pure.

Rules: all samples come first; slices share what is left, and where it is too little the rarest ones are left out.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

# More tells the monitor nothing: a hundredth of a hundredth between two ranks.
MAX_RANKS = 400
MAX_SLICE_RANKS = 128
# Fewer leave no rank near the shares that bets are laid on.
MIN_RANKS = 40
MIN_SLICE_RANKS = 10
# Of what is left for ranks, where there are slices.
_SHARE_OF_ALL = 0.4
# Of four base64 characters for three bytes, and four bytes a number.
_CHARACTERS_OF_NUMBER = 16 / 3
# Names of members, hours, counts, the last characters of arrays; features are told from each other by a byte.
_CHARACTERS_OF_STRATUM = 420
_CHARACTERS_OF_FEATURE = 2
_CHARACTERS_OF_SLICE = 40


@dataclass(frozen=True, slots=True)
class RankLimits:
    """ranks of each feature of all samples, and of each of the slices that fit: the first slices_kept."""

    ranks: int
    slice_ranks: int
    slices_kept: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the stored form of a reference is made of.

    room_bytes: for everything but its fixed parts. arrays: of values a rank; 2 where it is an interval.
    """

    room_bytes: int
    features: int
    arrays: int = 1

    def stratum_bytes(self) -> float:
        """Of one stratum without ranks."""
        return _CHARACTERS_OF_STRATUM + _CHARACTERS_OF_FEATURE * self.features

    def rank_bytes(self) -> float:
        """Of one rank of every feature of a stratum; the ranks themselves are stored once or twice."""
        return _CHARACTERS_OF_NUMBER * (self.features * self.arrays + 2)


def choose_limits(sizes: Sizes, *, strata: int, slices: Sequence[tuple[str, int]]) -> RankLimits:
    """How many ranks fit. strata: of all samples. slices: the text of each and its number of strata, in order."""
    room = sizes.room_bytes - strata * sizes.stratum_bytes()
    kept = len(slices)
    while kept:
        limits = _try(sizes, room, strata, slices[:kept])
        if limits is not None:
            return limits
        kept -= 1
    ranks = int(room / (strata * sizes.rank_bytes()))
    return RankLimits(max(4, min(MAX_RANKS, ranks)), 0, 0)


def _try(
    sizes: Sizes, room: float, strata: int, slices: Sequence[tuple[str, int]]
) -> RankLimits | None:
    slice_strata = sum(count for _, count in slices)
    room -= slice_strata * sizes.stratum_bytes() + sum(_slice_bytes(text) for text, _ in slices)
    for share in (_SHARE_OF_ALL, 0.0):
        ranks = int(room * share / (strata * sizes.rank_bytes()))
        ranks = max(MIN_RANKS, min(MAX_RANKS, ranks))
        left = room - ranks * strata * sizes.rank_bytes()
        slice_ranks = int(left / (slice_strata * sizes.rank_bytes()))
        if slice_ranks >= MIN_SLICE_RANKS:
            return RankLimits(ranks, min(MAX_SLICE_RANKS, slice_ranks), len(slices))
    return None


def _slice_bytes(text: str) -> int:
    return _CHARACTERS_OF_SLICE + len(json.dumps(text, ensure_ascii=False).encode())
