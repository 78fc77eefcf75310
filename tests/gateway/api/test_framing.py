"""Where requests begin and end: the strict reading in front of the parser."""

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api.framing import (
    BAD_CHUNKS,
    BAD_CODING,
    BAD_HOST,
    BAD_TARGET,
    HEAD_TOO_LARGE,
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    NO_BODY,
    NO_TUNNEL,
    NOT_HTTP,
    Framing,
)
from gateway.errors import Code

HOST = b"Host: localhost\r\n"
GET = b"GET /a?b=%20 HTTP/1.1\r\n" + HOST + b"\r\n"
CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = [
    GET,
    b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello",
    b"POST /a HTTP/1.1\r\n" + HOST + b"content-length:\t0 \r\n\r\n",
    CHUNKED + b"5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n",
    CHUNKED + b"1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n",
    b"OPTIONS / HTTP/1.1\r\nHost: [::1]:8443\r\nX: a\tb \r\n\r\n",
]


def fault_of(sent: bytes) -> str | None:
    """Why these bytes are refused."""
    framing = Framing()
    framing.take(sent)
    return None if framing.fault is None else framing.fault.message


def post(fields: bytes, body: bytes = b"") -> bytes:
    """A POST with these further fields."""
    return b"POST / HTTP/1.1\r\n" + HOST + fields + b"\r\n" + body


class Counted:
    """A parser's callbacks."""

    def __init__(self) -> None:
        self.heads = 0
        self.ends = 0
        self.body = b""

    def on_headers_complete(self) -> None:
        """A head."""
        self.heads += 1

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        self.body += body

    def on_message_complete(self) -> None:
        """An end."""
        self.ends += 1


@given(st.lists(st.sampled_from(WHOLE), max_size=6), st.lists(st.integers(1, 40), min_size=1))
def test_good_requests_pass_unchanged_however_they_are_cut(
    requests: list[bytes], sizes: list[int]
) -> None:
    """In order, and nothing is held back once one is whole."""
    sent = b"".join(requests)
    framing = Framing()
    passed, at, number = b"", 0, 0
    while at < len(sent):
        size = sizes[number % len(sizes)]
        passed += framing.take(sent[at : at + size])
        at, number = at + size, number + 1
    assert passed == sent
    assert framing.fault is None
    assert framing.is_between


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(WHOLE)), max_size=6))
def test_any_bytes_pass_in_order_or_not_at_all(parts: list[bytes]) -> None:
    """Nothing is invented, and nothing follows a fault."""
    framing, passed, sent = Framing(), b"", b"".join(parts)
    for part in parts:
        passed += framing.take(part)
    assert sent.startswith(passed)
    if framing.fault is not None:
        assert framing.fault.code is Code.HTTP_INVALID
        assert framing.take(GET) == b""


def outcome(pieces: list[bytes]) -> tuple[bytes, str | None, bool]:
    """What passes of these pieces, why no more does, and whether a request has begun."""
    framing = Framing()
    passed = b"".join(framing.take(piece) for piece in pieces)
    message = None if framing.fault is None else framing.fault.message
    return passed, message, framing.is_between


_lines = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n", b"POST / HTTP/1.0\r\n", HOST, b"\r\n", b"\n",
        b"Content-Length: 5\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: x\r\n", b"Connection: close\r\n", b"5\r\n", b"3\r\n", b"0\r\n",
        b"hello", b"hi\r", b"X: y\r\n", b" z\r\n", b"5;a=b\r\n", b"\r\n\r\n",
    ]
)  # fmt: skip


@settings(max_examples=500)
@given(st.lists(_lines, max_size=14))
def test_a_cut_changes_nothing(parts: list[bytes]) -> None:
    """A head in one piece is read in another way than one in lines: the verdict must be the same."""
    sent = b"".join(parts)
    passed, fault, is_between = outcome([sent])
    lines_passed, *others = outcome([sent[at : at + 1] for at in range(len(sent))])
    assert [fault, is_between] == others
    if fault is None:
        assert passed == lines_passed
    else:  # of the head with the fault, the lines before it may have passed
        assert lines_passed.startswith(passed)


