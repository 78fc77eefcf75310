"""Checkpoints: the known answer, the one form of their text, and whose signature makes one."""

import contextlib
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit.checkpoints import (
    Checkpoint,
    SignedCheckpoint,
    checkpoint_text,
    open_checkpoint,
    parse_checkpoint_text,
    parse_decimal,
    sign_checkpoint,
)
from gateway.audit.merkle import EMPTY_ROOT, MAX_SIZE, LogInvalidError
from gateway.audit.notes import (
    NoteCosigner,
    NoteSigner,
    VerifiedSignature,
    add_signature,
    format_note,
)
from tests.gateway.audit.sample_log import (
    BOTH,
    CHECKPOINT,
    LOG_NOTE,
    NOTE,
    ORIGIN,
    SIGNER,
    STRANGER,
    WITNESS,
    any_text,
    flipped,
    near,
)

TEXT = "audit.example/gateway-1\n7\n3bib5AOAnjJXUNPSY814kpwpQreUKjS3fhIslZSnTIw=\n"
KNOWN_NOTE = TEXT + (
    "\n"
    "\u2014 audit.example/gateway-1 "
    "yZVOAtP4x5txvsPRhLdVxUA/DVUrhsUfvh8jDcJbMMkzsOBQUTkurmnB+5Y283QT2JG5sDrX0GKX1P/OxevlpJEPeAE=\n"
    "\u2014 witness.example/w1 "
    "IDJKvgAAAABlU/EA1oJ9/GkxSrcrcP6+xHsJi9cqyLrjFGYM7aYgoWVNAlJ40TtsKLtcE3YtKHgCHjJ+kQD2G0YXUj6Ov4azVpToCg==\n"
)
ROOT = "3bib5AOAnjJXUNPSY814kpwpQreUKjS3fhIslZSnTIw="


def opened(content: bytes) -> SignedCheckpoint:
    """As a reader who trusts log and witness opens it."""
    return open_checkpoint(content, origin=ORIGIN, verifiers=BOTH)


def signed(text: str) -> bytes:
    """A note of any text under the log's good signature."""
    return format_note(text, [SIGNER.sign(text)])


def test_the_note_is_the_known_answer() -> None:
    """Byte for byte what the reference implementation makes with these keys."""
    assert KNOWN_NOTE.encode() == NOTE
    assert 321 == len(NOTE)
    assert (
        "3d48cd184fcc5b001371861be4025beb1018235d96b27c4eeba700a2c52c178a"
        == hashlib.sha256(NOTE).hexdigest()
    )


def test_the_known_note_opens() -> None:
    """With what it says, the bytes that say it, and the witness's time."""
    witnessed = (VerifiedSignature(WITNESS.verifier, 1700000000),)
    assert SignedCheckpoint(CHECKPOINT, NOTE, witnessed) == opened(NOTE)


def test_cosignatures_of_unknown_witnesses_do_not_show() -> None:
    """A reader who trusts the log alone opens the same checkpoint."""
    found = open_checkpoint(NOTE, origin=ORIGIN, verifiers=[SIGNER.verifier])
    assert SignedCheckpoint(CHECKPOINT, NOTE, ()) == found


def test_no_flipped_bit_passes_for_a_witnessed_checkpoint() -> None:
    """Whoever asks for the witness's word gets it of the unchanged note alone."""
    for content in flipped(NOTE):
        with contextlib.suppress(LogInvalidError):
            assert not opened(content).cosignatures


def test_flipped_bits_do_not_change_what_the_log_signed() -> None:
    """Known answer: 649 of 2,568 flips, all in the witness's line, still open for a reader of the log's key alone."""
    start_of_witness = NOTE.index(b"\xe2\x80\x94 witness")
    survivors = []
    for bit, content in enumerate(flipped(NOTE)):
        with contextlib.suppress(LogInvalidError):
            found = open_checkpoint(content, origin=ORIGIN, verifiers=[SIGNER.verifier])
            assert CHECKPOINT == found.checkpoint
            survivors.append(bit)
    assert 649 == len(survivors)
    assert start_of_witness * 8 <= survivors[0]


