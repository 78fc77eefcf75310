"""The one form of a signed note, and what every lax parser would let through."""

import base64
import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit.merkle import LogInvalidError
from gateway.audit.notes import (
    DEFAULT_MAX_BYTES,
    MAX_SIGNATURES,
    NoteSignature,
    UnverifiedNote,
    add_signature,
    decode_base64,
    encode_base64,
    format_note,
    parse_note,
    verify_note,
)
from tests.gateway.audit.sample_log import (
    BOTH,
    NOTE,
    SIGNED,
    SIGNER,
    STRANGER,
    TEXT,
    WITNESS,
    any_text,
    line_of,
    names,
    near,
    note_of,
    texts,
)


def test_added_signature_takes_the_place_of_its_keys_older_one() -> None:
    """A note that is cosigned over and over does not grow; lines of others stay."""
    once = add_signature(SIGNED, WITNESS.cosign(TEXT, time_seconds=5))
    twice = add_signature(once, WITNESS.cosign(TEXT, time_seconds=9))
    assert note_of(SIGNER.sign(TEXT), WITNESS.cosign(TEXT, time_seconds=9)) == twice


@pytest.mark.parametrize(
    "line", ["", "x", SIGNER.sign(TEXT) + "\n", SIGNER.sign(TEXT) + "\n" + STRANGER.sign(TEXT)]
)
def test_only_a_signature_line_is_added(line: str) -> None:
    """One line, of the one form."""
    with pytest.raises(LogInvalidError):
        add_signature(SIGNED, line)


@pytest.mark.parametrize("text", ["", "a", "a\n\nb", "a\tb\n", "a\x00\n", "\ud800\n"])
def test_text_that_no_note_can_hold_is_not_signed(text: str) -> None:
    """A text is lines, without control characters."""
    for sign in (SIGNER.sign, lambda text: WITNESS.cosign(text, time_seconds=1)):
        with pytest.raises(LogInvalidError, match="text of a note"):
            sign(text)
    with pytest.raises(LogInvalidError):
        format_note(text, [SIGNER.sign(TEXT)])


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["\u2014 a AAAAAAA=\n\u2014 b AAAAAAA="],
        ["x\n\n\u2014 a AAAAAAA="],
        ["\u2014 a AAAAAAA=\n"],
    ],
)
def test_only_signature_lines_make_a_note(lines: list[str]) -> None:
    """Each is one line, and the text stays the text."""
    with pytest.raises(LogInvalidError):
        format_note(TEXT, lines)


GOOD_LINE = line_of("a", b"idid\x01")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"\n\n",
        b"text\n",
        b"text\n\n",
        SIGNED[:-1],
        SIGNED + b"\n",
        SIGNED + b"x",
        SIGNED.replace(b"\n", b"\r\n"),
        SIGNED.replace(b"first", b"fi\trst"),
        SIGNED.replace(b"first", b"fi\x00rst"),
        SIGNED.replace(b"first", b"fi\x1frst"),
        SIGNED.replace(b"first", b"\xff"),
        SIGNED.replace(b"first", b"\xed\xa0\x80"),
        TEXT.encode() + GOOD_LINE.encode() + b"\n",
        note_of("a AAAAAAA="),
        note_of("- a AAAAAAA="),
        note_of("\u2013 a AAAAAAA="),
        note_of("\u2014a AAAAAAA="),
        note_of("\u2014  a AAAAAAA="),
        note_of("\u2014 a  AAAAAAA="),
        note_of("\u2014 a AAAAAAA= "),
        note_of("\u2014 a"),
        note_of("\u2014 a "),
        note_of("\u2014 AAAAAAA="),
        note_of("\u2014 a+b AAAAAAA="),
        note_of("\u2014 a\u2003b AAAAAAA="),
        note_of("\u2014 a AAAAAA=="),
        note_of("\u2014 a !AAAAAAA="),
        note_of("\u2014 a AAAAAAB="),
        note_of("\u2014 a AAAAAAA"),
        note_of("\u2014 a __AAAAA="),
        note_of("\u2014 a \u0661AAAAAA="),
        note_of(GOOD_LINE, "\u2014 a !"),
        note_of(*[GOOD_LINE] * (MAX_SIGNATURES + 1)),
    ],
)
def test_malformed_notes_are_refused(content: bytes) -> None:
    """Before a key is even looked at."""
    with pytest.raises(LogInvalidError):
        parse_note(content)


