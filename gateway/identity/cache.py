"""Principals of tokens that were verified a moment ago, so that a busy caller costs no signature check.

Rules:
- Keyed by SHA-256 of the token: the cache holds no token, and how long a look-up takes tells nothing.
- An entry ends at the token's `exp`, without the allowed clock skew.
- Not thread-safe: only the event loop's thread may touch it.
- What changes the trust in tokens (new keys, revocation) must call clear().
"""

import hashlib
from collections import OrderedDict
from datetime import datetime

from gateway.identity.principal import Principal


class TokenCache:
    """At most max_entries principals, the least recently used leaving first; 0 turns it off."""

    def __init__(self, *, max_entries: int) -> None:
        """An empty cache."""
        self._max_entries = max_entries
        self._entries: OrderedDict[bytes, Principal] = OrderedDict()

    def __len__(self) -> int:
        """Count of entries, ended ones included until they are met."""
        return len(self._entries)

    def get(self, unverified_token: str, now: datetime) -> Principal | None:
        """The principal of an ASCII token that was verified before and has not ended, or None."""
        key = _digest(unverified_token)
        principal = self._entries.get(key)
        if principal is None:
            return None
        if now >= principal.expires_at:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return principal

    def put(self, verified_token: str, principal: Principal) -> None:
        """Remember the principal of a token that was just verified."""
        key = _digest(verified_token)
        self._entries[key] = principal
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        """Forget everything, so that the next use of each token is verified again."""
        self._entries.clear()


class ProvenTokens:
    """Which tokens passed every check when they were last used; at most max_entries, by SHA-256.

    Not a matter of trust, so new keys and denials leave it alone: whoever is in it is spared what the guesses of
    neighbours cost (quotas). Not thread-safe.
    """

    def __init__(self, *, max_entries: int) -> None:
        """None yet."""
        self._max_entries = max_entries
        self._ends_at: OrderedDict[bytes, datetime] = OrderedDict()

    def add(self, token: str, ends_at: datetime) -> None:
        """It passed."""
        key = _digest(token)
        self._ends_at[key] = ends_at
        self._ends_at.move_to_end(key)
        if len(self._ends_at) > self._max_entries:
            self._ends_at.popitem(last=False)

    def remove(self, unverified_token: str) -> None:
        """It was refused: dead, or in the hands of somebody who cannot use it."""
        self._ends_at.pop(_digest(unverified_token), None)

    def has(self, unverified_token: str, now: datetime) -> bool:
        """Whether an ASCII token passed when it was last used, and has not ended."""
        ends_at = self._ends_at.get(_digest(unverified_token))
        return ends_at is not None and now < ends_at


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("ascii")).digest()
