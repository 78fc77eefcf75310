"""Which cameras and clients a reference tells apart, where there are more than slots. Pure.

Rules: whoever names many cameras gets no more slots than his share: a principal's cameras compete among each other, by
what this principal sent of each; clients, whose names were signed, come in turn with cameras, first, so that each kind
has half of the slots wherever the list is cut, and what one does not need the other gets.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, zip_longest
from typing import TypeVar

from monitor.summaries import Slice

Item = TypeVar("Item")


class Omission(StrEnum):
    """Why a camera or client has no slice."""

    SLOTS = "slots"
    ROOM = "room"
    HOURS = "hours"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A camera or client with samples enough that has no slice."""

    slice: Slice
    why: Omission


def in_turn(clients: Sequence[Item], sources: Sequence[Item]) -> list[Item]:
    """One of each in turn, clients first, until one kind ends; then the rest of the other."""
    pairs = zip_longest(((each,) for each in clients), ((each,) for each in sources), fillvalue=())
    return list(chain.from_iterable(chain.from_iterable(pairs)))


def order_clients(clients: Iterable[str | None], *, large: Collection[str]) -> list[str]:
    """The large ones, the commonest first. clients: of each sample."""
    counts = Counter(clients)
    return sorted(large, key=lambda client: (-counts[client], client))


def order_sources(
    senders: Iterable[tuple[str | None, str | None]],
    *,
    large: Collection[str],
    max_slices: int,
    min_samples: int,
) -> list[str]:
    """The large ones that are within somebody's share, in the order in which they get slots.

    senders: the principal and the source of each sample. A principal's share is max_slices over the number of
    principals, rounded up: of the large sources, those that it sent most of. Each principal's first come before
    anybody's second. Principals that sent fewer than min_samples of large sources are one together.
    """
    sent = [(client, source) for client, source in senders if source in large]
    sizes = Counter(client for client, _ in sent)
    # In a tuple, so that the small ones together are no principal of that name.
    parties = [
        ((client,) if sizes[client] >= min_samples else (), source) for client, source in sent
    ]
    share = -(-max_slices // max(1, len({party for party, _ in parties})))
    totals = Counter(source for _, source in sent)
    turns: dict[str, int] = {}
    taken: Counter[tuple[str | None, ...]] = Counter()
    common = sorted(Counter(parties).items(), key=lambda item: (-item[1], item[0][1] or ""))
    for (party, source), _ in common:
        turn = taken[party]
        taken[party] += 1
        if source is not None and turn < share:
            turns[source] = min(turn, turns.get(source, turn))
    return sorted(turns, key=lambda source: (turns[source], -totals[source], source))
