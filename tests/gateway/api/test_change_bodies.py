"""Bodies of changes, parsed strictly."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.change_bodies import (
    TrafficChange,
    VersionChange,
    parse_empty_change,
    parse_traffic_change,
    parse_version_change,
)
from gateway.errors import Code, RequestError
from gateway.pipeline import Change
from gateway.store.records import Traffic


def refused(body: bytes, parse: object = parse_version_change) -> RequestError:
    """The error for a body."""
    with pytest.raises(RequestError) as caught:
        parse(body)  # type: ignore[operator]  # one of the parsers
    return caught.value


def test_good_bodies_are_taken() -> None:
    """Exactly what the README shows."""
    assert parse_version_change(b'{"version": "2"}') == VersionChange(version="2")
    assert parse_empty_change(b"") == parse_empty_change(b"{}") == Change()
    assert parse_traffic_change(b'{"version":"2","mode":"canary","share":0.1}') == TrafficChange(
        version="2", detail="traffic=canary share=0.1", traffic=Traffic.CANARY, share=0.1
    )
    assert parse_traffic_change(b'{"version":"2","mode":"shadow","share":1}').share == 1.0
    assert parse_traffic_change(b'{"version":"2","mode":"none"}') == TrafficChange(
        version="2", detail="traffic=none share=0", traffic=Traffic.NONE, share=0.0
    )


@pytest.mark.parametrize(
    "body",
    [
        b"", b"x", b"[]", b"null", b'"2"', b'{"version":"2"', b'{"version":"2"}{}', b"\xff",
        b'{"version":"1","version":"2"}', b'{"version":NaN}', b"[" * 4000,
        b'{"version":' + b"9" * 4000 + b"x}",
    ],
)  # fmt: skip
def test_what_is_not_one_json_object_is_refused(body: bytes) -> None:
    """Also a member that is given twice: which counts must not depend on the parser."""
    assert refused(body).code is Code.BODY_INVALID


@pytest.mark.parametrize(
    "body",
    [
        b"{}", b'{"Version":"2"}', b'{"version":"2","force":true}', b'{"version":2}',
        b'{"version":null}', b'{"version":""}', b'{"version":"../2"}', b'{"version":"2\\n"}',
        b'{"version":["2"]}',
    ],
)  # fmt: skip
def test_members_that_are_missing_unknown_or_wrong_are_refused(body: bytes) -> None:
    """A misspelt member must not promote anything."""
    assert refused(body).code is Code.PARAMETER_INVALID


@pytest.mark.parametrize(
    "members",
    [
        '"mode":"canary"', '"mode":"canary","share":0', '"mode":"shadow","share":-0.1',
        '"mode":"canary","share":1.01', '"mode":"canary","share":0.00009', '"mode":"canary","share":1e-320',
        '"mode":"canary","share":true', '"mode":"canary","share":"1"',
        '"mode":"canary","share":1e999', '"mode":"canary","share":null', '"mode":"none","share":0.5',
        '"mode":"Canary","share":0.5', '"mode":"all","share":0.5', '"mode":1,"share":0.5',
        '"share":0.5', '"mode":["canary"],"share":0.5',
    ],
)  # fmt: skip
def test_traffic_that_makes_no_sense_is_refused(members: str) -> None:
    """With what it takes."""
    body = f'{{"version":"2",{members}}}'.encode()
    assert refused(body, parse_traffic_change).code is Code.PARAMETER_INVALID


def test_a_rollback_takes_no_members() -> None:
    """The history says where it goes."""
    error = refused(b'{"version":"2"}', parse_empty_change)
    assert (error.code, "none" in error.message) == (Code.PARAMETER_INVALID, True)


@given(body=st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused(body: bytes) -> None:
    """Nothing else comes out of a parser."""
    for parse in (parse_version_change, parse_empty_change, parse_traffic_change):
        with suppress(RequestError):
            parse(body)


@given(
    value=st.dictionaries(
        st.sampled_from(["version", "mode", "share", "x"]),
        st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.just("canary"),
    )
)
def test_what_is_taken_is_what_was_sent(value: dict[str, object]) -> None:
    """Of exactly its type and within its limits."""
    try:
        change = parse_traffic_change(json.dumps(value).encode())
    except RequestError:
        return
    assert change.version == value["version"]
    assert change.traffic.value == value["mode"]
    assert (change.traffic is Traffic.NONE) == (change.share == 0)
    assert 0 <= change.share <= 1
