"""One tick's samples in every slice that a model is watched in. Pure.

Rules: a sample is weighed in all samples and in each slice that it belongs to and the reference tells apart; one of an
hour that a slice of the reference does not know is not judged there.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC

import numpy as np

from gateway.store.records import StoredSample
from monitor.jobs.plans import Plans
from monitor.jobs.weighing import Arrivals, Plan, Weighed, nothing_weighed, weigh
from monitor.summaries import Fit
from monitor.windows.fitting import columns
from monitor.windows.slicing import slices_of_sample
from monitor.windows.stored import measurements


def weigh_slices(
    plans: Plans, before: Mapping[str, Weighed], samples: Sequence[StoredSample], *, fit: Fit
) -> dict[str, Weighed]:
    """Each slice after these samples, by text. before: slices that are not in it have nothing weighed."""
    arrivals = _arrivals(samples, plans, fit)
    members = _members(samples, plans)
    return {
        plan.slice_text: weigh(
            plan,
            before.get(plan.slice_text) or nothing_weighed(plan),
            arrivals.chosen(_judged(plan, arrivals, members[plan.slice_text])),
        )
        for plan, _ in plans
    }


def _arrivals(samples: Sequence[StoredSample], plans: Plans, fit: Fit) -> Arrivals:
    plain = [each.sample for each in samples]
    hours = [sample.received_at.astimezone(UTC).hour for sample in plain]
    # All that the reference has, and then what is watched: a class whose count is ignored is no other class for that.
    every = tuple(plans.slices[""][1].strata[0].features)
    watched = [every.index(name) for name in plans.features]
    return Arrivals(
        ids=tuple(each.id for each in samples),
        request_ids=tuple(sample.request_id for sample in plain),
        received_at=tuple(sample.received_at for sample in plain),
        values=columns(measurements(plain), fit=fit, names=every)[:, watched],
        hours=np.array(hours, np.int64),
    )


def _members(samples: Sequence[StoredSample], plans: Plans) -> dict[str, list[int]]:
    """The rows of each slice."""
    rows: dict[str, list[int]] = {plan.slice_text: [] for plan, _ in plans}
    for row, each in enumerate(samples):
        rows[""].append(row)
        for found in slices_of_sample(each.sample):
            if found.text in rows:
                rows[found.text].append(row)
    return rows


def _judged(plan: Plan, arrivals: Arrivals, rows: Sequence[int]) -> list[int]:
    is_known = plan.bets.stratum_of_hour[arrivals.hours] >= 0
    return [row for row in rows if is_known[row]]
