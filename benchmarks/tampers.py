"""What somebody who can write to the database can do to a ledger, and what a check must say then.

Each tamper changes a copy at a random place and gives what is true: the first record that is bad, and the narrowest
range in which anybody without the original could say that it lies.
"""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.checkpoints import Checkpoint, checkpoint_text, sign_checkpoint
from gateway.audit.merkle import HASH_BYTES, STORED_HEIGHT
from gateway.audit.notes import NoteSigner, encode_base64, format_note
from gateway.audit.verify_faults import Fault, FaultKind

if TYPE_CHECKING:
    from benchmarks.tampered_ledger import Copy, Ledger
else:
    from tampered_ledger import Copy, Ledger

_BLOCK = 1 << STORED_HEIGHT
_K = FaultKind


@dataclass(frozen=True, slots=True)
class Truth:
    """The first bad record; what is named must be it, or a range with it from earliest to latest; and of which kind."""

    position: int
    kinds: frozenset[FaultKind]
    earliest: int
    latest: int

    def is_named_by(self, fault: Fault) -> bool:
        """Whether a fault names it."""
        return (
            self.earliest <= fault.position <= self.position <= fault.last <= self.latest
            and fault.kind in self.kinds
        )


def _exactly(position: int, *kinds: FaultKind) -> Truth:
    return Truth(position, frozenset(kinds), position, position)


def _between(ledger: Ledger, position: int, *kinds: FaultKind) -> Truth:
    start, end = ledger.between(position)
    return Truth(position, frozenset(kinds), start, end - 1)


def body_bit(copy: Copy, ledger: Ledger, rng: random.Random) -> Truth:
    """One bit of a body, signed or not."""
    position = rng.randrange(ledger.count)
    content = _flipped(copy.body(position).encode(), rng)
    copy.run(
        "UPDATE audit_records SET body = CAST(? AS TEXT) WHERE position = ?", content, position
    )
    return _exactly(position, _K.CHANGED, _K.UNREADABLE)


def leaf_bit(copy: Copy, ledger: Ledger, rng: random.Random) -> Truth:
    """One bit of a leaf hash."""
    position = rng.randrange(ledger.count)
    content = _flipped(ledger.leaf_hashes[position], rng)
    copy.run("UPDATE audit_records SET leaf_hash = ? WHERE position = ?", content, position)
    return _exactly(position, _K.CHANGED)


