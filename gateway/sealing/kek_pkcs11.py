"""A KEK inside a PKCS #11 token: wraps with AES-256-GCM, which the token does; the key never leaves it.

Rules: the wrap has an algorithm name of its own, so that no key of this process is ever tried on it, nor the other
way round. The id is derived from the key, as a KEK's in a file is: tokens that hold copies of one key give one id, and
a token that is exchanged under the same name gives another.
"""

import hashlib
from typing import Final

from gateway.sealing.keys import DEK_BYTES, RandomBytes
from gateway.sealing.pkcs11_tokens import NONCE_BYTES, TAG_BYTES, TokenKey, WrapRefusedError
from gateway.sealing.refusals import Refusal, refused

_KEK_ID_LABEL = b"gatewatch pkcs11 kek id v1"
_KEK_ID_BYTES = 8
_WRAPPED_BYTES = NONCE_BYTES + DEK_BYTES + TAG_BYTES


class Pkcs11Kek:
    """A KEK that a token holds."""

    algorithm: Final = "PKCS11-AES-256-GCM"

    def __init__(self, *, key: TokenKey) -> None:
        """Take the key, logged in."""
        self._key = key
        # Hashed, so that the id gives away no keystream of the key, not even that of a nonce never used for wraps.
        digest = hashlib.sha256(_KEK_ID_LABEL + b"\0" + key.probe).digest()
        self.kek_id: Final = digest[:_KEK_ID_BYTES].hex()

    def wrap(self, dek: bytes, *, purpose: bytes, context: bytes, random: RandomBytes) -> bytes:
        """Nonce (12 bytes), ciphertext (32), tag (16). Raises KeyFileError if the token fails."""
        if len(dek) != DEK_BYTES:
            raise RuntimeError("internal: a data key has 32 bytes")
        nonce = random(NONCE_BYTES)
        bound = self._bound_data(purpose, context)
        return nonce + self._key.encrypt(dek, nonce=nonce, bound_data=bound)

    def unwrap(self, unverified_wrapped: bytes, *, purpose: bytes, context: bytes) -> bytes:
        """The data key (32 bytes) again.

        Raises SealError if the wrap does not authenticate, KeyFileError if the token fails.
        """
        if len(unverified_wrapped) != _WRAPPED_BYTES:
            raise refused(Refusal.UNWRAP)
        nonce, sealed = unverified_wrapped[:NONCE_BYTES], unverified_wrapped[NONCE_BYTES:]
        bound = self._bound_data(purpose, context)
        try:
            return self._key.decrypt(sealed, nonce=nonce, bound_data=bound)
        except WrapRefusedError as exc:
            raise refused(Refusal.UNWRAP) from exc

    def _bound_data(self, purpose: bytes, context: bytes) -> bytes:
        # As a KEK in memory does: neither a purpose nor an id holds a zero byte.
        return purpose + b"\0" + self.kek_id.encode("ascii") + b"\0" + context
