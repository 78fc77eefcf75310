"""Where a change began: the sample since which the leading features' own evidence only grew on the whole. Pure numpy.

Rules: the answer is an estimate, exact for a change of all samples and a few samples off for a faint one; it decides
which samples are described, never whether an alarm rings.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from monitor.drift.bets import Bets
from monitor.drift.evidence import log_factors
from monitor.ranks import Values


def began_at(
    bets: Bets, values: Values, hours: NDArray[np.int64], *, leading: Sequence[str]
) -> int:
    """The row of the first sample since the change; 0 if there is nothing to go by.

    values: float32 (T, F), columns as in bets.features, up to the sample that was enough to ring. hours: int (T,), of
    the day in UTC. leading: the features that the evidence comes from. Of each, the bet that grew most up to the last
    sample counts; the change began where the sum of their growth up to the last sample is largest, which is the maximum
    likelihood estimate for the alternatives that these bets stand for (E. S. Page, Continuous inspection schemes,
    Biometrika 41, 1954).
    """
    rows = [bets.features.index(name) for name in leading if name in bets.features]
    if not rows or not len(values):
        return 0
    growth = log_factors(bets, values, hours)[:, rows]
    from_here = growth[::-1].cumsum(axis=0)[::-1]
    best = from_here.max(axis=0).argmax(axis=1)
    together = from_here[:, np.arange(len(rows)), best].sum(axis=1)
    # Of several that are as likely the last: what came before it said nothing either way.
    return len(values) - 1 - int(together[::-1].argmax())
