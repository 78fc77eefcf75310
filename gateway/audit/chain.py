"""The mathematics of the ledger: canonical bodies, the hash chain, and finding the first bad record. Pure.

Rules: what is hashed is the stored text, never one written anew from its parts; the chain starts from a hash of the
ledger's origin, so that records of one ledger cannot be passed off as another's.

What a chain cannot show: a ledger whose last records were cut off is itself a good ledger, and so is one that was
written anew from some record on by whoever can write to the database. Only a tail kept elsewhere shows either.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from json import JSONEncoder

from gateway.audit.events import MAX_CHARACTERS, AuditEvent, printable
from gateway.errors import Code, SettingsError
from gateway.store.records import AuditRecord

FORMAT = 2
# What records of format 1 lack; a ledger may begin with such and go on in this one.
_NEW_IN_2 = frozenset({"token_id", "certificate_thumbprint"})

# RFC 6962 section 2.1 keeps 0x00 for leaves and 0x01 for nodes, so that a record's hash never is a node's.
_RECORD_PREFIX = b"\x00"
_GENESIS_PREFIX = b"\x02gatewatch ledger\n"

# A name that can also stand in a signed note: C2SP signed-note allows neither spaces nor "+" in key names.
_ORIGIN = re.compile(r"[!-*,-~]{1,128}")

_encode = JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode

_NUMBERS = frozenset({"input_bytes", "result_count"})


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a ledger: how many records it has and the hash of the last (the genesis hash when there is none)."""

    count: int
    record_hash: bytes


class FaultKind(StrEnum):
    """What is wrong with the first bad record."""

    CHANGED = "changed"
    MISSING = "missing"
    REORDERED = "reordered"
    WRONG_ORIGIN = "wrong_origin"
    NOT_CANONICAL = "not_canonical"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Fault:
    """The first bad place in a ledger; every record before position is good."""

    position: int
    kind: FaultKind
    why: str


def checked_origin(unverified_origin: str) -> str:
    """The name of a ledger: 1 to 128 printable ASCII characters without space or plus.

    Raises SettingsError for any other text.
    """
    if not _ORIGIN.fullmatch(unverified_origin):
        raise SettingsError(
            Code.SETTINGS_INVALID,
            "the ledger's origin must be 1 to 128 printable ASCII characters without spaces or '+'",
        )
    return unverified_origin


def genesis_tail(origin: str) -> Tail:
    """The tail of the empty ledger of this name."""
    return Tail(0, sha256(_GENESIS_PREFIX + origin.encode("ascii")).digest())


def canonical_body(event: AuditEvent) -> str:
    """The one text of an event: ASCII JSON, members sorted, no spaces, every member present.

    Text fields are bounded and printable in it (see events.printable). Raises RuntimeError for a naive time.
    """
    if event.recorded_at.tzinfo is None:
        raise RuntimeError("internal: a naive time reached the ledger")
    members: dict[str, str | int | None] = {
        "format": FORMAT,
        "action": event.action.value,
        "outcome": event.outcome.value,
        "recorded_at": _format_time(event.recorded_at),
        "code": None if event.code is None else event.code.value,
        "input_bytes": event.input_bytes,
        "result_count": event.result_count,
    }
    for name, limit in MAX_CHARACTERS.items():
        text = getattr(event, name)
        members[name] = None if text is None else printable(text, max_characters=limit)
    return _encode(members)


def hash_record(previous_hash: bytes, body: str) -> bytes:
    """The hash of a record: SHA-256(0x00 || previous hash || body), 32 bytes."""
    return sha256(_RECORD_PREFIX + previous_hash + body.encode("ascii")).digest()


def chain_records(
    tail: Tail, entries: Sequence[tuple[datetime, str]], *, origin: str
) -> tuple[list[AuditRecord], Tail]:
    """The records that follow a tail, and the tail after them.

    entries: the time and canonical body of each event, in order.
    """
    records = []
    count, previous_hash = tail.count, tail.record_hash
    for recorded_at, body in entries:
        previous_hash = hash_record(previous_hash, body)
        records.append(AuditRecord(origin, count, recorded_at, body, previous_hash))
        count += 1
    return records, Tail(count, previous_hash)