def test_no_flipped_bit_of_the_logs_own_note_opens() -> None:
    """Without other signatures every bit counts."""
    for content in flipped(LOG_NOTE):
        with pytest.raises(LogInvalidError):
            opened(content)


def test_another_origin_is_refused() -> None:
    """Even under a good signature of its own log, and of a key that is trusted."""
    other = NoteSigner("audit.example/gateway-2", SIGNER.private_key)
    content = sign_checkpoint(Checkpoint(other.name, 7, CHECKPOINT.root), other)
    with pytest.raises(LogInvalidError, match="another origin"):
        open_checkpoint(content, origin=ORIGIN, verifiers=[*BOTH, other.verifier])


@pytest.mark.parametrize("origin", [ORIGIN + " ", "\ufeff" + ORIGIN, ORIGIN.upper()])
def test_an_origin_that_looks_alike_is_another(origin: str) -> None:
    """Origins are compared as they are, a byte order mark included."""
    with pytest.raises(LogInvalidError, match="another origin"):
        opened(signed(TEXT.replace(ORIGIN, origin)))


def test_the_key_of_another_log_does_not_sign_for_this_one() -> None:
    """Though a reader of many logs trusts it for its own."""
    content = format_note(TEXT, [STRANGER.sign(TEXT)])
    with pytest.raises(LogInvalidError, match="no key of the log itself"):
        open_checkpoint(content, origin=ORIGIN, verifiers=[*BOTH, STRANGER.verifier])


def test_a_witness_alone_does_not_make_a_checkpoint() -> None:
    """Nor does a cosignature under the log's own name."""
    namesake = NoteCosigner(ORIGIN, WITNESS.private_key)
    lines = [signer.cosign(TEXT, time_seconds=1) for signer in (WITNESS, namesake)]
    content = format_note(TEXT, lines)
    with pytest.raises(LogInvalidError, match="no key of the log itself"):
        open_checkpoint(content, origin=ORIGIN, verifiers=[*BOTH, namesake.verifier])


def test_a_checkpoint_nobody_trusted_signed_is_refused() -> None:
    """Unsigned by log and witness."""
    with pytest.raises(LogInvalidError, match="none of the trusted keys"):
        opened(format_note(TEXT, [STRANGER.sign(TEXT)]))


def test_a_wrong_cosignature_spoils_the_checkpoint() -> None:
    """A trusted witness whose line does not verify."""
    wrong = add_signature(LOG_NOTE, WITNESS.cosign("other\n", time_seconds=1))
    with pytest.raises(LogInvalidError, match="does not verify"):
        opened(wrong)


def test_the_empty_tree_has_one_root() -> None:
    """Another is neither signed nor believed."""
    good = Checkpoint(ORIGIN, 0, EMPTY_ROOT)
    assert good == opened(sign_checkpoint(good, SIGNER)).checkpoint
    bad = Checkpoint(ORIGIN, 0, CHECKPOINT.root)
    with pytest.raises(LogInvalidError, match="empty tree"):
        sign_checkpoint(bad, SIGNER)
    with pytest.raises(LogInvalidError, match="empty tree"):
        opened(signed(checkpoint_text(bad)))


