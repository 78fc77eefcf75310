"""What a witness accepts, each of its refusals, and the request that logs send it."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit.checkpoints import (
    Checkpoint,
    SignedCheckpoint,
    checkpoint_text,
    open_checkpoint,
    sign_checkpoint,
)
from gateway.audit.merkle import EMPTY_ROOT, MAX_SIZE, LogInvalidError
from gateway.audit.notes import add_signature, format_note
from gateway.audit.witnessing import (
    MAX_REQUEST_BYTES,
    AddCheckpoint,
    RefusalKind,
    WitnessRefusalError,
    WitnessState,
    authenticate,
    consider,
    format_add_checkpoint,
    parse_add_checkpoint,
)
from tests.gateway.audit.sample_log import (
    BOTH,
    CHECKPOINT,
    LEAVES,
    LOG_NOTE,
    NOTE,
    ORIGIN,
    SIGNER,
    STRANGER,
    WITNESS,
    checkpoint_of,
    consistency_proof,
    near,
)

LOGS = {ORIGIN: [SIGNER.verifier]}
OTHER_ROOT = b"\x01" * 32
PROOF = consistency_proof(4, LEAVES)
BODY = format_add_checkpoint(AddCheckpoint(4, tuple(PROOF), LOG_NOTE))
PROOF_LINE = "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo="


def state_of(size: int) -> WitnessState:
    """What a witness has recorded of the good log at this size."""
    return WitnessState(size, checkpoint_of(size).root)


def refusal_of(
    checkpoint: Checkpoint, state: WitnessState | None, old_size: int, proof: list[bytes]
) -> tuple[RefusalKind, int | None]:
    """Why consider refuses, and the recorded size it tells."""
    with pytest.raises(WitnessRefusalError) as caught:
        consider(checkpoint, state, old_size, proof)
    return caught.value.kind, caught.value.recorded_size


def refusal_of_note(note: bytes) -> RefusalKind:
    """Why authenticate refuses."""
    with pytest.raises(WitnessRefusalError) as caught:
        authenticate(note, logs=LOGS)
    return caught.value.kind


@pytest.mark.parametrize("size", range(8))
def test_first_checkpoint_of_a_log_is_accepted(size: int) -> None:
    """At any size, without a proof."""
    assert state_of(size) == consider(checkpoint_of(size), None, 0, [])


@pytest.mark.parametrize("old_size", range(8))
def test_trees_that_go_on_are_accepted(old_size: int) -> None:
    """From every size to every later one, the same one included."""
    for size in range(old_size, 8):
        proof = consistency_proof(old_size, LEAVES[:size]) if old_size else []
        state = consider(checkpoint_of(size), state_of(old_size), old_size, proof)
        assert state_of(size) == state


def test_old_size_above_the_new_one_is_malformed() -> None:
    """Even if it is the recorded one: a tree does not shrink."""
    expected = (RefusalKind.MALFORMED, None)
    assert expected == refusal_of(checkpoint_of(3), state_of(5), 5, [])


@pytest.mark.parametrize("old_size", [0, 3, 5])
def test_another_old_size_is_a_conflict(old_size: int) -> None:
    """Which tells the recorded size, so that the log can prove from there."""
    proof = consistency_proof(old_size, LEAVES) if old_size else []
    assert (RefusalKind.CONFLICT, 4) == refusal_of(CHECKPOINT, state_of(4), old_size, proof)


def test_an_old_size_for_an_unseen_log_is_a_conflict() -> None:
    """Nothing is recorded of it: the size is 0."""
    assert (RefusalKind.CONFLICT, 0) == refusal_of(CHECKPOINT, None, 4, PROOF)


def test_rolled_back_tree_is_a_conflict() -> None:
    """A log that lost its tail cannot prove from the size that was seen."""
    proof = consistency_proof(3, LEAVES[:5])
    assert (RefusalKind.CONFLICT, 7) == refusal_of(checkpoint_of(5), state_of(7), 3, proof)


def test_forked_trees_are_inconsistent() -> None:
    """Another root at the recorded size, and a larger tree with another past."""
    expected = (RefusalKind.INCONSISTENT, None)
    fork = Checkpoint(ORIGIN, 4, OTHER_ROOT)
    assert expected == refusal_of(fork, state_of(4), 4, [])
    assert expected == refusal_of(CHECKPOINT, WitnessState(4, OTHER_ROOT), 4, PROOF)
    assert expected == refusal_of(Checkpoint(ORIGIN, 7, OTHER_ROOT), state_of(4), 4, PROOF)


@pytest.mark.parametrize("proof", [[], PROOF[1:], [*PROOF, OTHER_ROOT], [OTHER_ROOT], [b"short"]])
def test_wrong_proofs_are_inconsistent(proof: list[bytes]) -> None:
    """Altered, longer, shorter, and not of hashes."""
    assert (RefusalKind.INCONSISTENT, None) == refusal_of(CHECKPOINT, state_of(4), 4, proof)


def test_a_proof_from_nothing_is_inconsistent() -> None:
    """The empty tree goes on to every tree without one."""
    assert (RefusalKind.INCONSISTENT, None) == refusal_of(CHECKPOINT, None, 0, [OTHER_ROOT])


def test_empty_tree_of_another_root_is_inconsistent() -> None:
    """Signed by its log, and still no tree."""
    wrong = Checkpoint(ORIGIN, 0, OTHER_ROOT)
    assert (RefusalKind.INCONSISTENT, None) == refusal_of(wrong, None, 0, [])
    note = format_note(checkpoint_text(wrong), [SIGNER.sign(checkpoint_text(wrong))])
    assert wrong == authenticate(note, logs=LOGS).checkpoint


def test_checkpoint_of_a_known_log_is_authenticated() -> None:
    """With lines of keys that the witness does not know."""
    assert SignedCheckpoint(CHECKPOINT, NOTE, ()) == authenticate(NOTE, logs=LOGS)


def test_unknown_origin_is_refused() -> None:
    """Whoever signed it."""
    checkpoint = Checkpoint(STRANGER.name, 7, CHECKPOINT.root)
    assert RefusalKind.UNKNOWN_ORIGIN == refusal_of_note(sign_checkpoint(checkpoint, STRANGER))


def test_unsigned_checkpoint_is_refused() -> None:
    """By a stranger only, or by a witness only; or beside a wrong line of the log's key."""
    text = checkpoint_text(CHECKPOINT)
    strange = format_note(text, [STRANGER.sign(text)])
    witnessed = format_note(text, [WITNESS.cosign(text, time_seconds=1)])
    spoilt = format_note(text, [SIGNER.sign(text), SIGNER.sign("other\n")])
    assert RefusalKind.BAD_SIGNATURE == refusal_of_note(strange)
    assert RefusalKind.BAD_SIGNATURE == refusal_of_note(witnessed)
    assert RefusalKind.BAD_SIGNATURE == refusal_of_note(spoilt)


