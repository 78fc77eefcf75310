"""Telling webhooks what changes of alarms there were: at least once, in order for each, through restarts.

Rules: a change is told that begins, acknowledges or ends ringing, or by which it rings anew; one that rings while it is
silenced waits for the silence's end, and is told then if it still rings; the end of what was told is always told, the
end of what was not never. A try is noted before it is made, so that a process that dies in it is followed by another
try, and two monitors never make it at once.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from gateway.store.database import write_transaction
from monitor.alarms import is_silenced
from monitor.jobs.database import opened_database
from monitor.jobs.lacks import LackWatch
from monitor.jobs.repeating import Repeating
from monitor.jobs.unreadable import Unreadable
from monitor.metrics import MonitorMetrics
from monitor.records import (
    AlarmState,
    AlarmTransition,
    DatabaseUnavailableError,
    Delivery,
    MonitorError,
    Outcome,
    Silence,
)
from monitor.settings import MonitorSettings
from monitor.tables.alarm_queries import (
    find_alarm,
    find_delivery,
    find_delivery_span,
    find_entry_id,
    find_last_transition_id,
    find_transition,
    insert_delivery,
    list_delivered_ids,
    list_open_deliveries,
    list_ring_ids,
    list_silences,
    list_transitions_after,
    prune_deliveries,
    save_delivery,
)
from monitor.webhooks import (
    GIVE_UP_AFTER,
    Answer,
    Sender,
    Webhook,
    change_message,
    load_secrets,
    parse_webhooks,
    retry_delay_seconds,
)

logger = logging.getLogger(__name__)

# How long a change waits at most until it is tried.
LOOK_SECONDS = 5.0
# Changes looked at once. On PostgreSQL a row may show after one with a larger id, but not after so many.
_MAX_CHANGES = 1000
_OVERTAKEN = 100
# Rows of settled deliveries that stay for each webhook, to know what was told.
_KEPT = 10_000
# Beyond the time of a try: then it counts as one that died.
_CLAIM_SECONDS = 30.0
_SILENCED = "silenced"
_UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Waiting:
    """What one webhook has not taken yet. next_at, last_error: of the first of them; None where nothing waits."""

    title: str
    count: int
    next_at: datetime | None
    last_error: str | None


class Deliveries:
    """Tells all webhooks of one configuration; holds nothing between calls but what it logged last."""

    def __init__(
        self,
        *,
        settings: MonitorSettings,
        metrics: MonitorMetrics,
        draw: Callable[[], float],
        clock: Callable[[], datetime],
    ) -> None:
        """draw: 0..1, anew at each call. Raises InputError for addresses, secrets or a CA that cannot be used."""
        self._webhooks = parse_webhooks(settings.webhook_urls)
        self._sender = new_sender(settings) if self._webhooks else None
        self._claim = timedelta(seconds=settings.webhook_timeout_seconds + _CLAIM_SECONDS)
        self._metrics = metrics
        self._draw = draw
        self._clock = clock
        self._unreadable = Unreadable(metrics)
        self._failing: set[str] = set()

    def look(self, engine: Engine, *, should_stop: Callable[[], bool]) -> None:
        """Plan what is new, and try what is due, until a webhook fails or has everything. Raises SQLAlchemyError."""
        with engine.connect() as connection:
            bad_row = self._unreadable.of("alarm_silences")
            silences = list_silences(connection, now=self._clock(), on_bad_row=bad_row)
        self._metrics.set_silenced(
            lambda model, alarm, slice_text: is_silenced(
                silences, model_name=model, name=alarm, slice_text=slice_text, now=self._clock()
            )
        )
        for webhook in self._webhooks:
            self._plan(engine, webhook, silences)
            while not should_stop() and self._try_next(engine, webhook):
                pass
        with engine.connect() as connection:
            counts = [each.count for each in read_waiting(connection, self._webhooks)]
        self._metrics.webhook_waiting.set(sum(counts))

    def _plan(self, engine: Engine, webhook: Webhook, silences: Sequence[Silence]) -> None:
        # Nothing new is nothing written: SQLite's write lock is the gateway's, too.
        with engine.connect() as connection:
            if not _plan(connection, webhook, silences, now=self._clock()):
                return
        try:
            with write_transaction(engine) as connection:
                planned = _plan(connection, webhook, silences, now=self._clock())
                _store_planned(connection, webhook, planned)
        except IntegrityError:
            return  # Another monitor planned the same at the same time.
        for each in planned:
            if each.last_error == _UNREADABLE:
                self._unreadable.of("alarm_transitions")(each.transition_id)
        silenced = sum(each.id is None and each.last_error == _SILENCED for each in planned)
        self._metrics.webhook_deliveries.labels("silenced").inc(silenced)

    def _try_next(self, engine: Engine, webhook: Webhook) -> bool:
        """Try the first of what waits; whether the next may be tried, too."""
        claimed = self._claim_first(engine, webhook)
        if claimed is None or self._sender is None:
            return False
        delivery, transition = claimed
        message = change_message(delivery.transition_id, transition)
        answer = self._sender.send(webhook, message, now=self._clock())
        with engine.connect() as connection:
            told_from = _told_from(connection, transition, now=self._clock())
        ended = self._ended(delivery, told_from, answer)
        with write_transaction(engine) as connection:
            save_delivery(connection, ended, attempts_before=delivery.attempts)
        self._tell(webhook, transition, ended, answer)
        return answer.is_taken

    def _claim_first(
        self, engine: Engine, webhook: Webhook
    ) -> tuple[Delivery, AlarmTransition] | None:
        now = self._clock()
        with engine.connect() as connection:
            bad_row = self._unreadable.of("alarm_deliveries")
            queue = _queue(list_open_deliveries(connection, webhook.target, on_bad_row=bad_row))
            if not queue or queue[0].next_at is None or queue[0].next_at > now:
                return None
            first = queue[0]
            transition = find_transition(connection, first.transition_id)
        if transition is None:
            # Somebody took it out of the history, or changed it to what none of ours is: nothing is left to tell.
            self._unreadable.of("alarm_transitions")(first.transition_id)
            claimed = replace(first, next_at=None, last_error="gone")
        else:
            claimed = replace(first, attempts=first.attempts + 1, next_at=now + self._claim)
        with write_transaction(engine) as connection:
            is_ours = save_delivery(connection, claimed, attempts_before=first.attempts)
        return (claimed, transition) if is_ours and transition is not None else None

    def _ended(self, delivery: Delivery, told_from: datetime, answer: Answer) -> Delivery:
        now = self._clock()
        if answer.is_taken:
            return replace(delivery, next_at=None, delivered_at=now, last_error=None)
        if answer.is_gone or now - told_from >= GIVE_UP_AFTER:
            return replace(delivery, next_at=None, last_error=answer.error)
        delay = retry_delay_seconds(delivery.attempts, chance=self._draw())
        wait = timedelta(seconds=max(delay, answer.retry_after_seconds))
        return replace(delivery, next_at=now + wait, last_error=answer.error)

    def _tell(
        self, webhook: Webhook, transition: AlarmTransition, ended: Delivery, answer: Answer
    ) -> None:
        what = (webhook.title, transition.name, transition.after.value)
        if answer.is_taken:
            self._failing.discard(webhook.target)
            self._metrics.webhook_deliveries.labels("delivered").inc()
            logger.info("webhook_delivered target=%s alarm=%s state=%s", *what)
            return
        self._metrics.webhook_deliveries.labels("failed").inc()
        if ended.next_at is None:
            self._metrics.webhook_deliveries.labels("given_up").inc()
            logger.error("webhook_given_up target=%s alarm=%s state=%s: %s", *what, answer.error)
        elif webhook.target not in self._failing:
            logger.warning("webhook_failed target=%s alarm=%s state=%s: %s", *what, answer.error)
        self._failing.add(webhook.target)


class DeliveryLoop(Repeating):
    """Looks every few seconds at what the monitor lacks, and tells webhooks what changed."""

    def __init__(
        self,
        *,
        settings: MonitorSettings,
        metrics: MonitorMetrics,
        draw: Callable[[], float],
        clock: Callable[[], datetime],
        stop: Event,
    ) -> None:
        """Raises InputError for addresses, secrets or a CA that cannot be used."""
        super().__init__(
            seconds=min(LOOK_SECONDS, settings.tick_seconds),
            failures=metrics.webhook_deliveries,
            stop=stop,
        )
        self._settings = settings
        self._lacks = LackWatch(settings=settings, metrics=metrics)
        self._deliveries = Deliveries(settings=settings, metrics=metrics, draw=draw, clock=clock)
        self._clock = clock

    def begin(self) -> None:
        """Before the first tick: ring if none was made for too long. A database that is not there is waited for."""
        try:
            with opened_database(self._settings.database_url) as engine:
                # Or a webhook that is new would take it for what was before.
                try:
                    self._deliveries.look(engine, should_stop=lambda: True)
                finally:
                    self._lacks.look_at_ticks(engine, self._clock())
        except DatabaseUnavailableError as exc:
            self.warn(Outcome.DATABASE_ERROR, exc)
        except Exception as exc:  # noqa: BLE001  (what is broken about one table must not keep the monitor from starting)
            self._failures.labels(Outcome.ERROR.value).inc()
            self.log_bug(exc)

    def look(self) -> bool:
        """One look; the next may wait."""
        with opened_database(self._settings.database_url) as engine:
            try:
                self._lacks.look(engine, self._clock())
            finally:
                self._deliveries.look(engine, should_stop=self._stop.is_set)
        return True

    def warn(self, outcome: Outcome, exc: MonitorError) -> None:
        """See Repeating."""
        logger.warning("alarms_not_looked_at outcome=%s: %s", outcome.value, exc)

    def log_bug(self, exc: Exception) -> None:
        """See Repeating."""
        logger.error("alarms_not_looked_at outcome=error", exc_info=exc)


def new_sender(settings: MonitorSettings) -> Sender:
    """What sends by these settings. Raises InputError for a secret or a CA that cannot be used."""
    return Sender(
        load_secrets(Path(settings.webhook_secret_file)),
        timeout_seconds=settings.webhook_timeout_seconds,
        ca_file=Path(settings.webhook_ca_file) if settings.webhook_ca_file else None,
    )


def read_waiting(connection: Connection, webhooks: Sequence[Webhook]) -> list[Waiting]:
    """What each webhook has not taken yet."""
    waiting = []
    for webhook in webhooks:
        queue = _queue(list_open_deliveries(connection, webhook.target))
        first = queue[0] if queue else None
        waiting.append(
            Waiting(
                webhook.title,
                len(queue),
                None if first is None else first.next_at,
                None if first is None else first.last_error,
            )
        )
    return waiting


def _queue(deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Those that no silence holds back: they must not keep the others waiting."""
    return [each for each in deliveries if each.last_error != _SILENCED]