def test_a_log_signs_under_its_own_name() -> None:
    """No reader would open what another name signed."""
    with pytest.raises(LogInvalidError, match="origin"):
        sign_checkpoint(CHECKPOINT, STRANGER)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        TEXT[:-1],
        TEXT + "\n",
        TEXT + "extension\n",
        TEXT + "extension",
        TEXT.replace("\n7\n", "\n"),
        TEXT.replace("\n7\n", "\n7\n\n"),
        TEXT.replace("\n7\n", "\n\n"),
        TEXT.replace("\n7\n", "\n+7\n"),
        TEXT.replace("\n7\n", "\n 7\n"),
        TEXT.replace("\n7\n", "\n7 \n"),
        TEXT.replace("\n7\n", "\n07\n"),
        TEXT.replace("\n7\n", "\n-7\n"),
        TEXT.replace("\n7\n", "\n7.0\n"),
        TEXT.replace("\n7\n", "\n1_0\n"),
        TEXT.replace("\n7\n", "\n\u0665\n"),
        TEXT.replace("\n7\n", "\n7\x0b\n"),
        TEXT.replace("\n7\n", "\u20287\n"),
        TEXT.replace("\n7\n", "\n9223372036854775808\n"),
        TEXT.replace("\n7\n", "\n" + "9" * 5000 + "\n"),
        TEXT.replace(ORIGIN, ""),
        TEXT.replace(ROOT, ""),
        TEXT.replace(ROOT, ROOT[:-1]),
        TEXT.replace(ROOT, "AAAA"),
        TEXT.replace(ROOT, ROOT.replace("Iw=", "Ix=")),
        TEXT.replace(ROOT, ROOT + " "),
        TEXT.replace(ROOT, ROOT.replace("A", "_")),
        TEXT.replace(ROOT, ROOT + "AAAA"),
        TEXT.replace(ROOT, "\ud800"),
    ],
)
def test_texts_that_are_no_checkpoint_are_refused(text: str) -> None:
    """Also under the log's good signature, where a note can hold them."""
    with pytest.raises(LogInvalidError):
        parse_checkpoint_text(text)
    with pytest.raises(LogInvalidError):
        opened(signed(text))


@pytest.mark.parametrize(
    ("origin", "size", "root"),
    [
        ("", 0, EMPTY_ROOT),
        ("a\nb", 0, EMPTY_ROOT),
        ("a", -1, EMPTY_ROOT),
        ("a", MAX_SIZE + 1, EMPTY_ROOT),
        ("a", 1, EMPTY_ROOT[1:]),
    ],
)
def test_what_no_checkpoint_can_say_is_refused(origin: str, size: int, root: bytes) -> None:
    """Before it is written."""
    with pytest.raises(LogInvalidError):
        Checkpoint(origin, size, root)


@pytest.mark.parametrize("text", ["0", "7", "9223372036854775807"])
def test_decimals_are_read(text: str) -> None:
    """From 0 to 2^63 - 1."""
    assert text == str(parse_decimal(text))


@pytest.mark.parametrize(
    "text", ["", "+5", " 5", "5\n", "05", "00", "1_000", "\u0665", "\u00b2", "9223372036854775808"]
)
def test_lax_decimals_are_refused(text: str) -> None:
    """What int() or isdigit() would take, and what a database's integer would not."""
    with pytest.raises(LogInvalidError):
        parse_decimal(text)


@given(
    st.text(st.characters(codec="utf-8", min_codepoint=0x20), min_size=1),
    st.integers(0, MAX_SIZE),
    st.binary(min_size=32, max_size=32),
)
def test_texts_round_trip(origin: str, size: int, root: bytes) -> None:
    """What is written is read."""
    checkpoint = Checkpoint(origin, size, root)
    assert checkpoint == parse_checkpoint_text(checkpoint_text(checkpoint))


@given(any_text | near(TEXT.encode()).map(lambda b: b.decode("utf-8", "surrogateescape")))
def test_any_text_is_a_checkpoint_or_refused(text: str) -> None:
    """No other error gets out, and what is read is what is written."""
    with contextlib.suppress(LogInvalidError):
        assert text == checkpoint_text(parse_checkpoint_text(text))


@given(st.binary(max_size=300) | near(NOTE))
@settings(max_examples=300)
def test_any_bytes_open_as_the_signed_checkpoint_or_not(content: bytes) -> None:
    """No other error gets out, and nothing opens that was not signed."""
    with contextlib.suppress(LogInvalidError):
        assert CHECKPOINT == opened(content).checkpoint
