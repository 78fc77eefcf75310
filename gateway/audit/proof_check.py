"""Checking a proof file by public keys alone: what a client does with the proof of its call. Pure.

Rules: the record stands in the file as a hint, and is believed once the proof leads from it to a checkpoint that the
ledger's key has signed; each witness whose key is given must have signed the same checkpoint.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.audit.entries import is_canonical
from gateway.audit.merkle import LogInvalidError
from gateway.audit.notes import KeyKind, VerifiedSignature, Verifier
from gateway.audit.proof_files import check_proof_file, parse_proof_file


@dataclass(frozen=True, slots=True)
class ProvedRecord:
    """A record that is in a ledger for sure.

    index: its position. size: of the checkpoint that proves it. cosignatures: of the witnesses, in the order of names.
    members: what the record says.
    """

    origin: str
    index: int
    size: int
    cosignatures: tuple[VerifiedSignature, ...]
    body: str
    members: Mapping[str, Any]


def check_proof(
    content: bytes, *, log: Verifier, witnesses: Sequence[Verifier] = ()
) -> ProvedRecord:
    """The record of a proof file, proved by the key of its ledger, whose name is the ledger's.

    Raises LogInvalidError if the file is malformed, holds no record, does not verify, or a witness has not signed.
    """
    if log.kind is not KeyKind.ED25519 or any(w.kind is KeyKind.ED25519 for w in witnesses):
        raise LogInvalidError("the key of a ledger and that of a witness were exchanged")
    proof = parse_proof_file(content)
    if proof.extra is None:
        raise LogInvalidError("the file holds no record: take it from the gateway as it is")
    signed = check_proof_file(
        proof, entry=proof.extra, origin=log.name, verifiers=[log, *witnesses]
    )
    missing = {w.name for w in witnesses} - {s.verifier.name for s in signed.cosignatures}
    if missing:
        raise LogInvalidError(f"not signed by {', '.join(sorted(missing))}")
    body, members = _read(proof.extra)
    return ProvedRecord(
        origin=log.name,
        index=proof.index,
        size=signed.checkpoint.size,
        cosignatures=tuple(sorted(signed.cosignatures, key=lambda s: s.verifier.name)),
        body=body,
        members=members,
    )


def _read(entry: bytes) -> tuple[str, Mapping[str, Any]]:
    message = "the ledger holds this entry, but it is no record that this release can read"
    body = entry.decode("ascii", "replace")
    if not is_canonical(body):
        raise LogInvalidError(message)
    try:
        return body, json.loads(body)
    except ValueError as exc:  # a number of thousands of digits
        raise LogInvalidError(message) from exc
