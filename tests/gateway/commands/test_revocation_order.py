"""What is denied is what was meant: options and tokens are read strictly."""

import base64
import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from gateway.commands.revocation_order import (
    OrderInvalidError,
    RevocationOrder,
    TokenNames,
    denial_of,
    parse_duration,
    parse_issued_before,
    read_names,
    read_order,
)
from gateway.identity.issue import issue_token
from gateway.store.records import TokenDenial

NOW = datetime(2031, 5, 6, 7, 8, 9, 250_000, tzinfo=UTC)
ISSUER = "https://issuer.example"
NAMES = TokenNames(ISSUER, "camera-7", "token-1")
NOTHING: dict[str, Any] = {
    "names": None,
    "token_id": None,
    "subject": None,
    "issuer": None,
    "known_issuers": [ISSUER],
    "issued_before": None,
    "lasts": None,
    "why": "leaked",
    "is_everybody": False,
    "now": NOW,
}


def order(**options: Any) -> RevocationOrder:
    """The order of these options."""
    return read_order(**{**NOTHING, **options})


def denial(**members: Any) -> TokenDenial:
    """The denial of an order with these members, where tokens live for an hour at most."""
    made = RevocationOrder(issuer=ISSUER, why="leaked", **members)
    return denial_of(made, token_max_lifetime_seconds=3600, now=NOW, created_by="root")


# Orders.


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"token_id": "token-1"}, {"token_id": "token-1"}),
        ({"subject": "camera-7"}, {"subject": "camera-7"}),
        ({"names": NAMES}, {"token_id": "token-1", "subject": "camera-7"}),
        ({"subject": "a", "issuer": "b"}, {"subject": "a", "issuer": "b"}),
        ({"is_everybody": True}, {}),
        (
            {"is_everybody": True, "issued_before": "2031-05-06T07:08:09Z"},
            {"issued_before": NOW.replace(microsecond=0)},
        ),
        ({"subject": "a", "lasts": "15m"}, {"subject": "a", "lasts": timedelta(minutes=15)}),
    ],
)
def test_an_order_says_what_the_options_say(
    options: dict[str, Any], expected: dict[str, Any]
) -> None:
    """And leaves open what they leave open; the issuer is the configured one unless another is named."""
    assert RevocationOrder(**{"issuer": ISSUER, "why": "leaked", **expected}) == order(**options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "deny everybody of https://issuer.example"),
        ({"issued_before": "now"}, "deny everybody"),
        ({"lasts": "1h"}, "deny everybody"),
        ({"subject": "a", "is_everybody": True}, "leave one out"),
        ({"token_id": "a", "is_everybody": True}, "leave one out"),
        ({"names": NAMES, "is_everybody": True}, "leave one out"),
        ({"names": NAMES, "token_id": "a"}, "--token-file is one token"),
        ({"names": NAMES, "subject": "a"}, "--token-file is one token"),
        ({"names": NAMES, "issued_before": "now"}, "--token-file is one token"),
        ({"names": NAMES, "issuer": "b"}, "its issuer is https://issuer.example, not b"),
        ({"token_id": "t", "known_issuers": ["a", "b"]}, "several are trusted, name the one: a, b"),
        ({"names": NAMES, "issuer": "b"}, "name it with --issuer if it is meant"),
        ({"names": NAMES, "known_issuers": ["b"]}, "name it with --issuer if it is meant"),
        ({"token_id": ""}, "--jti: no token has it"),
        ({"token_id": "a\nb"}, "--jti"),
        ({"subject": "a" * 257}, "--subject"),
        ({"subject": "a", "issuer": "\u202e"}, "--issuer"),
        ({"subject": "a", "why": ""}, "--why"),
        ({"subject": "a", "why": "a\x1b[2J"}, "--why"),
        ({"subject": "a", "why": "a" * 513}, "--why"),
        ({"subject": "a", "lasts": "soon"}, "a duration is"),
        ({"subject": "a", "issued_before": "yesterday"}, "a time is"),
    ],
)
def test_an_order_that_is_not_clear_is_refused(options: dict[str, Any], told: str) -> None:
    """With what to write instead; nobody denies everybody by leaving an option out."""
    with pytest.raises(OrderInvalidError, match=told):
        order(**options)


