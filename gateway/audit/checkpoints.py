"""Checkpoints: signed statements that a log of this origin had this size and this root. Pure.

Rules: exactly three lines, no extensions; compare checkpoints by what they say, never by their bytes, since anybody may
add signatures that a reader does not know; a log's key has the name of its origin, so that the key of one log cannot
sign for another. Source: C2SP tlog-checkpoint.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.audit.merkle import EMPTY_ROOT, HASH_BYTES, MAX_SIZE, LogInvalidError
from gateway.audit.notes import (
    KeyKind,
    NoteSigner,
    VerifiedSignature,
    Verifier,
    decode_base64,
    encode_base64,
    format_note,
    verify_note,
)

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint says: the root of the first size entries of the log of this name.

    Raises LogInvalidError for an empty origin or one of several lines, a size outside 0 to MAX_SIZE, or a root that
    is not 32 bytes.
    """

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not self.origin or "\n" in self.origin:
            raise LogInvalidError("the origin of a checkpoint must be one line that is not empty")
        if not 0 <= self.size <= MAX_SIZE:
            raise LogInvalidError("the size of a checkpoint must be from 0 to 2^63 - 1")
        if len(self.root) != HASH_BYTES:
            raise LogInvalidError("the root of a checkpoint must be 32 bytes")


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint that its log has signed.

    note: the bytes that were verified; cosignatures: of the trusted witnesses, each once.
    """

    checkpoint: Checkpoint
    note: bytes
    cosignatures: tuple[VerifiedSignature, ...]


def checkpoint_text(checkpoint: Checkpoint) -> str:
    """The text that is signed: three lines, each ended by a newline."""
    return f"{checkpoint.origin}\n{checkpoint.size}\n{encode_base64(checkpoint.root)}\n"


def parse_checkpoint_text(text: str) -> Checkpoint:
    """The checkpoint of a text. Raises LogInvalidError unless it is what checkpoint_text writes."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3]:
        raise LogInvalidError("a checkpoint must be three lines: origin, size and root")
    return Checkpoint(lines[0], parse_decimal(lines[1]), decode_base64(lines[2]))


def sign_checkpoint(checkpoint: Checkpoint, signer: NoteSigner) -> bytes:
    """The checkpoint as a note with the log's signature.

    It does not know what was signed before: never call it with a tree that does not go on from the last one. Raises
    LogInvalidError if the signer's name is not the origin, or for size 0 with another root than EMPTY_ROOT.
    """
    if signer.name != checkpoint.origin:
        raise LogInvalidError("the name of the signing key must be the origin of the log")
    _require_empty_root(checkpoint)
    text = checkpoint_text(checkpoint)
    return format_note(text, [signer.sign(text)])


def open_checkpoint(
    content: bytes, *, origin: str, verifiers: Sequence[Verifier]
) -> SignedCheckpoint:
    """The checkpoint of a note, if the log of this origin has signed it.

    verifiers: keys of the log (kind Ed25519, named as the origin) and of witnesses. Raises LogInvalidError if the note
    is malformed, no key of the log has signed it, a line of any of these keys does not verify, or it is a checkpoint
    of another origin or of size 0 with another root than EMPTY_ROOT.
    """
    signed = authenticate_checkpoint(content, origin=origin, verifiers=verifiers)
    _require_empty_root(signed.checkpoint)
    return signed


def authenticate_checkpoint(
    content: bytes, *, origin: str, verifiers: Sequence[Verifier]
) -> SignedCheckpoint:
    """As open_checkpoint, without a look at whether size and root can be: for witnesses, who refuse that otherwise."""
    note = verify_note(content, verifiers)
    checkpoint = parse_checkpoint_text(note.text)
    if checkpoint.origin != origin:
        raise LogInvalidError("the checkpoint is of another origin")
    if not any(_is_of_log(signature.verifier, origin) for signature in note.signatures):
        raise LogInvalidError("no key of the log itself has signed the checkpoint")
    witnesses = (s for s in note.signatures if s.verifier.kind is KeyKind.COSIGNATURE)
    return SignedCheckpoint(checkpoint, content, tuple(witnesses))


def parse_decimal(unverified: str) -> int:
    """The number of an ASCII decimal without sign and leading zeroes, at most MAX_SIZE.

    Raises LogInvalidError for any other text.
    """
    # int() alone takes signs, spaces, underscores and the digits of other scripts.
    if not _DECIMAL.fullmatch(unverified) or int(unverified) > MAX_SIZE:
        raise LogInvalidError("a number must be ASCII digits without leading zeroes, below 2^63")
    return int(unverified)


def _is_of_log(verifier: Verifier, origin: str) -> bool:
    return verifier.kind is KeyKind.ED25519 and verifier.name == origin


def _require_empty_root(checkpoint: Checkpoint) -> None:
    if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        raise LogInvalidError("the empty tree has another root")
