"""What an examination says: one finding a check, good, doubtful or broken, with what mends it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from gateway.errors import GatewayError

Outcome = TypeVar("Outcome")


class Mark(StrEnum):
    """How a finding stands."""

    GOOD = "good"
    DOUBTFUL = "doubtful"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says about one thing."""

    subject: str
    mark: Mark
    said: str


def good(subject: str, said: str) -> Finding:
    """Nothing is wrong."""
    return Finding(subject, Mark.GOOD, said)


def doubtful(subject: str, said: str) -> Finding:
    """It works, and somebody should look."""
    return Finding(subject, Mark.DOUBTFUL, said)


def broken(subject: str, exc: GatewayError) -> Finding:
    """What a start would refuse."""
    reason = "" if exc.reason == exc.code else f" (reason: {exc.reason})"
    return Finding(subject, Mark.BROKEN, f"{exc.message} [{exc.code}]{reason}")


def attempt(subject: str, work: Callable[[], Outcome]) -> Outcome | Finding:
    """What the work gives, or that it is broken."""
    try:
        return work()
    except GatewayError as exc:
        return broken(subject, exc)
