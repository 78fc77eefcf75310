"""Following a tree along its leaves: what stops it, and what the next checkpoint decides."""

import pytest

from gateway.audit.checkpoints import Checkpoint, SignedCheckpoint, sign_checkpoint
from gateway.audit.merkle import EMPTY_FRONTIER, append_leaves, frontier_root
from gateway.audit.notes import NoteCosigner, NoteSigner
from gateway.audit.verify_faults import Fault, FaultKind
from gateway.audit.verify_tree import (
    BadClaim,
    Claim,
    Disagreement,
    Holder,
    TreeWalk,
    read_claim,
)
from tests.gateway.ledgers import LEDGER_KEY, signer_of

LEAVES = [number.to_bytes(32, "big") for number in range(1, 601)]
_, NODES = append_leaves(EMPTY_FRONTIER, LEAVES)
STORED: dict[tuple[int, int], object] = {(n.level, n.number): n.node_hash for n in NODES}
VERIFIER = signer_of().verifier


def root(size: int) -> bytes:
    """The root of the first leaves."""
    return frontier_root(append_leaves(EMPTY_FRONTIER, LEAVES[:size])[0])


def claim(size: int, holder: Holder = Holder.LEDGER, *, of: bytes | None = None) -> Claim:
    """That this many leaves were signed; of: with another root."""
    checkpoint = Checkpoint("gateway", size, of or root(size))
    return Claim(size, holder, SignedCheckpoint(checkpoint, b"note of %d" % size, ()))


def walked(
    *claims: Claim | BadClaim, stored: dict[tuple[int, int], object] | None = None
) -> TreeWalk:
    """Along all leaves, and to the end."""
    walk = TreeWalk(EMPTY_FRONTIER, agreed=EMPTY_FRONTIER)
    walk.advance(LEAVES, stored=STORED if stored is None else stored, claims=claims)
    walk.finish()
    return walk


def fault_of(walk: TreeWalk) -> tuple[int, int, FaultKind]:
    """First, last and kind of the fault that ended it."""
    assert isinstance(walk.finding, Fault)
    return walk.finding.position, walk.finding.last, walk.finding.kind


def test_what_fits_is_clean() -> None:
    """The newest checkpoint that fits is remembered, of the ledger and of others."""
    walk = walked(claim(0), claim(300), claim(400, Holder.WITNESS), claim(500))
    assert walk.is_clean
    assert (600, 500, 400) == (walk.frontier.size, walk.agreed.size, walk.witnessed_size)
    assert claim(500).signed == walk.newest


def test_pages_give_what_one_gives() -> None:
    """A walk may stop between any two leaves."""
    walk = TreeWalk(EMPTY_FRONTIER, agreed=EMPTY_FRONTIER)
    for start in range(0, 600, 7):
        claims = [c for c in (claim(250), claim(511)) if start < c.size <= start + 7]
        walk.advance(LEAVES[start : start + 7], stored=STORED, claims=claims)
    assert walk.is_clean
    assert (600, 511) == (walk.frontier.size, walk.agreed.size)


def test_another_root_is_a_disagreement_since_the_last_that_fits() -> None:
    """And what follows is not looked at."""
    walk = walked(claim(100), claim(300, of=b"\7" * 32), claim(400))
    assert isinstance(walk.finding, Disagreement)
    assert (100, 300, b"\7" * 32) == (
        walk.finding.agreed.size,
        walk.finding.size,
        walk.finding.root,
    )
    assert claim(100).signed == walk.newest


@pytest.mark.parametrize("value", [b"\7" * 32, None, "text"])
@pytest.mark.parametrize(
    ("claims", "first"),
    [([claim(100), claim(600)], 256), ([claim(300)], 300), ([claim(600, Holder.WITNESS)], 256)],
)
def test_a_node_is_bad_where_the_leaves_are_as_signed(
    claims: list[Claim], first: int, value: object
) -> None:
    """Without a checkpoint after it, it is bad as far as nobody knows better."""
    walk = walked(*claims, stored=STORED | {(1, 1): value})
    assert (first, 511, FaultKind.NODE_DIFFERS) == fault_of(walk)


def test_a_bad_node_waits_for_the_checkpoint_after_it() -> None:
    """If that does not fit, the leaves are bad."""
    walk = walked(claim(100), claim(600, of=b"\7" * 32), stored=STORED | {(1, 1): None})
    assert isinstance(walk.finding, Disagreement)


