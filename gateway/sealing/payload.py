"""What the body of a sealed model holds: class names, the network, and the golden set that proves it.

Rules: one plaintext, so that no part can be exchanged for another file's; a reader takes nothing but the parts it
knows, each once, filling the plaintext to its last byte. Parts are views: nothing of the plaintext is copied.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import Code, OperatorError
from gateway.sealing.canonical import CanonicalError, encode_canonical, parse_canonical
from gateway.sealing.refusals import Refusal, refused

Plaintext = bytes | memoryview

MAX_MANIFEST_BYTES = 4 << 20  # Ten thousand class names of the longest kind.

_LENGTH_BYTES = 4
_WEIGHTS, _GOLDEN = "weights", "golden"
_MAX_NAME_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class Payload:
    """A network with what only those who may run it should know; never shown.

    names: class names in the order of class ids, 1 to 256 printable characters each. weights: the
    network as its engine reads it. golden: images and what the network finds in them, if there are any.
    """

    names: tuple[str, ...]
    weights: Plaintext = field(repr=False)
    golden: Plaintext | None = field(default=None, repr=False)


def pack_payload(payload: Payload) -> bytes:
    """The plaintext of a body. Raises OperatorError if the class names cannot be sealed."""
    check_class_names(payload.names)
    parts = {_WEIGHTS: payload.weights}
    if payload.golden is not None:
        parts[_GOLDEN] = payload.golden
    manifest = encode_canonical(
        {
            "names": list(payload.names),
            "parts": [{"name": name, "length": len(part)} for name, part in parts.items()],
        }
    )
    if len(manifest) > MAX_MANIFEST_BYTES:
        raise _unsealable(
            f"its class names are longer than {MAX_MANIFEST_BYTES} bytes together; shorten them in the weights"
        )
    return b"".join((len(manifest).to_bytes(_LENGTH_BYTES, "big"), manifest, *parts.values()))


def check_class_names(names: Sequence[str]) -> None:
    """Raise OperatorError unless these class names can be sealed."""
    if not _are_names(list(names)):
        raise _unsealable(
            f"class names must be there, and each of 1 to {_MAX_NAME_CHARACTERS} characters that can be printed, "
            "without line ends and marks that turn or hide text; rename the classes in the weights"
        )


def unpack_payload(plaintext: Plaintext) -> Payload:
    """The parts of an authenticated plaintext, as views into it. Raises SealError if it is not laid out so."""
    view = memoryview(plaintext)
    manifest, start = _read_manifest(view)
    parts: dict[str, memoryview] = {}
    for part in manifest["parts"]:
        end = start + part["length"]
        parts[part["name"]] = view[start:end]
        start = end
    if start != len(view):
        raise refused(Refusal.PAYLOAD)
    return Payload(tuple(manifest["names"]), parts[_WEIGHTS], parts.get(_GOLDEN))


def _read_manifest(view: memoryview) -> tuple[Mapping[str, Any], int]:
    length = int.from_bytes(view[:_LENGTH_BYTES], "big")
    end = _LENGTH_BYTES + length
    if not 0 < length <= MAX_MANIFEST_BYTES or end > len(view):
        raise refused(Refusal.PAYLOAD)
    try:
        manifest = parse_canonical(bytes(view[_LENGTH_BYTES:end]))
    except CanonicalError as exc:
        raise refused(Refusal.PAYLOAD) from exc
    if manifest.keys() != {"names", "parts"} or not _are_names(manifest["names"]):
        raise refused(Refusal.PAYLOAD)
    if not _are_parts(manifest["parts"]):
        raise refused(Refusal.PAYLOAD)
    return manifest, end


def _are_names(value: object) -> bool:
    return type(value) is list and bool(value) and all(_is_name(name) for name in value)


def _is_name(value: object) -> bool:
    # Names are shown on terminals and in logs, where marks of direction and line ends would forge what stands there.
    return type(value) is str and 1 <= len(value) <= _MAX_NAME_CHARACTERS and value.isprintable()


def _are_parts(value: object) -> bool:
    if type(value) is not list or not all(_is_part(part) for part in value):
        return False
    return [part["name"] for part in value] in ([_WEIGHTS], [_WEIGHTS, _GOLDEN])


def _is_part(value: object) -> bool:
    return (
        type(value) is dict
        and value.keys() == {"name", "length"}
        and type(value["length"]) is int
        and value["length"] >= 0
    )


def _unsealable(why: str) -> OperatorError:
    return OperatorError(Code.MODEL_UNSUPPORTED, f"no sealed model can be made: {why}")
