"""What cannot stand before the first record of a ledger or behind its last. Pure."""

from collections.abc import Sequence

from gateway.audit.notes import Verifier
from gateway.audit.verify_faults import Fault, FaultKind, fault_at, fault_between
from gateway.audit.verify_range import Subject
from gateway.audit.verify_tree import BadClaim, Claim, Holder, TreeWalk, read_claim
from gateway.store.queries.audit_verify import LedgerEnds


def fault_at_beginning(subject: Subject, ends: LedgerEnds) -> Fault | None:
    """What is wrong before the first record is read."""
    if isinstance(ends.first, int | float) and ends.first < 0:
        why = "it is hidden before the first one, where there can be none"
        return fault_at(int(ends.first), FaultKind.EXTRA, why)
    if not ends.has_row:
        return _without_row(ends)
    why_row = _why_row_differs(ends.verifier, subject.verifiers)
    if why_row is not None:
        return fault_at(0, FaultKind.LEDGER_DIFFERS, why_row)
    if ends.first_checkpoint is None:
        why = "the ledger has no checkpoint, not even that of its beginning"
        return fault_between(0, ends.size, FaultKind.CHECKPOINT_DIFFERS, why)
    for size, _ in filter(None, (ends.first_checkpoint, ends.last_checkpoint)):
        if not isinstance(size, int | float) or size < 0:
            why = f"there is a checkpoint of size {size!r}"
            return fault_between(0, ends.size, FaultKind.CHECKPOINT_DIFFERS, why)
    if ends.strange_node is not None:
        level, number = ends.strange_node
        why = f"there is a stored node {number!r} of level {level!r}, where there can be none"
        return fault_between(0, ends.size, FaultKind.EXTRA, why)
    return None


def fault_at_end(subject: Subject, walk: TreeWalk, ends: LedgerEnds) -> Fault | None:
    """What is wrong behind the last record, when all records fit."""
    if ends.last is not None and not isinstance(ends.last, int):
        why = f"in its place is one with position {ends.last!r}"
        return fault_at(ends.size, FaultKind.UNREADABLE, why)
    for claim in _beyond(subject, ends):
        if isinstance(claim, BadClaim):
            return fault_between(walk.agreed.size, ends.size, claim.kind, claim.why)
        if claim.holder is Holder.LEDGER:
            why = f"it and all after it are gone: {claim.size} were signed"
            return fault_at(ends.size, FaultKind.TRUNCATED, why)
        why = f"it and all after it are gone: {claim.size} were signed, as others have seen"
        return fault_at(ends.size, FaultKind.ROLLED_BACK, why)
    if ends.node_beyond is not None:
        level, number = ends.node_beyond
        why = f"it and all after it are gone: a stored node {number!r} of level {level!r} is above them"
        return fault_at(ends.size, FaultKind.TRUNCATED, why)
    return None


def _without_row(ends: LedgerEnds) -> Fault | None:
    if ends.first is None and ends.first_checkpoint is None and ends.node_beyond is None:
        return None
    why = "the ledger's own row is missing: it was never begun (`gateway audit create`), or somebody took it away"
    return fault_at(0, FaultKind.LEDGER_DIFFERS, why)


def _why_row_differs(line: bytes | None, verifiers: Sequence[Verifier]) -> str | None:
    if line is None:
        return "the ledger's own row names no key"
    known = {verifier.line().encode() for verifier in verifiers}
    if verifiers and line not in known:
        return "the ledger's own row names another key than the one that it is checked with"
    return None


def _beyond(subject: Subject, ends: LedgerEnds) -> list[Claim | BadClaim]:
    claims = list(subject.claims)
    if ends.last_checkpoint is not None:
        size, note = ends.last_checkpoint
        claims.append(read_claim(size, note, origin=subject.origin, verifiers=subject.verifiers))
    beyond = [claim for claim in claims if claim.size > ends.size]
    # What the database itself says comes first: it needs nobody else's word.
    return sorted(beyond, key=lambda c: isinstance(c, Claim) and c.holder is Holder.WITNESS)