def verify_records(
    records: Sequence[AuditRecord], *, origin: str, tail: Tail
) -> tuple[Tail, Fault | None]:
    """Check records that should follow a tail; the tail of the good ones and the first fault, if there is one.

    records: in the order of their positions. Call it with each page and the tail of the page before; start from
    genesis_tail. A cut end is no fault here (see the top of this module).
    """
    count, previous_hash = tail.count, tail.record_hash
    for index, record in enumerate(records):
        expected_hash = _expected_hash(record, origin, count, previous_hash)
        if expected_hash != record.record_hash:
            good = Tail(count, previous_hash)
            return good, _explain(record, records[index + 1 :], origin, good)
        previous_hash = expected_hash
        count += 1
    return Tail(count, previous_hash), None


def _expected_hash(
    record: AuditRecord, origin: str, position: int, previous_hash: bytes
) -> bytes | None:
    # The hash of a good record, or None where anything but the hash is wrong already.
    if record.position != position or record.origin != origin:
        return None
    match = _match(record.body)
    if match is None or match[1] != _format_time(record.recorded_at):
        return None
    return hash_record(previous_hash, record.body)


def _explain(record: AuditRecord, later: Sequence[AuditRecord], origin: str, good: Tail) -> Fault:
    place = good.count
    if record.origin != origin:
        return Fault(place, FaultKind.WRONG_ORIGIN, "the record belongs to another ledger")
    if record.position > place:
        why = f"the next record has position {record.position}"
        return Fault(place, FaultKind.MISSING, why)
    if record.position < place:
        why = f"a second record has position {record.position}"
        return Fault(place, FaultKind.REORDERED, why)
    match = _match(record.body)
    if match is None:
        return Fault(place, FaultKind.NOT_CANONICAL, "the body is not in canonical form")
    for other in later:
        if other.body.isascii() and hash_record(good.record_hash, other.body) == other.record_hash:
            why = f"the record that belongs here has position {other.position}"
            return Fault(place, FaultKind.REORDERED, why)
    if hash_record(good.record_hash, record.body) == record.record_hash:
        return Fault(place, FaultKind.CHANGED, "the time beside the body is not the body's")
    if place == 0:
        why = "it does not start this ledger: it was changed, or it started another one"
        return Fault(place, FaultKind.CHANGED, why)
    why = "it does not follow the record before it: it was changed, or one between was removed"
    return Fault(place, FaultKind.CHANGED, why)


def _format_time(moment: datetime) -> str:
    # Always six digits: isoformat alone drops a fraction of zero, and one moment must have one text.
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return utc.isoformat(timespec="microseconds")[:-6] + "Z"


def _match(body: str) -> re.Match[str] | None:
    return _BODY.fullmatch(body) or _BODY_1.fullmatch(body)


def _body_pattern(*, format_number: int, without: frozenset[str] = frozenset()) -> re.Pattern[str]:
    # Matching the one form is several times faster than parsing and writing again, and is as strict: members in
    # order, each once, no spaces, JSON's short escapes where they exist and \uNNNN in lower case elsewhere.
    # Repeats are possessive, so a hostile body costs one pass.
    text = r'"[ !#-\[\]-~]*+(?:\\(?:["\\]|u[0-9a-f]{4})[ !#-\[\]-~]*+)*+"'
    number = r"(?:0|[1-9][0-9]*+)"
    time = r'"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z)"'
    name = r'"[a-z_.]++"'
    members = dict.fromkeys(MAX_CHARACTERS, f"(?:null|{text})")
    members |= dict.fromkeys(_NUMBERS, f"(?:null|{number})")
    members |= {"action": name, "outcome": name, "code": f"(?:null|{name})"}
    members |= {"recorded_at": time, "format": str(format_number)}
    names = sorted(members.keys() - without)
    return re.compile(r"\{" + ",".join(f'"{m}":{members[m]}' for m in names) + r"\}")


_BODY = _body_pattern(format_number=FORMAT)
_BODY_1 = _body_pattern(format_number=1, without=_NEW_IN_2)