def node_bit(copy: Copy, ledger: Ledger, rng: random.Random) -> Truth:
    """One bit of a stored node, or the node itself is taken away."""
    number = rng.randrange(ledger.count // _BLOCK)
    [(content,)] = copy.run("SELECT node_hash FROM audit_nodes WHERE number = ?", number)
    if rng.randrange(4):
        content = _flipped(content, rng)
        copy.run("UPDATE audit_nodes SET node_hash = ? WHERE number = ?", content, number)
    else:
        copy.run("DELETE FROM audit_nodes WHERE number = ?", number)
    first, last = number * _BLOCK, (number + 1) * _BLOCK - 1
    return Truth(last, frozenset({_K.NODE_DIFFERS}), first, last)


def checkpoint_bit(copy: Copy, ledger: Ledger, rng: random.Random) -> Truth:
    """One bit of a signed note."""
    place = rng.randrange(len(ledger.sizes))
    size = ledger.sizes[place]
    [(content,)] = copy.run("SELECT CAST(note AS BLOB) FROM audit_checkpoints WHERE size = ?", size)
    content = _flipped(content, rng)
    copy.run("UPDATE audit_checkpoints SET note = CAST(? AS TEXT) WHERE size = ?", content, size)
    first = ledger.sizes[max(place - 1, 0)]
    kinds = frozenset({_K.FORGED, _K.CHECKPOINT_DIFFERS})
    return Truth(first, kinds, first, max(size - 1, 0))


def checkpoint_moved(copy: Copy, ledger: Ledger, rng: random.Random) -> Truth:
    """A signed note under another size."""
    size, to = rng.choice(ledger.sizes[1:]), rng.randrange(1, ledger.count)
    while to in ledger.sizes:
        to = rng.randrange(1, ledger.count)
    copy.run("UPDATE audit_checkpoints SET size = ? WHERE size = ?", to, size)
    first = max(s for s in ledger.sizes if s < to and s != size)
    return Truth(first, frozenset({_K.CHECKPOINT_DIFFERS}), first, to - 1)


def copy_changed(copy: Copy, ledger: Ledger, rng: random.Random) -> Truth:
    """A column that searches look at is made another text, none, or the same bytes as no text."""
    position = rng.randrange(ledger.count)
    column = rng.choice(("recorded_at", "action", "outcome", "request_id", "subject", "model_name"))
    [(value,)] = copy.run(f"SELECT {column} FROM audit_records WHERE position = ?", position)
    other: object = "x" if value is None else _other_text(str(value), rng)
    copy.run(f"UPDATE audit_records SET {column} = ? WHERE position = ?", other, position)
    return _exactly(position, _K.INDEX_DIFFERS, _K.UNREADABLE)


def deleted(copy: Copy, ledger: Ledger, rng: random.Random) -> Truth:
    """A record is taken away; the gap stays."""
    position = rng.randrange(ledger.count - 1)
    copy.run("DELETE FROM audit_records WHERE position = ?", position)
    return _exactly(position, _K.MISSING)


def deleted_and_closed(copy: Copy, ledger: Ledger, rng: random.Random) -> Truth:
    """A record is taken away, the later ones move up, every hash is mended.

    Not under the newest checkpoint if no record follows it: there it is a truncation.
    """
    position = rng.randrange(_signed_and_followed(ledger))
    copy.run("DELETE FROM audit_records WHERE position = ?", position)
    copy.shift(position + 1, -1)
    _maybe_mend(copy, rng)
    return _between(ledger, position, _K.CHANGED, _K.NODE_DIFFERS)


def inserted(copy: Copy, ledger: Ledger, rng: random.Random) -> Truth:
    """A record is put in, the later ones move, every hash is mended."""
    position = rng.randrange(ledger.signed)
    copy.shift(position, 1)
    copy.put(position, _rewritten(copy.body(position + 1), rng))
    _maybe_mend(copy, rng)
    start, end = ledger.between(position)
    # At the end of what was signed it looks as if it had changed places with the next one.
    other = _K.REORDERED if position == end - 1 else _K.EXTRA
    return Truth(position, frozenset({_K.EXTRA, _K.CHANGED, other}), start, end - 1)


def inserted_outside(copy: Copy, ledger: Ledger, rng: random.Random) -> Truth:
    """A record is put where none can be: before the first one, or behind a gap."""
    position = rng.choice((-rng.randrange(1, 99), ledger.count + rng.randrange(1, 99)))
    copy.put(position, _rewritten(copy.body(0), rng))
    if position < 0:
        return _exactly(position, _K.EXTRA)
    return _exactly(ledger.count, _K.MISSING)


def exchanged(copy: Copy, ledger: Ledger, rng: random.Random) -> Truth:
    """Two records change places, with all that belongs to them; perhaps every hash is mended."""
    first, other = _two(ledger, rng)
    copy.move(first, -1)
    copy.move(other, first)
    copy.move(-1, other)
    _maybe_mend(copy, rng)
    return _exactly(first, _K.REORDERED)


def leaf_hashes_exchanged(copy: Copy, ledger: Ledger, rng: random.Random) -> Truth:
    """The leaf hashes of two records change places."""
    first, other = _two(ledger, rng)
    for position, source in ((first, other), (other, first)):
        leaf_hash = ledger.leaf_hashes[source]
        copy.run("UPDATE audit_records SET leaf_hash = ? WHERE position = ?", leaf_hash, position)
    return _exactly(first, _K.REORDERED)


def truncated(copy: Copy, ledger: Ledger, rng: random.Random) -> Truth:
    """The last records are taken away, the checkpoints stay."""
    size = rng.randrange(ledger.signed)
    copy.run("DELETE FROM audit_records WHERE position >= ?", size)
    _maybe_mend(copy, rng)
    return _exactly(size, _K.TRUNCATED)


def truncated_with_checkpoints(copy: Copy, ledger: Ledger, rng: random.Random) -> Truth:
    """The last records are taken away, and all that speaks of them; a witness has seen them."""
    size = rng.randrange(ledger.signed)
    copy.run("DELETE FROM audit_records WHERE position >= ?", size)
    copy.run("DELETE FROM audit_checkpoints WHERE size > ?", size)
    copy.mend_nodes()
    return _exactly(size, _K.ROLLED_BACK)


def put_back(copy: Copy, ledger: Ledger, _rng: random.Random) -> Truth:
    """The whole database is an older one; a witness has seen more."""
    copy.replace(ledger.older)
    return _exactly(ledger.older_size, _K.ROLLED_BACK)


def put_back_and_continued(copy: Copy, ledger: Ledger, rng: random.Random) -> Truth:
    """The whole database is an older one, and the gateway wrote and signed on, beyond what the witness has."""
    copy.replace(ledger.older)
    position, size = ledger.older_size, ledger.witnessed.checkpoint.size
    copy.append(ledger.signer, rng, size - position + rng.randrange(99))
    return Truth(position, frozenset({_K.FORKED}), 0, size - 1)


def rewritten(copy: Copy, ledger: Ledger, rng: random.Random) -> Truth:
    """A record is written anew with its leaf hash and what searches look at; perhaps every node is mended."""
    position = rng.randrange(ledger.signed)
    rewrite(copy, position, rng)
    _maybe_mend(copy, rng)
    return _between(ledger, position, _K.CHANGED)


def rewrite(copy: Copy, position: int, rng: random.Random) -> None:
    """Write a record anew, with its leaf hash and what searches look at."""
    copy.put(position, _rewritten(copy.body(position), rng))


def resigned(copy: Copy, ledger: Ledger, rng: random.Random) -> Truth:
    """A record is written anew, every hash is mended, every checkpoint above is signed with another key."""
    position = rng.randrange(ledger.signed)
    rewrite(copy, position, rng)
    copy.mend_nodes()
    copy.sign_all(position + 1, _forger(ledger, rng))
    return _between(ledger, position, _K.FORGED)


def wholly_resigned(copy: Copy, ledger: Ledger, rng: random.Random) -> Truth:
    """As resigned, but from the beginning, and the ledger's row names the other key."""
    position = rng.randrange(ledger.signed)
    rewrite(copy, position, rng)
    copy.mend_nodes()
    forger = NoteSigner(
        ledger.signer.name, Ed25519PrivateKey.from_private_bytes(rng.randbytes(HASH_BYTES))
    )
    copy.sign_all(0, lambda checkpoint: sign_checkpoint(checkpoint, forger))
    copy.run("UPDATE audit_ledgers SET verifier = ?", forger.verifier.line())
    return _exactly(0, _K.LEDGER_DIFFERS)


Tamper = Callable[[Copy, Ledger, random.Random], Truth]

TAMPERS: Sequence[Tamper] = (
    body_bit,
    leaf_bit,
    node_bit,
    checkpoint_bit,
    checkpoint_moved,
    copy_changed,
    deleted,
    deleted_and_closed,
    inserted,
    inserted_outside,
    exchanged,
    leaf_hashes_exchanged,
    truncated,
    truncated_with_checkpoints,
    put_back,
    put_back_and_continued,
    rewritten,
    resigned,
    wholly_resigned,
)


def _flipped(content: bytes, rng: random.Random) -> bytes:
    place, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
    return content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]


