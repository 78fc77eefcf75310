"""Following a ledger's tree along its leaves, against stored nodes and signed checkpoints. Pure.

Rules: a hash or a note is believed only for what was signed; where a node and the leaves below it disagree, the next
checkpoint says which of them is bad.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from gateway.audit.checkpoints import (
    Checkpoint,
    SignedCheckpoint,
    open_checkpoint,
    parse_checkpoint_text,
)
from gateway.audit.merkle import (
    STORED_HEIGHT,
    Frontier,
    LogInvalidError,
    Node,
    append_leaves,
    frontier_root,
)
from gateway.audit.notes import Verifier, parse_note
from gateway.audit.verify_faults import Fault, FaultKind, fault_between

StoredNodes = Mapping[tuple[int, int], object]


class Holder(Enum):
    """Who has a checkpoint: the ledger itself, or others who were given it."""

    LEDGER = "the ledger"
    WITNESS = "a witness"


@dataclass(frozen=True, slots=True)
class Claim:
    """That the first size records have this root, which the ledger's key signed."""

    size: int
    holder: Holder
    signed: SignedCheckpoint

    @property
    def root(self) -> bytes:
        """The root that was signed."""
        return self.signed.checkpoint.root


@dataclass(frozen=True, slots=True)
class BadClaim:
    """A stored checkpoint that says nothing, and why."""

    size: int
    kind: FaultKind
    why: str


@dataclass(frozen=True, slots=True)
class Disagreement:
    """The records up to agreed are those that were signed, and some from there to before size are not."""

    agreed: Frontier
    size: int
    root: bytes


def read_claim(
    size: object, note: object, *, origin: str, verifiers: Sequence[Verifier]
) -> Claim | BadClaim:
    """The claim of a stored checkpoint. verifiers: keys of the ledger; without any no signature is checked."""
    if not isinstance(size, int):
        place = int(size) if isinstance(size, float) else 0
        why = f"the checkpoint of size {size!r} is none"
        return BadClaim(place, FaultKind.CHECKPOINT_DIFFERS, why)
    if not isinstance(note, bytes):
        why = f"the checkpoint of {size} records is no text"
        return BadClaim(size, FaultKind.CHECKPOINT_DIFFERS, why)
    try:
        unverified = parse_checkpoint_text(parse_note(note).unverified_text)
    except LogInvalidError as exc:
        why = f"the checkpoint of {size} records is damaged: {exc}"
        return BadClaim(size, FaultKind.CHECKPOINT_DIFFERS, why)
    try:
        signed = _open(note, unverified, origin, verifiers)
    except LogInvalidError as exc:
        why = f"the checkpoint of {size} records is not the ledger's: {exc}"
        return BadClaim(size, FaultKind.FORGED, why)
    if signed.checkpoint.size != size:
        why = f"the checkpoint of {signed.checkpoint.size} records is stored as one of {size}"
        return BadClaim(size, FaultKind.CHECKPOINT_DIFFERS, why)
    return Claim(size, Holder.LEDGER, signed)


def _open(
    note: bytes, unverified: Checkpoint, origin: str, verifiers: Sequence[Verifier]
) -> SignedCheckpoint:
    if verifiers:
        return open_checkpoint(note, origin=origin, verifiers=verifiers)
    if unverified.origin != origin:
        raise LogInvalidError("the checkpoint is of another origin")
    return SignedCheckpoint(unverified, note, ())