@settings(max_examples=500)
@given(st.lists(_lines, max_size=14))
def test_the_parser_sees_the_same_requests(parts: list[bytes]) -> None:
    """What passes without a fault is as many messages with the same bodies to the parser behind."""
    framing, counted = Framing(), Counted()
    parser = httptools.HttpRequestParser(counted)
    passed = framing.take(b"".join(parts))
    parser.feed_data(passed)
    if framing.fault is None and framing.is_between:
        assert counted.heads == counted.ends


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (b"\r\n" + GET, NOT_HTTP),
        (b"GET / HTTP/1.1\n" + HOST, NOT_HTTP),
        (b"GET  / HTTP/1.1\r\n", NOT_HTTP),
        (b"GET / RTSP/1.0\r\n", NOT_HTTP),
        (b"GET /\r\n", NOT_HTTP),
        (b"GET http://x/ HTTP/1.1\r\n", BAD_TARGET),
        (b"GET /#x HTTP/1.1\r\n", BAD_TARGET),
        (b"GET /%2x HTTP/1.1\r\n", BAD_TARGET),
        (b"CONNECT x:1 HTTP/1.1\r\n", NO_TUNNEL),
        (b"GET / HTTP/1.1\r\n\r\n", BAD_HOST),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", BAD_HOST),
        (b"GET / HTTP/1.1\r\n" + HOST + HOST, BAD_HOST),
        (post(b"a_b: c\r\n"), NOT_HTTP),
        (post(b"a: \xff\r\n"), NOT_HTTP),
        (post(b"a: b\r\n c\r\n"), NOT_HTTP),
        (post(b"Content-Length: 1\r\nContent-Length: 1\r\n"), NOT_HTTP),
        (post(b"Content-Length: 01\r\n"), NOT_HTTP),
        (post(b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), NOT_HTTP),
        (post(b"Transfer-Encoding: gzip\r\n"), BAD_CODING),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", BAD_CODING),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n\r\n", NO_BODY),
        (b"HEAD / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n", NO_BODY),
        (CHUNKED + b"2;a=b\r\n", NOT_HTTP),
        (CHUNKED + b"000000002\r\n", NOT_HTTP),
        (CHUNKED + b"2\r\nhi\n", NOT_HTTP),
        (CHUNKED + b"1\r\nx\r\n" * 20_000, BAD_CHUNKS),
        (CHUNKED + b"0\r\nx\r\n", NOT_HTTP),
        (b"x" * (MAX_HEAD_BYTES + 1), HEAD_TOO_LARGE),
        (post(b"a: b\r\n" * MAX_FIELDS), HEAD_TOO_LARGE),
        (CHUNKED + b"0\r\n" + b"a: b\r\n" * MAX_FIELDS, HEAD_TOO_LARGE),
    ],
)  # fmt: skip
def test_a_fault_is_named(sent: bytes, fault: str) -> None:
    """As soon as the line that holds it is whole, or too long."""
    assert fault_of(sent) == fault


def test_what_came_before_a_fault_passes() -> None:
    """The earlier request is answered, or its answer at least owed."""
    framing = Framing()
    assert framing.take(GET + b"GET / HTTP/9.9\r\n") == GET
    assert framing.fault is not None


@pytest.mark.parametrize(
    "last",
    [
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: x, CLOSE\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
    ],
)
def test_nothing_passes_behind_the_last_request(last: bytes) -> None:
    """And that is no fault of the answer's."""
    framing = Framing()
    assert framing.take(last + GET) == last
    assert framing.take(GET) == b""
    assert framing.fault is None


def test_a_body_in_one_piece_is_not_copied() -> None:
    """Twenty megabytes go through here."""
    framing, piece = Framing(), bytes(1000)
    framing.take(post(b"Content-Length: 2000\r\n"))
    assert framing.take(piece) is piece


def test_chunks_of_a_good_size_are_taken_for_ever() -> None:
    """The bound is on framing, not on bodies."""
    assert fault_of(CHUNKED + (b"400\r\n" + bytes(1024) + b"\r\n") * 2_000) is None


def test_a_request_that_has_begun_is_none_between() -> None:
    """Its deadline is another one."""
    framing = Framing()
    assert framing.is_between
    framing.take(b"G")
    assert not framing.is_between