def test_good_notes_are_parsed() -> None:
    """The least note, one of many signatures, and separators that str.splitlines would split at."""
    assert UnverifiedNote("\n", (NoteSignature("a", b"idid", b"\x01"),)) == parse_note(
        note_of(GOOD_LINE, text="\n")
    )
    assert MAX_SIGNATURES == len(parse_note(note_of(*[GOOD_LINE] * MAX_SIGNATURES)).signatures)
    assert (
        "a\u2028b\x85\ufeff\n"
        == parse_note(note_of(GOOD_LINE, text="a\u2028b\x85\ufeff\n")).unverified_text
    )


def test_sixteen_large_signatures_are_accepted() -> None:
    """As C2SP signed-note demands: up to 5 kB each."""
    lines = [line_of(f"witness-{number}.example", bytes(5000)) for number in range(16)]
    assert 16 == len(parse_note(note_of(*lines)).signatures)


def test_long_notes_are_refused() -> None:
    """At one byte more than the limit."""
    content = note_of(GOOD_LINE, text="a" * DEFAULT_MAX_BYTES + "\n")
    with pytest.raises(LogInvalidError, match="longer"):
        parse_note(content)
    with pytest.raises(LogInvalidError, match="longer"):
        parse_note(SIGNED, max_bytes=len(SIGNED) - 1)
    assert TEXT == parse_note(SIGNED, max_bytes=len(SIGNED)).unverified_text


@pytest.mark.parametrize(
    "encoded",
    [
        "QU!!JD",
        "QR==",
        "QQ",
        "QQ=",
        "QQ==\n",
        " QQ==",
        "QQ==QQ==",
        "-_==",
        "=",
        "Q",
        "\u0665\u0665\u0665\u0665",
        "\ud800",
    ],
)
def test_base64_has_one_form(encoded: str) -> None:
    """Foreign characters, loose bits, missing padding and other alphabets are refused."""
    with pytest.raises(LogInvalidError, match="base64"):
        decode_base64(encoded)


@given(st.binary(max_size=100))
def test_base64_round_trips(content: bytes) -> None:
    """It is the standard alphabet with padding."""
    assert base64.b64encode(content).decode() == encode_base64(content)
    assert content == decode_base64(encode_base64(content))


@given(
    texts, st.lists(st.tuples(names, st.binary(min_size=5, max_size=80)), min_size=1, max_size=5)
)
def test_notes_round_trip(text: str, signatures: list[tuple[str, bytes]]) -> None:
    """Any text under any signature lines."""
    lines = [line_of(name, content) for name, content in signatures]
    note = parse_note(format_note(text, lines))
    assert text == note.unverified_text
    assert signatures == [(s.name, s.key_id + s.signature) for s in note.signatures]


@given(st.binary(max_size=300) | near(NOTE) | near(SIGNED))
@settings(max_examples=500)
def test_any_bytes_are_a_note_or_refused(content: bytes) -> None:
    """No other error gets out; what is parsed is what is written; what verifies is what was signed."""
    with contextlib.suppress(LogInvalidError):
        note = parse_note(content)
        lines = [line_of(s.name, s.key_id + s.signature) for s in note.signatures]
        assert content == format_note(note.unverified_text, lines)
        assert verify_note(content, BOTH).text in {
            parse_note(NOTE).unverified_text,
            parse_note(SIGNED).unverified_text,
        }


@given(any_text)
def test_any_line_is_added_or_refused(line: str) -> None:
    """No other error gets out."""
    with contextlib.suppress(LogInvalidError):
        assert line in add_signature(SIGNED, line).decode().split("\n")
