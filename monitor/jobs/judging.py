"""What is known about one model now: its reference, the evidence, its newest judged samples beside what is normal.

Rules: reads the database and writes nothing.
"""

import logging
from dataclasses import dataclass
from datetime import datetime
from math import isfinite, log10
from typing import Protocol

from sqlalchemy import Connection, Engine

from gateway.store.queries.models import list_model_versions
from gateway.store.queries.samples import load_samples_by_ids
from gateway.store.records import ModelVersion, Sample, Stage
from monitor.drift.evidence import dump_evidence, log10_by_feature, log10_total, parse_evidence
from monitor.jobs.comparing import Compared, compare, leading_features
from monitor.jobs.plans import Plans, make_plans
from monitor.jobs.weighing import (
    Plan,
    Weighed,
    dump_remembered,
    nothing_weighed,
    parse_remembered,
)
from monitor.records import (
    DriftCursor,
    DriftState,
    FeatureScore,
    InputError,
    NotReadyError,
    Passed,
    Reference,
    Window,
)
from monitor.settings import MonitorSettings
from monitor.tables.drift_queries import find_cursor, list_states
from monitor.tables.queries import find_reference_id, read_reference_row
from monitor.windows.binding import why_unfit
from monitor.windows.content import parse_reference
from monitor.windows.stored import read_samples
from monitor.windows.thinning import choose_samples

logger = logging.getLogger(__name__)

NOTHING_COMPARED = Compared(Window(features={}, sample_count=0))
_DIGEST = "bets"
# In the memory of a cursor: how many samples were passed over, by why.
PASSED = "passed"


@dataclass(frozen=True, slots=True)
class SliceEvidence:
    """How far one slice is from ringing: log10 of the evidence over what it needs, at most 0 between ticks.

    None before the first sample. judged_samples: since the reference is in use. leading: the features that most of it
    comes from.
    """

    slice_text: str
    judged_samples: int
    log10_ratio: float | None
    leading: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the data say about one model now.

    unfit: why its samples cannot be compared with the reference, in words; empty if they can. compared: the newest
    judged samples. judged_samples: by this reference. is_enough: whether there is a fit reference and samples enough.
    cursor: None while nothing was judged by this reference. slices: all samples first.
    """

    model: ModelVersion
    reference: Reference | None
    unfit: str = ""
    compared: Compared = NOTHING_COMPARED
    judged_samples: int = 0
    is_enough: bool = False
    cursor: DriftCursor | None = None
    slices: tuple[SliceEvidence, ...] = ()

    @property
    def window(self) -> Window:
        """The newest judged samples."""
        return self.compared.window

    @property
    def scores(self) -> tuple[FeatureScore, ...]:
        """Of the window; empty unless there are samples enough."""
        return self.compared.scores if self.is_enough else ()

    @property
    def drifted(self) -> tuple[str, ...]:
        """The features above their thresholds, worst first."""
        return self.compared.drifted if self.is_enough else ()

    @property
    def diagnosis(self) -> str:
        """How the window differs, in words; empty if it does not."""
        return self.compared.explained.sentence if self.is_enough else ""

    @property
    def last_judged_at(self) -> datetime | None:
        """When a tick last saw new samples."""
        return None if self.cursor is None else self.cursor.updated_at


class FindReference(Protocol):
    """How the newest reference of a model version is found."""

    def __call__(self, connection: Connection, model: ModelVersion) -> Reference | None:
        """The reference, or None if there is none for this very version."""


class ReferenceCache:
    """Parsed references by id: one never changes, and is needed every tick."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self._references: dict[tuple[str, str], Reference] = {}

    def __call__(self, connection: Connection, model: ModelVersion) -> Reference | None:
        """The newest reference of this model version, read only if it is another than last time."""
        reference_id = find_reference_id(connection, model.name, model.version)
        if reference_id is None:
            return None
        known = self._references.get((model.name, model.version))
        if known is None or known.id != reference_id:
            known = parse_reference(read_reference_row(connection, reference_id))
            self._references[model.name, model.version] = known
        return known


def read_watched_models(connection: Connection, settings: MonitorSettings) -> list[ModelVersion]:
    """The versions in production: of the model that the settings name, or of all."""
    versions = list_model_versions(connection, name=settings.model_name or None)
    return [version for version in versions if version.stage is Stage.PRODUCTION]


def find_watched_model(engine: Engine, settings: MonitorSettings) -> ModelVersion:
    """The one version that is watched. Raises NotReadyError if there is none, InputError if there are several."""
    with engine.connect() as connection:
        models = read_watched_models(connection, settings)
    if not models:
        raise NotReadyError(why_none_is_watched(settings))
    if len(models) > 1:
        names = ", ".join(model.name for model in models)
        raise InputError(
            f"several models are in production ({names}): name one with --model NAME or MONITOR_MODEL_NAME"
        )
    return models[0]


def why_none_is_watched(settings: MonitorSettings) -> str:
    """What to tell where no version is in production."""
    what = f"no version of {settings.model_name}" if settings.model_name else "no model"
    return f"{what} is in production: promote one with `gateway models promote`"


