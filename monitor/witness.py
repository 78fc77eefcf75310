"""What the monitor says as a witness of a ledger: whether it still goes on from what was seen of it. Pure.

Rules: a ledger is known by the key that was given for it, or else by the one that it had at first sight; what was seen
only ever grows; what was found wrong with a ledger that was seen stays so until somebody acknowledges it, whatever the
ledger shows later.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from gateway.audit.checkpoints import Checkpoint, SignedCheckpoint, open_checkpoint
from gateway.audit.merkle import LogInvalidError
from gateway.audit.notes import KeyKind, Verifier, parse_verifier
from gateway.audit.witnessing import WitnessRefusalError, WitnessState, consider
from monitor.records import ABOUT_LEDGER, LEDGER_ALARM, Alarm, AlarmState, AlarmTransition

MAX_STATE_BYTES = 256 * 1024
_FORMAT = 1
_MAX_NAMED = 10
_READABLE = re.compile(r"[^a-z0-9.-]")


class DisagreementKind(StrEnum):
    """What is wrong, from a closed list; a ledger has at most one open disagreement of each."""

    UNKNOWN_LEDGER = "unknown_ledger"
    OTHER_KEY = "other_key"
    VANISHED = "vanished"
    UNSIGNED = "unsigned"
    SMALLER = "smaller"
    FORKED = "forked"
    CUT = "cut"
    CHANGED = "changed"
    FORGOTTEN = "forgotten"


class DisagreementError(Exception):
    """A ledger is not what was seen of it; the message says in words how."""

    def __init__(self, kind: DisagreementKind, words: str) -> None:
        super().__init__(words)
        self.kind = kind
        self.words = words


class StateInvalidError(Exception):
    """A file of the witness's own is damaged; the message says how."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One open disagreement: when it was found and what was said of it then."""

    kind: DisagreementKind
    since: datetime
    words: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What the witness keeps of one ledger.

    verifier: of the key that it is known by. newest: the largest checkpoint that was accepted, as a note that the
    ledger signed; None before the first. accepted_at: when that was.
    """

    verifier: Verifier
    newest: SignedCheckpoint | None = None
    accepted_at: datetime | None = None
    disagreements: tuple[Disagreement, ...] = ()

    @property
    def origin(self) -> str:
        """The ledger's name."""
        return self.verifier.name

    @property
    def state(self) -> WitnessState | None:
        """What the rules of witnesses compare with."""
        if self.newest is None:
            return None
        return WitnessState(self.newest.checkpoint.size, self.newest.checkpoint.root)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the database shows for a checkpoint.

    record_count: of all records. root: of the first checkpoint.size ones, from stored hashes. proof: that they go on
    from what was seen.
    """

    record_count: int
    root: bytes
    proof: tuple[bytes, ...]


def require_larger(checkpoint: Checkpoint, seen: Seen) -> None:
    """Return unless fewer records are signed than were seen. Raises DisagreementError."""
    seen_size = 0 if seen.state is None else seen.state.size
    if checkpoint.size < seen_size:
        words = (
            f"its newest checkpoint has {checkpoint.size} records, and one of {seen_size} was seen: the database was "
            "rolled back or cut"
        )
        raise DisagreementError(DisagreementKind.SMALLER, words)


def judge(signed: SignedCheckpoint, seen: Seen, evidence: Evidence, *, now: datetime) -> Seen:
    """What is to be kept after a checkpoint that the ledger signed and that is not smaller than what was seen.

    Raises DisagreementError.
    """
    checkpoint = signed.checkpoint
    require_larger(checkpoint, seen)
    if evidence.record_count < checkpoint.size:
        words = f"it has {evidence.record_count} records, and {checkpoint.size} were signed: its end was cut off"
        raise DisagreementError(DisagreementKind.CUT, words)
    if evidence.root != checkpoint.root:
        words = f"the stored hashes of its first {checkpoint.size} records are not those that were signed"
        raise DisagreementError(DisagreementKind.CHANGED, words)
    state = seen.state
    try:
        after = consider(checkpoint, state, 0 if state is None else state.size, evidence.proof)
    except WitnessRefusalError as exc:
        words = (
            f"its checkpoint of {checkpoint.size} records does not go on from that of "
            f"{0 if state is None else state.size} that was seen: its history was written anew ({exc})"
        )
        raise DisagreementError(DisagreementKind.FORKED, words) from exc
    if after == state:
        return seen
    return replace(seen, newest=signed, accepted_at=now)


def with_disagreement(seen: Seen, found: DisagreementError, *, now: datetime) -> Seen:
    """The same with a disagreement that was found; the first words of each kind are kept."""
    if any(known.kind is found.kind for known in seen.disagreements):
        return seen
    new = Disagreement(found.kind, now, found.words)
    return replace(seen, disagreements=(*seen.disagreements, new))


def ledger_alarm(
    open_disagreements: Sequence[tuple[str, Disagreement]],
    last: Alarm | None,
    *,
    may_clear: bool,
    now: datetime,
) -> tuple[Alarm, AlarmTransition | None]:
    """The alarm of all ledgers, and the transition if its state changed.

    open_disagreements: with the names of their ledgers. last: None if it was never judged. may_clear: whether a person
    acknowledged what raised it; it clears by nothing else.
    """
    before = AlarmState.UNKNOWN if last is None else last.state
    if (
        not open_disagreements
        and last is not None
        and before is AlarmState.FIRING
        and not may_clear
    ):
        return last, None
    state = AlarmState.FIRING if open_disagreements else AlarmState.CLEAR
    names = tuple(dict.fromkeys(origin for origin, _ in open_disagreements))
    alarm = Alarm(
        model_name=ABOUT_LEDGER,
        name=LEDGER_ALARM,
        state=state,
        since=last.since if last is not None and state is before else now,
        model_version="",
        features=names[:_MAX_NAMED],
        diagnosis=_diagnosis(open_disagreements),
    )
    if state is before:
        return alarm, None
    return alarm, AlarmTransition(
        model_name=ABOUT_LEDGER,
        name=LEDGER_ALARM,
        at=now,
        before=before,
        after=state,
        model_version="",
        features=alarm.features,
        diagnosis=alarm.diagnosis or "every ledger goes on from what was seen of it",
    )


def state_file_name(origin: str) -> str:
    """The name of the file that keeps what was seen of a ledger: safe on every file system, another for each ledger."""
    digest = hashlib.sha256(origin.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{_READABLE.sub('_', origin)[:64]}-{digest}.json"


def format_seen(seen: Seen) -> bytes:
    """The file of what was seen of a ledger."""
    content = {
        "format": _FORMAT,
        "verifier": seen.verifier.line(),
        "newest": None if seen.newest is None else seen.newest.note.decode(),
        "accepted_at": None if seen.accepted_at is None else seen.accepted_at.isoformat(),
        "disagreements": [
            {"kind": each.kind.value, "since": each.since.isoformat(), "words": each.words}
            for each in seen.disagreements
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"


def parse_seen(content: bytes) -> Seen:
    """What a file holds. Raises StateInvalidError unless it is what format_seen writes."""
    try:
        document = json.loads(content)
        verifier = parse_ledger_key(document["verifier"])
        note, accepted_at = document["newest"], document["accepted_at"]
        seen = Seen(
            verifier=verifier,
            newest=None if note is None else _open(note.encode(), verifier),
            accepted_at=None if accepted_at is None else _time(accepted_at),
            disagreements=tuple(
                Disagreement(DisagreementKind(each["kind"]), _time(each["since"]), each["words"])
                for each in document["disagreements"]
            ),
        )
        is_same = format_seen(seen) == content
    except (
        LogInvalidError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as exc:
        raise StateInvalidError(f"{type(exc).__name__}: {exc}") from exc
    if not is_same:
        raise StateInvalidError("it is not as the witness writes it")
    return seen


def parse_ledger_key(line: str) -> Verifier:
    """The key of a ledger in the form in which `gateway audit create` prints it. Raises LogInvalidError."""
    verifier = parse_verifier(line)
    if verifier.kind is not KeyKind.ED25519:
        raise LogInvalidError("the key of a ledger must be of kind Ed25519, not of a witness")
    return verifier


def _open(note: bytes, verifier: Verifier) -> SignedCheckpoint:
    return open_checkpoint(note, origin=verifier.name, verifiers=[verifier])


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("a time without its zone")
    return time


def _diagnosis(open_disagreements: Sequence[tuple[str, Disagreement]]) -> str:
    if not open_disagreements:
        return ""
    origin, newest = max(open_disagreements, key=lambda each: each[1].since)
    more = "" if len(open_disagreements) == 1 else f"; {len(open_disagreements)} in all"
    return f"{origin}: {newest.words}{more}"
