"""What of an event enters the ledger: one canonical text, which alone is hashed. Pure.

Rules: what is hashed is the stored text, never one written anew from its parts; a body is far below the 65,535 bytes
that a bundle of C2SP tlog-tiles can hold.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii
from operator import attrgetter, itemgetter

from gateway.audit.events import MAX_CHARACTERS, AuditEvent, is_plain, printable
from gateway.audit.merkle import hash_leaf
from gateway.errors import Code, SettingsError
from gateway.store.records import AuditRecord

FORMAT = 3
# What records of earlier formats lack; a ledger may begin with such and go on in this one.
_NEW_IN_2 = frozenset({"token_id", "certificate_thumbprint"})
_NEW_IN_3 = frozenset({"authentication", "proof_key_thumbprint", "detail", "pseudonymised"})

# A name that can also stand in a signed note: C2SP signed-note allows neither spaces nor "+" in key names.
_ORIGIN = re.compile(r"[!-*,-~]{1,128}")

_NUMBERS = frozenset({"input_bytes", "result_count"})
_TEXTS = tuple(MAX_CHARACTERS)
_LIMITS = tuple(MAX_CHARACTERS.values())
_texts_of = attrgetter(*_TEXTS)
_REQUEST_ID, _SUBJECT, _MODEL_NAME = map(_TEXTS.index, ("request_id", "subject", "model_name"))
# A template and json's own quoting write the same text as a JSONEncoder with sorted keys, in half the time, on the path
# that every call takes twice; a test compares.
_VALUES = (*_TEXTS, "recorded_at", "action", "outcome", "code", "input_bytes", "result_count")
_MEMBERS = sorted({*_VALUES, "format"})
_BODY = (
    "{"
    + ",".join(
        f'"{member}":' + (str(FORMAT) if member == "format" else "%s") for member in _MEMBERS
    )
    + "}"
)
_in_order = itemgetter(*(_VALUES.index(member) for member in _MEMBERS if member != "format"))


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as it is stored: its body, the body's leaf hash, and the members that it is searched by."""

    body: str
    leaf_hash: bytes
    recorded_at: str
    action: str
    outcome: str
    request_id: str | None
    subject: str | None
    model_name: str | None


def checked_origin(unverified_origin: str) -> str:
    """The name of a ledger: 1 to 128 printable ASCII characters without space or plus.

    Raises SettingsError for any other text.
    """
    if not is_origin(unverified_origin):
        raise SettingsError(
            Code.SETTINGS_INVALID,
            "the ledger's origin must be 1 to 128 printable ASCII characters without spaces or '+'",
        )
    return unverified_origin


def is_origin(unverified: object) -> bool:
    """Whether a value can be the name of a ledger."""
    return isinstance(unverified, str) and _ORIGIN.fullmatch(unverified) is not None


def encode_event(event: AuditEvent) -> Entry:
    """The one text of an event, ASCII JSON, members sorted, no spaces, every member present; and what goes beside it.

    Text fields are bounded and printable in it (see events.printable). Raises RuntimeError for a naive time.
    """
    if event.recorded_at.tzinfo is None:
        raise RuntimeError("internal: a naive time reached the ledger")
    recorded_at = format_time(event.recorded_at)
    action, outcome = event.action.value, event.outcome.value
    texts = [*map(_kept, _texts_of(event), _LIMITS)]
    values = [
        *map(_quoted, texts),
        f'"{recorded_at}"',
        f'"{action}"',
        f'"{outcome}"',
        "null" if event.code is None else f'"{event.code.value}"',
        "null" if event.input_bytes is None else str(event.input_bytes),
        "null" if event.result_count is None else str(event.result_count),
    ]
    body = _BODY % _in_order(values)
    return Entry(
        body=body,
        leaf_hash=hash_leaf(body.encode("ascii")),
        recorded_at=recorded_at,
        action=action,
        outcome=outcome,
        request_id=texts[_REQUEST_ID],
        subject=texts[_SUBJECT],
        model_name=texts[_MODEL_NAME],
    )


def _kept(text: str | None, limit: int) -> str | None:
    if text is None or (len(text) <= limit and is_plain(text)):
        return text
    return printable(text, max_characters=limit)


def _quoted(text: str | None) -> str:
    return "null" if text is None else encode_basestring_ascii(text)


def audit_record(entry: Entry, *, origin: str, position: int) -> AuditRecord:
    """The entry at its place in a ledger."""
    return AuditRecord(
        origin,
        position,
        entry.body,
        entry.leaf_hash,
        entry.recorded_at,
        entry.action,
        entry.outcome,
        entry.request_id,
        entry.subject,
        entry.model_name,
    )


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with six digits and Z, always 27 characters, so that text sorts by time."""
    # isoformat alone drops a fraction of zero, and one moment must have one text.
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return utc.isoformat(timespec="microseconds")[:-6] + "Z"


def is_canonical(body: str) -> bool:
    """Whether a text is a body that this release or one before could have written."""
    return any(pattern.fullmatch(body) for pattern in _BODIES)


def body_patterns(captured: frozenset[str] = frozenset()) -> tuple[re.Pattern[str], ...]:
    """The form of a body in each format, the newest first, for whoever reads some members of very many.

    captured: members that a group of their name holds as JSON, where the format has them.
    """
    return (
        _body_pattern(format_number=FORMAT, captured=captured),
        _body_pattern(format_number=2, without=_NEW_IN_3, captured=captured),
        _body_pattern(format_number=1, without=_NEW_IN_2 | _NEW_IN_3, captured=captured),
    )


def _body_pattern(
    *,
    format_number: int,
    without: frozenset[str] = frozenset(),
    captured: frozenset[str],
) -> re.Pattern[str]:
    # Matching the one form is several times faster than parsing and writing again, and is as strict: members in
    # order, each once, no spaces, JSON's short escapes where they exist and \uNNNN in lower case elsewhere.
    # Repeats are possessive, so a hostile body costs one pass.
    text = r'"[ !#-\[\]-~]*+(?:\\(?:["\\]|u[0-9a-f]{4})[ !#-\[\]-~]*+)*+"'
    number = r"(?:0|[1-9][0-9]*+)"
    time = r'"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z)"'
    name = r'"[a-z_.]++"'
    members = dict.fromkeys(MAX_CHARACTERS, f"(?:null|{text})")
    members |= dict.fromkeys(_NUMBERS, f"(?:null|{number})")
    members |= {"action": name, "outcome": name, "code": f"(?:null|{name})"}
    members |= {"recorded_at": time, "format": str(format_number)}
    members |= {m: f"(?P<{m}>{members[m]})" for m in captured}
    names = sorted(members.keys() - without)
    return re.compile(r"\{" + ",".join(f'"{m}":{members[m]}' for m in names) + r"\}")


_BODIES = body_patterns()
