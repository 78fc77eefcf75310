"""The layout of a sealed model: magic, header length, header, body; what the header says, and its strict reading.

Rules: nothing here decides whether a file is trusted. What `parse_container` returns is well formed and no more;
its header is hostile text until its signature has been verified (gateway.sealing.sealed_model).
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from gateway.errors import Code, OperatorError
from gateway.sealing.canonical import MAX_INTEGER, CanonicalError, encode_canonical, parse_canonical
from gateway.sealing.refusals import Refusal, refused, refused_as_earlier

# Like PNG's: the first byte is no text, and the line ending shows damage by text-mode copying.
MAGIC = b"\x89SEAL2\r\n"
_EARLIER_MAGIC = b"\x89SEAL1\r\n"
MAX_HEADER_BYTES = 65536
# Begins what is signed and what wraps are bound to, so that neither can be taken for another protocol's.
PURPOSE = b"sealed-model/v2"

_FORMAT = 2
_ALGORITHM = "Cobblestone-256"
_LENGTH_END = len(MAGIC) + 4
_OUTSIDE_CORE = ("wraps", "wraps_mac", "signature")
_MAX_WRAPS = 64
_MAX_STATEMENTS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What the sealing side states about a network, in the clear and signed; class names are in the payload.

    input_size: (height, width), pixels. dynamic: whether other image sizes may be compiled. stride: pixels; both
    sides of every input size are multiples of it. decode: `full`, or `reduced` where large JPEGs may be decoded at
    1/2, 1/4 or 1/8. made_with: versions of libraries, features of the processor, steps of preprocessing. gates: what
    each check at sealing said.
    """

    name: str
    version: str
    task: str
    input_size: tuple[int, int]
    precision: str
    engine: str
    dynamic: bool
    stride: int
    decode: str
    made_with: Mapping[str, str]
    gates: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedHeader(ModelFacts):
    """Everything that a sealed model binds to its weights.

    plaintext_length: bytes. plaintext_sha256: lower-case hex. signer: id of the key that signed, lower-case hex.
    """

    plaintext_length: int
    plaintext_sha256: str
    signer: str


@dataclass(frozen=True, slots=True)
class Wrap:
    """The data key, encrypted under one KEK."""

    kek_id: str
    algorithm: str
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class UnverifiedContainer:
    """A well-formed file whose signature, keys and body nobody has checked yet."""

    header: SealedHeader
    core: bytes
    wraps: tuple[Wrap, ...]
    wraps_mac: bytes
    signature: bytes
    body: memoryview


def encode_core(header: SealedHeader) -> bytes:
    """The canonical bytes of the header's core: what is signed, and whose hash binds the body.

    Raises OperatorError naming every fact that a sealed model cannot carry.
    """
    core = {field.name: getattr(header, field.name) for field in fields(header)}
    core |= {"made_with": dict(header.made_with), "gates": dict(header.gates)}
    core |= {"input_size": list(header.input_size), "format": _FORMAT, "alg": _ALGORITHM}
    mistakes = [
        f"{member} {rule.text}"
        for member, rule in _CORE_RULES.items()
        if not rule.holds(core[member])
    ]
    if mistakes:
        raise _unsealable("; ".join(mistakes))
    return encode_canonical(core)


def context_of(core: bytes) -> bytes:
    """What body and wraps are bound to: SHA-256 of the canonical core, 32 bytes."""
    return hashlib.sha256(core).digest()


def encode_wraps(wraps: Sequence[Wrap]) -> bytes:
    """The canonical bytes of the wraps: what `wraps_mac` authenticates."""
    return encode_canonical(_wrap_members(wraps))


def encode_container(
    core: bytes,
    *,
    wraps: Sequence[Wrap],
    wraps_mac: bytes,
    signature: bytes,
    body: bytes | memoryview,
) -> bytes:
    """The whole file.

    core: from `encode_core`. wraps_mac: 32 bytes. signature: 64 bytes. body: from `seal_chunked`.
    Raises OperatorError if the header would be longer than MAX_HEADER_BYTES.
    """
    members = parse_canonical(core)
    members |= {
        "wraps": _wrap_members(wraps),
        "wraps_mac": wraps_mac.hex(),
        "signature": signature.hex(),
    }
    header = encode_canonical(members)
    if len(header) > MAX_HEADER_BYTES:
        raise _unsealable(
            f"the header would be longer than {MAX_HEADER_BYTES} bytes: wrap for fewer KEKs"
        )
    return b"".join((MAGIC, len(header).to_bytes(4, "big"), header, body))


def parse_container(unverified: bytes) -> UnverifiedContainer:
    """The parts of a file, well formed but not verified. Raises SealError if they are not well formed."""
    members, body = _split(unverified)
    # An unknown format may have any members, so it is told apart before they are looked at.
    if not all(_CORE_RULES[member].holds(members.get(member)) for member in ("format", "alg")):
        raise refused(Refusal.FORMAT_UNKNOWN)
    if members.keys() != _RULES.keys():
        raise refused(Refusal.HEADER_MEMBERS)
    if not all(rule.holds(members[member]) for member, rule in _RULES.items()):
        raise refused(Refusal.HEADER_MEMBERS)
    return UnverifiedContainer(
        header=_header(members),
        core=encode_canonical({m: v for m, v in members.items() if m not in _OUTSIDE_CORE}),
        wraps=tuple(
            Wrap(w["kek_id"], w["alg"], bytes.fromhex(w["wrapped"])) for w in members["wraps"]
        ),
        wraps_mac=bytes.fromhex(members["wraps_mac"]),
        signature=bytes.fromhex(members["signature"]),
        body=body,
    )


