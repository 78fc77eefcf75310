"""Bursts of refusals are found, and what is below the threshold, or no attempt, is not."""

from collections.abc import Sequence

import pytest

from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.errors import Code
from monitor.records import Place, Rule
from monitor.security.failures import refusals_of
from monitor.security.findings import Hit
from monitor.security.rules import Rules
from monitor.security.thresholds import Thresholds
from tests.monitor.security.ledger_events import all_seen, at, call, only, seen, stranger


def hits(events: Sequence[AuditEvent], thresholds: Thresholds) -> list[Hit]:
    """What the records of one ledger hit."""
    rules = Rules(thresholds, known=())
    return [
        hit
        for record in all_seen(events)
        for hit in rules.observe(record, now_seconds=at(1e6).timestamp(), is_learning=False)
    ]


BY_ADDRESS = only(address_failures=20, failure_window_seconds=600.0)
OVERALL = only(all_failures=20, failure_window_seconds=600.0)
BY_SUBJECT = only(subject_failures=20, failure_window_seconds=600.0)


def test_a_burst_from_an_address_is_found_when_it_reaches_the_threshold() -> None:
    """With how many, since when, and where to look."""
    events = [stranger(at(10 * n)) for n in range(20)]
    assert [] == hits(events[:19], BY_ADDRESS)
    assert [
        Hit(
            Rule.ADDRESS_FAILURES,
            "198.51.100.7",
            at(0).timestamp(),
            at(190).timestamp(),
            20,
            "20 calls refused before anybody was known within 10 minutes",
            (Place("gateway", 0), Place("gateway", 19)),
        )
    ] == hits(events, BY_ADDRESS)


def test_as_many_in_a_longer_time_are_no_burst() -> None:
    """A tenth more than the window is what a count may hold."""
    assert [] == hits([stranger(at(35 * n)) for n in range(40)], BY_ADDRESS)


def test_addresses_are_told_apart_but_not_inside_an_ipv6_subscriber() -> None:
    """Whoever has a /64 has all its addresses."""
    assert [] == hits([stranger(at(n), address=f"192.0.2.{n}") for n in range(40)], BY_ADDRESS)
    events = [stranger(at(n), address=f"2001:db8::{n + 1:x}") for n in range(20)]
    assert ["2001:db8::/64"] == [hit.key for hit in hits(events, BY_ADDRESS)]


def test_pseudonyms_are_told_apart_by_what_they_are() -> None:
    """A keyed hash is the same for the same address."""
    events = [stranger(at(n), address="~bGFyZ2U") for n in range(20)]
    assert ["~bGFyZ2U"] == [hit.key for hit in hits(events, BY_ADDRESS)]


@pytest.mark.parametrize(
    "code",
    [Code.AUTHN_MISSING, Code.AUTHN_INVALID, Code.ROUTE_UNKNOWN, Code.METHOD_NOT_ALLOWED],
)
def test_every_refusal_of_a_stranger_counts(code: Code) -> None:
    """Guessing paths is guessing too."""
    assert 1 == len(hits([stranger(at(n), code=code) for n in range(20)], BY_ADDRESS))


@pytest.mark.parametrize("code", [Code.AUTHN_DPOP_NONCE, Code.CLIENT_GONE])
def test_what_is_no_attempt_does_not_count(code: Code) -> None:
    """The first DPoP proof of every honest caller, and callers that hang up."""
    events = [stranger(at(n), code=code) for n in range(50)]
    assert [] == hits(events, BY_ADDRESS)
    assert [] == hits(events, OVERALL)


def test_calls_that_succeed_or_fail_by_our_fault_do_not_count() -> None:
    """Only refusals do."""
    events = [call(at(n), outcome=Outcome.FAILED, code=Code.OVERLOADED) for n in range(50)]
    assert [] == hits(events, only(address_failures=1, all_failures=1, subject_failures=1))