def _plan(
    connection: Connection, webhook: Webhook, silences: Sequence[Silence], *, now: datetime
) -> list[Delivery]:
    """What is to be stored: a row for each change that has none yet, and those that silences no longer hold back."""
    span = find_delivery_span(connection, webhook.target)
    if span is None:
        # What was before it became a webhook is none of its business; from here on everything is.
        return [Delivery(find_last_transition_id(connection), webhook.target, 0, None)]
    first, last = span
    after = max(first, last - _OVERTAKEN)
    known = list_delivered_ids(connection, webhook.target, after_id=after)
    changes = list_transitions_after(connection, after, limit=_MAX_CHANGES)
    # The entry of a change may be among those that are planned just now.
    planned: dict[int, Delivery] = {}
    for number, transition in changes:
        if number not in known:
            planned[number] = _planned(
                connection, webhook, number, transition, silences, planned=planned, now=now
            )
    return [*planned.values(), *_released(connection, webhook, silences, now=now)]


def _store_planned(connection: Connection, webhook: Webhook, planned: Sequence[Delivery]) -> None:
    for delivery in planned:
        if delivery.id is None:
            insert_delivery(connection, delivery)
        else:
            save_delivery(connection, delivery, attempts_before=delivery.attempts)
    newest = max(delivery.transition_id for delivery in planned)
    prune_deliveries(connection, webhook.target, before_id=newest - _KEPT)


