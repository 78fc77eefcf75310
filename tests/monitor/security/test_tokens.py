"""One token in two places is found; one caller's own places are not two."""

from collections.abc import Sequence
from dataclasses import replace

from gateway.audit.events import Action, AuditEvent
from monitor.records import Place, Rule
from monitor.security.findings import Hit
from monitor.security.tokens import TokenPlaces
from tests.monitor.security.ledger_events import all_seen, at, call, command, stranger


def hits(
    events: Sequence[AuditEvent],
    *,
    max_addresses: int = 1,
    max_certificates: int = 1,
    max_keys: int = 1000,
) -> list[Hit]:
    """What the records hit."""
    places = TokenPlaces(
        max_addresses=max_addresses,
        max_certificates=max_certificates,
        kept_seconds=86_400.0,
        max_keys=max_keys,
    )
    return [hit for record in all_seen(events) for hit in places.observe(record)]


def test_a_token_from_two_addresses_is_found_once() -> None:
    """With both, and with its first record and the other's."""
    events = [
        call(at(0)),
        call(at(5), address="198.51.100.1"),
        call(at(6)),
        call(at(7), address="198.51.100.1"),
    ]
    assert [
        Hit(
            Rule.TOKEN_SHARED,
            "https://login.test|token-1",
            at(0).timestamp(),
            at(5).timestamp(),
            1,
            "the token of camera-1 was used from 2 addresses: 192.0.2.1, 198.51.100.1",
            (Place("gateway", 0), Place("gateway", 1)),
        )
    ] == hits(events)


def test_a_token_with_two_certificates_is_found() -> None:
    """From one address, as behind a site's router."""
    events = [call(at(n), certificate_thumbprint=f"c{n}") for n in range(2)]
    (found,) = hits(events)
    assert "was used from 2 client certificates: c0, c1" in found.words


def test_a_connection_without_a_certificate_is_no_other_certificate() -> None:
    """Certificates are shown where they are asked for."""
    events = [call(at(0), certificate_thumbprint="c0"), call(at(1))]
    assert [] == hits(events)


def test_another_token_of_the_same_principal_may_come_from_elsewhere() -> None:
    """A phone that moves signs in again."""
    assert [] == hits([call(at(0)), call(at(1), token_id="token-2", address="198.51.100.1")])


def test_the_same_id_of_another_issuer_is_another_token() -> None:
    """A jti is unique for its issuer only."""
    assert [] == hits([call(at(0)), call(at(1), issuer="https://b.test", address="198.51.100.1")])


def test_an_ipv6_subscriber_is_one_place() -> None:
    """Hosts change their addresses inside their prefix."""
    assert [] == hits([call(at(n), address=f"2001:db8::{n:x}") for n in range(1, 9)])


def test_as_many_places_as_are_allowed_are_no_finding() -> None:
    """For clients with IPv4 and IPv6; the one after is."""
    events = [call(at(n), address=f"192.0.2.{n}") for n in range(4)]
    assert [] == hits(events[:3], max_addresses=3)
    assert 1 == len(hits(events, max_addresses=3))
    assert [] == hits(events, max_addresses=0)


def test_places_of_a_token_are_bounded() -> None:
    """A token that is everywhere is told some times and not for each place."""
    assert 15 == len(hits([call(at(n), address=f"192.0.2.{n}") for n in range(200)]))


def test_records_without_a_verified_token_are_none_of_it() -> None:
    """Guesses, and commands that name a token they revoke."""
    events = [
        call(at(0)),
        stranger(at(1), address="198.51.100.1"),
        command(at(2), Action.TOKENS_REVOKE, token_id="token-1"),
    ]
    assert [] == hits(events)


def test_a_record_that_names_no_address_is_no_other_place() -> None:
    """It tells nothing about where the token was."""
    assert [] == hits([call(at(0)), replace(call(at(1)), address=None), call(at(2))])


def test_a_token_in_use_is_not_forgotten_for_newer_ones() -> None:
    """Only whoever is signed as many tokens as there is room for could hide it."""
    others = [call(at(n), token_id=f"other-{n}") for n in range(1, 100)]
    again = [call(at(100)), *[call(at(n), token_id=f"more-{n}") for n in range(101, 150)]]
    stolen = call(at(200), address="198.51.100.1")
    assert 1 == len(hits([call(at(0)), *others, *again, stolen], max_keys=100))


def test_a_token_that_cannot_be_good_any_more_is_forgotten() -> None:
    """Its time is over, and its room is wanted."""
    day = 86_400
    events = [call(at(0)), *[call(at(day + 1 + n), token_id=f"t{n}") for n in range(3)]]
    assert [] == hits([*events, call(at(day + 9), address="198.51.100.1")])
