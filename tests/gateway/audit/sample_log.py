"""The log of the known answers: seven entries, the key of its log, a witness, and how proofs are made by the book.

The roots and proofs here follow the recursive definitions of RFC 6962 section 2.1 to the letter, so that they share
nothing with the code under test but SHA-256.
"""

from collections.abc import Sequence
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies as st

from gateway.audit.checkpoints import Checkpoint, checkpoint_text, sign_checkpoint
from gateway.audit.notes import NoteCosigner, NoteSigner, add_signature, encode_base64, format_note

ENTRIES = tuple(
    map(bytes.fromhex, ("", "00", "10", "2021", "3031", "40414243", "5051525354555657"))
)
ORIGIN = "audit.example/gateway-1"
TIME_SECONDS = 1700000000

SIGNER = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
WITNESS = NoteCosigner(
    "witness.example/w1", Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
)
STRANGER = NoteSigner(
    "stranger.example", Ed25519PrivateKey.from_private_bytes(bytes(range(64, 96)))
)
BOTH = (SIGNER.verifier, WITNESS.verifier)


def leaf(entry: bytes) -> bytes:
    """RFC 6962: the hash of an entry."""
    return sha256(b"\x00" + entry).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962: MTH over leaf hashes."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return sha256(b"\x01" + root(leaves[:k]) + root(leaves[k:])).digest()


def split(size: int) -> int:
    """The largest power of two smaller than size."""
    k = 1
    while 2 * k < size:
        k *= 2
    return k


def inclusion_proof(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """RFC 6962: PATH(index, leaves)."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*inclusion_proof(index, leaves[:k]), root(leaves[k:])]
    return [*inclusion_proof(index - k, leaves[k:]), root(leaves[:k])]


def consistency_proof(old_size: int, leaves: Sequence[bytes], *, whole: bool = True) -> list[bytes]:
    """RFC 6962: SUBPROOF(old_size, leaves, whole)."""
    if old_size == len(leaves):
        return [] if whole else [root(leaves)]
    k = split(len(leaves))
    if old_size <= k:
        return [*consistency_proof(old_size, leaves[:k], whole=whole), root(leaves[k:])]
    return [*consistency_proof(old_size - k, leaves[k:], whole=False), root(leaves[:k])]


LEAVES = tuple(map(leaf, ENTRIES))
CHECKPOINT = Checkpoint(ORIGIN, 7, root(LEAVES))
LOG_NOTE = sign_checkpoint(CHECKPOINT, SIGNER)
COSIGNATURE = WITNESS.cosign(checkpoint_text(CHECKPOINT), time_seconds=TIME_SECONDS)
NOTE = add_signature(LOG_NOTE, COSIGNATURE)


def checkpoint_of(size: int, *, entries: Sequence[bytes] = ENTRIES) -> Checkpoint:
    """The checkpoint of the first entries."""
    return Checkpoint(ORIGIN, size, root([leaf(entry) for entry in entries[:size]]))


def flipped(content: bytes) -> list[bytes]:
    """The content with each of its bits flipped, one at a time."""
    number = int.from_bytes(content, "big")
    bits = range(8 * len(content))
    return [(number ^ (1 << bit)).to_bytes(len(content), "big") for bit in reversed(bits)]


TEXT = "first line\n\n\u00e8 subito sera\n"
SIGNED = format_note(TEXT, [SIGNER.sign(TEXT)])

names = st.text(st.characters(codec="utf-8", exclude_characters="+"), min_size=1).filter(
    lambda name: not any(c.isspace() or c < " " for c in name)
)
texts = st.lists(st.text(st.characters(codec="utf-8", min_codepoint=0x20))).map(
    lambda lines: "".join(line + "\n" for line in ["first", *lines])
)
any_text = st.text(st.characters(exclude_categories=()))  # Lone surrogates too.


@st.composite
def near(draw: st.DrawFn, good: bytes) -> bytes:
    """Bytes that differ from good ones in one place: some cut out, some put in."""
    start = draw(st.integers(0, len(good)))
    end = draw(st.integers(start, min(len(good), start + 8)))
    return good[:start] + draw(st.binary(max_size=8)) + good[end:]


def line_of(name: str, content: bytes) -> str:
    """A signature line."""
    return f"\u2014 {name} {encode_base64(content)}"


def note_of(*lines: str, text: str = TEXT) -> bytes:
    """A note with these signature lines, whatever they are."""
    return (text + "\n" + "".join(line + "\n" for line in lines)).encode()