def check_name_and_version(name: str, version: str) -> None:
    """Raise OperatorError unless both could stand in a sealed model; then they are safe in a file name too."""
    members = {"name": name, "version": version}
    mistakes = [
        f"{member} {_CORE_RULES[member].text}"
        for member, value in members.items()
        if not _CORE_RULES[member].holds(value)
    ]
    if mistakes:
        raise _unsealable("; ".join(mistakes))


def _split(unverified: bytes) -> tuple[dict[str, Any], memoryview]:
    if unverified.startswith(_EARLIER_MAGIC):
        raise refused_as_earlier()
    if not unverified.startswith(MAGIC):
        raise refused(Refusal.MAGIC)
    length = int.from_bytes(unverified[len(MAGIC) : _LENGTH_END], "big")
    header_end = _LENGTH_END + length
    if not 0 < length <= MAX_HEADER_BYTES or header_end > len(unverified):
        raise refused(Refusal.HEADER_LENGTH)
    try:
        members = parse_canonical(unverified[_LENGTH_END:header_end])
    except CanonicalError as exc:
        raise refused(Refusal.HEADER_NOT_CANONICAL) from exc
    return members, memoryview(unverified)[header_end:]


def _header(members: Mapping[str, Any]) -> SealedHeader:
    height, width = members["input_size"]
    values = {field.name: members[field.name] for field in fields(SealedHeader)}
    values |= {"input_size": (height, width)}
    return SealedHeader(**values)


def _wrap_members(wraps: Sequence[Wrap]) -> list[dict[str, str]]:
    return [{"kek_id": w.kek_id, "alg": w.algorithm, "wrapped": w.wrapped.hex()} for w in wraps]


def _unsealable(what: str) -> OperatorError:
    return OperatorError(Code.MODEL_UNSUPPORTED, f"no sealed model can be made or named so: {what}")


@dataclass(frozen=True, slots=True)
class _Rule:
    """What one member must be, as a predicate and in words."""

    holds: Callable[[object], bool]
    text: str


def _matching(pattern: str, text: str) -> _Rule:
    compiled = re.compile(pattern)
    return _Rule(lambda v: type(v) is str and compiled.fullmatch(v) is not None, text)


def _integer(low: int, high: int) -> _Rule:
    # Exact types throughout: True equals 1 and would pass for an integer.
    return _Rule(
        lambda v: _is_integer(v, low, high), f"must be a whole number from {low} to {high}"
    )


def _is_integer(value: object, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _is_statements(value: object) -> bool:
    return (
        type(value) is dict
        and len(value) <= _MAX_STATEMENTS
        and all(_TOKEN.holds(key) and _LINE.holds(said) for key, said in value.items())
    )


def _is_input_size(value: object) -> bool:
    return (
        type(value) is list
        and len(value) == 2
        and all(_is_integer(side, 1, 65536) for side in value)
    )


def _is_wraps(value: object) -> bool:
    if type(value) is not list or not 0 < len(value) <= _MAX_WRAPS:
        return False
    if not all(_is_wrap(wrap) for wrap in value):
        return False
    return len({wrap["kek_id"] for wrap in value}) == len(value)


def _is_wrap(value: object) -> bool:
    return (
        type(value) is dict
        and value.keys() == _WRAP_RULES.keys()
        and all(rule.holds(value[member]) for member, rule in _WRAP_RULES.items())
    )


_LINE = _Rule(lambda v: type(v) is str and 1 <= len(v) <= 512 and v.isprintable(), "")
_TOKEN = _matching(
    r"[a-z0-9][a-z0-9_-]{0,31}", "must be a word of at most 32 characters from a-z 0-9 _ -"
)
_STATEMENTS = _Rule(
    _is_statements,
    f"must be at most {_MAX_STATEMENTS} words, each with 1 to 512 printable characters",
)
# Hex has one spelling here: bytes.fromhex alone would also take upper case and spaces, so changed bytes would pass.
_SHA256 = _matching(r"[0-9a-f]{64}", "must be 64 lower-case hex digits")

_CORE_RULES: Mapping[str, _Rule] = {
    "format": _integer(_FORMAT, _FORMAT),
    "alg": _matching(re.escape(_ALGORITHM), f"must be {_ALGORITHM}"),
    "name": _matching(
        r"[a-z0-9][a-z0-9._-]{0,62}",
        "must be 1 to 63 characters from a-z 0-9 . _ - and begin with a letter or digit",
    ),
    "version": _matching(
        r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,62}",
        "must be 1 to 63 characters from 0-9 A-Z a-z . + _ - and begin with a letter or digit",
    ),
    "task": _TOKEN,
    "input_size": _Rule(_is_input_size, "must be height and width, each from 1 to 65536"),
    "precision": _TOKEN,
    "engine": _TOKEN,
    "dynamic": _Rule(lambda v: type(v) is bool, "must be true or false"),
    "stride": _integer(1, 65536),
    "decode": _matching(r"full|reduced", "must be full or reduced"),
    "made_with": _STATEMENTS,
    "gates": _STATEMENTS,
    "plaintext_length": _integer(0, MAX_INTEGER),
    "plaintext_sha256": _SHA256,
    "signer": _SHA256,
}

_WRAP_RULES: Mapping[str, _Rule] = {
    "kek_id": _matching(r"[0-9a-z][0-9a-z._-]{0,63}", ""),
    "alg": _matching(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}", ""),
    "wrapped": _matching(r"(?:[0-9a-f]{2}){1,1024}", ""),
}

_RULES: Mapping[str, _Rule] = {
    **_CORE_RULES,
    "wraps": _Rule(_is_wraps, ""),
    "wraps_mac": _SHA256,
    "signature": _matching(r"[0-9a-f]{128}", ""),
}
