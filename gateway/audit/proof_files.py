"""Proof files: that an entry is in a log, for somebody who has the entry and the log's public key only. Pure.

Rules: the extra bytes are a hint that nobody signed: what they hold is proven only if the entry made of them is; the
file is split at its first empty line, for the checkpoint holds another. Source: C2SP tlog-proof.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.audit.checkpoints import SignedCheckpoint, open_checkpoint, parse_decimal
from gateway.audit.merkle import (
    HASH_BYTES,
    MAX_PROOF_HASHES,
    MAX_SIZE,
    LogInvalidError,
    hash_leaf,
    verify_inclusion,
)
from gateway.audit.notes import Verifier, decode_base64, encode_base64, parse_note

MAX_FILE_BYTES = 256 * 1024

_FIRST_LINE = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class ProofFile:
    """What a proof file holds, none of it verified: see check_proof_file.

    proof: the hashes from the leaf's sibling up; extra: opaque bytes, in our files the canonical body of the record.
    Raises LogInvalidError for an index outside 0 to MAX_SIZE, more than MAX_PROOF_HASHES hashes or one that is not 32
    bytes, or a malformed note.
    """

    index: int
    proof: tuple[bytes, ...]
    checkpoint_note: bytes
    extra: bytes | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.index <= MAX_SIZE:
            raise LogInvalidError("the index of a proof must be from 0 to 2^63 - 1")
        require_proof(self.proof)
        parse_note(self.checkpoint_note)


def format_proof_file(proof_file: ProofFile) -> bytes:
    """The bytes of the file."""
    extra = [] if proof_file.extra is None else [f"extra {encode_base64(proof_file.extra)}"]
    lines = [
        _FIRST_LINE,
        *extra,
        f"index {proof_file.index}",
        *map(encode_base64, proof_file.proof),
    ]
    return "\n".join([*lines, "", ""]).encode("ascii") + proof_file.checkpoint_note


def parse_proof_file(content: bytes) -> ProofFile:
    """The parts of a proof file. Raises LogInvalidError for what format_proof_file does not write."""
    if len(content) > MAX_FILE_BYTES:
        raise LogInvalidError(f"the proof file is longer than {MAX_FILE_BYTES} bytes")
    head, note = split_head(content)
    if head[0] != _FIRST_LINE:
        raise LogInvalidError("not a proof file: the first line must be " + _FIRST_LINE)
    extra = None
    rest = head[1:]
    if rest and rest[0].startswith("extra "):
        extra = decode_base64(rest[0].removeprefix("extra "))
        rest = rest[1:]
    if not rest or not rest[0].startswith("index "):
        raise LogInvalidError("the proof file has no index line where it belongs")
    index = parse_decimal(rest[0].removeprefix("index "))
    return ProofFile(index, parse_proof_lines(rest[1:]), note, extra)


def check_proof_file(
    proof_file: ProofFile, *, entry: bytes, origin: str, verifiers: Sequence[Verifier]
) -> SignedCheckpoint:
    """Check that the entry is in the log of this origin; the checkpoint that says so.

    verifiers: as for open_checkpoint; whether its cosignatures are enough is the caller's to decide. Raises
    LogInvalidError if the checkpoint does not verify or the proof does not lead from this entry to its root.
    """
    signed = open_checkpoint(proof_file.checkpoint_note, origin=origin, verifiers=verifiers)
    verify_inclusion(
        index=proof_file.index,
        size=signed.checkpoint.size,
        leaf_hash=hash_leaf(entry),
        proof=proof_file.proof,
        root=signed.checkpoint.root,
    )
    return signed


def split_head(content: bytes) -> tuple[list[str], bytes]:
    """The ASCII lines before the first empty line, and the bytes after it.

    Raises LogInvalidError if there is no empty line or the lines are not ASCII.
    """
    head, separator, rest = content.partition(b"\n\n")
    if not separator:
        raise LogInvalidError("there is no empty line before the checkpoint")
    if not head.isascii():
        raise LogInvalidError("the lines before the checkpoint must be ASCII")
    return head.decode("ascii").split("\n"), rest


def parse_proof_lines(lines: Sequence[str]) -> tuple[bytes, ...]:
    """What stands in base64, one hash a line; whoever holds it sees to length and number (require_proof).

    Raises LogInvalidError for a line that is not canonical base64.
    """
    return tuple(map(decode_base64, lines))


def require_proof(proof: Sequence[bytes]) -> None:
    """Raise LogInvalidError for more than MAX_PROOF_HASHES hashes or one that is not 32 bytes."""
    if len(proof) > MAX_PROOF_HASHES:
        raise LogInvalidError(f"a proof must have at most {MAX_PROOF_HASHES} hashes")
    if any(len(proof_hash) != HASH_BYTES for proof_hash in proof):
        raise LogInvalidError("a hash of a proof must be 32 bytes")
