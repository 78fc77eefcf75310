"""Checking a proof file by public keys: what is believed, and what is not."""

import base64
from dataclasses import replace

import pytest
from hypothesis import given

from gateway.audit.checkpoints import Checkpoint, checkpoint_text, sign_checkpoint
from gateway.audit.entries import encode_event
from gateway.audit.events import Outcome
from gateway.audit.merkle import LogInvalidError, hash_leaf
from gateway.audit.notes import Verifier, add_signature, trusted_key
from gateway.audit.proof_check import check_proof
from gateway.audit.proof_files import ProofFile, format_proof_file
from tests.gateway.audit.sample_log import (
    ORIGIN,
    SIGNER,
    STRANGER,
    TIME_SECONDS,
    WITNESS,
    flipped,
    inclusion_proof,
    near,
    root,
)
from tests.gateway.audit.stored_events import event

BODY = encode_event(event(0, subject="camera-7", outcome=Outcome.ANSWERED)).body.encode()
OTHER = encode_event(event(1, subject="camera-8")).body.encode()
LEAVES = [hash_leaf(OTHER), hash_leaf(BODY), hash_leaf(b"third")]
TEXT = checkpoint_text(Checkpoint(ORIGIN, 3, root(LEAVES)))
NOTE = add_signature(
    sign_checkpoint(Checkpoint(ORIGIN, 3, root(LEAVES)), SIGNER),
    WITNESS.cosign(TEXT, time_seconds=TIME_SECONDS),
)
PROOF = ProofFile(1, tuple(inclusion_proof(1, LEAVES)), NOTE, BODY)
CONTENT = format_proof_file(PROOF)


def test_a_good_proof_gives_the_record() -> None:
    """With the place, the checkpoint's size, and which witnesses signed when."""
    proved = check_proof(CONTENT, log=SIGNER.verifier, witnesses=[WITNESS.verifier])
    assert (ORIGIN, 1, 3, BODY.decode()) == (proved.origin, proved.index, proved.size, proved.body)
    assert ("camera-7", "answered") == (proved.members["subject"], proved.members["outcome"])
    assert [(WITNESS.verifier, TIME_SECONDS)] == [
        (signature.verifier, signature.time_seconds) for signature in proved.cosignatures
    ]
    assert () == check_proof(CONTENT, log=SIGNER.verifier).cosignatures


@pytest.mark.parametrize(
    "log",
    [
        STRANGER.verifier,
        trusted_key("other.example", SIGNER.verifier.kind, SIGNER.verifier.public_key),
        trusted_key(ORIGIN, SIGNER.verifier.kind, STRANGER.verifier.public_key),
    ],
)
def test_only_the_ledgers_own_key_counts(log: Verifier) -> None:
    """Under its own name."""
    with pytest.raises(LogInvalidError):
        check_proof(CONTENT, log=log)


def test_the_key_of_a_witness_is_none_of_a_ledger() -> None:
    """Nor the other way round."""
    with pytest.raises(LogInvalidError, match="were exchanged"):
        check_proof(CONTENT, log=WITNESS.verifier)
    with pytest.raises(LogInvalidError, match="were exchanged"):
        check_proof(CONTENT, log=SIGNER.verifier, witnesses=[STRANGER.verifier])


def test_each_witness_must_have_signed() -> None:
    """One that did not is named."""
    absent = trusted_key("absent.example", WITNESS.verifier.kind, STRANGER.verifier.public_key)
    with pytest.raises(LogInvalidError, match=r"not signed by absent\.example"):
        check_proof(CONTENT, log=SIGNER.verifier, witnesses=[WITNESS.verifier, absent])


@pytest.mark.parametrize(
    ("proof", "told"),
    [
        (replace(PROOF, extra=None), "the file holds no record"),
        (replace(PROOF, extra=OTHER), "."),
        (replace(PROOF, extra=BODY + b" "), "."),
        (replace(PROOF, index=0), "."),
        (replace(PROOF, index=3), "."),
        (replace(PROOF, proof=PROOF.proof[:1]), "."),
        (replace(PROOF, proof=PROOF.proof[::-1]), "."),
        (replace(PROOF, checkpoint_note=sign_checkpoint(
            Checkpoint(ORIGIN, 3, hash_leaf(BODY)), SIGNER)), "."),
    ],
)  # fmt: skip
def test_what_is_not_proved_is_refused(proof: ProofFile, told: str) -> None:
    """Another record, another place, another tree."""
    with pytest.raises(LogInvalidError, match=told):
        check_proof(format_proof_file(proof), log=SIGNER.verifier)


@pytest.mark.parametrize("entry", [b"", b"{}", b"\xff", b'{"format":3}', BODY.replace(b":", b": ")])
def test_an_entry_that_is_no_record_is_refused(entry: bytes) -> None:
    """Though the ledger's key vouches for it."""
    checkpoint = Checkpoint(ORIGIN, 1, hash_leaf(entry))
    proof = ProofFile(0, (), sign_checkpoint(checkpoint, SIGNER), entry)
    with pytest.raises(LogInvalidError, match="no record that this release can read"):
        check_proof(format_proof_file(proof), log=SIGNER.verifier)


def test_a_number_that_is_too_long_is_refused() -> None:
    """Python reads no more than 4300 digits."""
    entry = BODY.replace(b'"input_bytes":null', b'"input_bytes":' + b"9" * 5000)
    checkpoint = Checkpoint(ORIGIN, 1, hash_leaf(entry))
    proof = ProofFile(0, (), sign_checkpoint(checkpoint, SIGNER), entry)
    with pytest.raises(LogInvalidError, match="no record that this release can read"):
        check_proof(format_proof_file(proof), log=SIGNER.verifier)


def test_no_bit_of_what_is_proved_can_be_changed() -> None:
    """Of the record, the place, the hashes and the checkpoint; a signature that nobody asked for says nothing."""
    end = CONTENT.index(WITNESS.name.encode()) - len("\u2014 ".encode())
    for number, content in enumerate(flipped(CONTENT)):
        if number >= 8 * end:
            break
        with pytest.raises(LogInvalidError):
            check_proof(content, log=SIGNER.verifier)


@given(near(CONTENT))
def test_what_differs_is_refused_or_says_the_same(content: bytes) -> None:
    """By one error."""
    try:
        proved = check_proof(content, log=SIGNER.verifier)
    except LogInvalidError:
        return
    assert BODY.decode() == proved.body
    assert base64.b64encode(BODY) in content
