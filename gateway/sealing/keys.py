"""Key-encryption keys (KEKs): where they come from, and how they wrap a data key.

Rules: a KEK wraps data keys and encrypts nothing else; its id is derived from the key, so equal keys have equal
ids and a file cannot lie about which key it needs; keys are never made implicitly, never shown, never overwritten.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from gateway.errors import Code, KeyFileError
from gateway.keyfiles import create_private_file, read_private_file
from gateway.sealing.refusals import Refusal, refused

DEK_BYTES = 32

# So many fresh random bytes, os.urandom in production.
RandomBytes = Callable[[int], bytes]

_KEK_BYTES = 32
_NONCE_BYTES = 12
_WRAPPED_BYTES = _NONCE_BYTES + DEK_BYTES + 16
_KEK_LINE = re.compile(rb"gatewatch-kek-v1:([0-9a-f]{64})\n")
_KEK_ID_LABEL = b"gatewatch kek id v1"


class KeyProvider(Protocol):
    """One KEK, wherever it lives: in this process, in a token, behind a service."""

    @property
    def kek_id(self) -> str:
        """The key's name in wraps: at most 64 of `0-9a-z._-`, the first a letter or a digit."""

    @property
    def algorithm(self) -> str:
        """The one way in which this provider wraps; a wrap that names another is not for it."""

    def wrap(self, dek: bytes, *, purpose: bytes, context: bytes, random: RandomBytes) -> bytes:
        """Encrypt a data key (32 bytes) for one purpose (no zero byte in it) and context."""

    def unwrap(self, unverified_wrapped: bytes, *, purpose: bytes, context: bytes) -> bytes:
        """The data key again. Raises SealError if the wrap was changed or made for something else."""


class Kek:
    """A KEK held in this process's memory; wraps with AES-256-GCM."""

    algorithm: Final = "AES-256-GCM"

    def __init__(self, *, key: bytes) -> None:
        """Take 32 uniformly random bytes."""
        if len(key) != _KEK_BYTES:
            raise RuntimeError("internal: a KEK has 32 bytes")
        self._aead = AESGCM(key)
        derive = HKDFExpand(algorithm=hashes.SHA256(), length=8, info=_KEK_ID_LABEL)
        self.kek_id: Final = derive.derive(key).hex()

    def wrap(self, dek: bytes, *, purpose: bytes, context: bytes, random: RandomBytes) -> bytes:
        """Nonce (12 bytes), ciphertext (32), tag (16)."""
        if len(dek) != DEK_BYTES:
            raise RuntimeError("internal: a data key has 32 bytes")
        nonce = random(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, dek, self._bound_data(purpose, context))

    def unwrap(self, unverified_wrapped: bytes, *, purpose: bytes, context: bytes) -> bytes:
        """The data key (32 bytes) again. Raises SealError if the wrap does not authenticate."""
        if len(unverified_wrapped) != _WRAPPED_BYTES:
            raise refused(Refusal.UNWRAP)
        nonce, sealed = unverified_wrapped[:_NONCE_BYTES], unverified_wrapped[_NONCE_BYTES:]
        try:
            return self._aead.decrypt(nonce, sealed, self._bound_data(purpose, context))
        except InvalidTag as exc:
            raise refused(Refusal.UNWRAP) from exc

    def _bound_data(self, purpose: bytes, context: bytes) -> bytes:
        # Neither a purpose nor an id holds a zero byte, so two different pairs never read the same.
        return purpose + b"\0" + self.kek_id.encode("ascii") + b"\0" + context


def create_kek(path: Path, *, random: RandomBytes = os.urandom) -> Kek:
    """Make a new KEK and its file (mode 0600). Raises KeyFileError if the file exists already."""
    key = random(_KEK_BYTES)
    create_private_file(path, b"gatewatch-kek-v1:" + key.hex().encode("ascii") + b"\n")
    return Kek(key=key)


def load_kek(path: Path) -> Kek:
    """The KEK in this file.

    Raises KeyFileError if the file is missing, is readable by others, belongs to another user, or holds no KEK.
    """
    return Kek(key=_parse_kek(read_private_file(path), f"the key file {path}"))


def parse_kek_line(text: str, *, source: str) -> Kek:
    """The KEK that one line holds, as a KEK file does but without its line feed.

    source: where the line came from, for the message. Raises KeyFileError, which never repeats the line.
    """
    return Kek(key=_parse_kek(text.encode("utf-8", "surrogateescape") + b"\n", source))


def _parse_kek(content: bytes, source: str) -> bytes:
    # Exactly one spelling: bytes.fromhex alone would also take upper case and spaces.
    match = _KEK_LINE.fullmatch(content)
    if match is None:
        raise KeyFileError(
            Code.KEY_INVALID,
            f"{source} holds no KEK: restore it from a backup, for a new one opens nothing "
            "that this one sealed",
        )
    return bytes.fromhex(match[1].decode("ascii"))
