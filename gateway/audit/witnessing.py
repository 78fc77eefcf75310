"""What a witness does with a checkpoint that a log submits: accept a tree that goes on from the last one. Pure.

Rules: the caller records the new state durably, as one step with the comparison, before it cosigns or answers; a
witness never records a smaller tree, another root at the same size, or a tree that does not go on from its own.
Source: C2SP tlog-witness.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.audit.checkpoints import (
    Checkpoint,
    SignedCheckpoint,
    authenticate_checkpoint,
    parse_checkpoint_text,
    parse_decimal,
)
from gateway.audit.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    MAX_SIZE,
    LogInvalidError,
    verify_consistency,
)
from gateway.audit.notes import DEFAULT_MAX_BYTES, Verifier, encode_base64, parse_note
from gateway.audit.proof_files import parse_proof_lines, require_proof, split_head

MAX_REQUEST_BYTES = DEFAULT_MAX_BYTES + 4096


class RefusalKind(StrEnum):
    """Why a witness refuses; the HTTP statuses of C2SP tlog-witness are 404, 403, 400, 409 and 422, in this order."""

    UNKNOWN_ORIGIN = "unknown_origin"
    BAD_SIGNATURE = "bad_signature"
    MALFORMED = "malformed"
    CONFLICT = "conflict"
    INCONSISTENT = "inconsistent"


class WitnessRefusalError(Exception):
    """A witness does not accept a checkpoint.

    recorded_size: with CONFLICT the size from which the log must prove consistency, else None.
    """

    def __init__(self, kind: RefusalKind, why: str, *, recorded_size: int | None = None) -> None:
        super().__init__(why)
        self.kind = kind
        self.recorded_size = recorded_size


@dataclass(frozen=True, slots=True)
class WitnessState:
    """The largest tree that a witness has accepted of one origin.

    Raises LogInvalidError for a size outside 0 to MAX_SIZE or a root that is not 32 bytes.
    """

    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MAX_SIZE or len(self.root) != HASH_BYTES:
            raise LogInvalidError("the recorded state of a witness must be a size and a root")


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A log's request: its note, and the proof that its tree goes on from that of old_size. None of it is verified.

    Raises LogInvalidError for an old size outside 0 to MAX_SIZE, more than 63 hashes or one that is not 32 bytes, or a
    malformed note.
    """

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.old_size <= MAX_SIZE:
            raise LogInvalidError("the old size must be from 0 to 2^63 - 1")
        require_proof(self.proof)
        parse_note(self.note)


def format_add_checkpoint(request: AddCheckpoint) -> bytes:
    """The body of an add-checkpoint request."""
    lines = [f"old {request.old_size}", *map(encode_base64, request.proof)]
    return "\n".join([*lines, "", ""]).encode("ascii") + request.note


def parse_add_checkpoint(content: bytes) -> AddCheckpoint:
    """The request of a body. Raises LogInvalidError for what format_add_checkpoint does not write."""
    if len(content) > MAX_REQUEST_BYTES:
        raise LogInvalidError(f"the request is longer than {MAX_REQUEST_BYTES} bytes")
    head, note = split_head(content)
    if not head[0].startswith("old "):
        raise LogInvalidError("the first line must be old and the old size")
    old_size = parse_decimal(head[0].removeprefix("old "))
    return AddCheckpoint(old_size, parse_proof_lines(head[1:]), note)


def authenticate(note: bytes, *, logs: Mapping[str, Sequence[Verifier]]) -> SignedCheckpoint:
    """The checkpoint of a note, if a known log has signed it. The first half of what a witness does.

    logs: the keys of each origin. Raises WitnessRefusalError: MALFORMED, UNKNOWN_ORIGIN or BAD_SIGNATURE.
    """
    try:
        unverified_text = parse_note(note).unverified_text
        unverified_origin = parse_checkpoint_text(unverified_text).origin
    except LogInvalidError as error:
        raise WitnessRefusalError(RefusalKind.MALFORMED, str(error)) from error
    verifiers = logs.get(unverified_origin)
    if verifiers is None:
        raise WitnessRefusalError(RefusalKind.UNKNOWN_ORIGIN, "this witness does not know the log")
    try:
        return authenticate_checkpoint(note, origin=unverified_origin, verifiers=verifiers)
    except LogInvalidError as error:
        raise WitnessRefusalError(RefusalKind.BAD_SIGNATURE, str(error)) from error


def consider(
    checkpoint: Checkpoint, state: WitnessState | None, old_size: int, proof: Sequence[bytes]
) -> WitnessState:
    """The state to record for a checkpoint that its log has signed. The second half of what a witness does.

    state: what is recorded of this origin, None for nothing. Raises WitnessRefusalError: MALFORMED if old_size is
    larger than the new tree, CONFLICT if it is not the recorded one, INCONSISTENT if the proof does not show that the
    new tree goes on from the recorded one.
    """
    if old_size > checkpoint.size:
        raise WitnessRefusalError(RefusalKind.MALFORMED, "the old size is above the new one")
    recorded = state or WitnessState(0, EMPTY_ROOT)
    if old_size != recorded.size:
        why = f"the recorded size is {recorded.size}, not {old_size}"
        raise WitnessRefusalError(RefusalKind.CONFLICT, why, recorded_size=recorded.size)
    try:
        verify_consistency(
            old_size=recorded.size,
            size=checkpoint.size,
            old_root=recorded.root,
            root=checkpoint.root,
            proof=proof,
        )
    except LogInvalidError as error:
        raise WitnessRefusalError(RefusalKind.INCONSISTENT, str(error)) from error
    return WitnessState(checkpoint.size, checkpoint.root)
