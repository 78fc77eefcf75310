"""Lists of sample ids as they are remembered: the first, then the steps, short where ids follow each other."""

from collections.abc import Sequence
from itertools import accumulate, pairwise


def dump_ids(ids: Sequence[int]) -> list[int]:
    """The ids as JSON values."""
    return [*ids[:1], *(after - before for before, after in pairwise(ids))]


def parse_ids(steps: object) -> tuple[int, ...]:
    """The ids that dump_ids gave. Raises ValueError if it is something else."""
    if not isinstance(steps, list) or any(type(step) is not int for step in steps):
        raise ValueError("a list of ids holds something else")
    return tuple(accumulate(steps))
