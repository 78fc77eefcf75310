"""Keys of signed notes, what they sign, and what verifies."""

import contextlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.merkle import LogInvalidError
from gateway.audit.notes import (
    MAX_TIME_SECONDS,
    KeyKind,
    NoteCosigner,
    NoteSigner,
    VerifiedNote,
    VerifiedSignature,
    Verifier,
    add_signature,
    decode_base64,
    encode_base64,
    format_note,
    parse_verifier,
    trusted_key,
    verify_note,
)
from tests.gateway.audit.sample_log import (
    BOTH,
    SIGNED,
    SIGNER,
    STRANGER,
    TEXT,
    TIME_SECONDS,
    WITNESS,
    any_text,
    line_of,
    names,
    near,
    note_of,
    texts,
)

SIGNER_LINE = "audit.example/gateway-1+c9954e02+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
WITNESS_LINE = "witness.example/w1+20324abe+BCmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X"

# A note and key that others made: the example of the Go project's package sumdb/note.
NEUMANN_LINE = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NEUMANN_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
NEUMANN_SIGNATURE = (
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE"
    "6RyyBwJnAM="
)


def test_keys_have_the_known_lines() -> None:
    """The verifier lines of the reference keys."""
    assert SIGNER_LINE == SIGNER.verifier.line()
    assert WITNESS_LINE == WITNESS.verifier.line()


def test_lines_of_keys_are_read() -> None:
    """Name, key ID, kind and key, though base64 holds a plus as well."""
    assert SIGNER.verifier == parse_verifier(SIGNER_LINE)
    assert WITNESS.verifier == parse_verifier(WITNESS_LINE)
    plus = trusted_key("a", KeyKind.ED25519, b"\xfb\xef\xbe" * 10 + b"\xfb\xef")
    assert "+" in encode_base64(plus.public_key)
    assert plus == parse_verifier(plus.line())


@pytest.mark.parametrize(
    "line",
    [
        "",
        "a+b",
        SIGNER_LINE + "\n",
        " " + SIGNER_LINE,
        SIGNER_LINE.replace("c9954e02", "C9954E02"),
        SIGNER_LINE.replace("c9954e02", "c9954e03"),
        SIGNER_LINE.replace("c9954e02", "c9 954e02"),
        SIGNER_LINE.replace("gateway-1", "gateway-2"),
        SIGNER_LINE.replace("+AQOh", "+AgOh"),
        SIGNER_LINE.replace("+AQOh", "+BAOh"),
        SIGNER_LINE.removesuffix("VTG4"),
        SIGNER_LINE + "AAAA",
        SIGNER_LINE.replace("+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4", "+"),
        SIGNER_LINE.replace("+AQOh", "+AQ\ud800h"),
        "\ud800" + SIGNER_LINE,
    ],
)
def test_line_that_is_no_key_is_refused(line: str) -> None:
    """One form only, and the key ID must be that of name, kind and key."""
    with pytest.raises(LogInvalidError):
        parse_verifier(line)


@given(names, st.sampled_from(KeyKind), st.binary(min_size=32, max_size=32))
def test_lines_of_keys_round_trip(name: str, kind: KeyKind, public_key: bytes) -> None:
    """Written and read again it is the same key."""
    verifier = trusted_key(name, kind, public_key)
    assert verifier == parse_verifier(verifier.line())


@given(any_text | near(SIGNER_LINE.encode()).map(lambda b: b.decode("utf-8", "surrogateescape")))
def test_any_line_is_a_key_or_refused(line: str) -> None:
    """No other error gets out, and a line that is read is the line that is written."""
    with contextlib.suppress(LogInvalidError):
        assert line == parse_verifier(line).line()


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2003b", "a\x85", "a\n", "\x00", "\ud800"])
def test_unsafe_key_names_are_refused(name: str) -> None:
    """White space of any script, plus, control characters, and what has no UTF-8 form."""
    with pytest.raises(LogInvalidError, match="key name"):
        trusted_key(name, KeyKind.ED25519, bytes(32))
    with pytest.raises(LogInvalidError, match="key name"):
        NoteSigner(name, SIGNER.private_key).sign(TEXT)


