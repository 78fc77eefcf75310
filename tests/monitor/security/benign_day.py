"""A busy day on which nothing is wrong, as the ledgers of two replicas have it: what no rule may find anything in.

200 cameras behind eight addresses with client certificates and a new token each hour, the old one still in use for
some minutes; phones that move to another address with another token; homes whose IPv6 addresses change inside their
prefix; DPoP callers; slips of the pen and scanners' crumbs; a deployment after which tokens have ended; operators who
are asked to sign in again and then promote, canary and roll back; commands on the hosts; an auditor who pages, a
service that exports at night, an analyst who looks at samples. The day is the last Sunday of March in Berlin, which has
23 hours. Replicas commit a little out of the order of their clocks.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from gateway.audit.details import format_detail
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.errors import Code
from tests.monitor.security.ledger_events import (
    ISSUER,
    Written,
    call,
    command,
    event,
    stranger,
)

ZONE = "Europe/Berlin"
BEGIN = datetime(2030, 3, 31, 0, 0, tzinfo=ZoneInfo(ZONE)).astimezone(UTC)
HOURS = 23
ORIGINS = ("gateway-a", "gateway-b")
SERVICE_ISSUER = "https://services.test"
SHIPPER = "siem-shipper"
# Records that wait for the same commit may be this much out of order; the clocks of two hosts differ by as much.
_JITTER_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Day:
    """How much of everything there is. seconds_between_calls: of one camera."""

    cameras: int = 200
    sites: int = 8
    phones: int = 60
    homes: int = 20
    dpop_callers: int = 10
    seconds_between_calls: float = 240.0
    seed: int = 1


def benign_day(day: Day = Day()) -> Mapping[str, list[AuditEvent]]:
    """By ledger, its records in the order of their positions."""
    rng = random.Random(day.seed)
    written = [*_everything(day, rng)]
    ledgers: dict[str, list[AuditEvent]] = {origin: [] for origin in ORIGINS}
    order = sorted(
        written,
        key=lambda w: w.event.recorded_at.timestamp() + rng.uniform(0.0, _JITTER_SECONDS),
    )
    for each in order:
        ledgers[each.origin].append(each.event)
    return ledgers


def _everything(day: Day, rng: random.Random) -> Iterator[Written]:
    yield Written(ORIGINS[0], order_of_the_day_before())
    yield from _starts(0.0)
    for number in range(day.cameras):
        yield from _camera(number, day, rng)
    for number in range(day.phones):
        yield from _phone(number, rng)
    for number in range(day.homes):
        yield from _home(number, rng)
    for number in range(day.dpop_callers):
        yield from _dpop_caller(number, rng)
    yield from _slips(rng)
    yield from _deployment(day, rng)
    yield from _operators(rng)
    yield from _hosts()
    yield from _readers(rng)


def moment(hours: float) -> datetime:
    """So many hours after the day began."""
    return BEGIN + timedelta(hours=hours)


def local(clock: str) -> datetime:
    """A time of the day by the wall clock, HH:MM."""
    hour, minute = map(int, clock.split(":"))
    return datetime(2030, 3, 31, hour, minute, tzinfo=ZoneInfo(ZONE)).astimezone(UTC)


def order_of_the_day_before() -> AuditEvent:
    """The promotion of what serves when the day begins, in the afternoon before."""
    model: dict[str, Any] = {"model_name": "belt", "model_version": "1"}
    return command(moment(-8), Action.MODELS_PROMOTE, **model)


def _anywhere(rng: random.Random, each: AuditEvent) -> Written:
    return Written(rng.choice(ORIGINS), each)


def _starts(hours: float) -> Iterator[Written]:
    detail = format_detail(issuer=ISSUER, added=["k1", "k2"], digests=["d1", "d2"])
    services = format_detail(issuer=SERVICE_ISSUER, added=["s1"], digests=["e1"])
    for number, origin in enumerate(ORIGINS):
        when = moment(hours) + timedelta(seconds=number)
        model: dict[str, Any] = {"model_name": "belt", "model_version": "1"}
        if not hours:
            for text in (detail, services):
                keys = event(Action.ISSUER_KEYS, Outcome.ANSWERED, when, detail=text)
                yield Written(origin, keys)
        yield Written(origin, event(Action.GATEWAY_START, Outcome.ANSWERED, when, **model))
        yield Written(origin, event(Action.KEYS_USE, Outcome.ANSWERED, when, **model))
        yield Written(origin, event(Action.MODELS_LOAD, Outcome.ANSWERED, when, **model))


def _pair(rng: random.Random, when: datetime, **members: Any) -> Iterator[Written]:
    origin = rng.choice(ORIGINS)
    bad = rng.random()
    yield Written(origin, call(when, outcome=Outcome.ADMITTED, **members))
    later = when + timedelta(milliseconds=rng.uniform(5, 80))
    if bad < 0.002:
        corrupt = call(later, outcome=Outcome.REFUSED, code=Code.IMAGE_CORRUPT, **members)
        yield Written(origin, corrupt)
    elif bad < 0.003:
        gone = call(later, outcome=Outcome.REFUSED, code=Code.CLIENT_GONE, **members)
        yield Written(origin, gone)
    else:
        yield Written(origin, call(later, **members))


def _camera(number: int, day: Day, rng: random.Random) -> Iterator[Written]:
    turn = rng.uniform(0, 3600)
    seconds = rng.uniform(0, day.seconds_between_calls)
    while seconds < HOURS * 3600:
        hour, into = divmod(seconds + turn, 3600)
        # For ten minutes the calls under way, and a second process of the camera, use the token of before.
        is_overlap = into < 600 and rng.random() < 0.3
        token = int(hour) - is_overlap
        yield from _pair(
            rng,
            BEGIN + timedelta(seconds=seconds),
            subject=f"camera-{number}",
            token_id=f"camera-{number}-{token}",
            address=f"203.0.113.{number % day.sites}",
            certificate_thumbprint=f"certificate-of-camera-{number}",
        )
        seconds += day.seconds_between_calls * rng.uniform(0.5, 1.5)


def _phone(number: int, rng: random.Random) -> Iterator[Written]:
    hours, session = rng.uniform(0, 2), 0
    while hours < HOURS:
        end = hours + rng.uniform(0.2, 2)
        address = f"100.{64 + number}.{session}.{rng.randrange(256)}"
        while hours < min(end, HOURS):
            when = moment(hours)
            members: dict[str, Any] = {
                "subject": f"phone-{number}",
                "token_id": f"phone-{number}-{session}",
            }
            yield from _pair(rng, when, address=address, **members)
            hours += rng.uniform(0.005, 0.05)
        session += 1


def _home(number: int, rng: random.Random) -> Iterator[Written]:
    for minute in range(0, HOURS * 60, 7):
        host = f"{rng.randrange(1, 65536):x}:{rng.randrange(1, 65536):x}"
        yield from _pair(
            rng,
            BEGIN + timedelta(minutes=minute, seconds=number),
            subject=f"home-{number}",
            token_id=f"home-{number}-{minute // 60}",
            address=f"2001:db8:{number:x}::{host}:1",
        )


def _dpop_caller(number: int, rng: random.Random) -> Iterator[Written]:
    address = f"203.0.113.{200 + number}"
    for minute in range(0, HOURS * 60, 11):
        when = BEGIN + timedelta(minutes=minute, seconds=2 * number)
        yield _anywhere(rng, stranger(when, code=Code.AUTHN_DPOP_NONCE, address=address))
        members: dict[str, Any] = {
            "subject": f"robot-{number}",
            "token_id": f"robot-{number}-{minute // 60}",
        }
        yield from _pair(rng, when + timedelta(seconds=1), address=address, **members)


def _slips(rng: random.Random) -> Iterator[Written]:
    """Wrong paths, missing headers, a scanner that gives up, a client that is too fast for a moment."""
    codes = (
        Code.ROUTE_UNKNOWN,
        Code.METHOD_NOT_ALLOWED,
        Code.AUTHN_MISSING,
        Code.AUTHN_INVALID,
        Code.RATE_LIMITED,
    )
    for _ in range(300):
        code = rng.choice(codes)
        reason = "address_rate" if code is Code.RATE_LIMITED else None
        address = f"203.0.113.{rng.randrange(8)}"
        when = moment(rng.uniform(0, HOURS))
        yield _anywhere(rng, stranger(when, code=code, address=address, reason=reason))
    for second in range(120):
        when = local("03:30") + timedelta(seconds=second)
        scan = stranger(when, code=Code.ROUTE_UNKNOWN, address="198.51.100.99")
        yield _anywhere(rng, scan)
    for number in range(40):
        when = local("11:20") + timedelta(seconds=2 * number)
        yield _anywhere(
            rng,
            call(
                when,
                outcome=Outcome.REFUSED,
                code=Code.RATE_LIMITED,
                reason="principal_rate",
                subject="phone-0",
                token_id="phone-0-fast",
                address="100.64.9.9",
            ),
        )


def _deployment(day: Day, rng: random.Random) -> Iterator[Written]:
    """Both replicas are replaced; tokens that ended meanwhile are refused up to three times each."""
    for origin in ORIGINS:
        yield Written(origin, event(Action.GATEWAY_STOP, Outcome.ANSWERED, moment(13.99)))
    yield from _starts(14.0)
    for number in range(day.cameras):
        address = f"203.0.113.{number % day.sites}"
        for _ in range(rng.randrange(4)):
            when = moment(14.01) + timedelta(seconds=rng.uniform(0, 240))
            yield _anywhere(rng, stranger(when, address=address))
    reason = "address_failures; 23 more before it have no record of their own"
    limited = stranger(moment(14.08), code=Code.RATE_LIMITED, address="203.0.113.1", reason=reason)
    yield _anywhere(rng, limited)


def _operators(rng: random.Random) -> Iterator[Written]:
    """In working hours, each change first refused for want of a fresh second factor."""
    changes = (
        ("07:05", Action.MODELS_TRAFFIC, "2", "traffic=canary share=0.05"),
        ("09:40", Action.MODELS_PROMOTE, "2", None),
        ("13:15", Action.MODELS_ROLLBACK, "1", None),
        ("17:30", Action.MODELS_PROMOTE, "2", None),
        ("18:55", Action.MODELS_PROMOTE, "3", None),
    )
    for number, (clock, action, version, reason) in enumerate(changes):
        when = local(clock)
        origin = ORIGINS[number % 2]
        members: dict[str, Any] = {
            "action": action,
            "subject": f"operator-{number % 3}",
            "address": f"192.0.2.{number % 3}",
            "model_name": "belt",
        }
        token = f"operator-{number}"
        refused = call(
            when - timedelta(minutes=1),
            outcome=Outcome.REFUSED,
            code=Code.AUTHN_STEP_UP,
            reason="auth_time_old",
            token_id=token,
            **members,
        )
        yield Written(origin, refused)
        # A rollback by name knows its version only when it is made.
        asked = None if action is Action.MODELS_ROLLBACK else version
        fresh: dict[str, Any] = {"token_id": f"{token}-fresh", "reason": reason}
        admitted = call(when, outcome=Outcome.ADMITTED, model_version=asked, **fresh, **members)
        yield Written(origin, admitted)
        for replica in ORIGINS:
            loaded = event(
                Action.MODELS_LOAD,
                Outcome.ANSWERED,
                when + timedelta(seconds=rng.uniform(1, 20)),
                model_name="belt",
                model_version=version,
            )
            yield Written(replica, loaded)
        done = when + timedelta(seconds=3)
        yield Written(origin, call(done, model_version=version, **fresh, **members))


def _hosts() -> Iterator[Written]:
    """Commands on the hosts in working hours; what runs by itself at any time."""
    commands = (
        ("08:10", Action.MODELS_SEAL),
        ("08:20", Action.KEYS_ROTATE),
        ("10:00", Action.TOKENS_REVOKE),
        ("15:00", Action.TOKENS_RESTORE),
        ("02:05", Action.AUDIT_VERIFY),
        ("04:00", Action.REPORT_MAKE),
    )
    for clock, action in commands:
        for seconds, outcome in ((0, Outcome.ADMITTED), (2, Outcome.ANSWERED)):
            when = local(clock) + timedelta(seconds=seconds)
            yield Written(ORIGINS[0], command(when, action, outcome=outcome))


def _readers(rng: random.Random) -> Iterator[Written]:
    begun = command(local("01:10"), Action.AUDIT_EXPORT, subject=SHIPPER, outcome=Outcome.ADMITTED)
    yield Written(ORIGINS[0], begun)
    for minute in range(0, 60, 5):
        when = local("01:10") + timedelta(minutes=minute)
        shipped = command(when, Action.AUDIT_EXPORT, subject=SHIPPER, result_count=200_000)
        yield Written(ORIGINS[0], shipped)
    auditor: dict[str, Any] = {
        "subject": "auditor-1",
        "token_id": "auditor-1-1",
        "address": "192.0.2.51",
    }
    for page in range(120):
        when = local("10:00") + timedelta(seconds=20 * page)
        read = call(when, action=Action.AUDIT_READ, result_count=500, **auditor)
        yield Written(ORIGINS[1], read)
    # A client that asks for the proof of each of its answers.
    for number in range(4000):
        when = local("09:00") + timedelta(seconds=2 * number)
        members: dict[str, Any] = {"subject": "prover", "token_id": f"prover-{number // 1800}"}
        yield _anywhere(rng, call(when, action=Action.AUDIT_PROVE, **members))
    for view in range(60):
        when = local("11:00") + timedelta(seconds=40 * view)
        looked = command(when, Action.SAMPLES_VIEW, subject="analyst")
        yield _anywhere(rng, looked)