# How long a denial lasts.

SKEW = timedelta(seconds=120)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("members", "ends_at"),
    [
        ({"token_id": "token-1"}, NOW + HOUR + SKEW),
        ({"token_id": "token-1", "lasts": timedelta(days=2)}, NOW + timedelta(days=2)),
        ({"subject": "camera-7"}, None),
        ({"subject": "camera-7", "lasts": HOUR}, NOW + HOUR),
        ({"subject": "camera-7", "issued_before": NOW - HOUR}, NOW + HOUR + SKEW),
        ({"issued_before": NOW + HOUR}, NOW + 2 * HOUR + SKEW),
        ({}, None),
    ],
)
def test_a_denial_lasts_until_no_token_that_it_fits_is_good(
    members: dict[str, Any], ends_at: datetime | None
) -> None:
    """A whole subject or issuer may always get new ones; the longest lifetime and both skews count otherwise."""
    made = denial(**members)
    assert ends_at == made.ends_at
    assert (NOW, "root", "leaked") == (made.created_at, made.created_by, made.why)


# Durations and times.


@given(st.integers(1, 3650), st.sampled_from("smhd"))
def test_a_duration_is_a_number_and_a_unit(number: int, unit: str) -> None:
    """Of seconds, minutes, hours or days."""
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86_400}[unit]
    assert timedelta(seconds=number * seconds) == parse_duration(f"{number}{unit}")


@given(st.text(max_size=12))
def test_no_text_breaks_the_duration_parser(text: str) -> None:
    """It is a bounded duration or refused."""
    with suppress(OrderInvalidError):
        assert timedelta(0) < parse_duration(text) <= timedelta(days=3650)


@pytest.mark.parametrize(
    "text",
    [
        "", "1", "h", "0h", "-1h", "1.5h", " 1h", "1h ", "1w", "٣h", "1h30m", "3651d", "999999999d", "9999999999d",
    ],
)  # fmt: skip
def test_another_duration_is_refused(text: str) -> None:
    """Nothing is guessed, and none is longer than ten years."""
    with pytest.raises(OrderInvalidError, match="a duration is"):
        parse_duration(text)


def test_now_is_the_end_of_this_second() -> None:
    """A token issued earlier in it has an `iat` at its beginning, as has one issued in its last millisecond."""
    this_second = NOW.replace(microsecond=0)
    for now in (this_second, NOW, this_second.replace(microsecond=999_999)):
        assert this_second + timedelta(seconds=1) == parse_issued_before("now", now=now)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2031-05-06T07:08:09Z", "2031-05-06T07:08:09+00:00"),
        ("2031-05-06t07:08:09z", "2031-05-06T07:08:09+00:00"),
        ("2031-05-06 09:08:09+02:00", "2031-05-06T07:08:09+00:00"),
        ("2031-05-06T07:08:09.000Z", "2031-05-06T07:08:09+00:00"),
        ("2031-05-06T07:08:09.000000001Z", "2031-05-06T07:08:10+00:00"),
        ("2031-05-06T07:08:59.5Z", "2031-05-06T07:09:00+00:00"),
    ],
)
def test_a_time_is_rounded_up_to_a_second(text: str, expected: str) -> None:
    """Else a token that was issued before it within the same second would pass."""
    assert datetime.fromisoformat(expected) == parse_issued_before(text, now=NOW)


@pytest.mark.parametrize(
    "text",
    [
        "", "Now", "today", "2031-05-06", "2031-05-06T07:08Z", "2031-05-06T07:08:09", "20310506T070809Z",
        "2031-13-06T07:08:09Z", "2031-02-29T07:08:09Z", "2031-05-06T24:00:01Z", "2031-05-06T07:08:60Z",
        "2031-05-06T07:08:09.Z", "2031-05-06T07:08:09,5Z", "2031-05-06T07:08:09+25:00", "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59.9Z", "2031-05-06T07:08:09Z\n", "1936767600", "2032-06-06T07:08:09Z",
    ],
)  # fmt: skip
def test_another_time_is_refused(text: str) -> None:
    """One without a zone too, for it may mean another moment, and one that is more than a year ahead."""
    with pytest.raises(OrderInvalidError, match=r"a time is|a year ahead"):
        parse_issued_before(text, now=NOW)


