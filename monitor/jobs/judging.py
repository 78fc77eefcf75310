"""Judging one model: reference and window in, scores and diagnosis out. Reads the database, writes nothing."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection, Engine

from gateway.store.queries.models import list_model_versions
from gateway.store.records import ModelVersion, Stage
from monitor.alarms import Observation
from monitor.drift.diagnosis import diagnose, drifted_features
from monitor.drift.features import watched_features
from monitor.drift.ks import score_features
from monitor.records import FeatureScore, InputError, NotReadyError, Reference, Window
from monitor.settings import MonitorSettings
from monitor.tables.queries import find_last_judged, find_reference_id, read_reference_row
from monitor.windows.content import parse_reference
from monitor.windows.stored import read_window


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the data say about one model now; scores are empty unless is_enough.

    last_judged_at: when scores of this model version were last stored. is_new_reference: see Observation.
    """

    model: ModelVersion
    reference: Reference | None
    window: Window
    is_enough: bool
    scores: tuple[FeatureScore, ...] = ()
    drifted: tuple[str, ...] = ()
    diagnosis: str = ""
    last_judged_at: datetime | None = None
    is_new_reference: bool = False

    def observation(self) -> Observation:
        """The same as the alarm rules take it."""
        return Observation(
            model_name=self.model.name,
            model_version=self.model.version,
            is_enough=self.is_enough,
            newest_request_id=self.window.newest_request_id,
            drifted=self.drifted,
            diagnosis=self.diagnosis,
            is_new_reference=self.is_new_reference,
        )


class FindReference(Protocol):
    """How the newest reference of a model version is found."""

    def __call__(self, connection: Connection, model: ModelVersion) -> Reference | None:
        """The reference, or None if there is none for this very version."""


class ReferenceCache:
    """Parsed references by id: one is megabytes of text, never changes, and is needed every tick."""

    def __init__(self) -> None:
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
    """Compare the current window of one model with its reference.

    Raises MonitorError if the stored reference is broken.
    """
    reference = find_reference(connection, model)
    window = read_window(
        connection,
        model_name=model.name,
        model_version=model.version,
        newest=settings.window_samples,
        after=None if reference is None else reference.covers_until,
        names=() if reference is None else reference.window.features,
    )
    if reference is None or window.sample_count < settings.min_window_samples:
        judgement = Judgement(model=model, reference=reference, window=window, is_enough=False)
    else:
        judgement = _compare(model, reference, window, settings)
    last = find_last_judged(connection, model.name, model.version)
    if last is None:
        return judgement
    judged_at, judged_by = last
    is_new = reference is not None and reference.id != judged_by
    return replace(judgement, last_judged_at=judged_at, is_new_reference=is_new)


def _compare(
    model: ModelVersion, reference: Reference, window: Window, settings: MonitorSettings
) -> Judgement:
    features = watched_features(reference.window.features, ignored=settings.ignored_feature_names())
    scores = score_features(reference.window, window, features=features, alpha=settings.alpha)
    drifted = drifted_features(scores)
    return Judgement(
        model=model,
        reference=reference,
        window=window,
        is_enough=True,
        scores=scores,
        drifted=drifted,
        diagnosis=diagnose(drifted, reference.window, window, class_names=model.class_names),
    )
