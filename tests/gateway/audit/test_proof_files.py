"""Proof files: the known answer, their one form, and what they prove."""

import contextlib
import dataclasses
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit.checkpoints import sign_checkpoint
from gateway.audit.merkle import MAX_SIZE, LogInvalidError
from gateway.audit.notes import VerifiedSignature, parse_note
from gateway.audit.proof_files import (
    MAX_FILE_BYTES,
    ProofFile,
    check_proof_file,
    format_proof_file,
    parse_proof_file,
)
from tests.gateway.audit.sample_log import (
    BOTH,
    CHECKPOINT,
    ENTRIES,
    LEAVES,
    LOG_NOTE,
    NOTE,
    ORIGIN,
    SIGNER,
    STRANGER,
    WITNESS,
    checkpoint_of,
    flipped,
    inclusion_proof,
    near,
)

HEAD = (
    "c2sp.org/tlog-proof@v1\n"
    "index 3\n"
    "ApjRIpBtz8EIkstTpzmS/FufST6kybrbJ7eRtBJ6f+c=\n"
    "+sVCA+fMaWzw38tCySodnbr3CtnmIfS9jZhmLwDjwSU=\n"
    "g327FS6bB5AQcX6E6GXaTrwPoZioBtWdMb8VrM7yLQ4=\n"
)
HASH = "g327FS6bB5AQcX6E6GXaTrwPoZioBtWdMb8VrM7yLQ4="
ENTRY = ENTRIES[3]
PROOF = tuple(inclusion_proof(3, LEAVES))
PROOF_FILE = ProofFile(3, PROOF, NOTE)
FILE = format_proof_file(PROOF_FILE)
WITH_EXTRA = format_proof_file(dataclasses.replace(PROOF_FILE, extra=ENTRY))


def check(content: bytes, entry: bytes = ENTRY) -> tuple[VerifiedSignature, ...]:
    """Whether the file proves the entry to a reader who trusts log and witness; who witnessed it."""
    proof_file = parse_proof_file(content)
    return check_proof_file(proof_file, entry=entry, origin=ORIGIN, verifiers=BOTH).cosignatures


def file_of(head: str) -> bytes:
    """A file with these lines before the checkpoint."""
    return head.encode("utf-8", "surrogatepass") + b"\n" + NOTE


def test_the_file_is_the_known_answer() -> None:
    """Byte for byte what the reference implementation makes."""
    assert file_of(HEAD) == FILE
    assert 488 == len(FILE)
    assert (
        "0d24e07ab31114d2ce7b3651be4fb59f5e1fb41c50c4239a98d64aff2e648ba8"
        == hashlib.sha256(FILE).hexdigest()
    )


def test_the_known_file_proves_its_entry() -> None:
    """The checkpoint and its cosignatures are told."""
    found = check_proof_file(
        parse_proof_file(FILE), entry=bytes.fromhex("2021"), origin=ORIGIN, verifiers=BOTH
    )
    assert (CHECKPOINT, NOTE) == (found.checkpoint, found.note)
    assert (VerifiedSignature(WITNESS.verifier, 1700000000),) == found.cosignatures


@pytest.mark.parametrize("index", range(7))
def test_every_entry_is_proven_by_its_own_file_alone(index: int) -> None:
    """Read from the bytes; no other entry passes."""
    content = format_proof_file(ProofFile(index, tuple(inclusion_proof(index, LEAVES)), NOTE))
    check(content, ENTRIES[index])
    for other in (*ENTRIES[:index], *ENTRIES[index + 1 :], b"other"):
        with pytest.raises(LogInvalidError, match="does not lead"):
            check(content, other)


def test_extra_bytes_come_along() -> None:
    """In their line, and without a say in what is proven."""
    assert b"extra ICE=" == WITH_EXTRA.split(b"\n")[1]
    assert ENTRY == parse_proof_file(WITH_EXTRA).extra
    assert check(WITH_EXTRA)


def test_no_flipped_bit_leaves_a_witnessed_proof() -> None:
    """Whoever asks for the witness's word gets it of the unchanged file alone."""
    for content in flipped(FILE):
        with contextlib.suppress(LogInvalidError):
            assert not check(content)


def test_no_flipped_bit_proves_another_extra() -> None:
    """A reader who takes the entry from the file finds out."""
    for content in flipped(WITH_EXTRA):
        with contextlib.suppress(LogInvalidError):
            extra = parse_proof_file(content).extra
            assert not check(content, extra or b"")


def test_no_flipped_bit_passes_in_a_file_of_the_log_alone() -> None:
    """Without other signatures every bit counts."""
    for content in flipped(format_proof_file(ProofFile(3, PROOF, LOG_NOTE))):
        with pytest.raises(LogInvalidError):
            check(content)


@pytest.mark.parametrize(
    ("index", "proof"),
    [
        (2, PROOF),
        (7, PROOF),
        (3, PROOF[:-1]),
        (3, PROOF[1:]),
        (3, (*PROOF, PROOF[0])),
        (3, PROOF[::-1]),
    ],
)
def test_a_wrong_place_or_proof_is_refused(index: int, proof: tuple[bytes, ...]) -> None:
    """Another index, an index outside the tree, and a proof that is altered, longer or shorter."""
    with pytest.raises(LogInvalidError):
        check(format_proof_file(ProofFile(index, proof, NOTE)))