def test_higher_nodes_are_compared() -> None:
    """A part whose hashes are all the same shows a bad node of level 2."""
    leaves = [b"\1" * 32] * (1 << 16)
    frontier, nodes = append_leaves(EMPTY_FRONTIER, leaves)
    stored: dict[tuple[int, int], object] = {(n.level, n.number): n.node_hash for n in nodes}
    walk = TreeWalk(EMPTY_FRONTIER, agreed=EMPTY_FRONTIER)
    walk.advance(leaves, stored=stored, claims=[])
    assert walk.is_clean
    assert frontier == walk.frontier
    walk = TreeWalk(EMPTY_FRONTIER, agreed=EMPTY_FRONTIER)
    walk.advance(leaves, stored=stored | {(2, 0): b"\7" * 32}, claims=[])
    walk.finish()
    assert (0, (1 << 16) - 1, FaultKind.NODE_DIFFERS) == fault_of(walk)


def test_a_witness_against_what_was_signed_is_a_fork() -> None:
    """From where the last witness fits."""
    walk = walked(
        claim(100, Holder.WITNESS),
        claim(200),
        claim(300, Holder.WITNESS, of=b"\7" * 32),
        claim(400),
    )
    assert (100, 299, FaultKind.FORKED) == fault_of(walk)


def test_two_roots_of_one_size_are_a_fork() -> None:
    """Whether the leaves fit either of them or not."""
    walk = walked(claim(300, Holder.WITNESS, of=b"\7" * 32), claim(300, of=b"\6" * 32))
    assert (0, 299, FaultKind.FORKED) == fault_of(walk)
    walk = walked(claim(300), claim(300, of=b"\6" * 32))
    assert (0, 299, FaultKind.FORKED) == fault_of(walk)


def test_a_witness_against_unsigned_leaves_is_a_disagreement() -> None:
    """The leaves are not those that the key signed."""
    walk = walked(claim(100), claim(300, Holder.WITNESS, of=b"\7" * 32))
    assert isinstance(walk.finding, Disagreement)
    assert (100, 300) == (walk.finding.agreed.size, walk.finding.size)


def test_a_witness_comes_before_a_later_checkpoint_that_is_bad() -> None:
    """It names fewer records."""
    bad = BadClaim(400, FaultKind.FORGED, "forged")
    walk = walked(claim(100), claim(300, Holder.WITNESS, of=b"\7" * 32), bad)
    assert isinstance(walk.finding, Disagreement)
    assert 300 == walk.finding.size


def test_a_bad_checkpoint_puts_what_it_covers_in_doubt() -> None:
    """Since the last one that fits."""
    walk = walked(claim(100), BadClaim(300, FaultKind.FORGED, "forged"), claim(400))
    assert (100, 299, FaultKind.FORGED) == fault_of(walk)


NOTE = sign_checkpoint(Checkpoint("gateway", 300, root(300)), signer_of())


def test_a_stored_checkpoint_is_a_claim() -> None:
    """With the root that was signed."""
    found = read_claim(300, NOTE, origin="gateway", verifiers=[VERIFIER])
    assert isinstance(found, Claim)
    assert (300, Holder.LEDGER, root(300)) == (found.size, found.holder, found.root)


@pytest.mark.parametrize(
    ("size", "note", "kind"),
    [
        ("300", NOTE, FaultKind.CHECKPOINT_DIFFERS),
        (300.5, NOTE, FaultKind.CHECKPOINT_DIFFERS),
        (300, None, FaultKind.CHECKPOINT_DIFFERS),
        (301, NOTE, FaultKind.CHECKPOINT_DIFFERS),
        (300, b"", FaultKind.CHECKPOINT_DIFFERS),
        (300, NOTE[:-9], FaultKind.CHECKPOINT_DIFFERS),
        (300, NOTE.replace(b"300", b"200"), FaultKind.FORGED),
        (300, NOTE.replace(b"gateway\n", b"another\n"), FaultKind.FORGED),
    ],
)
def test_what_is_stored_in_its_place_is_not(size: object, note: object, kind: FaultKind) -> None:
    """Damaged, of another size, or not signed by the ledger's key."""
    found = read_claim(size, note, origin="gateway", verifiers=[VERIFIER])
    assert isinstance(found, BadClaim)
    assert kind is found.kind


def test_only_the_ledgers_key_makes_a_claim() -> None:
    """Neither a witness's nor one of the same name."""
    other = NoteSigner("another", LEDGER_KEY)
    note = sign_checkpoint(Checkpoint("another", 300, root(300)), other)
    for verifiers in ([VERIFIER], [NoteCosigner("gateway", LEDGER_KEY).verifier], []):
        found = read_claim(300, note, origin="gateway", verifiers=verifiers)
        assert isinstance(found, BadClaim)
        assert FaultKind.FORGED is found.kind


def test_without_keys_the_form_alone_makes_a_claim() -> None:
    """Whoever asks says that signatures were not checked."""
    assert isinstance(read_claim(300, NOTE, origin="gateway", verifiers=[]), Claim)
