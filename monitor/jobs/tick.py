"""One tick: judge every watched model, store what is new, show it as metrics.

Rules: everything a tick stores about a model is one transaction; a tick that sees no new sample stores nothing, so
running it twice, or after a crash, is harmless.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, SQLAlchemyError

from gateway.store.database import write_transaction
from gateway.store.records import ModelVersion
from monitor.alarms import DRIFT_ALARM, AlarmRule, next_alarm
from monitor.jobs.database import opened_database
from monitor.jobs.judging import Judgement, ReferenceCache, judge, read_watched_models
from monitor.metrics import MonitorMetrics
from monitor.records import (
    Alarm,
    AlarmState,
    AlarmTransition,
    DriftResult,
    MonitorError,
    Outcome,
)
from monitor.settings import MonitorSettings
from monitor.tables.alarm_queries import find_alarm, insert_transition, save_alarm
from monitor.tables.drift_queries import insert_drift_results, prune_drift_results

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ticked:
    """What one tick did for one model; alarm and judgement are None if it failed."""

    model: ModelVersion
    outcome: Outcome
    judgement: Judgement | None = None
    alarm: Alarm | None = None
    transition: AlarmTransition | None = None


class Watch:
    """Judges the watched models, once a call; between calls holds only parsed references and what it logged last."""

    def __init__(self, *, settings: MonitorSettings, metrics: MonitorMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._references = ReferenceCache()
        self._logged: dict[str, tuple[str, Outcome]] = {}
        self._rule = AlarmRule(
            raise_after_ticks=settings.raise_after_ticks,
            clear_after_ticks=settings.clear_after_ticks,
        )

    def tick(self, now: datetime) -> list[Ticked]:
        """Judge every watched model as of now.

        Raises DatabaseUnavailableError; what was stored before it stays, the rest is for the next tick. A model whose
        own data are broken is logged and counted, and the others go on.
        """
        with (
            self._metrics.tick_seconds.time(),
            opened_database(self._settings.database_url) as engine,
        ):
            with engine.connect() as connection:
                models = read_watched_models(connection, self._settings)
            ticked = [self._try_model(engine, model, now) for model in models]
        self._show(ticked, now)
        return ticked

    def _try_model(self, engine: Engine, model: ModelVersion, now: datetime) -> Ticked:
        """What is broken about one model ends its tick alone; what is broken about the database ends all."""
        try:
            return self._tick_model(engine, model, now)
        except (MonitorError, DataError) as exc:
            logger.warning("judging_failed model=%s version=%s: %s", model.name, model.version, exc)
        except SQLAlchemyError:
            raise
        except Exception:
            logger.exception("judging_failed model=%s version=%s", model.name, model.version)
        return Ticked(model=model, outcome=Outcome.ERROR)

    def _tick_model(self, engine: Engine, model: ModelVersion, now: datetime) -> Ticked:
        with engine.connect() as connection:
            judgement = judge(
                connection,
                model,
                settings=self._settings,
                find_reference=self._references,
            )
            last = find_alarm(connection, model.name, DRIFT_ALARM)
        alarm, transition = self._store(engine, judgement, last, now)
        return Ticked(
            model=model,
            outcome=_outcome(judgement, last),
            judgement=judgement,
            alarm=alarm,
            transition=transition,
        )

    def _store(
        self, engine: Engine, judgement: Judgement, last: Alarm | None, now: datetime
    ) -> tuple[Alarm, AlarmTransition | None]:
        alarm, transition = next_alarm(last, judgement.observation(), rule=self._rule, now=now)
        if alarm == last:
            return alarm, None
        # Before this commit the tick never happened and the next one repeats it; after it, scores, alarm and history
        # agree, and the alarm's newest_request_id keeps the next tick from counting the same window again.
        with write_transaction(engine) as connection:
            last = find_alarm(connection, judgement.model.name, DRIFT_ALARM, for_update=True)
            alarm, transition = next_alarm(last, judgement.observation(), rule=self._rule, now=now)
            save_alarm(connection, alarm)
            if transition is not None:
                insert_transition(connection, transition)
            if _outcome(judgement, last) is Outcome.JUDGED:
                self._store_scores(connection, judgement, now)
        if transition is not None:
            level = logging.INFO if transition.after is AlarmState.CLEAR else logging.WARNING
            logger.log(
                level,
                "alarm_changed model=%s alarm=%s before=%s after=%s: %s",
                alarm.model_name,
                alarm.name,
                transition.before,
                transition.after,
                transition.diagnosis,
            )
        return alarm, transition

    def _store_scores(self, connection: Connection, judgement: Judgement, now: datetime) -> None:
        insert_drift_results(connection, _results(judgement, now))
        prune_drift_results(
            connection, before=now - timedelta(days=self._settings.keep_results_days)
        )

    def _show(self, ticked: Sequence[Ticked], now: datetime) -> None:
        metrics = self._metrics
        metrics.forget_models([t.model.name for t in ticked], alarm=DRIFT_ALARM)
        for each in ticked:
            metrics.ticks.labels(each.outcome.value).inc()
            if each.judgement is not None and each.alarm is not None:
                _show_judgement(metrics, each.judgement, now)
                metrics.set_alarm(each.alarm, is_judged=each.judgement.is_enough)
            else:
                metrics.set_unjudged(each.model.name, alarm=DRIFT_ALARM)
            self._log_change(each)
        if not ticked:
            metrics.ticks.labels(Outcome.NO_MODEL.value).inc()
        metrics.last_tick.set(now.timestamp())

    def _log_change(self, each: Ticked) -> None:
        # A quiet minute is as good as a judged one: logging both would write a line a tick.
        quiet = each.outcome is Outcome.NO_NEW_SAMPLES
        state = each.model.version, Outcome.JUDGED if quiet else each.outcome
        if self._logged.get(each.model.name) != state:
            self._logged[each.model.name] = state
            logger.info("watching model=%s version=%s outcome=%s", each.model.name, *state)


def _show_judgement(metrics: MonitorMetrics, judgement: Judgement, now: datetime) -> None:
    model, reference = judgement.model.name, judgement.reference
    metrics.set_scores(model, judgement.scores)
    metrics.set_windows(
        model,
        reference_count=0 if reference is None else reference.window.sample_count,
        current=judgement.window,
        now=now,
    )


def _outcome(judgement: Judgement, last: Alarm | None) -> Outcome:
    if judgement.reference is None:
        return Outcome.NO_REFERENCE
    if not judgement.is_enough:
        return Outcome.TOO_FEW_SAMPLES
    is_new = (
        last is None
        or judgement.is_new_reference
        or last.newest_request_id != judgement.window.newest_request_id
        or last.model_version != judgement.model.version
    )
    return Outcome.JUDGED if is_new else Outcome.NO_NEW_SAMPLES


def _results(judgement: Judgement, now: datetime) -> list[DriftResult]:
    if judgement.reference is None:
        return []
    return [
        DriftResult(
            ticked_at=now,
            model_name=judgement.model.name,
            model_version=judgement.model.version,
            reference_id=judgement.reference.id,
            window_count=judgement.window.sample_count,
            score=score,
        )
        for score in judgement.scores
    ]
