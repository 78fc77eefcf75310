"""Audit records for tests: events with few words, and ledgers made of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.audit.entries import audit_record, encode_event
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.errors import Code
from gateway.store.addresses import address_key
from gateway.store.records import AuditRecord
from monitor.records import Place
from monitor.security.seen import SeenRecord, parse_record
from monitor.security.thresholds import Thresholds

ISSUER = "https://login.test"
MONDAY = datetime(2030, 4, 1, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """So many seconds after noon of a Monday."""
    return MONDAY + timedelta(seconds=seconds)


def event(action: Action, outcome: Outcome, when: datetime, **members: Any) -> AuditEvent:
    """Any record."""
    return AuditEvent(action=action, outcome=outcome, recorded_at=when, **members)


def call(
    when: datetime,
    *,
    outcome: Outcome = Outcome.ANSWERED,
    action: Action = Action.PREDICT,
    subject: str = "camera-1",
    token_id: str = "token-1",
    address: str = "192.0.2.1",
    issuer: str = ISSUER,
    **members: Any,
) -> AuditEvent:
    """A record of a call whose token was good."""
    return event(
        action,
        outcome,
        when,
        issuer=issuer,
        subject=subject,
        token_id=token_id,
        address=address,
        route="/predict",
        method="POST",
        **members,
    )


def stranger(
    when: datetime,
    *,
    code: Code = Code.AUTHN_INVALID,
    address: str = "198.51.100.7",
    action: Action = Action.PREDICT,
    reason: str | None = None,
) -> AuditEvent:
    """A record of a call that was refused before anybody was known."""
    return event(action, Outcome.REFUSED, when, code=code, address=address, reason=reason)


def command(when: datetime, action: Action, **members: Any) -> AuditEvent:
    """A record of a command on the host."""
    names: dict[str, Any] = {
        "issuer": "operating-system",
        "subject": "gatewatch",
        "client_id": "gateway-cli",
    }
    return event(action, members.pop("outcome", Outcome.ANSWERED), when, **{**names, **members})


def stored(
    events: Iterable[AuditEvent], *, origin: str = "gateway", first: int = 0
) -> Iterator[AuditRecord]:
    """The events as a ledger has them, in this order."""
    for position, each in enumerate(events, first):
        yield audit_record(encode_event(each), origin=origin, position=position)


def seen(each: AuditEvent, *, origin: str = "gateway", position: int = 0) -> SeenRecord:
    """One event as the rules see it."""
    return parse_record(Place(origin, position), encode_event(each).body)


def all_seen(events: Iterable[AuditEvent], *, origin: str = "gateway") -> list[SeenRecord]:
    """All of them, as one ledger has them."""
    return [seen(each, origin=origin, position=n) for n, each in enumerate(events)]


def quickly_seen(each: AuditEvent, *, origin: str, position: int) -> SeenRecord:
    """What seen gives, for many: nothing is encoded."""
    return SeenRecord(
        Place(origin, position),
        each.recorded_at.timestamp(),
        each.action.value,
        each.outcome.value,
        None if each.code is None else each.code.value,
        each.issuer,
        each.subject,
        each.token_id,
        each.certificate_thumbprint,
        None if each.address is None else address_key(each.address),
        each.model_name,
        each.model_version,
        each.reason,
        each.detail,
        each.result_count,
    )


@dataclass(frozen=True, slots=True)
class Written:
    """An event and the ledger that it is in."""

    origin: str
    event: AuditEvent


NOTHING = Thresholds(
    address_failures=0,
    all_failures=0,
    subject_failures=0,
    failure_window_seconds=600.0,
    token_addresses=0,
    token_certificates=0,
    token_kept_seconds=86_400.0,
    operator_denials=0,
    operator_unproven=0,
    working_hours=None,
    off_hours_excepted=frozenset(),
    looks_at_new_issuers=False,
    looks_at_new_keys=False,
    sample_views=0,
    audit_reads=0,
    audit_records=0,
    exporters=frozenset(),
    predictions=0,
    looks_at_loads=False,
    clock_tolerance_seconds=0.0,
    looks_at_outages=False,
    max_keys=1000,
)


def only(**thresholds: Any) -> Thresholds:
    """Everything switched off but this."""
    return replace(NOTHING, **thresholds)
