"""Signed notes: text with Ed25519 signatures and timestamped cosignatures under it. Pure.

Rules: nothing lax: one note has one form, base64 is canonical, lines end at U+000A alone; a text is looked at only
after it has been verified; a line of a key that is not trusted says nothing, and a wrong line of one that is trusted
spoils the note. Source: C2SP signed-note and tlog-cosignature.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.audit.merkle import LogInvalidError

# 16 signatures must be accepted (C2SP signed-note), and a post-quantum one takes up to 5 kB.
DEFAULT_MAX_BYTES = 128 * 1024
MAX_SIGNATURES = 100
MAX_TIME_SECONDS = (1 << 63) - 1

_KEY_BYTES = 32
_KEY_ID_BYTES = 4
_SIGNATURE_BYTES = 64
_TIME_BYTES = 8
_LINE_START = "\u2014 "
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_KEY_ID = re.compile(r"[0-9a-f]{8}")


class KeyKind(IntEnum):
    """What a key signs: the text of a note itself, or the text with a time (C2SP tlog-cosignature)."""

    ED25519 = 0x01
    COSIGNATURE = 0x04


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key with its name, trusted by configuration.

    Raises LogInvalidError for a name that cannot stand in a note, a key that is not 32 bytes, or a key ID that is
    not theirs; trusted_key computes it.
    """

    name: str
    key_id: bytes
    kind: KeyKind
    public_key: bytes

    def __post_init__(self) -> None:
        if len(self.public_key) != _KEY_BYTES:
            raise LogInvalidError("a public key of a note must be 32 bytes")
        if self.key_id != _key_id(self.name, self.kind, self.public_key):
            raise LogInvalidError("the key ID is not that of the name and public key")

    def line(self) -> str:
        """The one line that stands in configuration, as parse_verifier reads it."""
        key = encode_base64(bytes([self.kind]) + self.public_key)
        return f"{self.name}+{self.key_id.hex()}+{key}"


def trusted_key(name: str, kind: KeyKind, public_key: bytes) -> Verifier:
    """The verifier of a public key of 32 bytes under a name."""
    return Verifier(name, _key_id(name, kind, public_key), kind, public_key)


def parse_verifier(line: str) -> Verifier:
    """The verifier of a line of configuration, `name+key ID+base64(kind || public key)`.

    Raises LogInvalidError for anything else, another kind or another key ID included.
    """
    parts = line.split("+", 2)  # Base64 may hold further ones.
    if len(parts) != 3 or not _KEY_ID.fullmatch(parts[1]):
        raise LogInvalidError("a verifier key must be name+key ID+key, the ID 8 hex digits")
    content = decode_base64(parts[2])
    if content[:1] not in {bytes([kind]) for kind in KeyKind}:
        raise LogInvalidError("a verifier key must be of kind Ed25519 or timestamped cosignature")
    return Verifier(parts[0], bytes.fromhex(parts[1]), KeyKind(content[0]), content[1:])


@dataclass(frozen=True, slots=True)
class NoteSigner:
    """A private key that signs notes under a name."""

    name: str
    private_key: Ed25519PrivateKey = field(repr=False)

    @property
    def verifier(self) -> Verifier:
        """What verifies its signatures."""
        return trusted_key(self.name, KeyKind.ED25519, _public_bytes(self.private_key))

    def sign(self, text: str) -> str:
        """The signature line under a text, without its newline. Raises LogInvalidError if no note can hold the text."""
        signature = self.private_key.sign(_text_bytes(text))
        return _signature_line(self.verifier, signature)


