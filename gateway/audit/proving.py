"""Proofs of single records from what the database holds, and who may be given which.

Rules: nothing leaves that does not verify; a principal proves what it did itself and was let do, and learns of nothing
else whether it exists.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from gateway.audit.events import MAX_CHARACTERS, Outcome, printable
from gateway.audit.found import FoundRecord, read_record, unreadable
from gateway.audit.merkle import LogInvalidError
from gateway.audit.notes import parse_verifier
from gateway.audit.proof_files import ProofFile, check_proof_file, format_proof_file
from gateway.audit.query import Forms
from gateway.audit.stored_notes import (
    Find,
    open_stored,
    read_cosigned,
    read_ledger,
    read_newest,
)
from gateway.audit.stored_tree import prove_inclusion
from gateway.errors import Code, LedgerError
from gateway.store.queries.audit_search import find_audit_record
from gateway.store.records import StoredCheckpoint

# Why somebody was refused is for the security team alone.
_SHOWN_OUTCOMES = frozenset({Outcome.ADMITTED.value, Outcome.ANSWERED.value})
# Escaping makes a character of the longest field at most ten.
_MAX_ESCAPED_CHARACTERS = 10 * max(MAX_CHARACTERS.values())


@dataclass(frozen=True, slots=True)
class Owner:
    """Somebody whose records are asked for, as its token names it."""

    issuer: str
    subject: str


def find_record(connection: Connection, origin: str, index: int) -> FoundRecord | None:
    """The record at an index of a ledger; None if there is none. Raises LedgerError if it was changed."""
    try:
        stored = find_audit_record(connection, origin, index)
    except ValueError as exc:
        raise unreadable(origin, index) from exc
    return None if stored is None else read_record(stored)


def is_own(record: FoundRecord, owner: Owner, forms: Forms) -> bool:
    """Whether a record is of a call that this principal made and was let make.

    forms: every form in which a value may stand in records (gateway.audit.pseudonyms).
    """
    members = record.members
    return (
        members["outcome"] in _SHOWN_OUTCOMES
        and _is_same(members, "issuer", owner.issuer, forms)
        and _is_same(members, "subject", owner.subject, forms)
    )


def newest_note(connection: Connection, origin: str) -> StoredCheckpoint | None:
    """The newest checkpoint, with its witnesses' signatures where they have come; None if there is no such ledger.

    Raises LedgerError if it cannot be read.
    """
    try:
        newest = read_newest(connection, origin)
    except LogInvalidError as exc:
        raise _unproved(f"the newest checkpoint of {origin}", str(exc)) from exc
    cosigned = None
    # What a witness's row holds must keep nobody from the ledger's own.
    with suppress(LogInvalidError):
        cosigned = read_cosigned(connection, origin)
    if newest is not None and cosigned is not None and cosigned.size == newest.size:
        return cosigned
    return newest


def make_proof(connection: Connection, record: FoundRecord) -> bytes | None:
    """The proof file of a record, its body in it, by a checkpoint that witnesses signed where one covers it.

    None while no checkpoint covers it. Raises LedgerError if the stored hashes do not lead from it to the checkpoint.
    """
    # What a witness's row holds must keep nobody from a proof by the ledger's own.
    with suppress(LogInvalidError, ValueError):
        proof = _proof_by(connection, record, read_cosigned)
        if proof is not None:
            return proof
    try:
        return _proof_by(connection, record, read_newest)
    except (LogInvalidError, ValueError) as exc:
        raise _unproved(f"record {record.position} of {record.origin}", str(exc)) from exc


def _proof_by(connection: Connection, record: FoundRecord, read: Find) -> bytes | None:
    ledger = read_ledger(connection, record.origin)
    stored = read(connection, record.origin)
    if ledger is None or stored is None or stored.size <= record.position:
        return None
    verifiers = [parse_verifier(ledger.verifier)]
    signed = open_stored(stored, verifiers=verifiers)
    size = signed.checkpoint.size
    hashes = prove_inclusion(connection, record.origin, index=record.position, size=size)
    body = record.body.encode("ascii")
    proof = ProofFile(record.position, tuple(hashes), signed.note, body)
    check_proof_file(proof, entry=body, origin=record.origin, verifiers=verifiers)
    return format_proof_file(proof)


def _unproved(what: str, why: str) -> LedgerError:
    message = f"{what} cannot be proved: `gateway audit verify` says more"
    return LedgerError(Code.LEDGER_BROKEN, message, reason=f"no proof: {why}")


def _is_same(members: Mapping[str, Any], name: str, value: str, forms: Forms) -> bool:
    stored = members[name]
    if name in (members.get("pseudonymised") or "").split(","):
        # Only by the key: a subject that reads like somebody's pseudonym is not that somebody.
        pseudonym, *plain = forms(name, value)
        return bool(plain) and stored == pseudonym
    # Uncut, for two long texts can begin alike.
    escaped: str = printable(value, max_characters=_MAX_ESCAPED_CHARACTERS)
    return bool(stored == escaped)
