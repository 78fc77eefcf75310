"""One look at one model: its new samples are weighed, and what its alarms have to know is found. Writes nothing.

Rules: everything that a tick stores of a model is computed here from one reading, so that storing is one transaction,
and a look that is not stored never was.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import Connection

from gateway.store.queries.samples import load_samples_by_ids
from gateway.store.records import ModelVersion, Sample
from monitor.alarms import DRIFT_ALARM, Watched
from monitor.drift.evidence import log10_by_feature
from monitor.jobs.beginning import candidate_ids, find_beginning, known_beginning
from monitor.jobs.comparing import Compared, compare
from monitor.jobs.intake import Intake, first_cursor, read_intake
from monitor.jobs.judging import (
    PASSED,
    FindReference,
    Judgement,
    evidence_of,
    load_weighed,
    passed_over,
    state_of,
)
from monitor.jobs.plans import Planner, Plans
from monitor.jobs.slices import weigh_slices
from monitor.jobs.telling import (
    Shown,
    is_alarmed,
    is_shown,
    is_told,
    leading_of,
    left_over,
    tell,
    unjudged,
)
from monitor.jobs.weighing import Plan, Weighed
from monitor.records import Alarm, DriftCursor, DriftResult, DriftState, Passed, Reference
from monitor.settings import MonitorSettings
from monitor.summaries import SliceSummary
from monitor.tables.alarm_queries import list_alarms
from monitor.tables.drift_queries import find_cursor, stored_bytes
from monitor.windows.binding import why_unfit


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found, to be stored or to be forgotten.

    before: the cursor as it was read. cursor: as it is to be stored; None if nothing new was looked at. begins: whether
    what is stored is evidence by another reference. watched: for the alarm of each slice, all samples first. judged:
    samples of this look. passed: those that were not, by why. lag: rows left unread. alarms: as they were read, by
    slice. state_bytes: of what is kept between ticks.
    """

    judgement: Judgement
    watched: tuple[Watched, ...]
    alarms: Mapping[str, Alarm]
    before: DriftCursor | None = None
    cursor: DriftCursor | None = None
    begins: bool = False
    states: tuple[DriftState, ...] = ()
    results: tuple[DriftResult, ...] = ()
    judged: int = 0
    passed: Mapping[Passed, int] = field(default_factory=dict)
    lag: int = 0
    state_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Subject:
    """What a look is at, and by what it is judged."""

    model: ModelVersion
    reference: Reference
    plans: Plans
    alarms: Mapping[str, Alarm]
    settings: MonitorSettings


class Looker:
    """Looks at models; remembers only what is planned for their references."""

    def __init__(self, *, settings: MonitorSettings, find_reference: FindReference) -> None:
        """Nothing is planned yet."""
        self._settings = settings
        self._find_reference = find_reference
        self._planner = Planner(settings)

    def look(self, connection: Connection, model: ModelVersion, *, now: datetime) -> Look:
        """Weigh the next samples of a model. Raises MonitorError if what is stored of it is broken."""
        found = list_alarms(connection, model_name=model.name)
        alarms = {alarm.slice: alarm for alarm in found if alarm.name == DRIFT_ALARM}
        reference = self._find_reference(connection, model)
        unfit = None if reference is None else why_unfit(reference, model)
        if reference is None or unfit is not None:
            judgement = Judgement(model=model, reference=reference, unfit=unfit or "")
            return Look(judgement, (unjudged(model, ""), *left_over(alarms, model, [""])), alarms)
        subject = _Subject(
            model=model,
            reference=reference,
            plans=self._planner.plan(reference),
            alarms=alarms,
            settings=self._settings,
        )
        return _look(connection, subject, now=now)


def _look(connection: Connection, subject: _Subject, *, now: datetime) -> Look:
    model, plans = subject.model, subject.plans
    stored = find_cursor(connection, model.name, model.version)
    is_same = stored is not None and stored.reference_id == subject.reference.id
    intake = _read(connection, subject, stored if is_same else None, now)
    before = load_weighed(connection, model, plans) if is_same else {}
    fit = subject.reference.summary.fit
    weighed = weigh_slices(plans, before, intake.samples, fit=fit)
    is_new = stored is not None and not is_same
    alarms = {} if is_new else _same(subject)
    shown = _show(connection, subject, intake, weighed, alarms)
    judged = weighed[""].judged
    passed = _passed(intake, judged)
    told = passed_over(stored) if is_same else {}
    cursor = _moved(intake, judged, passed, told, now)
    states = [state_of(plan, weighed[plan.slice_text], model=model, now=now) for plan, _ in plans]
    is_moved = not is_same or judged > 0 or bool(passed)
    return Look(
        judgement=_judgement(subject, weighed, shown, cursor),
        watched=_tell(subject, weighed, shown, alarms, is_new=is_new),
        alarms=subject.alarms,
        before=stored,
        cursor=cursor if is_moved else None,
        begins=not is_same,
        states=tuple(s for s in states if not is_same or weighed[s.slice].judged),
        results=_results(subject, shown, now) if judged else (),
        judged=judged,
        passed=passed,
        lag=intake.lag,
        state_bytes=stored_bytes(cursor, states),
    )


def _read(
    connection: Connection, subject: _Subject, cursor: DriftCursor | None, now: datetime
) -> Intake:
    if cursor is None:
        cursor = first_cursor(connection, subject.model, subject.reference, now=now)
    return read_intake(
        connection,
        cursor,
        reference=subject.reference,
        known_sources=subject.plans.known_sources,
        settings=subject.settings,
    )


