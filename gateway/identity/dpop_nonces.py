"""The nonces that DPoP proofs must carry: made from the time and a key of this process, nothing is stored.

Rules: a nonce proves that a proof was made lately, so that proofs cannot be signed in advance with somebody's key and
used when he is gone (RFC 9449 section 11.2). The key dies with the process: a proof that one process has taken is good
for no other one, neither for a replica nor after a restart, and so replays need no shared memory.
"""

import hmac
from collections.abc import Callable
from datetime import datetime

from gateway.identity.wire import encode_base64url

SLOT_SECONDS = 300
_KEY_BYTES = 32
_CHARACTERS = 43  # HMAC-SHA256 in base64url.


class DpopNonces:
    """One nonce for each slot of time; that of the current and that of the last slot are fresh."""

    def __init__(self, *, random: Callable[[int], bytes]) -> None:
        """Draw a key. random: that many bytes that nobody can guess."""
        self._key = random(_KEY_BYTES)

    def current(self, now: datetime) -> str:
        """The nonce to hand out now (UTC), fresh for 300 to 600 seconds: 43 characters of base64url."""
        return self._nonce(_slot(now))

    def is_fresh(self, unverified_nonce: object, now: datetime) -> bool:
        """Whether a value is a nonce that this object hands out now or did in the last slot."""
        if not isinstance(unverified_nonce, str) or len(unverified_nonce) != _CHARACTERS:
            return False
        shown = unverified_nonce.encode("utf-8", "replace")
        slot = _slot(now)
        return any(
            hmac.compare_digest(shown, self._nonce(fresh).encode()) for fresh in (slot, slot - 1)
        )

    def _nonce(self, slot: int) -> str:
        return encode_base64url(hmac.digest(self._key, slot.to_bytes(8, signed=True), "sha256"))


def _slot(now: datetime) -> int:
    return int(now.timestamp()) // SLOT_SECONDS