def judge(
    connection: Connection,
    model: ModelVersion,
    *,
    settings: MonitorSettings,
    find_reference: FindReference,
) -> Judgement:
    """What is known now, by what ticks stored; where none judged by this reference yet, by the newest samples.

    Raises MonitorError if the stored reference, or what was stored beside it, is broken.
    """
    reference = find_reference(connection, model)
    if reference is None:
        return Judgement(model=model, reference=None)
    unfit = why_unfit(reference, model)
    if unfit is not None:
        return Judgement(model=model, reference=reference, unfit=unfit)
    plans = make_plans(reference, settings)
    cursor = find_cursor(connection, model.name, model.version)
    if cursor is None or cursor.reference_id != reference.id:
        samples = _newest(connection, model, reference, settings)
        compared = _compare_all(samples, plans, model, reference, settings, evidence=None)
        count = len(samples)
        is_enough = count >= settings.min_window_samples
        return Judgement(
            model=model,
            reference=reference,
            compared=compared,
            judged_samples=count,
            is_enough=is_enough,
        )
    weighed = load_weighed(connection, model, plans)
    of_all, (plan, _) = weighed[""], plans.slices[""]
    stored = load_samples_by_ids(connection, of_all.remembered.window)
    compared = _compare_all(
        [each.sample for each in stored],
        plans,
        model,
        reference,
        settings,
        evidence=log10_by_feature(plan.bets, of_all.evidence),
    )
    return Judgement(
        model=model,
        reference=reference,
        compared=compared,
        judged_samples=of_all.judged_samples,
        is_enough=of_all.judged_samples >= settings.min_window_samples,
        cursor=cursor,
        slices=tuple(evidence_of(plan, weighed[plan.slice_text]) for plan, _ in plans),
    )


def load_weighed(connection: Connection, model: ModelVersion, plans: Plans) -> dict[str, Weighed]:
    """What was stored of each slice, by text; nothing weighed where there is none, or evidence of other bets.

    Raises MonitorError if what is stored is broken.
    """
    states = {each.slice: each for each in list_states(connection, model.name, model.version)}
    return {plan.slice_text: _parse(plan, states.get(plan.slice_text)) for plan, _ in plans}


def state_of(plan: Plan, weighed: Weighed, *, model: ModelVersion, now: datetime) -> DriftState:
    """A slice as it is stored."""
    return DriftState(
        model_name=model.name,
        model_version=model.version,
        slice=plan.slice_text,
        judged_samples=weighed.judged_samples,
        evidence=dump_evidence(weighed.evidence),
        memory={**dump_remembered(weighed.remembered), _DIGEST: plan.digest},
        updated_at=now,
    )


def evidence_of(plan: Plan, weighed: Weighed) -> SliceEvidence:
    """How far a slice is from ringing, as its evidence stands."""
    total = log10_total(weighed.evidence)
    return SliceEvidence(
        slice_text=plan.slice_text,
        judged_samples=weighed.judged_samples,
        log10_ratio=total - log10(plan.level.firing) if isfinite(total) else None,
        leading=leading_features(log10_by_feature(plan.bets, weighed.evidence)),
    )


def passed_over(cursor: DriftCursor | None) -> dict[str, int]:
    """How many samples were passed over, by why; fewer than were where an earlier release did not count them."""
    counts = {} if cursor is None else cursor.memory.get(PASSED)
    if not isinstance(counts, dict):
        return {}
    known = {why.value: counts.get(why.value) for why in Passed}
    return {why: count for why, count in known.items() if isinstance(count, int) and count > 0}


def _parse(plan: Plan, state: DriftState | None) -> Weighed:
    if state is None:
        return nothing_weighed(plan)
    try:
        if state.memory[_DIGEST] != plan.digest:
            raise ValueError("other features are watched now")  # noqa: TRY301
        return Weighed(
            slice_text=plan.slice_text,
            evidence=parse_evidence(state.evidence, bets=plan.bets),
            remembered=parse_remembered(state.memory),
            judged_samples=state.judged_samples,
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as exc:
        logger.warning(
            "evidence_begins_anew model=%s version=%s slice=%s: %s",
            state.model_name,
            state.model_version,
            plan.slice_text or "(all)",
            exc,
        )
        return nothing_weighed(plan)


def _newest(
    connection: Connection, model: ModelVersion, reference: Reference, settings: MonitorSettings
) -> list[Sample]:
    samples = read_samples(
        connection,
        model_name=model.name,
        model_version=model.version,
        newest=settings.window_samples,
        after=reference.judges_after,
        on_bad_row=lambda _id: None,
    )
    return choose_samples(samples, thin_seconds=settings.thin_seconds).samples


def _compare_all(
    samples: list[Sample],
    plans: Plans,
    model: ModelVersion,
    reference: Reference,
    settings: MonitorSettings,
    *,
    evidence: dict[str, float] | None,
) -> Compared:
    _, summary = plans.slices[""]
    return compare(
        samples,
        summary,
        model=model,
        reference=reference,
        features=plans.features,
        settings=settings,
        evidence=evidence,
    )
