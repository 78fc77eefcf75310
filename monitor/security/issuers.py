"""Issuers that nobody sent tokens of before, and keys that an issuer did not have before.

Rules: what was seen once is known for ever and is stored; a key is its id and a digest, so that another key under a
known id is new. Nothing is new to somebody who knows nothing: what is seen within a minute of the first issuer ever,
or of the first key of an issuer, is taken as known, and so is all that a ledger held when it was first looked at.
"""

import hashlib
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from gateway.audit.details import parse_detail
from gateway.audit.events import Action
from monitor.records import Rule
from monitor.security.findings import Hit
from monitor.security.seen import SeenRecord

# What is stored of a key; whoever can make an issuer's keys must not be able to break the table.
_MAX_KEY_CHARACTERS = 256
# Beyond it everything new is told each time it comes: neither memory nor the table grows without end.
MAX_KNOWN = 100_000
# A start records the keys of every issuer, one record after the other.
_FIRST_SECONDS = 60.0
# Stands for the issuer itself among its keys.
ISSUER_ITSELF = ""


class Issuers:
    """Issuers and keys that are known."""

    def __init__(
        self, known: Iterable[tuple[str, str]], *, looks_at_issuers: bool, looks_at_keys: bool
    ) -> None:
        """known: issuer and key as take_learnt gave them."""
        self._known = set(known)
        self._with_keys = {issuer for issuer, key in self._known if key != ISSUER_ITSELF}
        self._learnt: list[tuple[str, str]] = []
        self._looks_at_issuers = looks_at_issuers
        self._looks_at_keys = looks_at_keys
        self._issuers_first_until_seconds: float | None = None
        self._keys_first_until_seconds: dict[str, float] = {}

    def observe(self, record: SeenRecord, *, is_learning: bool) -> Sequence[Hit]:
        """A hit for each that is new. is_learning: take everything as known."""
        if record.action == Action.ISSUER_KEYS:
            return self._keys(record, is_learning=is_learning)
        # The operating system's accounts are no issuer's, and have no tokens.
        if record.token_id is None or record.issuer is None:
            return ()
        return self._issuer(record.issuer, record, is_learning=is_learning)

    def take_learnt(self) -> list[tuple[str, str]]:
        """What became known since it was last asked for."""
        learnt, self._learnt = self._learnt, []
        return learnt

    def _issuer(self, issuer: str, record: SeenRecord, *, is_learning: bool) -> list[Hit]:
        if (issuer, ISSUER_ITSELF) in self._known:
            return []
        if not self._known:
            self._issuers_first_until_seconds = record.at_seconds + _FIRST_SECONDS
        until = self._issuers_first_until_seconds
        self._learn(issuer, ISSUER_ITSELF)
        is_first = until is not None and record.at_seconds <= until
        if is_learning or is_first or not self._looks_at_issuers:
            return []
        words = f"{issuer} was not seen before: tokens of it are taken from now on"
        return [_hit(Rule.ISSUER_NEW, issuer, record, words)]

    def _keys(self, record: SeenRecord, *, is_learning: bool) -> list[Hit]:
        detail = parse_detail(record.detail)
        hits = []
        for issuer in detail.get("issuer", ()):
            hits += self._issuer(issuer, record, is_learning=is_learning)
            if issuer not in self._with_keys:
                self._keys_first_until_seconds[issuer] = record.at_seconds + _FIRST_SECONDS
            pairs = zip_longest(detail.get("added", ()), detail.get("digests", ()), fillvalue="")
            for key_id, digest in pairs:
                hits += self._key(issuer, key_id, digest, record, is_learning=is_learning)
        return hits

    def _key(
        self, issuer: str, key_id: str, digest: str, record: SeenRecord, *, is_learning: bool
    ) -> list[Hit]:
        stored = _stored_key(key_id, digest)
        if (issuer, stored) in self._known:
            return []
        self._learn(issuer, stored)
        self._with_keys.add(issuer)
        is_first = record.at_seconds <= self._keys_first_until_seconds.get(issuer, float("-inf"))
        if is_learning or is_first or not self._looks_at_keys:
            return []
        words = f"{issuer} has a key that it did not have before: {key_id} {digest}".rstrip()
        return [_hit(Rule.KEY_NEW, f"{issuer}|{key_id}", record, words)]

    def _learn(self, issuer: str, key: str) -> None:
        if len(self._known) < MAX_KNOWN:
            self._known.add((issuer, key))
            self._learnt.append((issuer, key))


def _stored_key(key_id: str, digest: str) -> str:
    key = f"{key_id} {digest}"
    if key.isascii() and len(key) <= _MAX_KEY_CHARACTERS:
        return key
    return "sha256:" + hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def _hit(rule: Rule, key: str, record: SeenRecord, words: str) -> Hit:
    return Hit(rule, key, record.at_seconds, record.at_seconds, 1, words, (record.place,))
