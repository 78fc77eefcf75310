"""An audit record as the rules see it: parsed strictly, or not at all.

Rules: only the body counts, which alone is hashed; what stands beside it is for searching. A body that no release
could have written is no record, and that is told.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from gateway.audit.entries import is_canonical
from gateway.store.records import AuditRecord
from monitor.records import Place


class RecordInvalidError(Exception):
    """A stored record cannot be read as one."""


@dataclass(frozen=True, slots=True)
class SeenRecord:
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

    @property
    def principal(self) -> str | None:
        """Issuer and subject as one text; None before authentication."""
        return None if self.subject is None else f"{self.issuer}|{self.subject}"


def parse_record(record: AuditRecord) -> SeenRecord:
    """The record of a stored row. Raises RecordInvalidError if its body is none that a release of ours writes."""
    if not is_canonical(record.body):
        raise RecordInvalidError("the body has not the form of a record")
    members = json.loads(record.body)
    try:
        at_seconds = datetime.fromisoformat(members["recorded_at"]).timestamp()
    except ValueError as exc:
        raise RecordInvalidError("recorded_at is no time") from exc
    address = members["address"]
    return SeenRecord(
        Place(record.origin, record.position),
        at_seconds,
        members["action"],
        members["outcome"],
        members["code"],
        members["issuer"],
        members["subject"],
        members.get("token_id"),
        members.get("certificate_thumbprint"),
        None if address is None else address_key(address),
        members["model_name"],
        members["model_version"],
        members["reason"],
        members.get("detail"),
    )


@lru_cache(maxsize=4096)
def address_key(address: str) -> str:
    """What an address counts as, by the same rule as the gateway's limits: IPv4 by itself, IPv6 by its /64.

    A subscriber has all addresses of at least one /64 (RFC 6177). What is no address, such as a keyed hash, counts as
    it is: where addresses are pseudonymised, each IPv6 address stands for itself.
    """
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"


def moment(at_seconds: float) -> datetime:
    """The same as a UTC-aware time."""
    return datetime.fromtimestamp(at_seconds, UTC)