def _other_text(text: str, rng: random.Random) -> object:
    place = rng.randrange(len(text) + 1)
    choices = (text.encode(), text[:place] + "x" + text[place:], text[:-1], text.swapcase() + "_")
    return rng.choice(choices)


def _rewritten(body: str, rng: random.Random) -> str:
    members = json.loads(body)
    members["address"] = f"192.0.2.{rng.randrange(256)}"
    members["reason"] = f"{rng.getrandbits(64):016x}"
    return json.dumps(members, sort_keys=True, separators=(",", ":"))


def _two(ledger: Ledger, rng: random.Random) -> tuple[int, int]:
    # Of two that nobody has signed yet nothing can say how they stood.
    first, other = sorted(rng.sample(range(ledger.count), 2))
    return (first, other) if first < ledger.signed else _two(ledger, rng)


def _signed_and_followed(ledger: Ledger) -> int:
    return ledger.signed if ledger.count > ledger.signed else ledger.sizes[-2]


def _maybe_mend(copy: Copy, rng: random.Random) -> None:
    if rng.randrange(2):
        copy.mend_nodes()


def _forger(ledger: Ledger, rng: random.Random) -> Callable[[Checkpoint], bytes]:
    other = NoteSigner(
        ledger.signer.name, Ed25519PrivateKey.from_private_bytes(rng.randbytes(HASH_BYTES))
    )
    if rng.randrange(2):
        return lambda checkpoint: sign_checkpoint(checkpoint, other)

    def imitate(checkpoint: Checkpoint) -> bytes:
        # Under the ledger's own key ID.
        text = checkpoint_text(checkpoint)
        signature = ledger.signer.verifier.key_id + other.private_key.sign(text.encode())
        return format_note(text, [f"\u2014 {other.name} {encode_base64(signature)}"])

    return imitate
