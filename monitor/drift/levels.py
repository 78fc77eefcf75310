"""How the chance of a false alarm is shared out: to the reference and the stream, to all samples and slices. Pure.

Rules: whatever the shares, they sum to the one level that the operator set, so that the chance that any alarm of a
model version ever rings though nothing changed is at most that (Boole's inequality).
"""

from dataclasses import dataclass

# Pending at a tenth of what firing needs: by Ville's inequality ten times as likely without any change.
PENDING_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Level:
    """The chances of a false alarm that one slice may use up: by an unlucky reference, and by an unlucky stream."""

    alpha_reference: float
    alpha_stream: float

    @property
    def firing(self) -> float:
        """The evidence at which the alarm rings: by Ville's inequality its chance is at most alpha_stream."""
        return 1 / self.alpha_stream

    @property
    def pending(self) -> float:
        """The evidence at which something points to a change."""
        return self.firing * PENDING_SHARE


def level_of_all(alpha: float, *, has_slices: bool) -> Level:
    """The level of all samples together: everything, or half where slices are watched too. alpha: 0..1, exclusive."""
    return _halved(alpha / 2 if has_slices else alpha)


def level_of_slice(alpha: float, *, max_slices: int) -> Level:
    """The level of each slice: the other half in equal parts, one for each slice that may ever be watched."""
    return _halved(alpha / 2 / max_slices)


def _halved(alpha: float) -> Level:
    return Level(alpha_reference=alpha / 2, alpha_stream=alpha / 2)
