"""What is done to alarms: acknowledging and silencing by a person.

Rules: what a person does is on record in the monitor's own ledger before it is done and after, with why.
"""

import logging
import re
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from gateway.audit.events import Action, printable
from gateway.audit.operators import account_name
from gateway.store.database import write_transaction
from monitor.alarms import (
    DRIFT_ALARM,
    SAMPLES_ALARM,
    STALE_ALARM,
    acknowledge_alarm,
)
from monitor.jobs.acknowledging import record_acknowledgement
from monitor.jobs.ledger import OwnLedger
from monitor.records import (
    LEDGER_ALARM,
    Alarm,
    AlarmState,
    AlarmTransition,
    InputError,
    NotReadyError,
    Rule,
    Silence,
)
from monitor.tables.alarm_queries import (
    end_silence,
    find_alarm,
    insert_silence,
    insert_transition,
    list_alarms,
    list_silences,
    save_alarm,
)
from monitor.texts import shown
from monitor.windows.slicing import parse_named_slice

logger = logging.getLogger(__name__)

ALARM_NAMES = frozenset({DRIFT_ALARM, SAMPLES_ALARM, STALE_ALARM, LEDGER_ALARM, *Rule})
MAX_SILENCE = timedelta(days=30)
_MAX_WHY_CHARACTERS = 200
_DURATION = re.compile(r"(?:([0-9]{1,3})d)?(?:([0-9]{1,4})h)?(?:([0-9]{1,5})m)?")


def acknowledge(
    ledger: OwnLedger,
    engine: Engine,
    *,
    name: str,
    model_name: str | None,
    slice_text: str | None,
    watched: frozenset[Rule],
    why: str,
    now: datetime,
) -> list[str]:
    """Take an alarm as known, whichever it is; gives what was done, in words.

    slice_text: empty for all samples; None for every slice of that alarm that is firing. A rule on the ledgers has its
    findings closed. watched: the rules that are not switched off. Raises InputError for a name that no alarm has or
    that several models have and for an empty why, NotReadyError if it does not ring, and as OwnLedger.made does.
    """
    require_alarm_name(name)
    if name == LEDGER_ALARM:
        raise InputError(
            "what is wrong with a ledger is acknowledged for that ledger: monitor witness --acknowledge LEDGER"
        )
    if name in set(Rule):
        closed = record_acknowledgement(
            ledger, engine, Rule(name), None, watched=watched, why=why, now=now
        )
        return [f"{name}: closed {finding.key}: {finding.words}" for finding in closed]
    told = _require_why(why)
    wanted = None if slice_text is None else require_slice(slice_text)
    alarms = _find_ringing(engine, name, model_name, wanted)
    return [_acknowledge(ledger, engine, alarm, why=told, now=now) for alarm in alarms]


def _acknowledge(
    ledger: OwnLedger, engine: Engine, alarm: Alarm, *, why: str, now: datetime
) -> str:
    with (
        ledger.made(
            engine,
            Action.ALARM_CHANGE,
            model_name=alarm.model_name,
            model_version=alarm.model_version,
            details={"alarm": alarm.name, "slice": alarm.slice, "why": why},
        ),
        write_transaction(engine) as connection,
    ):
        last = _find(connection, alarm.model_name, alarm.name, alarm.slice)
        known, transition = acknowledge_alarm(last, by=account_name(), why=why, now=now)
        save_alarm(connection, known)
        insert_transition(connection, transition)
    return f"{alarm.name} of {alarm.model_name}{_of_slice(alarm.slice)}: acknowledged"


def silence(
    ledger: OwnLedger,
    engine: Engine,
    *,
    name: str | None,
    model_name: str | None,
    slice_text: str | None,
    duration: timedelta,
    why: str,
    now: datetime,
    is_of_all: bool = False,
) -> int:
    """Have nobody told of some alarms for a while; gives the silence's id. None stands for all.

    is_of_all: where nothing else says which. Raises InputError for a name that no alarm has, an empty why, more than
    MAX_SILENCE and where nothing says which alarms, and as OwnLedger.made does.
    """
    _require_extent(name, model_name, slice_text, is_of_all=is_of_all)
    if name is not None:
        require_alarm_name(name)
    if slice_text is not None:
        slice_text = require_slice(slice_text)
    if duration > MAX_SILENCE:
        raise InputError(f"a silence lasts at most {MAX_SILENCE.days} days: make another then")
    told = _require_why(why)
    made = Silence(
        model_name=model_name,
        name=name,
        slice=slice_text,
        created_at=now,
        created_by=account_name(),
        why=told,
        ends_at=now + duration,
    )
    with ledger.made(
        engine,
        Action.ALARM_CHANGE,
        model_name=model_name or "",
        model_version="",
        details=_silence_details(made),
    ) as making:
        with write_transaction(engine) as connection:
            silence_id = insert_silence(connection, made)
        making.add(silence=silence_id)
    return silence_id


