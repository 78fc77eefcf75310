"""An audit record as the rules see it: parsed strictly, or not at all.

Rules: only the body counts, which alone is hashed; what stands beside it is for searching. A body that no release
could have written is no record, and that is told.
"""

from datetime import UTC, datetime
from json import loads
from typing import Any, NamedTuple

from gateway.audit.entries import body_patterns
from gateway.store.addresses import address_key
from monitor.records import Place


class RecordInvalidError(Exception):
    """A stored record cannot be read as one."""


# A tuple, and no frozen dataclass, which takes eight times as long to make: one is made of every record.
class SeenRecord(NamedTuple):
    """What the rules need of one record; a field that does not apply is None.

    at_seconds: since 1970, as the gateway's clock said. action, outcome, code: as stored, one of those that
    gateway.audit.events and gateway.errors name. address: as limits count it, IPv6 by /64. Values that begin with "~"
    are keyed hashes, the same for the same value.
    """

    place: Place
    at_seconds: float
    action: str
    outcome: str
    code: str | None
    issuer: str | None
    subject: str | None
    token_id: str | None
    certificate: str | None
    address: str | None
    model_name: str | None
    model_version: str | None
    reason: str | None
    detail: str | None
    result_count: int | None

    @property
    def principal(self) -> str | None:
        """Issuer and subject as one text; None before authentication."""
        return None if self.subject is None else f"{self.issuer}|{self.subject}"


# Half the time of parsing the body as JSON, once its form is checked.
_READ = (
    "recorded_at",
    "action",
    "outcome",
    "code",
    "issuer",
    "subject",
    "token_id",
    "certificate_thumbprint",
    "address",
    "model_name",
    "model_version",
    "reason",
    "detail",
    "result_count",
)
_TIME, _ADDRESS = _READ.index("recorded_at"), _READ.index("address")
_PATTERNS = body_patterns(frozenset(_READ))


def parse_record(place: Place, body: str) -> SeenRecord:
    """The record at a place. Raises RecordInvalidError if its body is none that a release of ours writes."""
    match = _PATTERNS[0].fullmatch(body)
    members = _earlier(body) if match is None else match.group(*_READ)
    values: list[Any] = [*map(_value, members)]
    try:
        values[_TIME] = datetime.fromisoformat(values[_TIME]).timestamp()
    except ValueError as exc:
        raise RecordInvalidError("recorded_at is no time") from exc
    if values[_ADDRESS] is not None:
        values[_ADDRESS] = address_key(values[_ADDRESS])
    return SeenRecord(place, *values)


def _value(json: str | None) -> str | int | None:
    if json is None or json == "null":
        return None
    if json[0] != '"':
        return int(json)
    return json[1:-1] if "\\" not in json else _unescaped(json)


def _unescaped(json: str) -> str:
    value: str = loads(json)
    # A gateway stores nothing that could not be shown: half a character or a terminal's commands are no text of it.
    if not value.isprintable():
        raise RecordInvalidError("a text has characters that no gateway stores")
    return value


def _earlier(body: str) -> tuple[str | None, ...]:
    for pattern in _PATTERNS[1:]:
        match = pattern.fullmatch(body)
        if match is not None:
            found = match.groupdict()
            return tuple(found.get(name) for name in _READ)
    raise RecordInvalidError("the body has not the form of a record")


def moment(at_seconds: float) -> datetime:
    """The same as a UTC-aware time."""
    return datetime.fromtimestamp(at_seconds, UTC)