@dataclass(frozen=True, slots=True)
class NoteCosigner:
    """A private key that signs notes under a name and with a time; a key of its own, never that of a NoteSigner."""

    name: str
    private_key: Ed25519PrivateKey = field(repr=False)

    @property
    def verifier(self) -> Verifier:
        """What verifies its cosignatures."""
        return trusted_key(self.name, KeyKind.COSIGNATURE, _public_bytes(self.private_key))

    def cosign(self, text: str, *, time_seconds: int) -> str:
        """The signature line under a text at a time (POSIX seconds), without its newline.

        Raises LogInvalidError if no note can hold the text or no cosignature the time.
        """
        if not 0 <= time_seconds <= MAX_TIME_SECONDS:
            raise LogInvalidError("the time of a cosignature must be from 0 to 2^63 - 1 seconds")
        signature = self.private_key.sign(_timed(_text_bytes(text), time_seconds))
        return _signature_line(self.verifier, time_seconds.to_bytes(_TIME_BYTES, "big") + signature)


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """A signature line, parsed only: its key is known by name and key_id."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class UnverifiedNote:
    """A note of good form. Anybody can have written it."""

    unverified_text: str
    signatures: tuple[NoteSignature, ...]


@dataclass(frozen=True, slots=True)
class VerifiedSignature:
    """A trusted key that signed; time_seconds (POSIX) for a cosignature, else None."""

    verifier: Verifier
    time_seconds: int | None


@dataclass(frozen=True, slots=True)
class VerifiedNote:
    """The text of a note and the trusted keys that signed it, each once; at least one."""

    text: str
    signatures: tuple[VerifiedSignature, ...]


def format_note(text: str, lines: Sequence[str]) -> bytes:
    """The note of a text and its signature lines (without newlines).

    Raises LogInvalidError if they do not make up a note of good form.
    """
    try:
        content = "".join([text, "\n", *(line + "\n" for line in lines)]).encode()
    except UnicodeEncodeError as error:
        raise LogInvalidError("a note must be valid Unicode") from error
    note = parse_note(content)
    if text != note.unverified_text or len(lines) != len(note.signatures):
        raise LogInvalidError("a signature line holds a newline")
    return content


def add_signature(content: bytes, line: str) -> bytes:
    """The note with one more signature line (without newline); it takes the place of an older one of the same key.

    Raises LogInvalidError if the note or the line is malformed.
    """
    note = parse_note(content)
    new = _parse_line(line)
    older = [s for s in note.signatures if (s.name, s.key_id) != (new.name, new.key_id)]
    return format_note(note.unverified_text, [_format_signature(s) for s in (*older, new)])


def parse_note(content: bytes, *, max_bytes: int = DEFAULT_MAX_BYTES) -> UnverifiedNote:
    """The parts of a note, none of them verified.

    Raises LogInvalidError if it is longer than max_bytes, has more than MAX_SIGNATURES signatures, or is not of the
    one form that C2SP signed-note allows.
    """
    if len(content) > max_bytes:
        raise LogInvalidError(f"the note is longer than {max_bytes} bytes")
    unverified = _decode_utf8(content)
    if not unverified.endswith("\n"):
        raise LogInvalidError("the note does not end with a newline")
    # The text may hold empty lines itself: the last one is the separation.
    split = unverified.rfind("\n\n")
    if split < 0:
        raise LogInvalidError("the note has no empty line before its signatures")
    lines = unverified[split + 2 :].split("\n")[:-1]
    if not 1 <= len(lines) <= MAX_SIGNATURES:
        raise LogInvalidError(f"the note must have 1 to {MAX_SIGNATURES} signatures")
    return UnverifiedNote(unverified[: split + 1], tuple(_parse_line(line) for line in lines))


def verify_note(content: bytes, verifiers: Sequence[Verifier]) -> VerifiedNote:
    """The text of a note that at least one of these keys signed.

    A key counts once however many lines it has; the newest of its cosignatures is told. Raises LogInvalidError if the
    note is malformed, if none of the keys signed it, or if a line of any of them does not verify.
    """
    trusted = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    if len(trusted) != len(set(verifiers)):
        raise LogInvalidError("two trusted keys have the same name and key ID")
    note = parse_note(content)
    text = note.unverified_text.encode()
    found: dict[Verifier, VerifiedSignature] = {}
    for line in note.signatures:
        verifier = trusted.get((line.name, line.key_id))
        if verifier is None:
            continue
        verified = VerifiedSignature(verifier, _verify(verifier, line.signature, text))
        before = found.get(verifier)
        if before is None or (before.time_seconds or 0) < (verified.time_seconds or 0):
            found[verifier] = verified
    if not found:
        raise LogInvalidError("none of the trusted keys has signed the note")
    return VerifiedNote(note.unverified_text, tuple(found.values()))


def encode_base64(content: bytes) -> str:
    """Standard base64 with padding. Source: RFC 4648 section 4."""
    return base64.b64encode(content).decode("ascii")


def decode_base64(unverified: str) -> bytes:
    """The bytes of canonical standard base64. Raises LogInvalidError for any other text."""
    try:
        content = base64.b64decode(unverified.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise LogInvalidError("not base64") from error
    # Python lets the unused bits of the last digit be anything.
    if encode_base64(content) != unverified:
        raise LogInvalidError("not canonical base64")
    return content


def _verify(verifier: Verifier, signature: bytes, text: bytes) -> int | None:
    # The time of a cosignature.
    time_bytes = _TIME_BYTES if verifier.kind is KeyKind.COSIGNATURE else 0
    if len(signature) != time_bytes + _SIGNATURE_BYTES:
        raise LogInvalidError(f"the signature of {verifier.name} has a wrong length")
    time_seconds = None
    if verifier.kind is KeyKind.COSIGNATURE:
        time_seconds = int.from_bytes(signature[:time_bytes], "big")
        if time_seconds > MAX_TIME_SECONDS:
            raise LogInvalidError(f"the cosignature of {verifier.name} has an impossible time")
        text = _timed(text, time_seconds)
    try:
        Ed25519PublicKey.from_public_bytes(verifier.public_key).verify(signature[time_bytes:], text)
    except (InvalidSignature, ValueError) as error:
        raise LogInvalidError(f"the signature of {verifier.name} does not verify") from error
    return time_seconds


def _timed(text: bytes, time_seconds: int) -> bytes:
    return b"cosignature/v1\ntime %d\n" % time_seconds + text


def _parse_line(line: str) -> NoteSignature:
    name, space, encoded = line.removeprefix(_LINE_START).partition(" ")
    if not line.startswith(_LINE_START) or not space:
        raise LogInvalidError("a signature line must be an em dash, a key name and base64")
    _require_name(name)
    content = decode_base64(encoded)
    if len(content) <= _KEY_ID_BYTES:
        raise LogInvalidError("a signature line holds no signature")
    return NoteSignature(name, content[:_KEY_ID_BYTES], content[_KEY_ID_BYTES:])


def _signature_line(verifier: Verifier, signature: bytes) -> str:
    return _format_signature(NoteSignature(verifier.name, verifier.key_id, signature))


def _format_signature(line: NoteSignature) -> str:
    return f"{_LINE_START}{line.name} {encode_base64(line.key_id + line.signature)}"


def _require_name(name: str) -> None:
    if not name or "+" in name or _CONTROL.search(name) or any(map(str.isspace, name)):
        raise LogInvalidError("a key name must be not empty and without white space and '+'")
    if not _is_unicode(name):
        raise LogInvalidError("a key name must be valid Unicode")


def _text_bytes(text: str) -> bytes:
    if not text.endswith("\n") or _CONTROL.search(text) or not _is_unicode(text):
        raise LogInvalidError(
            "the text of a note must be lines of Unicode, each ended by a newline, without control characters"
        )
    return text.encode()


def _decode_utf8(content: bytes) -> str:
    try:
        unverified = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LogInvalidError("the note is not UTF-8") from error
    if _CONTROL.search(unverified):
        raise LogInvalidError("the note holds control characters")
    return unverified


def _is_unicode(text: str) -> bool:
    # A lone surrogate has no UTF-8 form.
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _key_id(name: str, kind: KeyKind, public_key: bytes) -> bytes:
    _require_name(name)
    return sha256(name.encode() + b"\n" + bytes([kind]) + public_key).digest()[:_KEY_ID_BYTES]


def _public_bytes(private_key: Ed25519PrivateKey) -> bytes:
    return private_key.public_key().public_bytes_raw()
