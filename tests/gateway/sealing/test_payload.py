"""The plaintext of a sealed model: what it holds, and that nothing else is read."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import OperatorError, SealError
from gateway.sealing.payload import Payload, pack_payload, unpack_payload

PART = {"name": "weights", "length": 3}


def plaintext_of(manifest: object, rest: bytes = b"abc") -> bytes:
    """Length, this manifest in canonical form, these bytes."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return len(text).to_bytes(4, "big") + text + rest


def is_refused(plaintext: bytes) -> bool:
    """Whether it is refused, and for its layout."""
    try:
        unpack_payload(plaintext)
    except SealError as exc:
        return exc.reason == "payload"
    return False


@given(
    st.lists(st.text(min_size=1).filter(str.isprintable), min_size=1),
    st.binary(),
    st.none() | st.binary(),
)
def test_what_was_packed_unpacks(names: list[str], weights: bytes, golden: bytes | None) -> None:
    """With and without a golden set."""
    payload = Payload(tuple(names), weights, golden)
    assert payload == unpack_payload(pack_payload(payload))


def test_the_layout_is_the_documented_one() -> None:
    """Length, manifest, parts in its order."""
    packed = pack_payload(Payload(("bolt",), b"abc", b"de"))
    manifest = (
        b'{"names":["bolt"],"parts":[{"length":3,"name":"weights"},{"length":2,"name":"golden"}]}'
    )
    assert b"\0\0\0" + bytes([len(manifest)]) + manifest + b"abcde" == packed


def test_parts_are_views() -> None:
    """Weights are not copied: what is wiped under them is gone."""
    plaintext = bytearray(pack_payload(Payload(("bolt",), b"abc")))
    weights = unpack_payload(memoryview(plaintext)).weights
    plaintext[-3:] = b"xyz"
    assert b"xyz" == bytes(weights)


UNPRINTABLE = [
    "\n",
    "\x1b[31m",
    "\x7f",
    "\x9f",
    "\u200b",
    "\u202e",
    "\u2028",
    "\u2029",
    "\u2066",
    "\ufeff",
]


@pytest.mark.parametrize(
    "names", [(), ("",), ("n" * 257,), ("\ud800",), *((f"a{c}", "b") for c in UNPRINTABLE)]
)
def test_class_names_that_no_terminal_should_see_are_not_sealed(names: tuple[str, ...]) -> None:
    """Whoever seals is told what to do."""
    with pytest.raises(OperatorError, match="rename the classes"):
        pack_payload(Payload(names, b""))


@pytest.mark.parametrize(
    "manifest",
    [
        {},
        {"names": ["a"]},
        {"names": ["a"], "parts": [PART], "x": 1},
        {"names": [], "parts": [PART]},
        {"names": "a", "parts": [PART]},
        {"names": [1], "parts": [PART]},
        {"names": ["n" * 257], "parts": [PART]},
        *({"names": [f"a{character}b"], "parts": [PART]} for character in UNPRINTABLE),
        {"names": ["a"], "parts": {}},
        {"names": ["a"], "parts": []},
        {"names": ["a"], "parts": [1]},
        {"names": ["a"], "parts": [PART | {"length": 2}]},
        {"names": ["a"], "parts": [PART | {"length": 4}]},
        {"names": ["a"], "parts": [PART | {"length": -3}]},
        {"names": ["a"], "parts": [PART | {"length": True}]},
        {"names": ["a"], "parts": [PART | {"name": "golden"}]},
        {"names": ["a"], "parts": [PART | {"x": 1}]},
        {"names": ["a"], "parts": [{"name": "weights"}]},
        {"names": ["a"], "parts": [PART, {"name": "other", "length": 0}]},
        {"names": ["a"], "parts": [PART, {"name": "weights", "length": 0}]},
        {"names": ["a"], "parts": [{"name": "golden", "length": 0}, PART]},
    ],
)
def test_another_manifest_is_refused(manifest: dict[str, Any]) -> None:
    """Exactly these members, types, parts and lengths."""
    assert is_refused(plaintext_of(manifest))


@pytest.mark.parametrize("name", ["a", "n" * 256, "größe 2", "螺丝", "\U0001f529"])
def test_the_smallest_manifest_is_read(name: str) -> None:
    """The refusals above are for what they change; names are in any script."""
    assert not is_refused(plaintext_of({"names": [name], "parts": [PART]}))


def test_more_names_than_a_reader_takes_are_not_sealed() -> None:
    """The manifest has an end; nobody could open what was sealed."""
    with pytest.raises(OperatorError, match="class names are longer than 4194304 bytes together"):
        pack_payload(Payload(("\U0001f529" * 256,) * 4200, b""))


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\0",
        b"\0\0\0\3{}",
        b"\xff\xff\xff\xff{}",
        b"\0\0\0\3{ }",
        plaintext_of({"names": ["a"], "parts": [PART]}, b"abcd"),
    ],
)
def test_another_layout_is_refused(plaintext: bytes) -> None:
    """Missing, cut, not canonical, or longer than its parts."""
    assert is_refused(plaintext)


@given(st.binary(max_size=60))
def test_arbitrary_plaintexts_are_refused(plaintext: bytes) -> None:
    """Only SealError escapes."""
    assert is_refused(plaintext)