def unsilence(ledger: OwnLedger, engine: Engine, silence_id: int, *, now: datetime) -> None:
    """Let a silence end now. Raises NotReadyError if there is none, and as OwnLedger.made does."""
    with engine.connect() as connection:
        ended = next((s for s in list_silences(connection, now=now) if s.id == silence_id), None)
    of_what = {} if ended is None else _silence_details(ended)
    with (
        ledger.made(
            engine,
            Action.ALARM_CHANGE,
            model_name="" if ended is None else ended.model_name or "",
            model_version="",
            details={
                "silence": silence_id,
                "ended": now.isoformat(timespec="seconds"),
                **of_what,
            },
        ),
        write_transaction(engine) as connection,
    ):
        if not end_silence(connection, silence_id, now=now):
            raise NotReadyError(
                f"there is no silence {silence_id} that goes on: see `monitor alarms list`"
            )


def _silence_details(silence: Silence) -> dict[str, str]:
    # An empty value is left out of a record: all samples alone must not look like every slice.
    return {
        "model": silence.model_name or "*",
        "alarm": silence.name or "*",
        "slice": "*" if silence.slice is None else silence.slice or "(all samples)",
        "until": silence.ends_at.isoformat(timespec="seconds"),
        "why": silence.why,
    }


def _require_why(why: str) -> str:
    told = printable(why.strip(), max_characters=_MAX_WHY_CHARACTERS)
    if not told:
        raise InputError("--why is empty: say why, for who reads the record later")
    return told


def _require_extent(
    name: str | None, model_name: str | None, slice_text: str | None, *, is_of_all: bool
) -> None:
    is_named = bool(name or model_name or slice_text)
    if not (is_named or is_of_all):
        raise InputError(
            "which alarms? name one, or --model or --slice with a value; --all silences every alarm of every model"
        )
    if is_of_all and (is_named or slice_text is not None):
        raise InputError("--all silences every alarm of every model: leave out what names some")


def parse_duration(text: str) -> timedelta:
    """A time as 30m, 2h, 1d or 1d12h; a minute to MAX_SILENCE. Raises InputError."""
    found = _DURATION.fullmatch(text)
    days, hours, minutes = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    duration = timedelta(days=days, hours=hours, minutes=minutes)
    if not timedelta(minutes=1) <= duration <= MAX_SILENCE:
        raise InputError(
            f"--for {text[:20]}: a silence lasts from 1m to at most {MAX_SILENCE.days} days, write 30m, 2h or 1d12h"
        )
    return duration


def require_alarm_name(name: str) -> None:
    """Raises InputError unless an alarm can have this name."""
    if name not in ALARM_NAMES:
        raise InputError(
            f"no alarm is called {printable(name, max_characters=40)}: one of {', '.join(sorted(ALARM_NAMES))}"
        )


def require_slice(text: str) -> str:
    """The text of the slice that a person names, a client by its principal too. Raises InputError if it is none."""
    try:
        return parse_named_slice(text).text
    except ValueError as exc:
        raise InputError(f"--slice: {exc}") from exc


def log_change(transition: AlarmTransition) -> None:
    """One line on a change of an alarm; a warning where it begins to ring."""
    is_ringing = transition.after is AlarmState.FIRING
    logger.log(
        logging.WARNING if is_ringing else logging.INFO,
        "alarm_changed model=%s alarm=%s slice=%s before=%s after=%s: %s",
        shown(transition.model_name),
        shown(transition.name),
        shown(transition.slice),
        transition.before,
        transition.after,
        shown(transition.diagnosis),
    )


def _find_ringing(
    engine: Engine, name: str, model_name: str | None, slice_text: str | None
) -> list[Alarm]:
    """What is to be acknowledged, at least one; slice_text: None for every slice."""
    with engine.connect() as connection:
        if model_name is not None and slice_text is not None:
            return [_find(connection, model_name, name, slice_text)]
        alarms = [
            a
            for a in list_alarms(connection, model_name=model_name)
            if a.name == name and slice_text in (None, a.slice)
        ]
        ringing = [a for a in alarms if a.state is AlarmState.FIRING]
        if model_name is not None and not ringing:
            # Why there is nothing to acknowledge is told of the one of all samples.
            return [_find(connection, model_name, name, "")]
    models = dict.fromkeys(a.model_name for a in ringing)
    if len(models) > 1:
        raise InputError(
            f"{name} is firing for several models ({', '.join(models)}): name one with --model"
        )
    if not ringing:
        raise NotReadyError(
            f"no alarm {name}{_of_slice(slice_text or '')} is firing: see `monitor alarms list`"
        )
    return ringing


def _find(connection: Connection, model_name: str, name: str, slice_text: str) -> Alarm:
    alarm = find_alarm(connection, model_name, name, slice=slice_text, for_update=True)
    if alarm is None:
        raise NotReadyError(
            f"{model_name} has no alarm {name}{_of_slice(slice_text)}: see `monitor alarms list --all`"
        )
    return alarm


def _of_slice(slice_text: str) -> str:
    return f", {slice_text}" if slice_text else ""
