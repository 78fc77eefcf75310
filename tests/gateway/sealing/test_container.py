"""The layout of the sealed model file: what is well formed, what is not, and what a header can carry."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, OperatorError, SealError
from gateway.sealing.container import (
    ModelFacts,
    SealedHeader,
    Wrap,
    check_name_and_version,
    encode_container,
    encode_core,
    parse_container,
)

Forge = Callable[..., bytes]
RefusalOf = Callable[..., str]
WRAP = {"kek_id": "k", "alg": "A", "wrapped": "00"}


def header_of(facts: ModelFacts, **changes: Any) -> SealedHeader:
    """A header with these facts, some of them changed."""
    header = SealedHeader(
        **{field.name: getattr(facts, field.name) for field in dataclasses.fields(facts)},
        plaintext_length=3,
        plaintext_sha256="0" * 64,
        signer="1" * 64,
    )
    return dataclasses.replace(header, **changes)


def test_a_container_parses_back(facts: ModelFacts) -> None:
    """Parsing undoes encoding."""
    header = header_of(facts, gates={"parity": "écrou"})
    wraps = (Wrap("k", "A", b"\0\1"), Wrap("l", "B", b"\2"))
    file = encode_container(
        encode_core(header), wraps=wraps, wraps_mac=b"m" * 32, signature=b"s" * 64, body=b"body"
    )
    parsed = parse_container(file)
    assert header == parsed.header
    assert (wraps, b"m" * 32, b"s" * 64) == (parsed.wraps, parsed.wraps_mac, parsed.signature)
    assert (encode_core(header), b"body") == (parsed.core, bytes(parsed.body))


@pytest.mark.parametrize(
    ("changes", "member"),
    [
        ({"name": "Conveyor"}, "name"),
        ({"name": "a" * 64}, "name"),
        ({"name": "../x"}, "name"),
        ({"name": "a\n"}, "name"),
        ({"name": ".a"}, "name"),
        ({"version": ""}, "version"),
        ({"version": "1/2"}, "version"),
        ({"version": "1\n"}, "version"),
        ({"version": "v" * 64}, "version"),
        ({"task": "Detect"}, "task"),
        ({"input_size": (0, 32)}, "input_size"),
        ({"input_size": (32, 65537)}, "input_size"),
        ({"input_size": (32, 32, 3)}, "input_size"),
        ({"input_size": (32.0, 32)}, "input_size"),
        ({"precision": ""}, "precision"),
        ({"engine": "a b"}, "engine"),
        ({"dynamic": 1}, "dynamic"),
        ({"stride": 0}, "stride"),
        ({"stride": True}, "stride"),
        ({"decode": "half"}, "decode"),
        ({"made_with": {"": "1"}}, "made_with"),
        ({"made_with": {"a b": "1"}}, "made_with"),
        ({"made_with": {"numpy": "2\n"}}, "made_with"),
        ({"made_with": {"numpy": "2\u202e"}}, "made_with"),
        ({"gates": {"parity": "a\u2028b"}}, "gates"),
        ({"gates": {"parity": "\ud800"}}, "gates"),
        ({"gates": {"parity": ""}}, "gates"),
        ({"gates": {"parity": "p" * 513}}, "gates"),
        ({"gates": {"parity": 1}}, "gates"),
        ({"gates": {f"g{i}": "x" for i in range(33)}}, "gates"),
        ({"plaintext_length": -1}, "plaintext_length"),
        ({"plaintext_length": 2**53}, "plaintext_length"),
        ({"plaintext_sha256": "A" * 64}, "plaintext_sha256"),
        ({"signer": "0" * 63}, "signer"),
    ],
)
def test_encoding_names_the_fact_that_does_not_fit(
    facts: ModelFacts, changes: dict[str, Any], member: str
) -> None:
    """Whoever seals is told which fact a header cannot carry."""
    with pytest.raises(OperatorError, match=f": {member} must be ") as caught:
        encode_core(header_of(facts, **changes))
    assert caught.value.code == Code.MODEL_UNSUPPORTED


def test_encoding_names_every_mistake_at_once(facts: ModelFacts) -> None:
    """All facts that do not fit are named in one message."""
    with pytest.raises(OperatorError, match=r"name must be .*; stride must be"):
        encode_core(header_of(facts, name="", stride=0))


def test_encoding_refuses_a_header_beyond_its_limit(facts: ModelFacts) -> None:
    """A header that no reader would take is never written."""
    core = encode_core(header_of(facts, gates={f"g{i}": "n" * 512 for i in range(32)}))
    wraps = [Wrap(f"k{i}", "A", bytes(1024)) for i in range(30)]
    with pytest.raises(OperatorError, match="longer than 65536"):
        encode_container(core, wraps=wraps, wraps_mac=b"", signature=b"", body=b"")


def test_name_and_version_are_checked_for_file_names() -> None:
    """What passes cannot leave its folder."""
    check_name_and_version("conveyor-2.x", "1.0+b_3-rc")
    with pytest.raises(OperatorError, match=r"name must .*; version must"):
        check_name_and_version("a/b", "..")


@pytest.mark.parametrize(
    "unverified",
    [b"", b"\x89SEAL2\r", b"\x89SEAL2\n", b"\x09SEAL2\r\n", b"\x89SEAL9\r\n", b" \x89SEAL2\r\n"],
)
def test_another_magic_is_refused(refusal_of: RefusalOf, unverified: bytes) -> None:
    """A file must begin with the magic, undamaged."""
    assert refusal_of(unverified + b"\0\0\0\2{}") == "magic"


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\0{}",
        b"\0\0\0\3{}",
        b"\xff\xff\xff\xff{}",
        b"\0\1\0\1" + bytes(70000),
    ],
)
def test_a_wrong_header_length_is_refused(refusal_of: RefusalOf, rest: bytes) -> None:
    """Missing, zero, past the end and above the limit."""
    assert refusal_of(b"\x89SEAL2\r\n" + rest) == "header_length"


def test_a_header_of_exactly_the_limit_is_read(
    refusal_of: RefusalOf, frame: Callable[[bytes, bytes], bytes]
) -> None:
    """65536 bytes are within the limit: it is the text that is refused."""
    assert refusal_of(frame(b"x" * 65536, b"")) == "header_not_canonical"


def test_a_header_that_is_not_canonical_is_refused(
    sealed: bytes, refusal_of: RefusalOf, frame: Callable[[bytes, bytes], bytes]
) -> None:
    """The same members with a space, twice, or in another order do not pass."""
    length = int.from_bytes(sealed[8:12], "big")
    header, body = sealed[12 : 12 + length], sealed[12 + length :]
    members = json.loads(header)
    others = [
        header.replace(b'","', b'", "', 1),
        b'{"alg":"Cobblestone-256",' + header[1:],
        json.dumps(dict(reversed(members.items())), separators=(",", ":")).encode(),
        header.replace(b'"full"', b'"\\u0066ull"'),
    ]
    assert [refusal_of(frame(other, body)) for other in others] == ["header_not_canonical"] * 4


@pytest.mark.parametrize(
    "changes",
    [{"format": 1}, {"format": True}, {"format": "2"}, {"alg": "Cobblestone-128"}, {"alg": 1}],
)
def test_an_unknown_format_is_refused(
    forge: Forge, refusal_of: RefusalOf, core: dict[str, Any], changes: dict[str, Any]
) -> None:
    """Format and algorithm are fixed, whoever signed."""
    assert refusal_of(forge(core | changes)) == "format_unknown"


@pytest.mark.parametrize("member", ["format", "alg"])
def test_a_missing_format_is_refused(
    forge: Forge, refusal_of: RefusalOf, core: dict[str, Any], member: str
) -> None:
    """A file that does not name its format has none."""
    del core[member]
    assert refusal_of(forge(core)) == "format_unknown"


@pytest.mark.parametrize(
    "member",
    [
        "name",
        "version",
        "task",
        "input_size",
        "precision",
        "engine",
        "dynamic",
        "stride",
        "decode",
        "made_with",
        "gates",
        "plaintext_length",
        "plaintext_sha256",
        "signer",
    ],
)
def test_a_missing_member_is_refused(
    forge: Forge, refusal_of: RefusalOf, core: dict[str, Any], member: str
) -> None:
    """No member is optional."""
    del core[member]
    assert refusal_of(forge(core)) == "header_members"


def test_an_unknown_member_is_refused(
    forge: Forge, refusal_of: RefusalOf, core: dict[str, Any]
) -> None:
    """A member that this format does not have is refused, signed or not."""
    reasons = [refusal_of(forge(core | {"x": 1})), refusal_of(forge(core, extra={"x": 1}))]
    assert reasons == ["header_members", "header_members"]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": 1},
        {"name": "UPPER"},
        {"version": "a b"},
        {"task": True},
        {"input_size": 320},
        {"input_size": [320]},
        {"input_size": [320, True]},
        {"input_size": [320, 0]},
        {"precision": 32},
        {"engine": []},
        {"dynamic": 0},
        {"dynamic": "false"},
        {"stride": "32"},
        {"decode": True},
        {"made_with": []},
        {"made_with": {"numpy": 2}},
        {"gates": {"parity": ["passed"]}},
        {"plaintext_length": True},
        {"plaintext_length": -1},
        {"plaintext_sha256": 0},
        {"plaintext_sha256": "F" * 64},
        {"signer": "0" * 62 + " 0"},
    ],
)
def test_a_member_of_the_wrong_type_is_refused(
    forge: Forge, refusal_of: RefusalOf, core: dict[str, Any], changes: dict[str, Any]
) -> None:
    """Every member has one type and one range, whoever signed."""
    assert refusal_of(forge(core | changes)) == "header_members"


@pytest.mark.parametrize(
    "over",
    [
        {"wraps": []},
        {"wraps": {}},
        {"wraps": [1]},
        {"wraps": [WRAP | {"x": "y"}]},
        {"wraps": [{"kek_id": "k", "alg": "A"}]},
        {"wraps": [WRAP | {"kek_id": 1}]},
        {"wraps": [WRAP | {"kek_id": ""}]},
        {"wraps": [WRAP | {"kek_id": "k" * 65}]},
        {"wraps": [WRAP | {"alg": "A/B"}]},
        {"wraps": [WRAP | {"wrapped": "0"}]},
        {"wraps": [WRAP | {"wrapped": "AA"}]},
        {"wraps": [WRAP | {"wrapped": "00 00"}]},
        {"wraps": [WRAP | {"wrapped": "00" * 1025}]},
        {"wraps": [WRAP, WRAP]},
        {"wraps": [WRAP | {"kek_id": f"k{i}"} for i in range(65)]},
        {"wraps_mac": "0" * 63},
        {"wraps_mac": "A" * 64},
        {"signature": "0" * 127},
        {"signature": "F" * 128},
        {"signature": 0},
    ],
)
def test_a_malformed_wrap_or_signature_is_refused(
    forge: Forge, refusal_of: RefusalOf, core: dict[str, Any], over: dict[str, Any]
) -> None:
    """Wraps, their code and the signature have one spelling, and no key is named twice."""
    assert refusal_of(forge(core, **over)) == "header_members"


HEADERS = st.fixed_dictionaries(
    {},
    optional={
        name: st.none()
        | st.integers()
        | st.text(max_size=4)
        | st.lists(st.text(max_size=3), max_size=2)
        for name in ("format", "alg", "name", "gates", "wraps", "signature", "x")
    },
).map(lambda o: json.dumps(o, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


@given(st.binary(max_size=80) | HEADERS.map(lambda text: text.encode("utf-8", "replace")))
def test_arbitrary_headers_are_refused(header: bytes) -> None:
    """Only SealError escapes, whatever stands in the header."""
    with pytest.raises(SealError):
        parse_container(b"\x89SEAL2\r\n" + len(header).to_bytes(4, "big") + header)


@given(st.binary(max_size=80))
def test_arbitrary_files_are_refused(unverified: bytes) -> None:
    """Only SealError escapes, whatever stands in the file."""
    with pytest.raises(SealError):
        parse_container(b"\x89SEAL2\r\n" + unverified)
