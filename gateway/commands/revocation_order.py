"""What `gateway token revoke` is asked to deny, read from its options and from the token itself.

Rules: pure; a token is only read for its names, never kept, shown or believed. What denies more than was meant, or
nothing at all, is refused with what to write instead.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.identity.tokens import (
    MAX_CLOCK_SKEW_SECONDS,
    MAX_NUMERIC_DATE,
    MAX_TEXT_CHARACTERS,
    MAX_TOKEN_BYTES,
)
from gateway.identity.wire import (
    MalformedError,
    decode_base64url,
    is_bounded_text,
    parse_json_object,
)
from gateway.store.records import TokenDenial

MAX_WHY_CHARACTERS = 512
MAX_DURATION = timedelta(days=3650)
MAX_AHEAD = timedelta(days=366)

_SECOND = timedelta(seconds=1)
_MAX_CLOCK_SKEW = timedelta(seconds=MAX_CLOCK_SKEW_SECONDS)
_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_COMPACT = re.compile(rb"[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")
_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhd])")  # More days would be no timedelta.
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


class OrderInvalidError(ValueError):
    """The options do not say what to deny; the text says what to write instead."""


@dataclass(frozen=True, slots=True)
class TokenNames:
    """The three names that together single out one token, and its end as it says itself, if it says one."""

    issuer: str
    subject: str
    token_id: str
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationOrder:
    """Which tokens to deny, why, and for how long; None leaves a member open, or lasts to what the tokens decide."""

    issuer: str
    subject: str | None = None
    token_id: str | None = None
    issued_before: datetime | None = None
    lasts: timedelta | None = None
    token_ends_at: datetime | None = None
    why: str


def read_order(
    *,
    names: TokenNames | None,
    token_id: str | None,
    subject: str | None,
    issuer: str | None,
    known_issuers: Sequence[str],
    issued_before: str | None,
    lasts: str | None,
    why: str,
    is_everybody: bool,
    now: datetime,
) -> RevocationOrder:
    """The order that the command's options make. names: of the token in --token-file. now: UTC.

    known_issuers: those that are trusted; a single one need not be named.

    Raises OrderInvalidError for whatever denies nothing, cannot be read, or reaches all principals of the issuer
    without is_everybody.
    """
    if names is not None:
        if not (token_id is None and subject is None and issued_before is None):
            raise OrderInvalidError(
                "--token-file is one token: leave out --jti, --subject, --issued-before"
            )
        token_id, subject = names.token_id, names.subject
    order = RevocationOrder(
        issuer=_issuer(names, issuer, known_issuers),
        subject=subject,
        token_id=token_id,
        issued_before=None
        if issued_before is None
        else parse_issued_before(issued_before, now=now),
        lasts=None if lasts is None else parse_duration(lasts),
        token_ends_at=None if names is None else names.ends_at,
        why=why,
    )
    _check_reach(order, is_everybody=is_everybody)
    _check_texts(order)
    return order


def _issuer(names: TokenNames | None, issuer: str | None, known_issuers: Sequence[str]) -> str:
    known = ", ".join(known_issuers)
    if names is not None:
        # A denial under another name would leave the token good.
        if names.issuer != issuer and (issuer is not None or names.issuer not in known_issuers):
            raise OrderInvalidError(
                f"--token-file: its issuer is {names.issuer}, not {issuer or known}: "
                "name it with --issuer if it is meant"
            )
        return names.issuer
    if issuer is None and len(known_issuers) != 1:
        raise OrderInvalidError(f"--issuer: several are trusted, name the one: {known}")
    return known_issuers[0] if issuer is None else issuer


def _check_reach(order: RevocationOrder, *, is_everybody: bool) -> None:
    names_somebody = order.subject is not None or order.token_id is not None
    if names_somebody and is_everybody:
        raise OrderInvalidError("--everybody denies more than a subject or a token: leave one out")
    if not names_somebody and not is_everybody:
        raise OrderInvalidError(
            f"this would deny everybody of {order.issuer}: name --jti, --subject or --token-file, or add --everybody"
        )


def _check_texts(order: RevocationOrder) -> None:
    named = {"--issuer": order.issuer, "--subject": order.subject, "--jti": order.token_id}
    for option, value in named.items():
        if value is not None and not is_bounded_text(value, max_characters=MAX_TEXT_CHARACTERS):
            raise OrderInvalidError(
                f"{option}: no token has it; 1 to {MAX_TEXT_CHARACTERS} printable characters"
            )
    check_why(order.why)


def check_why(why: str) -> None:
    """Return if the text can be kept. Raises OrderInvalidError."""
    if not is_bounded_text(why, max_characters=MAX_WHY_CHARACTERS):
        raise OrderInvalidError(f"--why: 1 to {MAX_WHY_CHARACTERS} printable characters")


def denial_of(
    order: RevocationOrder, *, token_max_lifetime_seconds: int, now: datetime, created_by: str
) -> TokenDenial:
    """The denial that an order asks for, made now (UTC).

    Where nothing says how long, it lasts until the last token that it can fit has ended for every gateway: a token may
    live for token_max_lifetime_seconds, and each clock may be off by the skew that gateways allow. A whole subject or
    issuer has no such moment, and is denied until somebody takes it back.
    """
    longest = timedelta(seconds=token_max_lifetime_seconds) + 2 * _MAX_CLOCK_SKEW
    ends_at = None
    if order.lasts is not None:
        ends_at = now + order.lasts
    elif order.token_id is not None:
        # A gateway may allow longer lives than the settings of whoever types this.
        ends_at = max(
            now + longest, min(order.token_ends_at or now, now + MAX_DURATION) + 2 * _MAX_CLOCK_SKEW
        )
    elif order.issued_before is not None:
        ends_at = max(now, order.issued_before) + longest
    return TokenDenial(
        issuer=order.issuer,
        subject=order.subject,
        token_id=order.token_id,
        issued_before=order.issued_before,
        ends_at=ends_at,
        why=order.why,
        created_at=now,
        created_by=created_by,
    )


def read_names(unverified_content: bytes) -> TokenNames:
    """The `iss`, `sub` and `jti` of an access token, white space around it ignored; its signature is not looked at.

    Raises OrderInvalidError, without a word of the content, for what no gateway would take as a token anyway.
    """
    message = "this is no access token (header.payload.signature): give the token alone"
    match = _COMPACT.fullmatch(unverified_content.strip())
    if match is None or len(match[0]) > MAX_TOKEN_BYTES:
        raise OrderInvalidError(message)
    try:
        claims = parse_json_object(decode_base64url(match[1].decode("ascii")))
    except MalformedError as exc:
        raise OrderInvalidError(message) from exc
    found = []
    for name in ("iss", "sub", "jti"):
        value = claims.get(name)
        if not is_bounded_text(value, max_characters=MAX_TEXT_CHARACTERS):
            raise OrderInvalidError(
                f"the token has no {name} that a gateway takes, so it is refused already"
            )
        found.append(value)
    issuer, subject, token_id = found
    return TokenNames(issuer, subject, token_id, _end(claims.get("exp")))


def _end(unverified_exp: object) -> datetime | None:
    # Of a forged one too: then it is refused in any case, and denied for longer than it must be.
    if type(unverified_exp) is not int or not 0 <= unverified_exp <= MAX_NUMERIC_DATE:
        return None
    return datetime.fromtimestamp(unverified_exp, UTC)


def parse_duration(text: str) -> timedelta:
    """A whole number of seconds, minutes, hours or days: 90s, 15m, 12h, 7d. Raises OrderInvalidError."""
    match = _DURATION.fullmatch(text)
    if match is None or int(match[1]) * _UNITS[match[2]] > MAX_DURATION:
        raise OrderInvalidError(
            "a duration is a whole number and a unit, such as 90s, 15m, 12h or 7d, up to 3650d"
        )
    return int(match[1]) * _UNITS[match[2]]


def parse_issued_before(text: str, *, now: datetime) -> datetime:
    """The moment before which tokens must have been issued to be denied: "now", or an RFC 3339 time; a whole second.

    `iat` is a whole second: a token that was issued within the second of that moment says it was issued at its
    beginning. So "now" is the end of this second, and a fraction is rounded up: what may have been issued before is
    denied, and perhaps a token that was issued less than a second after. Raises OrderInvalidError.
    """
    if text == "now":
        return now.astimezone(UTC).replace(microsecond=0) + _SECOND
    match = _RFC3339.fullmatch(text)
    message = "a time is now, or as 2031-05-06T07:08:09Z or 2031-05-06T09:08:09+02:00"
    if match is None:
        raise OrderInvalidError(message)
    date, time, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{time}{zone.upper()}").astimezone(UTC)
        if fraction is not None and int(fraction):
            moment += _SECOND
    except (ValueError, OverflowError) as exc:
        raise OrderInvalidError(message) from exc
    if moment > now + MAX_AHEAD:
        raise OrderInvalidError("the time lies more than a year ahead: correct it")
    return moment