def test_verifier_of_a_wrong_key_is_refused() -> None:
    """A key of another length, or under a key ID that is not its own."""
    with pytest.raises(LogInvalidError, match="32 bytes"):
        trusted_key("a", KeyKind.ED25519, bytes(31))
    with pytest.raises(LogInvalidError, match="key ID"):
        Verifier("a", bytes(4), KeyKind.ED25519, bytes(32))


def test_private_keys_do_not_show() -> None:
    """A signer can stand in a log line."""
    assert "NoteSigner(name='audit.example/gateway-1')" == repr(SIGNER)
    assert "NoteCosigner(name='witness.example/w1')" == repr(WITNESS)


def test_a_note_of_another_program_verifies() -> None:
    """The example of the Go project."""
    verifier = parse_verifier(NEUMANN_LINE)
    note = verify_note(note_of(NEUMANN_SIGNATURE, text=NEUMANN_TEXT), [verifier])
    assert VerifiedNote(NEUMANN_TEXT, (VerifiedSignature(verifier, None),)) == note


def test_a_signed_text_verifies() -> None:
    """With empty lines in it: the last one of the note separates."""
    note = verify_note(SIGNED, [SIGNER.verifier])
    assert VerifiedNote(TEXT, (VerifiedSignature(SIGNER.verifier, None),)) == note


def test_a_cosignature_carries_its_time() -> None:
    """A verified line of a witness says when."""
    line = WITNESS.cosign(TEXT, time_seconds=TIME_SECONDS)
    note = verify_note(add_signature(SIGNED, line), BOTH)
    assert (
        VerifiedSignature(SIGNER.verifier, None),
        VerifiedSignature(WITNESS.verifier, 1700000000),
    ) == note.signatures


@pytest.mark.parametrize("time_seconds", [0, 1, MAX_TIME_SECONDS])
def test_times_at_the_ends_are_signed(time_seconds: int) -> None:
    """From 0 to 2^63 - 1."""
    content = format_note(TEXT, [WITNESS.cosign(TEXT, time_seconds=time_seconds)])
    assert time_seconds == verify_note(content, [WITNESS.verifier]).signatures[0].time_seconds


@pytest.mark.parametrize("time_seconds", [-1, MAX_TIME_SECONDS + 1])
def test_impossible_times_are_not_signed(time_seconds: int) -> None:
    """They have no form in a cosignature."""
    with pytest.raises(LogInvalidError, match="time"):
        WITNESS.cosign(TEXT, time_seconds=time_seconds)


def test_cosignature_with_an_impossible_time_is_refused() -> None:
    """Even if its witness did sign it."""
    time_seconds = MAX_TIME_SECONDS + 1
    signed = b"cosignature/v1\ntime %d\n" % time_seconds + TEXT.encode()
    content = WITNESS.private_key.sign(signed)
    line = line_of(
        WITNESS.name, WITNESS.verifier.key_id + time_seconds.to_bytes(8, "big") + content
    )
    with pytest.raises(LogInvalidError, match="impossible time"):
        verify_note(note_of(line), [WITNESS.verifier])


def test_unknown_signatures_are_skipped() -> None:
    """Whatever they are, if their form is good."""
    line = line_of("x.example", b"idid" + bytes(4000))
    note = verify_note(note_of(line, SIGNER.sign(TEXT), STRANGER.sign(TEXT)), BOTH)
    assert (VerifiedSignature(SIGNER.verifier, None),) == note.signatures


def test_lines_with_a_trusted_name_or_id_alone_are_skipped() -> None:
    """Only both together name a key."""
    same_name = line_of(SIGNER.name, b"idid" + bytes(64))
    same_id = line_of("x.example", SIGNER.verifier.key_id + bytes(64))
    with pytest.raises(LogInvalidError, match="none of the trusted keys"):
        verify_note(note_of(same_name, same_id), BOTH)
    note = verify_note(note_of(same_name, same_id, SIGNER.sign(TEXT)), BOTH)
    assert (VerifiedSignature(SIGNER.verifier, None),) == note.signatures


