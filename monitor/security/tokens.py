"""One token in two places: its `jti` from more network addresses or client certificates than one caller has.

Rules: only verified tokens count, so the places of somebody who merely guesses a `jti` do not; a connection without a
client certificate is no other certificate. To have a token forgotten, as many others would have to be used between two
uses of it as there is room for, each signed by its issuer.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from monitor.records import Place, Rule
from monitor.security.findings import Hit
from monitor.security.seen import SeenRecord

# Whoever comes from more is told by then.
_MAX_PLACES = 16
_MAX_EXPIRED_AT_A_TIME = 2


@dataclass(slots=True)
class _Token:
    first_seconds: float
    first: Place
    last_seconds: float
    addresses: list[str] = field(default_factory=list)
    certificates: list[str] = field(default_factory=list)


class TokenPlaces:
    """Where each token was used from, while it may be good; about 700 bytes a token."""

    def __init__(
        self, *, max_addresses: int, max_certificates: int, kept_seconds: float, max_keys: int
    ) -> None:
        """max_addresses, max_certificates: of one token, without a hit; 0 does not look. kept_seconds: without use."""
        self._max_addresses = max_addresses
        self._max_certificates = max_certificates
        self._kept_seconds = kept_seconds
        self._max_keys = max_keys
        self._tokens: OrderedDict[tuple[str, str], _Token] = OrderedDict()
        self.forgotten = 0

    def observe(self, record: SeenRecord) -> Sequence[Hit]:
        """A hit where a token shows up at one place more than it may."""
        if record.token_id is None or record.address is None or record.issuer is None:
            return ()
        token = self._touch((record.issuer, record.token_id), record)
        hits = []
        if _is_one_more(token.addresses, record.address, allowed=self._max_addresses):
            hits.append(_hit(token, record, token.addresses, "addresses"))
        if record.certificate is not None and _is_one_more(
            token.certificates, record.certificate, allowed=self._max_certificates
        ):
            hits.append(_hit(token, record, token.certificates, "client certificates"))
        return hits

    def _touch(self, key: tuple[str, str], record: SeenRecord) -> _Token:
        token = self._tokens.get(key)
        if token is None:
            token = _Token(record.at_seconds, record.place, record.at_seconds)
            self._tokens[key] = token
            self._make_room(record.at_seconds)
        else:
            self._tokens.move_to_end(key)
            token.last_seconds = record.at_seconds
        return token

    def _make_room(self, now_seconds: float) -> None:
        for _ in range(_MAX_EXPIRED_AT_A_TIME):
            key = next(iter(self._tokens))
            if self._tokens[key].last_seconds >= now_seconds - self._kept_seconds:
                break
            del self._tokens[key]
        if len(self._tokens) > self._max_keys:
            self._tokens.popitem(last=False)
            self.forgotten += 1


def _is_one_more(places: list[str], place: str, *, allowed: int) -> bool:
    if not allowed or place in places or len(places) >= max(_MAX_PLACES, allowed + 1):
        return False
    places.append(place)
    return len(places) > allowed


def _hit(token: _Token, record: SeenRecord, places: Sequence[str], what: str) -> Hit:
    words = f"the token of {record.subject} was used from {len(places)} {what}: {', '.join(places)}"
    return Hit(
        Rule.TOKEN_SHARED,
        f"{record.issuer}|{record.token_id}",
        min(token.first_seconds, record.at_seconds),
        record.at_seconds,
        1,
        words,
        (token.first, record.place),
    )