@given(st.integers(0, 1_900_000_000_000_000))
def test_a_time_read_is_no_earlier_than_the_time_written(microseconds: int) -> None:
    """And less than a second later."""
    aware = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)
    read = parse_issued_before(aware.isoformat(), now=NOW)
    assert 0 == read.microsecond
    assert timedelta(0) <= read - aware < timedelta(seconds=1)


@given(st.text(max_size=40))
def test_no_text_breaks_the_time_parser(text: str) -> None:
    """It is an aware time or refused."""
    with suppress(OrderInvalidError):
        assert parse_issued_before(text, now=NOW).tzinfo is UTC


# Tokens.


def token(claims: object) -> bytes:
    """A token with these claims and a signature of nobody."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return b".".join((b"e30", base64.urlsafe_b64encode(payload).rstrip(b"="), b"c2ln"))


GOOD = {"iss": ISSUER, "sub": "camera-7", "jti": "token-1"}


def test_the_names_of_an_issued_token_are_read() -> None:
    """As the gateway would read them, with a line end as shells write it."""
    signed = issue_token(
        signing_key=Ed25519PrivateKey.from_private_bytes(b"\x07" * 32),
        issuer=ISSUER,
        audience="gatewatch",
        subject="camera-7",
        client_id="belt",
        roles=["client"],
        lifetime_seconds=60,
        now=NOW,
        token_id="token-1",
    )
    ends_at = datetime(2031, 5, 6, 7, 9, 9, tzinfo=UTC)
    assert replace(NAMES, ends_at=ends_at) == read_names(signed.encode() + b"\r\n")
    assert NAMES == read_names(token(GOOD))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"secret",
        b"Bearer " + token(GOOD),
        token(GOOD) + b"." + token(GOOD),
        token(GOOD) + b"\n" + token(GOOD),
        token([GOOD]),
        token(b'{"iss":"a","iss":"b","sub":"c","jti":"d"}'),
        token(b"\xff"),
        token({**GOOD, "x": "y" * 9000}),
        b"e30." + b"A" + b".c2ln",
        "é".encode(),
    ],
)
def test_what_is_no_token_is_refused_without_showing_it(content: bytes) -> None:
    """It may be a secret all the same."""
    with pytest.raises(OrderInvalidError) as caught:
        read_names(content)
    assert "this is no access token (header.payload.signature): give the token alone" == str(
        caught.value
    )


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": ISSUER, "sub": "camera-7"},
        {**GOOD, "jti": 7},
        {**GOOD, "jti": ""},
        {**GOOD, "sub": "a\x1b[2J"},
        {**GOOD, "sub": "a" * 257},
        {**GOOD, "iss": None},
    ],
)
def test_names_that_no_gateway_takes_are_refused(claims: dict[str, object]) -> None:
    """They would reach a terminal, and deny nothing."""
    with pytest.raises(OrderInvalidError, match=r"has no (iss|sub|jti) that a gateway takes"):
        read_names(token(claims))


@given(st.one_of(st.binary(max_size=64), st.binary(max_size=64).map(token)))
def test_no_content_breaks_the_token_reader(content: bytes) -> None:
    """It has names or is refused."""
    with suppress(OrderInvalidError):
        read_names(content)


def test_a_token_is_denied_until_its_own_end_where_that_is_later() -> None:
    """The gateway may allow longer lives than whoever types the command knows of; a forged end is bounded."""
    ends_at = NOW + timedelta(days=3)
    made = denial(token_id="token-1", token_ends_at=ends_at)
    assert ends_at + timedelta(seconds=120) == made.ends_at
    forged = denial(token_id="token-1", token_ends_at=datetime.max.replace(tzinfo=UTC))
    assert NOW + timedelta(days=3650, seconds=120) == forged.ends_at


def test_the_end_is_that_of_the_token_in_the_file() -> None:
    """As far as it says one."""
    names = replace(NAMES, ends_at=NOW)
    assert NOW == order(names=names).token_ends_at
    assert order(names=NAMES).token_ends_at is None
