"""One look at every ledger of the database, as a witness: compare with what was seen, keep it, cosign, raise the alarm.

Rules: what is kept is durable in the witness's own folder before it is cosigned; the database is never believed about
what was seen; the alarm clears only when somebody acknowledged what raised it.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Engine

from gateway.audit.entries import is_origin
from gateway.audit.events import printable
from gateway.audit.keys import load_cosigner
from gateway.audit.merkle import LogInvalidError
from gateway.audit.notes import NoteCosigner, Verifier
from gateway.audit.replaced_files import Disk
from gateway.audit.stored_notes import read_ledger
from gateway.errors import OperatorError
from gateway.store.database import write_transaction
from gateway.store.queries.audit_trees import delete_cosigned, list_ledger_names
from gateway.store.records import AuditLedger
from monitor.jobs.database import opened_database
from monitor.jobs.witness_folder import WitnessFolder
from monitor.jobs.witness_reading import (
    collect_evidence,
    cosign,
    newest_checkpoint,
    own_cosigned,
)
from monitor.metrics import MonitorMetrics
from monitor.records import ABOUT_LEDGER, LEDGER_ALARM, Alarm, AlarmState, InputError
from monitor.settings import MonitorSettings
from monitor.tables.alarm_queries import find_alarm, insert_transition, save_alarm
from monitor.witness import (
    Disagreement,
    DisagreementError,
    DisagreementKind,
    Seen,
    StateInvalidError,
    judge,
    ledger_alarm,
    parse_ledger_key,
    require_larger,
    with_disagreement,
)

logger = logging.getLogger(__name__)

# Somebody who can write the database could add a million; each costs a file and a label.
MAX_LEDGERS = 256
_DATABASE = "*"


@dataclass(frozen=True, slots=True)
class Looked:
    """What one look found of one ledger; seen is None where nothing could be kept."""

    origin: str
    seen: Seen | None
    disagreements: tuple[Disagreement, ...] = ()


class Witness:
    """Looks at all ledgers, once a call; holds nothing between calls but its key and what it was told."""

    def __init__(
        self, *, settings: MonitorSettings, metrics: MonitorMetrics, disk: Disk | None = None
    ) -> None:
        """disk: for tests. Raises InputError for a key of a ledger or of its own that cannot be used."""
        self._settings = settings
        self._metrics = metrics
        self._folder = WitnessFolder(settings.witness_folder, disk=disk)
        self._trusted = _trusted_ledgers(settings)
        self._cosigner = _cosigner(settings)
        self._told: set[tuple[str, DisagreementKind]] = set()

    @property
    def verifier(self) -> Verifier | None:
        """What verifies its cosignatures; None without a key."""
        return None if self._cosigner is None else self._cosigner.verifier

    def look(self, now: datetime, *, may_clear: bool = False) -> tuple[list[Looked], Alarm]:
        """Look at every ledger as of now; what was found of each, and the alarm.

        may_clear: whether the alarm clears if nothing is wrong now, as somebody acknowledged what was. Raises
        DatabaseUnavailableError, WitnessFolderError.
        """
        with opened_database(self._settings.database_url) as engine:
            looked = self._look_at_all(engine, now)
            alarm = self._store_alarm(engine, looked, now, may_clear=may_clear)
        self._show(looked, alarm, now)
        return looked, alarm

    def acknowledge(self, origin: str) -> bool:
        """Drop the open disagreements of a ledger; False if nothing was seen of it. The next look finds what still is.

        Raises WitnessFolderError, InputError if its file is damaged.
        """
        with self._folder.locked(origin):
            try:
                seen = self._folder.load(origin)
            except StateInvalidError as exc:
                raise InputError(
                    f"what was seen of {origin} is damaged ({exc}): restore the file, or --forget it"
                ) from exc
            if seen is not None:
                self._folder.save(replace(seen, disagreements=()))
        return seen is not None

    def forget(self, origin: str, *, now: datetime) -> Path | None:
        """Put what was seen of a ledger aside, its cosignature included; where it is then, None if there was nothing.

        Raises WitnessFolderError, DatabaseUnavailableError.
        """
        with self._folder.locked(origin):
            # Before the file, or it would be taken for what this witness had seen and lost.
            with (
                opened_database(self._settings.database_url) as engine,
                write_transaction(engine) as connection,
            ):
                delete_cosigned(connection, origin)
            return self._folder.forget(origin, now=now)

    def _look_at_all(self, engine: Engine, now: datetime) -> list[Looked]:
        seen_before, damaged = self._folder.list_all()
        limit = MAX_LEDGERS + len(seen_before) + 1
        with engine.connect() as connection:
            names = list_ledger_names(connection, limit=limit)
        chosen, is_flooded = _chosen(names, seen_before)
        looked = []
        if is_flooded:
            words = f"the database has more than {MAX_LEDGERS} ledgers"
            looked.append(_unreadable(_DATABASE, words, now))
        looked += [self._look_at(engine, origin, now) for origin in chosen]
        return looked + [
            _unreadable(name, f"the witness's own file: {why}", now) for name, why in damaged
        ]

    def _look_at(self, engine: Engine, name: object, now: datetime) -> Looked:
        if not isinstance(name, str) or not is_origin(name):
            shown = printable(str(name), max_characters=64)
            return _unreadable(shown, "no ledger can have this name", now)
        return self._look_at_ledger(engine, name, now)

    def _look_at_ledger(self, engine: Engine, origin: str, now: datetime) -> Looked:
        with self._folder.locked(origin):
            try:
                before = self._folder.load(origin)
            except StateInvalidError:
                # Told by name of its file, and neither compared nor replaced.
                return Looked(origin, None)
            try:
                start = before or self._first_sight(engine, origin, now)
            except DisagreementError as found:
                return Looked(origin, None, (Disagreement(found.kind, now, found.words),))
            seen = self._compare(engine, start, now)
            if seen != before:
                # Killed before this: the next look finds the same. After it, and before the cosignature: so does it.
                self._folder.save(seen)
        if self._cosigner is not None:
            cosign(engine, seen, self._cosigner, now=now)
        return Looked(origin, seen, seen.disagreements)

    def _first_sight(self, engine: Engine, origin: str, now: datetime) -> Seen:
        with engine.connect() as connection:
            verifier = self._verifier_of(_row(connection, origin))
        seen = Seen(verifier)
        cosigner = self._cosigner
        cosigned = None if cosigner is None else own_cosigned(engine, verifier, cosigner)
        if cosigned is None:
            logger.warning("witness_ledger_pinned ledger=%s key=%s", seen.origin, verifier.line())
            return seen
        words = (
            "what this witness had seen of it is gone from MONITOR_WITNESS_FOLDER; it cosigned "
            f"{cosigned.checkpoint.size} records, and goes on from there"
        )
        forgotten = DisagreementError(DisagreementKind.FORGOTTEN, words)
        return with_disagreement(
            replace(seen, newest=cosigned, accepted_at=now), forgotten, now=now
        )

    def _verifier_of(self, row: AuditLedger | None) -> Verifier:
        if row is None:
            raise DisagreementError(DisagreementKind.VANISHED, "there is no such ledger")
        if self._trusted:
            if row.origin not in self._trusted:
                words = "this ledger is not one of MONITOR_WITNESS_LEDGERS"
                raise DisagreementError(DisagreementKind.UNKNOWN_LEDGER, words)
            return self._trusted[row.origin]
        try:
            verifier = parse_ledger_key(row.verifier)
        except LogInvalidError as exc:
            words = f"the key that it was begun with cannot be read: {exc}"
            raise DisagreementError(DisagreementKind.OTHER_KEY, words) from exc
        if verifier.name != row.origin:
            words = f"the key that it was begun with is that of {verifier.name}"
            raise DisagreementError(DisagreementKind.OTHER_KEY, words)
        return verifier

    def _compare(self, engine: Engine, seen: Seen, now: datetime) -> Seen:
        try:
            with engine.connect() as connection:
                self._require_same_key(_row(connection, seen.origin), seen)
                signed = newest_checkpoint(connection, seen)
                require_larger(signed.checkpoint, seen)
                evidence = collect_evidence(connection, signed, seen)
            return judge(signed, seen, evidence, now=now)
        except DisagreementError as found:
            return with_disagreement(seen, found, now=now)

    def _require_same_key(self, row: AuditLedger | None, seen: Seen) -> None:
        if row is None:
            raise DisagreementError(DisagreementKind.VANISHED, "it is gone from the database")
        told = self._trusted.get(seen.origin, seen.verifier)
        if told != seen.verifier:
            words = "MONITOR_WITNESS_LEDGERS has another key than the one that it was known by"
            raise DisagreementError(DisagreementKind.OTHER_KEY, words)
        if row.verifier != seen.verifier.line():
            words = "the database says that it was begun with another key than the one that it was known by"
            raise DisagreementError(DisagreementKind.OTHER_KEY, words)

    def _store_alarm(
        self, engine: Engine, looked: Sequence[Looked], now: datetime, *, may_clear: bool
    ) -> Alarm:
        found = [(each.origin, one) for each in looked for one in each.disagreements]
        with engine.connect() as connection:
            last = find_alarm(connection, ABOUT_LEDGER, LEDGER_ALARM)
        alarm, _ = ledger_alarm(found, last, may_clear=may_clear, now=now)
        if alarm == last:
            return alarm
        with write_transaction(engine) as connection:
            last = find_alarm(connection, ABOUT_LEDGER, LEDGER_ALARM, for_update=True)
            alarm, transition = ledger_alarm(found, last, may_clear=may_clear, now=now)
            save_alarm(connection, alarm)
            if transition is not None:
                insert_transition(connection, transition)
        if transition is not None:
            level = logging.INFO if transition.after is AlarmState.CLEAR else logging.ERROR
            logger.log(
                level,
                "alarm_changed model=%s alarm=%s before=%s after=%s: %s",
                alarm.model_name,
                alarm.name,
                transition.before,
                transition.after,
                transition.diagnosis,
            )
        return alarm

    def _show(self, looked: Sequence[Looked], alarm: Alarm, now: datetime) -> None:
        self._log_new(looked)
        for each in looked:
            seen = each.seen
            if seen is not None and seen.newest is not None and seen.accepted_at is not None:
                self._metrics.set_witnessed(
                    seen.origin, size=seen.newest.checkpoint.size, accepted_at=seen.accepted_at
                )
        self._metrics.set_alarm(alarm, is_judged=True)
        self._metrics.witness_last_look.set(now.timestamp())

    def _log_new(self, looked: Sequence[Looked]) -> None:
        found = {(each.origin, one.kind): one for each in looked for one in each.disagreements}
        for (origin, kind), one in found.items():
            if (origin, kind) not in self._told:
                logger.error(
                    "witness_disagreement ledger=%s kind=%s: %s", origin, kind.value, one.words
                )
        # What was acknowledged meanwhile is told again when it comes back.
        self._told = set(found)


def _chosen(names: Sequence[object], seen_before: Mapping[str, Seen]) -> tuple[list[object], bool]:
    """The ledgers to look at, those that were seen first, and whether there are too many to look at all."""
    new = [name for name in names if name not in seen_before]
    room = max(0, MAX_LEDGERS - len(seen_before))
    return [*sorted(seen_before), *new[:room]], len(new) > room


def _row(connection: Connection, origin: str) -> AuditLedger | None:
    try:
        return read_ledger(connection, origin)
    except LogInvalidError as exc:
        words = f"the key that it was begun with cannot be read: {exc}"
        raise DisagreementError(DisagreementKind.OTHER_KEY, words) from exc


def _unreadable(name: str, words: str, now: datetime) -> Looked:
    return Looked(name, None, (Disagreement(DisagreementKind.CHANGED, now, words),))


def _trusted_ledgers(settings: MonitorSettings) -> Mapping[str, Verifier]:
    lines = [line.strip() for line in settings.witness_ledgers.split(",") if line.strip()]
    try:
        verifiers = [parse_ledger_key(line) for line in lines]
    except LogInvalidError as exc:
        raise InputError(
            f"MONITOR_WITNESS_LEDGERS: {exc}; write the keys as `gateway audit create` prints them, with commas between"
        ) from exc
    trusted = {verifier.name: verifier for verifier in verifiers}
    if len(trusted) != len(verifiers):
        raise InputError("MONITOR_WITNESS_LEDGERS has two keys for one ledger: leave one out")
    return trusted


def _cosigner(settings: MonitorSettings) -> NoteCosigner | None:
    if not settings.witness_key_file:
        return None
    try:
        return load_cosigner(Path(settings.witness_key_file), name=settings.witness_name)
    except OperatorError as exc:
        raise InputError(f"MONITOR_WITNESS_KEY_FILE, MONITOR_WITNESS_NAME: {exc}") from exc