def _passed(intake: Intake, judged: int) -> dict[Passed, int]:
    other_hours = len(intake.samples) - judged
    return {**intake.passed, **({Passed.OTHER_HOURS: other_hours} if other_hours else {})}


def _moved(
    intake: Intake,
    judged: int,
    passed: Mapping[Passed, int],
    told: Mapping[str, int],
    now: datetime,
) -> DriftCursor:
    cursor = intake.cursor
    counts = {why.value: told.get(why.value, 0) + passed.get(why, 0) for why in Passed}
    return replace(
        cursor,
        judged_samples=cursor.judged_samples + judged,
        passed_samples=cursor.passed_samples + passed.get(Passed.OTHER_HOURS, 0),
        memory={**cursor.memory, PASSED: {why: count for why, count in counts.items() if count}},
        updated_at=now,
    )


def _show(
    connection: Connection,
    subject: _Subject,
    intake: Intake,
    weighed: Mapping[str, Weighed],
    alarms: Mapping[str, Alarm],
) -> dict[str, Shown]:
    """What all samples show, and those slices of which anything points to a change."""
    chosen = [
        (plan, summary)
        for plan, summary in subject.plans
        if not plan.slice_text
        or is_shown(plan, weighed[plan.slice_text], subject.alarms.get(plan.slice_text))
    ]
    known = {each.id: each.sample for each in intake.samples}
    wanted = [(plan, weighed[plan.slice_text]) for plan, _ in chosen]
    samples = known | _load(connection, wanted, known)
    return {
        plan.slice_text: _compare(
            subject,
            plan,
            summary,
            weighed[plan.slice_text],
            samples,
            alarm=alarms.get(plan.slice_text),
        )
        for plan, summary in chosen
    }


def _load(
    connection: Connection, wanted: Iterable[tuple[Plan, Weighed]], known: Mapping[int, Sample]
) -> dict[int, Sample]:
    ids: set[int] = set()
    for plan, weighed in wanted:
        ids.update(weighed.remembered.window)
        if is_alarmed(plan, weighed):
            ids.update(candidate_ids(weighed))
    loaded = load_samples_by_ids(connection, ids - known.keys())
    return {each.id: each.sample for each in loaded}


def _compare(
    subject: _Subject,
    plan: Plan,
    summary: SliceSummary,
    weighed: Weighed,
    samples: Mapping[int, Sample],
    *,
    alarm: Alarm | None,
) -> Shown:
    def compared(ids: Sequence[int], leading: Sequence[str] = ()) -> Compared:
        return compare(
            # Samples that were deleted meanwhile are not missed.
            [samples[each] for each in ids if each in samples],
            summary,
            model=subject.model,
            reference=subject.reference,
            features=subject.plans.features,
            settings=subject.settings,
            evidence=log10_by_feature(plan.bets, weighed.evidence),
            leading=leading,
        )

    window = weighed.remembered.window
    newest = compared(window)
    if not is_told(plan, weighed, alarm):
        return Shown(newest)
    leading = leading_of(plan, weighed, alarm)
    fit = subject.reference.summary.fit
    beginning = known_beginning(alarm) or find_beginning(
        plan, weighed, samples, fit=fit, leading=leading
    )
    ids = window if beginning is None else beginning.ids_since(window)
    return Shown(newest, compared(ids, leading), beginning)


def _tell(
    subject: _Subject,
    weighed: Mapping[str, Weighed],
    shown: Mapping[str, Shown],
    alarms: Mapping[str, Alarm],
    *,
    is_new: bool,
) -> tuple[Watched, ...]:
    told = tuple(
        tell(
            plan,
            weighed[plan.slice_text],
            shown.get(plan.slice_text),
            model=subject.model,
            alarm=alarms.get(plan.slice_text),
            examples=subject.reference.summary.examples,
            min_samples=subject.settings.min_window_samples,
            is_new_reference=is_new,
        )
        for plan, _ in subject.plans
    )
    return (*told, *left_over(subject.alarms, subject.model, list(subject.plans.slices)))


def _same(subject: _Subject) -> dict[str, Alarm]:
    """The alarms of slices that are about this version."""
    version = subject.model.version
    return {text: a for text, a in subject.alarms.items() if a.model_version == version}


def _judgement(
    subject: _Subject,
    weighed: Mapping[str, Weighed],
    shown: Mapping[str, Shown],
    cursor: DriftCursor,
) -> Judgement:
    judged_samples = weighed[""].judged_samples
    return Judgement(
        model=subject.model,
        reference=subject.reference,
        compared=shown[""].newest,
        judged_samples=judged_samples,
        is_enough=judged_samples >= subject.settings.min_window_samples,
        cursor=cursor,
        slices=tuple(evidence_of(plan, weighed[plan.slice_text]) for plan, _ in subject.plans),
    )


def _results(
    subject: _Subject, shown: Mapping[str, Shown], now: datetime
) -> tuple[DriftResult, ...]:
    return tuple(
        DriftResult(
            ticked_at=now,
            model_name=subject.model.name,
            model_version=subject.model.version,
            reference_id=subject.reference.id,
            window_count=each.newest.window.sample_count,
            score=score,
            slice=text,
            window_newest_at=each.newest.window.newest_received_at,
        )
        for text, each in shown.items()
        if each.newest.window.sample_count >= subject.settings.min_window_samples
        for score in each.newest.scores
    )