class TreeWalk:
    """Goes along a ledger and stops at the first thing that does not fit: then finding is set.

    frontier: the tree so far. agreed: the tree of the newest checkpoint that fits. newest: that checkpoint, of those
    that the ledger holds. witnessed_size: of the largest checkpoint of others that fits.
    """

    def __init__(
        self,
        frontier: Frontier,
        *,
        agreed: Frontier,
        newest: SignedCheckpoint | None = None,
        witnessed_size: int | None = None,
    ) -> None:
        """Begins behind a part that was checked."""
        self.frontier = frontier
        self.agreed = agreed
        self.newest = newest
        self.witnessed_size = witnessed_size
        self.finding: Fault | Disagreement | None = None
        self._bad_node: Node | None = None
        self._contradiction: Claim | None = None

    @property
    def is_clean(self) -> bool:
        """Whether all fits so far, and nothing waits for a checkpoint that decides."""
        return self.finding is None and self._bad_node is None and self._contradiction is None

    def advance(
        self,
        leaf_hashes: Sequence[bytes],
        *,
        stored: StoredNodes,
        claims: Sequence[Claim | BadClaim],
    ) -> None:
        """Go over more leaves.

        stored: at least the nodes that become full by them. claims: those within them, by size; at one size those of
        witnesses first.
        """
        start, done = self.frontier.size, 0
        for claim in claims:
            self._append(leaf_hashes[done : claim.size - start], stored)
            done = claim.size - start
            self._compare(claim)
            if self.finding is not None:
                return
        self._append(leaf_hashes[done:], stored)

    def skip(
        self,
        frontier: Frontier,
        *,
        agreed: Frontier | None,
        newest: SignedCheckpoint | None,
        witnessed_size: int | None,
    ) -> None:
        """Go on behind a part that was checked elsewhere and fits; None where it has no checkpoint of the kind."""
        self.frontier = frontier
        self.agreed = agreed or self.agreed
        self.newest = newest or self.newest
        self.witnessed_size = witnessed_size or self.witnessed_size

    def finish(self) -> None:
        """No checkpoint follows: what waited for one is decided by what there is."""
        if self.finding is not None:
            return
        if self._contradiction is not None:
            self.finding = self._disagreement(self._contradiction)
        elif self._bad_node is not None:
            self.finding = _node_fault(
                self._bad_node, self.agreed.size, "the records, which nobody has signed yet"
            )

    def _append(self, leaf_hashes: Sequence[bytes], stored: StoredNodes) -> None:
        self.frontier, nodes = append_leaves(self.frontier, leaf_hashes)
        if self._bad_node is None:
            bad = (n for n in nodes if stored.get((n.level, n.number)) != n.node_hash)
            self._bad_node = next(bad, None)

    def _compare(self, claim: Claim | BadClaim) -> None:
        if isinstance(claim, BadClaim):
            if self._contradiction is not None:
                self.finding = self._disagreement(self._contradiction)
            else:
                self.finding = fault_between(self.agreed.size, claim.size, claim.kind, claim.why)
        elif claim.root == frontier_root(self.frontier):
            self._agree(claim)
        elif claim.holder is Holder.WITNESS:
            self._contradiction = self._contradiction or claim
        elif claim.size == self.agreed.size:
            self.finding = self._fork(claim)
        elif self._contradiction is not None and self._are_two_histories(claim):
            self.finding = self._fork(self._contradiction)
        else:
            self.finding = self._disagreement(self._contradiction or claim)

    def _agree(self, claim: Claim) -> None:
        if self._bad_node is not None:
            self.finding = _node_fault(self._bad_node, 0, "the records, which are as signed")
        elif self._contradiction is None:
            self.agreed = self.frontier
        elif claim.holder is Holder.LEDGER:
            # These records were signed, and so was what others hold.
            self.finding = self._fork(self._contradiction)
        if claim.holder is Holder.LEDGER:
            self.newest = claim.signed
        elif self._contradiction is None:
            self.witnessed_size = claim.size

    def _are_two_histories(self, claim: Claim) -> bool:
        other = self._contradiction
        return other is not None and other.size == claim.size and other.root != claim.root

    def _fork(self, witnessed: Claim) -> Fault:
        # From where the witness's last word fits: the key signed two histories, and so its own word says nothing.
        start = self.witnessed_size or 0
        why = f"the ledger's key signed another root of {witnessed.size} records than the one here"
        return fault_between(start, witnessed.size, FaultKind.FORKED, why)

    def _disagreement(self, claim: Claim) -> Disagreement:
        return Disagreement(self.agreed, claim.size, claim.root)


def _node_fault(node: Node, checked: int, than: str) -> Fault:
    count = 1 << (STORED_HEIGHT * node.level)
    start, end = max(node.number * count, checked), (node.number + 1) * count
    why = f"the stored node {node.number} of level {node.level} is another than that of {than}"
    return fault_between(start, end, FaultKind.NODE_DIFFERS, why)