@pytest.mark.parametrize(
    "note",
    [
        b"",
        NOTE[:-1],
        b"\n" + NOTE,
        format_note("no checkpoint\n", [SIGNER.sign("no checkpoint\n")]),
    ],
)
def test_malformed_checkpoint_is_refused(note: bytes) -> None:
    """No note, or a note of something else."""
    assert RefusalKind.MALFORMED == refusal_of_note(note)


def test_a_reader_believes_log_and_witness() -> None:
    """The whole round: request, check, cosignature, and the checkpoint with it."""
    request = parse_add_checkpoint(BODY)
    signed = authenticate(request.note, logs=LOGS)
    state = consider(signed.checkpoint, state_of(4), request.old_size, request.proof)
    assert WitnessState(7, CHECKPOINT.root) == state
    line = WITNESS.cosign(checkpoint_text(signed.checkpoint), time_seconds=5)
    found = open_checkpoint(add_signature(request.note, line), origin=ORIGIN, verifiers=BOTH)
    assert [5] == [cosignature.time_seconds for cosignature in found.cosignatures]


@pytest.mark.parametrize(
    ("size", "root"), [(-1, EMPTY_ROOT), (MAX_SIZE + 1, EMPTY_ROOT), (1, b"short")]
)
def test_a_state_that_is_none_is_refused(size: int, root: bytes) -> None:
    """A size and a root of 32 bytes."""
    with pytest.raises(LogInvalidError):
        WitnessState(size, root)