def test_the_proof_must_lead_to_the_signed_root() -> None:
    """A good checkpoint of another size does not do."""
    note = sign_checkpoint(checkpoint_of(6), SIGNER)
    with pytest.raises(LogInvalidError):
        check(format_proof_file(ProofFile(3, PROOF, note)))


def test_the_checkpoint_follows_one_empty_line() -> None:
    """A second one would belong to the text, which then is not what the log signed."""
    with pytest.raises(LogInvalidError, match="does not verify"):
        check(file_of(HEAD + "\n"))


def test_another_log_does_not_prove_it() -> None:
    """Signed by a stranger, or looked at as of another origin."""
    text = parse_note(NOTE).unverified_text.encode()
    foreign = text + b"\n" + STRANGER.sign(text.decode()).encode() + b"\n"
    with pytest.raises(LogInvalidError, match="none of the trusted keys"):
        check(format_proof_file(ProofFile(3, PROOF, foreign)))
    with pytest.raises(LogInvalidError, match="another origin"):
        check_proof_file(PROOF_FILE, entry=ENTRY, origin="other", verifiers=BOTH)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"\n\n" + NOTE,
        NOTE,
        FILE[:-1],
        FILE + b"\n",
        FILE.replace(b"\n", b"\r\n"),
        HEAD.encode(),
        HEAD.encode() + NOTE,
        file_of(HEAD.replace("@v1", "@v2")),
        file_of(" " + HEAD),
        file_of("\ufeff" + HEAD),
        file_of("c2sp.org/tlog-proof@v1\n"),
        file_of("c2sp.org/tlog-proof@v1\nextra AAAA\n"),
        file_of(HEAD.replace("index 3\n", "3\n")),
        file_of(HEAD.replace("index 3\n", "")),
        file_of(HEAD.replace("index 3\n", "index\n")),
        file_of(HEAD.replace("index 3", "index  3")),
        file_of(HEAD.replace("index 3", "index +3")),
        file_of(HEAD.replace("index 3", "index 03")),
        file_of(HEAD.replace("index 3", "index 3 ")),
        file_of(HEAD.replace("index 3", "index \u0663")),
        file_of(HEAD.replace("index 3", "index 9223372036854775808")),
        file_of(HEAD.replace("index 3", "Index 3")),
        file_of(HEAD.replace("index 3", "index 3\nindex 3")),
        file_of(HEAD.replace("index 3", "index 3\nextra AAAA")),
        file_of(HEAD.replace("index 3", "extra AAAA\nextra AAAA\nindex 3")),
        file_of(HEAD.replace("index 3", "extra\nindex 3")),
        file_of(HEAD.replace("index 3", "extra AAA\nindex 3")),
        file_of(HEAD.replace("index 3", "extra AAB=\nindex 3")),
        file_of(HEAD.replace(HASH, "AAAA")),
        file_of(HEAD.replace(HASH, HASH + "AAAA")),
        file_of(HEAD.replace(HASH, HASH.replace("Q4=", "Q5="))),
        file_of(HEAD.replace(HASH, HASH + " ")),
        file_of(HEAD.replace(HASH, HASH + "\x0b")),
        file_of(HEAD + f"{HASH}\n" * 61),
        file_of(HEAD.replace("\n", "\u2028")),
        file_of(HEAD.replace("index 3", "extra " + "AAAA" * (MAX_FILE_BYTES // 4) + "\nindex 3")),
    ],
)
def test_malformed_files_are_refused(content: bytes) -> None:
    """Before anything in them is verified."""
    with pytest.raises(LogInvalidError):
        parse_proof_file(content)


def test_long_files_are_refused() -> None:
    """Before they are taken apart; one of the longest proof is not."""
    longest = format_proof_file(ProofFile(0, (PROOF[0],) * 63, NOTE))
    assert 63 == len(parse_proof_file(longest).proof)
    padding = MAX_FILE_BYTES - len(FILE) - len("extra \n")
    largest = WITH_EXTRA.replace(b"ICE=", b"A" * (padding // 4 * 4))
    assert parse_proof_file(largest).extra
    with pytest.raises(LogInvalidError, match="longer"):
        parse_proof_file(largest + b"x" * 4)


@pytest.mark.parametrize(
    ("index", "proof", "note"),
    [
        (-1, (), NOTE),
        (MAX_SIZE + 1, (), NOTE),
        (0, (b"short",), NOTE),
        (0, (PROOF[0],) * 64, NOTE),
        (0, (), b"no note"),
    ],
)
def test_what_no_file_can_hold_is_refused(
    index: int, proof: tuple[bytes, ...], note: bytes
) -> None:
    """Before it is written."""
    with pytest.raises(LogInvalidError):
        ProofFile(index, proof, note)


@given(
    st.integers(0, MAX_SIZE),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63),
    st.none() | st.binary(max_size=200),
)
def test_files_round_trip(index: int, proof: list[bytes], extra: bytes | None) -> None:
    """What is written is read."""
    proof_file = ProofFile(index, tuple(proof), NOTE, extra)
    assert proof_file == parse_proof_file(format_proof_file(proof_file))


@given(st.binary(max_size=300) | near(FILE) | near(WITH_EXTRA))
@settings(max_examples=500)
def test_any_bytes_are_a_file_or_refused(content: bytes) -> None:
    """No other error gets out; what is read is what is written; no other entry is ever proven."""
    with contextlib.suppress(LogInvalidError):
        proof_file = parse_proof_file(content)
        assert content == format_proof_file(proof_file)
        with pytest.raises(LogInvalidError):
            check(content, b"other")
