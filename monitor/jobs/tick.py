"""One tick: judge every watched model, store what is new, show it as metrics; only while this monitor holds the lease.

Rules: everything a tick stores about a model is one transaction that checks the lease and that nobody judged meanwhile;
a tick that looks at no new sample stores nothing, so running it twice, or after a crash, is harmless.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import log10

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, SQLAlchemyError

from gateway.store.database import write_transaction
from gateway.store.queries.models import list_model_versions
from gateway.store.records import ModelVersion, Stage
from gateway.store.rows import is_unreadable
from monitor.alarms import DRIFT_ALARM, AlarmRule, Watched, next_alarm
from monitor.jobs.alarms import log_change
from monitor.jobs.database import opened_database
from monitor.jobs.judging import Judgement, ReferenceCache
from monitor.jobs.lease import LeaseKeeper, Standing
from monitor.jobs.looking import Look, Looker
from monitor.jobs.telling import left_behind
from monitor.jobs.unreadable import Unreadable
from monitor.metrics import MonitorMetrics
from monitor.records import (
    Alarm,
    AlarmState,
    AlarmTransition,
    LeaseLostError,
    MonitorError,
    Outcome,
)
from monitor.settings import MonitorSettings
from monitor.tables.alarm_queries import (
    find_alarm,
    insert_transition,
    list_alarms,
    save_alarm,
)
from monitor.tables.drift_queries import (
    find_cursor,
    forget_states,
    insert_drift_results,
    prune_drift_results,
    save_cursor,
    save_states,
)

logger = logging.getLogger(__name__)

# Shown for a slice of which nothing was weighed yet.
_LEAST_RATIO = -10.0


@dataclass(frozen=True, slots=True)
class Ticked:
    """What one tick did for one model; look is None, and alarms are empty, if it failed.

    alarms: as they stand, that of all samples first. transitions: the changes among them.
    """

    model: ModelVersion
    outcome: Outcome
    look: Look | None = None
    alarms: tuple[Alarm, ...] = ()
    transitions: tuple[AlarmTransition, ...] = ()

    @property
    def judgement(self) -> Judgement | None:
        """What the data say now; None if it failed."""
        return None if self.look is None else self.look.judgement

    @property
    def alarm(self) -> Alarm | None:
        """That of all samples."""
        return self.alarms[0] if self.alarms else None

    @property
    def is_firing(self) -> bool:
        """Whether the alarm of any slice rings and nobody took it as known."""
        return any(alarm.state is AlarmState.FIRING for alarm in self.alarms)

    @property
    def lag(self) -> int:
        """Samples that were left unread."""
        return 0 if self.look is None else self.look.lag


class Watch:
    """Judges the watched models, once a call; between calls holds the lease, parsed references and what it logged."""

    def __init__(
        self, *, settings: MonitorSettings, metrics: MonitorMetrics, lease: LeaseKeeper
    ) -> None:
        """Nothing is read yet, and the lease is not asked for."""
        self._settings = settings
        self._metrics = metrics
        self._lease = lease
        self._standby: Standing | None = None
        self._unreadable = Unreadable(metrics)
        self._looker = Looker(settings=settings, find_reference=ReferenceCache())
        self._logged: dict[str, tuple[str, Outcome]] = {}
        self._rule = AlarmRule(clear_after_samples=settings.clear_after_samples)

    @property
    def standby(self) -> Standing | None:
        """How the lease stood at the last tick, if another monitor had it; None if this one acted."""
        return self._standby

    def tick(self, now: datetime) -> list[Ticked]:
        """Judge every watched model as of now; nothing while another monitor holds the lease.

        Raises DatabaseUnavailableError; what was stored before it stays, the rest is for the next tick. A model whose
        own data are broken is logged and counted, and the others go on.
        """
        with (
            self._metrics.tick_seconds.time(),
            opened_database(self._settings.database_url) as engine,
        ):
            if not self._may_act(engine):
                self._metrics.last_tick.set(now.timestamp())
                return []
            with engine.connect() as connection:
                models, left = self._read_models(connection)
            try:
                self._end(engine, left, now)
                ticked = [self._try_model(engine, model, now) for model in models]
            except LeaseLostError as exc:
                logger.warning("lease_lost: %s", exc)
                self._may_act(engine)
                return []
        self._show(ticked, now)
        return ticked

    def release(self) -> None:
        """Give the lease back if it is held, so that no other monitor need wait. Raises DatabaseUnavailableError."""
        if not self._lease.is_held:
            return
        with opened_database(self._settings.database_url) as engine:
            self._lease.release(engine)
        self._metrics.lease_held.set(0)

    def _may_act(self, engine: Engine) -> bool:
        standing = self._lease.ask(engine)
        if standing.is_held:
            if self._standby is not None:
                logger.info("lease_taken: the other monitor is gone, this one judges now")
            self._standby = None
            self._metrics.lease_held.set(1)
            return True
        if self._standby is None:
            logger.info("standing_by: %s", standing.why_not())
        self._standby = standing
        self._show_standby()
        return False

    def _show_standby(self) -> None:
        # What this one showed is no longer kept up, and the other shows its own.
        self._metrics.lease_held.set(0)
        self._metrics.ticks.labels(Outcome.STANDBY.value).inc()
        self._metrics.forget_models([], alarm=DRIFT_ALARM)
        self._logged.clear()

    def _read_models(
        self, connection: Connection
    ) -> tuple[list[ModelVersion], tuple[Watched, ...]]:
        """The watched versions, and what alarms of others are told."""
        bad_rows: list[int] = []
        versions = list_model_versions(connection, on_bad_row=bad_rows.append)
        for row in bad_rows:
            self._unreadable.of("model_versions")(row)
        production = [each for each in versions if each.stage is Stage.PRODUCTION]
        models = [each for each in production if self._settings.model_name in ("", each.name)]
        if bad_rows:
            # One that cannot be read may be in production: nothing that rings for it may end.
            return models, ()
        in_production = {each.name: each.version for each in production}
        watched = {model.name for model in models}
        alarms = list_alarms(connection, on_bad_row=self._unreadable.of("alarms"))
        return models, left_behind(alarms, in_production, watched)

    def _end(self, engine: Engine, left: Sequence[Watched], now: datetime) -> None:
        """End the alarms of what is not watched any more, or they would ring for ever."""
        if not left:
            return
        with write_transaction(engine) as connection:
            self._lease.check(connection)
            stored = [self._store_alarm(connection, each, now) for each in left]
        for _, transition in stored:
            if transition is not None:
                log_change(transition)

    def _try_model(self, engine: Engine, model: ModelVersion, now: datetime) -> Ticked:
        """What is broken about one model ends its tick alone; what is broken about the database ends all."""
        try:
            return self._tick_model(engine, model, now)
        except LeaseLostError:
            raise
        except (MonitorError, DataError) as exc:
            logger.warning("judging_failed model=%s version=%s: %s", model.name, model.version, exc)
        except SQLAlchemyError as exc:
            if not is_unreadable(exc):
                raise
            # Its words would show what the row holds.
            logger.warning(
                "judging_failed model=%s version=%s: a row of it cannot be read: it is no UTF-8",
                model.name,
                model.version,
            )
        except Exception:
            logger.exception("judging_failed model=%s version=%s", model.name, model.version)
        return Ticked(model=model, outcome=Outcome.ERROR)

    def _tick_model(self, engine: Engine, model: ModelVersion, now: datetime) -> Ticked:
        with engine.connect() as connection:
            look = self._looker.look(connection, model, now=now)
        last = [look.alarms.get(watched.slice) for watched in look.watched]
        changed = [
            self._next(alarm, watched, now)[0]
            for alarm, watched in zip(last, look.watched, strict=True)
        ]
        transitions: tuple[AlarmTransition, ...] = ()
        alarms = tuple(changed)
        if look.cursor is not None or changed != last:
            alarms, transitions = self._store(engine, look, now)
        for transition in transitions:
            log_change(transition)
        return Ticked(
            model=model,
            outcome=_outcome(look),
            look=look,
            alarms=alarms,
            transitions=transitions,
        )

    def _store(
        self, engine: Engine, look: Look, now: datetime
    ) -> tuple[tuple[Alarm, ...], tuple[AlarmTransition, ...]]:
        # Before this commit the tick never happened and the next one repeats it; after it, cursor, evidence, scores,
        # alarms and history agree, and no sample is counted twice.
        with write_transaction(engine) as connection:
            self._lease.check(connection)
            self._store_evidence(connection, look, now)
            stored = [self._store_alarm(connection, watched, now) for watched in look.watched]
        alarms = tuple(alarm for alarm, _ in stored)
        return alarms, tuple(change for _, change in stored if change is not None)

    def _store_evidence(self, connection: Connection, look: Look, now: datetime) -> None:
        if look.cursor is None:
            return
        model = look.judgement.model
        if find_cursor(connection, model.name, model.version, for_update=True) != look.before:
            raise MonitorError(
                "it was judged by another monitor meanwhile: this one stored nothing"
            )
        save_cursor(connection, look.cursor)
        if look.begins:
            forget_states(connection, model.name, model.version)
        save_states(connection, look.states)
        insert_drift_results(connection, look.results)
        prune_drift_results(
            connection, before=now - timedelta(days=self._settings.keep_results_days)
        )

    def _store_alarm(
        self, connection: Connection, watched: Watched, now: datetime
    ) -> tuple[Alarm, AlarmTransition | None]:
        # Read again: a person may have acknowledged it since.
        last = _find(connection, watched)
        alarm, transition = self._next(last, watched, now)
        if alarm != last:
            save_alarm(connection, alarm)
        if transition is not None:
            insert_transition(connection, transition)
        return alarm, transition

    def _next(
        self, last: Alarm | None, watched: Watched, now: datetime
    ) -> tuple[Alarm, AlarmTransition | None]:
        return next_alarm(last, watched, rule=self._rule, now=now)

    def _show(self, ticked: Sequence[Ticked], now: datetime) -> None:
        metrics = self._metrics
        metrics.forget_models([t.model.name for t in ticked], alarm=DRIFT_ALARM)
        for each in ticked:
            metrics.ticks.labels(each.outcome.value).inc()
            if each.look is None:
                metrics.set_unjudged(each.model.name, alarm=DRIFT_ALARM)
            else:
                _show_look(metrics, each.look, now)
                _show_alarms(metrics, each)
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
            unfit = "" if each.judgement is None else each.judgement.unfit
            why = f": {unfit}" if unfit else ""
            logger.info("watching model=%s version=%s outcome=%s%s", each.model.name, *state, why)


def _find(connection: Connection, watched: Watched) -> Alarm | None:
    return find_alarm(
        connection, watched.model_name, DRIFT_ALARM, slice=watched.slice, for_update=True
    )


def _show_look(metrics: MonitorMetrics, look: Look, now: datetime) -> None:
    judgement = look.judgement
    model, reference = judgement.model.name, judgement.reference
    metrics.set_scores(model, judgement.scores)
    metrics.set_windows(
        model,
        reference_count=0 if reference is None else reference.summary.sample_count,
        current=judgement.window,
        now=now,
    )
    known = {each.slice_text for each in judgement.slices}
    metrics.set_evidence(
        model, {w.slice: _log10_ratio(w) for w in look.watched if w.slice in known}
    )
    metrics.set_progress(model, lag=look.lag, state_bytes=look.state_bytes)
    metrics.drift_judged.inc(look.judged)
    for why, count in look.passed.items():
        metrics.drift_passed.labels(why.value).inc(count)


def _log10_ratio(watched: Watched) -> float:
    """Of the largest evidence in this tick: it begins anew once it was enough to ring."""
    return (
        max(_LEAST_RATIO, log10(watched.evidence_ratio)) if watched.evidence_ratio else _LEAST_RATIO
    )


def _show_alarms(metrics: MonitorMetrics, each: Ticked) -> None:
    look = each.look
    if look is None:
        return
    shown = {each.slice_text for each in look.judgement.slices} | {""}
    for alarm, watched in zip(each.alarms, look.watched, strict=True):
        if alarm.slice in shown:
            metrics.set_alarm(alarm, is_judged=watched.is_judged)
    metrics.keep_slices(each.model.name, DRIFT_ALARM, shown)


def _outcome(look: Look) -> Outcome:
    judgement = look.judgement
    if judgement.reference is None:
        return Outcome.NO_REFERENCE
    if judgement.unfit:
        return Outcome.UNFIT_REFERENCE
    if not judgement.is_enough:
        return Outcome.TOO_FEW_SAMPLES
    return Outcome.JUDGED if look.judged else Outcome.NO_NEW_SAMPLES