def test_those_without_a_record_of_their_own_count() -> None:
    """The record after them says how many they are."""
    reason = "address_failures; 18 more before it have no record of their own"
    events = [
        stranger(at(0)),
        stranger(at(60), code=Code.RATE_LIMITED, reason=reason),
    ]
    assert [20] == [hit.count for hit in hits(events, BY_ADDRESS)]
    less = reason.replace("18", "17")
    events[1] = stranger(at(60), code=Code.RATE_LIMITED, reason=less)
    assert [] == hits(events, BY_ADDRESS)


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (Code.RATE_LIMITED, "address_rate; 7 more before it have no record of their own", 8),
        (Code.RATE_LIMITED, "address_concurrency; 1 more before it have no record of their own", 2),
        (Code.RATE_LIMITED, "address_failures", 1),
        (Code.RATE_LIMITED, None, 1),
        (Code.RATE_LIMITED, "address_rate; 07 more before it have no record of their own", 1),
        (Code.RATE_LIMITED, "address_rate; -7 more before it have no record of their own", 1),
        (Code.RATE_LIMITED, "x address_rate; 7 more before it have no record of their own", 1),
        (Code.RATE_LIMITED, "address_rate; 7 more before it have no record of their own ", 1),
        (
            Code.RATE_LIMITED,
            f"address_rate; {'9' * 13} more before it have no record of their own",
            1,
        ),
        (Code.AUTHN_INVALID, "address_rate; 7 more before it have no record of their own", 1),
    ],
)
def test_only_what_the_gateway_writes_is_read_as_a_number(
    code: Code, reason: str | None, expected: int
) -> None:
    """In records whose reason no caller can choose."""
    assert expected == refusals_of(seen(stranger(at(0), code=code, reason=reason)))


def test_many_addresses_together_are_found() -> None:
    """Each of a botnet's stays below its own threshold."""
    events = [stranger(at(n), address=f"192.0.2.{n}") for n in range(20)]
    assert [] == hits(events, BY_ADDRESS)
    assert [] == hits(events[:19], OVERALL)
    assert [(Rule.ALL_FAILURES, 20)] == [(h.rule, h.count) for h in hits(events, OVERALL)]


@pytest.mark.parametrize(
    "code",
    [Code.AUTHZ_DENIED, Code.AUTHN_STEP_UP, Code.RATE_LIMITED, Code.QUOTA_EXHAUSTED],
)
def test_a_principal_that_is_refused_again_and_again_is_found(code: Code) -> None:
    """From however many addresses, and by issuer and subject."""
    events = [
        call(at(n), outcome=Outcome.REFUSED, code=code, address=f"192.0.2.{n}") for n in range(20)
    ]
    assert [] == hits(events[:19], BY_SUBJECT)
    found = hits(events, BY_SUBJECT)
    assert [("https://login.test|camera-1", 20)] == [(hit.key, hit.count) for hit in found]
    others = [call(at(n), outcome=Outcome.REFUSED, code=code, issuer=f"i{n}") for n in range(20)]
    assert [] == hits(others, BY_SUBJECT)


def test_bad_images_of_a_principal_are_no_burst() -> None:
    """A camera with a broken encoder sends nothing else."""
    events = [call(at(n), outcome=Outcome.REFUSED, code=Code.IMAGE_CORRUPT) for n in range(50)]
    assert [] == hits(events, BY_SUBJECT)


def test_who_is_refused_after_authentication_is_no_stranger() -> None:
    """The address of a site does not answer for one camera of it."""
    events = [call(at(n), outcome=Outcome.REFUSED, code=Code.AUTHZ_DENIED) for n in range(50)]
    assert [] == hits(events, BY_ADDRESS)


def test_filling_the_room_to_hide_a_burst_is_found_itself() -> None:
    """A count that is forgotten within its window is as loud as the burst it hides."""
    thresholds = only(address_failures=20, max_keys=100)
    events = [stranger(at(0), address="198.51.100.7") for _ in range(19)]
    events += [stranger(at(1), address=f"10.0.{n // 256}.{n % 256}") for n in range(100)]
    events.append(stranger(at(2), address="198.51.100.7"))
    found = hits(events, thresholds)
    assert {"*"} == {hit.key for hit in found}
    assert "more than 100 keys at a time" in found[0].words


def test_a_burst_on_an_operators_route_counts_by_its_address_too() -> None:
    """Whatever was asked for."""
    events = [stranger(at(n), action=Action.MODELS_PROMOTE) for n in range(20)]
    assert 1 == len(hits(events, BY_ADDRESS))