def test_the_request_is_that_of_the_protocol() -> None:
    """Old size, proof lines, an empty line, the note."""
    request = AddCheckpoint(4, (b"\xaa" * 32,), LOG_NOTE)
    expected = f"old 4\n{PROOF_LINE}\n\n".encode() + LOG_NOTE
    assert expected == format_add_checkpoint(request)
    assert request == parse_add_checkpoint(expected)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n" + NOTE,
        NOTE,
        b"old 4\n" + NOTE,
        b"old 4\n\n",
        b"old 4\n\n" + NOTE[:-1],
        b"old\n\n" + NOTE,
        b"4\n\n" + NOTE,
        b"old +4\n\n" + NOTE,
        b"old 04\n\n" + NOTE,
        b"old  4\n\n" + NOTE,
        b"old 4 \n\n" + NOTE,
        b"Old 4\n\n" + NOTE,
        b"old 9223372036854775808\n\n" + NOTE,
        b"old \xd9\xa5\n\n" + NOTE,
        b"old 4\r\n\r\n" + NOTE,
        b"old 4\nAAAA\n\n" + NOTE,
        b"old 4\n" + f"{PROOF_LINE}\n".encode() * 64 + b"\n" + NOTE,
    ],
)
def test_malformed_requests_are_refused(content: bytes) -> None:
    """More than 63 proof lines and lax numbers included."""
    with pytest.raises(LogInvalidError):
        parse_add_checkpoint(content)


def test_long_requests_are_refused() -> None:
    """Before they are taken apart."""
    with pytest.raises(LogInvalidError, match="the request is longer"):
        parse_add_checkpoint(BODY + b"x" * (MAX_REQUEST_BYTES - len(BODY) + 1))


def test_a_refusal_says_why() -> None:
    """In the words of what was refused."""
    with pytest.raises(WitnessRefusalError, match="recorded size is 4, not 5"):
        consider(CHECKPOINT, state_of(4), 5, [])


@pytest.mark.parametrize(
    ("old_size", "proof", "note"),
    [
        (-1, (), NOTE),
        (MAX_SIZE + 1, (), NOTE),
        (0, (b"short",), NOTE),
        (0, (OTHER_ROOT,) * 64, NOTE),
        (0, (), b"no note"),
    ],
)
def test_what_no_request_can_hold_is_refused(
    old_size: int, proof: tuple[bytes, ...], note: bytes
) -> None:
    """Before it is sent."""
    with pytest.raises(LogInvalidError):
        AddCheckpoint(old_size, proof, note)


@given(
    st.integers(0, MAX_SIZE),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63).map(tuple),
)
def test_requests_round_trip(old_size: int, proof: tuple[bytes, ...]) -> None:
    """What is written is read."""
    request = AddCheckpoint(old_size, proof, NOTE)
    assert request == parse_add_checkpoint(format_add_checkpoint(request))


@given(st.binary(max_size=300) | near(BODY))
@settings(max_examples=500)
def test_any_bytes_are_a_request_or_refused(content: bytes) -> None:
    """No other error gets out; what is read is what is written; nothing unsigned is authenticated."""
    with contextlib.suppress(LogInvalidError, WitnessRefusalError):
        request = parse_add_checkpoint(content)
        assert content == format_add_checkpoint(request)
        assert CHECKPOINT == authenticate(request.note, logs=LOGS).checkpoint


@given(
    st.integers(0, 7),
    st.none() | st.integers(0, 7),
    st.integers(-1, 8),
    st.lists(st.binary(max_size=33), max_size=4),
)
def test_a_witness_never_goes_back(
    size: int, recorded: int | None, old_size: int, proof: list[bytes]
) -> None:
    """Whatever is submitted: the new state is larger, or the same, and nothing else is raised."""
    state = None if recorded is None else state_of(recorded)
    with contextlib.suppress(WitnessRefusalError):
        new = consider(checkpoint_of(size), state, old_size, proof)
        assert new.size >= (recorded or 0)
        assert state_of(size) == new