def _planned(
    connection: Connection,
    webhook: Webhook,
    number: int,
    transition: AlarmTransition | None,
    silences: Sequence[Silence],
    *,
    planned: Mapping[int, Delivery],
    now: datetime,
) -> Delivery:
    told = Delivery(number, webhook.target, 0, now)
    if transition is None:
        return replace(told, next_at=None, last_error=_UNREADABLE)
    if not (transition.before.is_active or transition.after.is_active):
        return replace(told, next_at=None)
    if transition.after is AlarmState.FIRING:
        is_held = _is_silenced(transition, silences, now)
        return replace(told, last_error=_SILENCED) if is_held else told
    entry_id = find_entry_id(connection, transition, before_id=number)
    rings = (
        []
        if entry_id is None
        else list_ring_ids(connection, transition, after_id=entry_id - 1, before_id=number)
    )
    known = [planned.get(r) or find_delivery(connection, r, webhook.target) for r in rings]
    if known and all(each is not None and each.last_error == _SILENCED for each in known):
        return replace(told, next_at=None, last_error=_SILENCED)
    return told


def _released(
    connection: Connection, webhook: Webhook, silences: Sequence[Silence], *, now: datetime
) -> list[Delivery]:
    """What a silence held back until now: to be told if it still rings and nobody knows, and else not at all."""
    released = []
    for held in list_open_deliveries(connection, webhook.target):
        if held.last_error != _SILENCED:
            continue
        transition = find_transition(connection, held.transition_id)
        if transition is not None and _is_silenced(transition, silences, now):
            continue
        if transition is not None and _rings_since(connection, held.transition_id, transition):
            released.append(replace(held, next_at=now, last_error=None))
        else:
            released.append(replace(held, next_at=None))
    return released


def _told_from(connection: Connection, transition: AlarmTransition, *, now: datetime) -> datetime:
    """From when on a change could be told: it may be given up a day later, and not after the first try."""
    silences = list_silences(connection, now=transition.at)
    ends = [s.ends_at for s in silences if s.ends_at <= now and _is_about(s, transition)]
    return max([transition.at, *ends])


def _is_about(silence: Silence, transition: AlarmTransition) -> bool:
    return _is_silenced(transition, [silence], silence.created_at)


def _rings_since(connection: Connection, number: int, transition: AlarmTransition) -> bool:
    alarm = find_alarm(connection, transition.model_name, transition.name, slice=transition.slice)
    later = list_ring_ids(connection, transition, after_id=number)
    return alarm is not None and alarm.state is AlarmState.FIRING and not later


def _is_silenced(transition: AlarmTransition, silences: Sequence[Silence], now: datetime) -> bool:
    return is_silenced(
        silences,
        model_name=transition.model_name,
        name=transition.name,
        slice_text=transition.slice,
        now=now,
    )
