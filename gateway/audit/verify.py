"""Checking a whole ledger as it is stored, and naming its first bad record.

Rules: every stored byte is looked at, but those before a trusted checkpoint; the check ends where the ledger ended when
it began; it changes nothing. What it cannot see: records behind the newest checkpoint that were changed, added or taken
away together with their hashes (nobody has signed them yet); a whole ledger put back to an older state, unless
somebody else holds a newer checkpoint; and a checkpoint taken away from between others, which vouch for all it did.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

from gateway.audit.checkpoints import SignedCheckpoint
from gateway.audit.entries import checked_origin
from gateway.audit.merkle import EMPTY_FRONTIER, Frontier, LogInvalidError, frontier_root
from gateway.audit.notes import Verifier
from gateway.audit.stored_tree import load_frontier
from gateway.audit.verify_ends import fault_at_beginning, fault_at_end
from gateway.audit.verify_explain import explain_disagreement, explain_record
from gateway.audit.verify_faults import Fault, FaultKind, VerifyResult
from gateway.audit.verify_parts import walk_in_parts
from gateway.audit.verify_range import Subject, database_errors, walk_records
from gateway.audit.verify_tree import BadClaim, Claim, Disagreement, Holder, TreeWalk, read_claim
from gateway.errors import AuditUnavailableError, Code
from gateway.store.queries.audit_verify import LedgerEnds, read_ends

__all__ = ["Fault", "FaultKind", "VerifyResult", "verify_ledger"]


def verify_ledger(
    engine: Engine,
    origin: str,
    *,
    verifiers: Sequence[Verifier],
    trusted: SignedCheckpoint | None = None,
    witnessed: Sequence[SignedCheckpoint] = (),
    on_progress: Callable[[int, int], None] = lambda _count, _total: None,
    workers: int | None = None,
) -> VerifyResult:
    """Check a ledger up to the end that it has now.

    verifiers: keys of the ledger, of which one must have begun it and signed each checkpoint; without any, no signature
    is checked. trusted: a checkpoint up to which the records were checked before; they are not read again. witnessed:
    checkpoints of this ledger that others hold. The signatures of both were checked. on_progress: called with the count
    of records so far and that of all. workers: processes that share the work if the ledger is large; as many as there
    are processors if None. Raises SettingsError if the origin is not a name, AuditUnavailableError if the database
    cannot be read.
    """
    claims = [Claim(s.checkpoint.size, Holder.WITNESS, s) for s in witnessed]
    subject = Subject(
        origin=checked_origin(origin), verifiers=tuple(verifiers), claims=tuple(claims)
    )
    try:
        return _verify(engine, subject, trusted, on_progress, workers or _processors())
    except database_errors(engine) as exc:
        message = "the ledger could not be read from the database"
        raise AuditUnavailableError(Code.AUDIT_UNAVAILABLE, message) from exc


def _processors() -> int:
    return len(os.sched_getaffinity(0))


def _verify(
    engine: Engine,
    subject: Subject,
    trusted: SignedCheckpoint | None,
    on_progress: Callable[[int, int], None],
    workers: int,
) -> VerifyResult:
    with _at_one_moment(engine) as connection:
        ends = read_ends(connection, subject.origin)
    begun = None if trusted is None else _trusted_tree(engine, subject.origin, trusted, ends)
    subject = _with_more_claims(subject, ends, trusted)
    frontier = EMPTY_FRONTIER if begun is None else begun
    walk = TreeWalk(frontier, agreed=frontier, newest=None if begun is None else trusted)
    fault = fault_at_beginning(subject, ends)
    if fault is None:
        fault = _walk(engine, subject, walk, ends, on_progress, workers)
    return _result(subject, walk, fault, begun_at=frontier.size)


def _walk(
    engine: Engine,
    subject: Subject,
    walk: TreeWalk,
    ends: LedgerEnds,
    on_progress: Callable[[int, int], None],
    workers: int,
) -> Fault | None:
    def progress(count: int) -> None:
        on_progress(count, ends.size)

    walk_in_parts(engine, subject, walk, end=ends.size, workers=workers, on_progress=progress)
    fault = walk_records(engine, subject, walk, end=ends.size, on_progress=progress)
    if fault is None and walk.finding is None:
        fault = fault_at_end(subject, walk, ends)
    walk.finish()
    if isinstance(walk.finding, Disagreement):
        return explain_disagreement(engine, subject.origin, walk.finding, end=ends.size)
    if walk.finding is not None:
        return walk.finding
    return None if fault is None else explain_record(engine, subject.origin, fault)


def _trusted_tree(
    engine: Engine, origin: str, trusted: SignedCheckpoint, ends: LedgerEnds
) -> Frontier | None:
    # None if the stored hashes do not lead to it any more: then the check begins at the first record, and names what
    # was changed since.
    checkpoint = trusted.checkpoint
    if checkpoint.size > ends.size:
        return None
    try:
        with engine.connect() as connection:
            frontier = load_frontier(connection, origin, checkpoint.size)
    except LogInvalidError:
        return None
    return frontier if frontier_root(frontier) == checkpoint.root else None


def _with_more_claims(
    subject: Subject, ends: LedgerEnds, trusted: SignedCheckpoint | None
) -> Subject:
    claims: list[Claim | BadClaim] = list(subject.claims)
    if trusted is not None:
        claims.append(Claim(trusted.checkpoint.size, Holder.WITNESS, trusted))
    if ends.cosigned is not None:
        size, note = ends.cosigned
        claims.append(read_claim(size, note, origin=subject.origin, verifiers=subject.verifiers))
    return Subject(origin=subject.origin, verifiers=subject.verifiers, claims=tuple(claims))


def _result(
    subject: Subject, walk: TreeWalk, fault: Fault | None, *, begun_at: int
) -> VerifyResult:
    count = walk.frontier.size if fault is None else max(fault.position, 0)
    return VerifyResult(
        origin=subject.origin,
        begun_at=begun_at,
        count=count,
        root=None if fault is not None else frontier_root(walk.frontier),
        newest=walk.newest,
        unsigned=count - min(walk.agreed.size, count),
        witnessed_size=walk.witnessed_size,
        is_signed=bool(subject.verifiers),
        first_bad=fault,
    )


@contextmanager
def _at_one_moment(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection
