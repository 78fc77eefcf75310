"""C2SP chunked encryption: one message under one key, bound to a context, cut into chunks of 16 KiB.

Rules: the salt is random and never used twice under one key; the commitment is compared before anything is
decrypted; no plaintext leaves before every chunk has been authenticated. Everything here is fixed by the public
specification c2sp.org/chunked-encryption; the product uses Cobblestone-256 and nothing else.
"""

import hmac
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from gateway.sealing.guarded_memory import GuardedBuffer, wipe
from gateway.sealing.refusals import Refusal, refused

KEY_BYTES = 32
SALT_BYTES = 24
CHUNK_BYTES = 16384

_LABEL = b"c2sp.org/chunked-encryption@v1+"
_COMMITMENT_BYTES = 32
_PREFIX_BYTES = SALT_BYTES + _COMMITMENT_BYTES
_NONCE_BYTES = 12
_TAG_BYTES = 16
_SEALED_CHUNK_BYTES = CHUNK_BYTES + _TAG_BYTES
_MAX_CHUNKS = 2**38 - 1


@dataclass(frozen=True, slots=True)
class Suite:
    """One choice of AEAD; a format uses exactly one and never lets the key's length choose."""

    aead_name: bytes
    key_bytes: int


COBBLESTONE_256 = Suite(b"AEAD_AES_256_GCM", KEY_BYTES)


def seal_chunked(
    key: bytes, context: bytes, plaintext: bytes, *, salt: bytes, suite: Suite = COBBLESTONE_256
) -> bytes:
    """The ciphertext of `plaintext`: salt, commitment, chunks.

    key: uniformly random, 32 bytes. context: any bytes; it is not stored, and opening needs the same.
    salt: 24 fresh random bytes. Source: c2sp.org/chunked-encryption, "Encryption".
    """
    if len(key) != suite.key_bytes or len(salt) != SALT_BYTES:
        raise RuntimeError("internal: wrong length of a key or a salt")
    aead, base_nonce, commitment = _derive(key, salt, context, suite)
    view = memoryview(plaintext)
    # The last chunk is always short, if need be empty: it is the mark of the end, so a cut at a boundary shows.
    chunks = [
        aead.encrypt(_nonce(base_nonce, i), view[i * CHUNK_BYTES : (i + 1) * CHUNK_BYTES], None)
        for i in range(len(plaintext) // CHUNK_BYTES + 1)
    ]
    return b"".join((salt, commitment, *chunks))


def open_chunked(
    key: bytes | bytearray,
    context: bytes,
    unverified: bytes | memoryview,
    *,
    suite: Suite = COBBLESTONE_256,
) -> bytes:
    """The plaintext of a ciphertext that `seal_chunked` made under the same key and context.

    Raises SealError as `open_chunked_guarded` does.
    """
    with open_chunked_guarded(key, context, unverified, suite=suite) as plaintext:
        return bytes(plaintext.view)


def open_chunked_guarded(
    key: bytes | bytearray,
    context: bytes,
    unverified: bytes | memoryview,
    *,
    suite: Suite = COBBLESTONE_256,
) -> GuardedBuffer:
    """The same plaintext in guarded memory, which nothing else held before; whoever asks for it closes it.

    Raises SealError, and hands out nothing, if the key has the wrong length, the ciphertext is cut, extended or
    changed anywhere, or the key or the context is another. Source: c2sp.org/chunked-encryption, "Decryption".
    """
    # 1. HKDF-Expand takes a key of any length, so nothing later would notice.
    if len(key) != suite.key_bytes:
        raise refused(Refusal.BODY_KEY_LENGTH)
    # 2. and 3. The length alone tells whether there is a short last chunk, and how many come before it.
    chunk_count = count_chunks(len(unverified))
    view = memoryview(unverified)
    salt, commitment = bytes(view[:SALT_BYTES]), view[SALT_BYTES:_PREFIX_BYTES]
    # 4. Without the commitment one ciphertext could be made to open under two keys.
    aead, base_nonce, expected_commitment = _derive(key, salt, context, suite)
    if not hmac.compare_digest(expected_commitment, commitment):
        raise refused(Refusal.BODY_COMMITMENT)
    plaintext = GuardedBuffer(len(view) - _PREFIX_BYTES - chunk_count * _TAG_BYTES)
    try:
        _decrypt_chunks(aead, base_nonce, view[_PREFIX_BYTES:], into=plaintext.view)
    except BaseException as exc:
        # What the chunks before the damaged one held is not for anybody either.
        plaintext.close()
        if isinstance(exc, InvalidTag):
            raise refused(Refusal.BODY_CHUNK) from exc
        raise
    return plaintext


def count_chunks(sealed_bytes: int) -> int:
    """How many chunks a ciphertext of this length holds, the short last one included.

    Raises SealError if no message has a ciphertext of this length, or it is 4 PiB or more.
    """
    full, last = divmod(sealed_bytes - _PREFIX_BYTES, _SEALED_CHUNK_BYTES)
    if full < 0 or last < _TAG_BYTES or full + 1 > _MAX_CHUNKS:
        raise refused(Refusal.BODY_SIZE)
    return full + 1


def _derive(
    key: bytes | bytearray, salt: bytes, context: bytes, suite: Suite
) -> tuple[AESGCM, bytes, bytes]:
    length = suite.key_bytes + _NONCE_BYTES + _COMMITMENT_BYTES
    info = _LABEL + suite.aead_name + b"\0" + salt + context
    derived = bytearray(length)
    HKDFExpand(algorithm=hashes.SHA512(), length=length, info=info).derive_into(key, derived)
    key_end, nonce_end = suite.key_bytes, suite.key_bytes + _NONCE_BYTES
    base_nonce, commitment = bytes(derived[key_end:nonce_end]), bytes(derived[nonce_end:])
    # The library keeps what it makes of the key and overwrites it itself; only this copy is ours.
    with memoryview(derived) as view:
        aead = AESGCM(view[:key_end])
    wipe(derived)
    return aead, base_nonce, commitment


def _nonce(base_nonce: bytes, number: int) -> bytes:
    return (int.from_bytes(base_nonce, "big") ^ number).to_bytes(_NONCE_BYTES, "big")


def _decrypt_chunks(
    aead: AESGCM, base_nonce: bytes, sealed: memoryview, *, into: memoryview
) -> None:
    # 5. The number of a chunk is in its nonce, so chunks cannot change places.
    for number, start in enumerate(range(0, len(sealed), _SEALED_CHUNK_BYTES)):
        chunk = sealed[start : start + _SEALED_CHUNK_BYTES]
        at = number * CHUNK_BYTES
        out = into[at : at + len(chunk) - _TAG_BYTES]
        aead.decrypt_into(_nonce(base_nonce, number), chunk, None, out)
