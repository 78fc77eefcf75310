"""What a model version is judged by between two references: the features, and the bets of each slice. Pure.

Rules: planning takes a while and depends on the reference and the settings alone, so it is done once for both.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from monitor.drift.bets import Bets, plan_bets
from monitor.drift.features import watched_features
from monitor.drift.levels import level_of_all, level_of_slice
from monitor.jobs.weighing import Plan
from monitor.records import NotReadyError, Reference
from monitor.settings import MonitorSettings
from monitor.summaries import SliceKind, SliceSummary

# Of each slice, so that what is remembered stays small however many there are.
MAX_SLICE_WINDOW = 200
_DIGEST_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class Plans:
    """features: what is watched, in the order of columns. slices: by text, all samples first, with what is normal."""

    features: tuple[str, ...]
    slices: dict[str, tuple[Plan, SliceSummary]]

    @property
    def known_sources(self) -> frozenset[str]:
        """The cameras that are watched on their own."""
        slices = (summary.slice for _, summary in self.slices.values())
        return frozenset(each.value for each in slices if each.kind is SliceKind.SOURCE)

    def __iter__(self) -> Iterator[tuple[Plan, SliceSummary]]:
        """Each slice, all samples first."""
        return iter(self.slices.values())


class Planner:
    """Plans by reference; remembers the last one of each model version."""

    def __init__(self, settings: MonitorSettings) -> None:
        """Nothing is planned yet."""
        self._settings = settings
        self._known: dict[tuple[str, str], tuple[int, Plans]] = {}

    def plan(self, reference: Reference) -> Plans:
        """What the samples of a reference's model version are judged by.

        Raises NotReadyError if the settings leave no feature to watch.
        """
        key = reference.model_name, reference.model_version
        known = self._known.get(key)
        if known is None or known[0] != reference.id:
            known = reference.id, make_plans(reference, self._settings)
            self._known[key] = known
        return known[1]


def make_plans(reference: Reference, settings: MonitorSettings) -> Plans:
    """See Planner.plan."""
    of_all, *others = reference.summary.slices
    watched = others[: settings.max_slices]
    features = watched_features(of_all.strata[0].features, ignored=settings.ignored_feature_names())
    if not features:
        raise NotReadyError(
            "no feature is left to watch: name fewer in MONITOR_IGNORED_FEATURES, or make another reference"
        )
    plans = {"": (_plan_all(of_all, features, settings, has_slices=bool(watched)), of_all)}
    for each in watched:
        level = level_of_slice(settings.drift_alpha, max_slices=settings.max_slices)
        bets = plan_bets(each, features=features, alpha_reference=level.alpha_reference)
        window_samples = min(settings.window_samples, MAX_SLICE_WINDOW)
        plan = Plan(each.slice.text, bets, level, window_samples, _digest(bets))
        plans[each.slice.text] = plan, each
    return Plans(features, plans)


def _plan_all(
    summary: SliceSummary, features: tuple[str, ...], settings: MonitorSettings, *, has_slices: bool
) -> Plan:
    level = level_of_all(settings.drift_alpha, has_slices=has_slices)
    bets = plan_bets(summary, features=features, alpha_reference=level.alpha_reference)
    return Plan("", bets, level, settings.window_samples, _digest(bets))


def _digest(bets: Bets) -> str:
    """Of the features and limits: with others ignored, the same number of bets is on something else."""
    content = "\0".join(bets.features).encode() + bets.limits.tobytes()
    return hashlib.sha256(content).hexdigest()[:_DIGEST_CHARACTERS]