def test_note_without_a_trusted_signature_is_refused() -> None:
    """By a stranger only, or with nobody trusted."""
    with pytest.raises(LogInvalidError, match="none of the trusted keys"):
        verify_note(note_of(STRANGER.sign(TEXT)), BOTH)
    with pytest.raises(LogInvalidError, match="none of the trusted keys"):
        verify_note(SIGNED, [])


@pytest.mark.parametrize("first", [True, False])
def test_a_wrong_line_of_a_trusted_key_spoils_the_note(first: bool) -> None:
    """Also beside a good one, of another key or of the same one, in either order."""
    good = SIGNER.sign(TEXT)
    for wrong in (WITNESS.cosign("other\n", time_seconds=1), SIGNER.sign("other\n")):
        lines = [wrong, good] if first else [good, wrong]
        with pytest.raises(LogInvalidError, match="does not verify"):
            verify_note(note_of(*lines), BOTH)


@pytest.mark.parametrize("length", [1, 63, 65, 71, 73])
def test_signature_of_a_wrong_length_is_refused(length: int) -> None:
    """A signature is 64 bytes, a cosignature 72."""
    for verifier in BOTH:
        line = line_of(verifier.name, verifier.key_id + bytes(length))
        with pytest.raises(LogInvalidError, match="wrong length"):
            verify_note(note_of(line), BOTH)


def test_a_signature_is_no_cosignature() -> None:
    """One private key under one name for both kinds still signs two different things."""
    both = NoteCosigner(SIGNER.name, SIGNER.private_key)
    assert SIGNER.verifier.key_id != both.verifier.key_id
    signature = decode_base64(SIGNER.sign(TEXT).split(" ")[2])[4:]
    line = line_of(SIGNER.name, both.verifier.key_id + bytes(8) + signature)
    with pytest.raises(LogInvalidError, match="does not verify"):
        verify_note(note_of(line), [both.verifier])


def test_a_key_that_is_no_point_verifies_nothing() -> None:
    """Whatever the library says of it, the error is ours."""
    verifier = trusted_key("a", KeyKind.ED25519, b"\xff" * 32)
    with pytest.raises(LogInvalidError, match="does not verify"):
        verify_note(note_of(line_of("a", verifier.key_id + bytes(64))), [verifier])


def test_a_key_counts_once() -> None:
    """The newest of its cosignatures is told; a policy that counts keys is not fooled by lines."""
    lines = [WITNESS.cosign(TEXT, time_seconds=time_seconds) for time_seconds in (5, 9, 7)]
    note = verify_note(note_of(*lines), [*BOTH, *BOTH])
    assert (VerifiedSignature(WITNESS.verifier, 9),) == note.signatures


def test_a_doubled_line_counts_once() -> None:
    """Of a key that signs without a time."""
    note = verify_note(note_of(*[SIGNER.sign(TEXT)] * 2), BOTH)
    assert (VerifiedSignature(SIGNER.verifier, None),) == note.signatures


def test_keys_that_collide_are_refused() -> None:
    """Two keys of one name and ID: which of them must verify is not known."""
    twin = trusted_key("a", KeyKind.ED25519, bytes(32))
    other = trusted_key("a", KeyKind.ED25519, b"\x01" * 32)
    object.__setattr__(other, "key_id", twin.key_id)  # A real collision takes 2^32 tries.
    with pytest.raises(LogInvalidError, match="same name and key ID"):
        verify_note(SIGNED, [SIGNER.verifier, twin, other])


@given(texts, st.integers(0, MAX_TIME_SECONDS), st.binary(min_size=32, max_size=32))
def test_what_is_signed_verifies(text: str, time_seconds: int, seed: bytes) -> None:
    """Any text, time and key."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    signer, cosigner = NoteSigner("log", key), NoteCosigner("witness", key)
    content = format_note(
        text, [signer.sign(text), cosigner.cosign(text, time_seconds=time_seconds)]
    )
    note = verify_note(content, [signer.verifier, cosigner.verifier])
    assert text == note.text
    assert [None, time_seconds] == [s.time_seconds for s in note.signatures]
