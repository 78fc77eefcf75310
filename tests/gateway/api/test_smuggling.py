"""Requests that two readers of HTTP may read in two ways, and bytes that are no HTTP, raw over TLS on loopback.

Each case is followed on its connection by a request of its own, as the victim's behind a proxy would be. Whatever the
server makes of the case, it answers at most once, with a refusal, and never takes what follows for a request.
"""

import asyncio
import re
import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.api.framing import FREE_FRAMING_BYTES, MAX_HEAD_BYTES
from tests.gateway.api.conftest import connect, serving

pytestmark = pytest.mark.anyio

HOST = b"Host: localhost\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
FOLLOWING = b"GET /victim HTTP/1.1\r\n" + HOST + b"\r\n"
TEST_TIMEOUT_SECONDS = 30


def get(*fields: bytes, line: bytes = b"GET / HTTP/1.1\r\n") -> bytes:
    """A head with these lines."""
    return line + HOST + b"".join(fields) + b"\r\n"


def post(*fields: bytes, body: bytes = b"") -> bytes:
    """A POST with these lines."""
    return get(*fields, line=b"POST / HTTP/1.1\r\n") + body


def length(value: bytes, body: bytes = b"hi") -> bytes:
    """A POST whose Content-Length is spelled like this."""
    return post(b"Content-Length:" + value + b"\r\n", body=body)


def coding(value: bytes) -> bytes:
    """A POST whose Transfer-Encoding is spelled like this, with a body that is whole if it means chunked."""
    return post(b"Transfer-Encoding:" + value + b"\r\n", body=b"0\r\n\r\n")


def chunks(body: bytes) -> bytes:
    """A chunked POST."""
    return post(CHUNKED, body=body)


def line(value: bytes) -> bytes:
    """A request with this first line."""
    return get(line=value)


SMUGGLED = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"

# Answered 400, or closed without an answer: no request was made of any of them.
REFUSED: Mapping[str, bytes] = {
    # Which of two lengths counts.
    "CL.TE": post(b"Content-Length: 6\r\n", CHUNKED, body=b"0\r\n\r\nG"),
    "TE.CL": post(CHUNKED, b"Content-Length: 4\r\n", body=b"5c\r\n" + SMUGGLED + b"0\r\n\r\n"),
    "CL.0 with TE": post(b"Content-Length: 0\r\n", CHUNKED, body=b"0\r\n\r\n"),
    "CL.CL conflicting": post(b"Content-Length: 2\r\n", b"Content-Length: 3\r\n", body=b"hi!"),
    "CL.CL equal": post(b"Content-Length: 2\r\n", b"Content-Length: 2\r\n", body=b"hi"),
    "CL list": length(b" 2, 2"),
    "CL negative": length(b" -2"),
    "CL plus": length(b" +2"),
    "CL hexadecimal": length(b" 0x2"),
    "CL inner space": length(b" 1 2"),
    "CL empty": length(b""),
    "CL leading zero": length(b" 02"),
    "CL fraction": length(b" 2.0"),
    "CL vertical tab": length(b" \x0b2"),
    "CL form feed behind": length(b" 2\x0c"),
    "CL beyond 64 bits": length(b" 18446744073709551618"),
    "CL in quotes": length(b' "2"'),
    "CL Arabic digit": length(b" \xd9\xa2"),
    "CL underscore": post(b"Content_Length: 2\r\n", body=b"hi"),
    "CL underscore in number": length(b" 1_0", b"0123456789"),
    "CL of a GET": get(b"Content-Length: %d\r\n" % len(SMUGGLED)) + SMUGGLED,
    "TE of a GET": get(CHUNKED) + b"0\r\n\r\n",
    # Whether a coding is the chunked one.
    "TE xchunked": coding(b" xchunked"),
    "TE two codings": coding(b" gzip, chunked"),
    "TE chunked twice": coding(b" chunked, chunked"),
    "TE chunked first": coding(b" chunked, identity"),
    "TE identity": coding(b" identity"),
    "TE empty": coding(b""),
    "TE empty element": coding(b" ,chunked"),
    "TE parameter": coding(b" chunked;q=1"),
    "TE quoted": coding(b' "chunked"'),
    "TE vertical tab": coding(b" \x0bchunked"),
    "TE NUL": coding(b" chunked\0"),
    "TE folded": coding(b"\r\n chunked"),
    "TE line feed in front": coding(b"\n chunked"),
    "TE no-break space": coding(b" \xa0chunked"),
    "TE twice": post(CHUNKED, CHUNKED, body=b"0\r\n\r\n"),
    "TE.TE other second": post(CHUNKED, b"Transfer-Encoding: x\r\n", body=b"0\r\n\r\n"),
    "TE.TE other first": post(b"Transfer-Encoding: x\r\n", CHUNKED, body=b"0\r\n\r\n"),
    "TE space before colon": post(b"Transfer-Encoding : chunked\r\n", body=b"0\r\n\r\n"),
    "TE behind a bare CR": post(b"X: y\rTransfer-Encoding: chunked\r\n", body=b"0\r\n\r\n"),
    "TE behind a bare LF": post(b"X: y\nTransfer-Encoding: chunked\r\n", body=b"0\r\n\r\n"),
    "TE underscore": post(b"Transfer_Encoding: chunked\r\n", body=b"0\r\n\r\n"),
    "TE in HTTP/1.0": b"POST / HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n0\r\n\r\n",
    # Where a chunk ends.
    "chunk extension": chunks(b"2;a=b\r\nhi\r\n0\r\n\r\n"),
    "chunk extension without name": chunks(b"2;\r\nhi\r\n0\r\n\r\n"),
    "chunk extension with LF": chunks(b"2;a\nhi\r\n0\r\n\r\n"),
    "chunk extension quoted": chunks(b'2;a="\r\nhi\r\n0\r\n\r\n"\r\n'),
    "last chunk extension": chunks(b"0;a=b\r\n\r\n"),
    "chunk size LF": chunks(b"2\nhi\r\n0\r\n\r\n"),
    "chunk size CR": chunks(b"2\rhi\r\n0\r\n\r\n"),
    "chunk size empty": chunks(b"\r\nhi\r\n0\r\n\r\n"),
    "chunk size 0x": chunks(b"0x2\r\nhi\r\n0\r\n\r\n"),
    "chunk size plus": chunks(b"+2\r\nhi\r\n0\r\n\r\n"),
    "chunk size negative": chunks(b"-2\r\nhi\r\n0\r\n\r\n"),
    "chunk size space in front": chunks(b" 2\r\nhi\r\n0\r\n\r\n"),
    "chunk size space behind": chunks(b"2 \r\nhi\r\n0\r\n\r\n"),
    "chunk size underscore": chunks(b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n"),
    "chunk size no number": chunks(b"zz\r\nhi\r\n0\r\n\r\n"),
    "chunk size beyond 64 bits": chunks(b"10000000000000002\r\nhi\r\n0\r\n\r\n"),
    "chunk size many zeros": chunks(b"0" * 40 + b"2\r\nhi\r\n0\r\n\r\n"),
    "chunk longer than said": chunks(b"2\r\nhi!\r\n0\r\n\r\n"),
    "chunk end LF": chunks(b"2\r\nhi\n0\r\n\r\n"),
    "chunk end missing": chunks(b"2\r\nhi0\r\n\r\n"),
    "chunk end other bytes": chunks(b"2\r\nhiXX0\r\n\r\n"),
    "body end LF": chunks(b"2\r\nhi\r\n0\r\n\n"),
    "chunks of one byte": chunks(b"1\r\nx\r\n" * FREE_FRAMING_BYTES),
    "trailer without colon": chunks(b"0\r\nx\r\n\r\n"),
    "trailer with LF": chunks(b"0\r\nx: y\n\r\n"),
    "trailer too long": chunks(b"0\r\nx: " + b"y" * MAX_HEAD_BYTES),
    # Where a line ends, and what a field is.
    "LF lines": b"GET / HTTP/1.1\nHost: localhost\n\n",
    "LF after the request line": b"GET / HTTP/1.1\n" + HOST + b"\r\n",
    "LF after a field": get(b"x: y\n"),
    "LF at the end": b"GET / HTTP/1.1\r\n" + HOST + b"\n",
    "CR in a field": get(b"x: y\rz: w\r\n"),
    "CR CR LF": get(b"x: y\r\r\n"),
    "folded field": get(b"x: y\r\n z\r\n"),
    "folded by tab": get(b"x: y\r\n\tz\r\n"),
    "space before the first field": b"GET / HTTP/1.1\r\n " + HOST + b"\r\n",
    "space before the colon": get(b"x : y\r\n"),
    "tab before the colon": get(b"x\t: y\r\n"),
    "no colon": get(b"x\r\n"),
    "no name": get(b": y\r\n"),
    "NUL in a name": get(b"x\0: y\r\n"),
    "NUL in a value": get(b"x: y\0z\r\n"),
    "control character in a value": get(b"x: \x01\r\n"),
    "DEL in a value": get(b"x: \x7f\r\n"),
    "bracket in a name": get(b"x[y]: z\r\n"),
    "quote in a name": get(b'x"y: z\r\n'),
    "slash in a name": get(b"x/y: z\r\n"),
    "name not in ASCII": get(b"\xffx: y\r\n"),
    "value not in ASCII": get(b"x: \xc3\xa9\r\n"),
    "next line character": get(b"x:\x85chunked\r\n"),
    "underscore in a name": get(b"x_y: z\r\n"),
    # What is asked for, of whom.
    "absolute-form": line(b"GET http://internal/ HTTP/1.1\r\n"),
    "absolute-form of https": line(b"GET https://localhost/ HTTP/1.1\r\n"),
    "absolute-form with a user": line(b"GET https://localhost@internal/ HTTP/1.1\r\n"),
    "authority-form": line(b"GET localhost:443 HTTP/1.1\r\n"),
    "asterisk-form": line(b"OPTIONS * HTTP/1.1\r\n"),
    "target without slash": line(b"GET index HTTP/1.1\r\n"),
    "fragment": line(b"GET /#x HTTP/1.1\r\n"),
    "backslash": line(b"GET /\\x HTTP/1.1\r\n"),
    "quotes in a target": line(b'GET /"<> HTTP/1.1\r\n'),
    "NUL in a target": line(b"GET /\0 HTTP/1.1\r\n"),
    "target not in ASCII": line(b"GET /\xc3\xa9 HTTP/1.1\r\n"),
    "half an escape": line(b"GET /%2 HTTP/1.1\r\n"),
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": get(HOST),
    "two other Hosts": get(b"Host: internal\r\n"),
    "Host list": b"GET / HTTP/1.1\r\nHost: localhost, internal\r\n\r\n",
    "Host with a path": b"GET / HTTP/1.1\r\nHost: localhost/x\r\n\r\n",
    "Host with a user": b"GET / HTTP/1.1\r\nHost: x@localhost\r\n\r\n",
    "Host empty": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "Host with spaces": b"GET / HTTP/1.1\r\nHost: local host\r\n\r\n",
    "CONNECT": line(b"CONNECT localhost:443 HTTP/1.1\r\n"),
    "CONNECT of a path": line(b"CONNECT / HTTP/1.1\r\n"),
    # The first line.
    "empty line in front": b"\r\n" + get(),
    "LF in front": b"\n" + get(),
    "CR in front": b"\r" + get(),
    "two spaces": line(b"GET  / HTTP/1.1\r\n"),
    "two spaces before the version": line(b"GET /  HTTP/1.1\r\n"),
    "tabs": line(b"GET\t/\tHTTP/1.1\r\n"),
    "form feed": line(b"GET /\x0cHTTP/1.1\r\n"),
    "space in front": line(b" GET / HTTP/1.1\r\n"),
    "space behind": line(b"GET / HTTP/1.1 \r\n"),
    "method in lower case": line(b"get / HTTP/1.1\r\n"),
    "method unknown": line(b"FETCH / HTTP/1.1\r\n"),
    "method not in ASCII": line(b"G\xc3\x89T / HTTP/1.1\r\n"),
    "HTTP/0.9": b"GET /\r\n",
    "HTTP/0.9 named": line(b"GET / HTTP/0.9\r\n"),
    "HTTP/1.2": line(b"GET / HTTP/1.2\r\n"),
    "HTTP/1.10": line(b"GET / HTTP/1.10\r\n"),
    "HTTP/2": line(b"GET / HTTP/2\r\n"),
    "http in lower case": line(b"GET / http/1.1\r\n"),
    "RTSP": line(b"GET / RTSP/1.0\r\n"),
    "ICE": line(b"SOURCE / ICE/1.0\r\n"),
    "no version": line(b"GET /\r\n"),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "h2c upgrade": get(
        b"Connection: Upgrade, HTTP2-Settings\r\n", b"Upgrade: h2c\r\n", b"HTTP2-Settings: AAMA\r\n"
    ),
    "WebSocket upgrade": get(
        b"Connection: upgrade\r\n", b"Upgrade: websocket\r\n", b"Sec-WebSocket-Version: 13\r\n"
    ),
    "TLS in TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "PROXY protocol": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n" + get(),
    # Size.
    "long target": line(b"GET /" + b"x" * MAX_HEAD_BYTES + b" HTTP/1.1\r\n"),
    "long field": get(b"x: " + b"y" * MAX_HEAD_BYTES + b"\r\n"),
    "long name": get(b"x" * MAX_HEAD_BYTES + b": y\r\n"),
    "many fields": get(b"x: y\r\n" * 200),
    "line without end": b"x" * (MAX_HEAD_BYTES + 1),
}


class Calls:
    """An application that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.bodies: list[bytes] = []
        methods = ["GET", "POST", "PUT", "OPTIONS", "TRACE"]
        self.app = Starlette(routes=[Route("/{path:path}", self._answer, methods=methods)])

    async def _answer(self, request: Request) -> Response:
        self.bodies.append(await request.body())
        self.asked.append((request.method, request.scope["path"]))
        return PlainTextResponse(str("authorization" in request.headers))

    def forget(self) -> None:
        """As if it was not called yet."""
        self.asked.clear()
        self.bodies.clear()


@pytest.fixture
def calls() -> Calls:
    """An application that was not called yet."""
    return Calls()


async def answers_to(certificates: Path, port: int, sent: bytes, *, pieces: int = 1) -> bytes:
    """All that comes back until the server ends the connection, also if it resets it."""
    reader, writer = await connect(certificates, port)
    received = b""
    size = len(sent) // pieces + 1
    async with asyncio.timeout(TEST_TIMEOUT_SECONDS):
        try:
            for at in range(0, len(sent), size):
                writer.write(sent[at : at + size])
                await writer.drain()
                await asyncio.sleep(0)  # a record of its own
            while part := await reader.read(1 << 16):
                received += part
        except (ConnectionError, ssl.SSLError):
            pass
    writer.close()
    return received


def statuses(received: bytes) -> list[bytes]:
    """The status of each answer."""
    return re.findall(rb"HTTP/1\.1 ([0-9]{3}) [A-Z]", received)


@pytest.mark.parametrize("pieces", [1, 64], ids=["whole", "in pieces"])
async def test_a_shape_is_refused_and_nothing_after_it_is_a_request(
    certificates: Path, calls: Calls, pieces: int
) -> None:
    """A victim's request behind it must not be answered in its place, nor it in the victim's.

    What a reader of whole packets notices, a reader of pieces must as well.
    """
    wrong = {}
    async with serving(certificates, calls.app) as port:
        for name, shape in REFUSED.items():
            calls.forget()
            received = await answers_to(certificates, port, shape + FOLLOWING, pieces=pieces)
            # Closed without an answer is as good.
            if statuses(received) not in ([b"400"], []) or calls.bodies:
                wrong[name] = (received, calls.asked)
    assert {} == wrong
    assert len(REFUSED) >= 120


@pytest.mark.parametrize(
    ("sent", "asked"),
    [
        (post(CHUNKED, body=b"2\r\nhi\r\n0\r\nAuthorization: Bearer x\r\n\r\n"), ("POST", "/")),
        (line(b"TRACE / HTTP/1.1\r\n"), ("TRACE", "/")),
        (line(b"GET //internal/x HTTP/1.1\r\n"), ("GET", "//internal/x")),
        (get(b"X-Original-URL: /admin\r\n", b"X-HTTP-Method-Override: DELETE\r\n"), ("GET", "/")),
        (get(b"Upgrade: h2c\r\n"), ("GET", "/")),
    ],
    ids=["trailer that authenticates", "TRACE", "two slashes", "overrides", "upgrade alone"],
)
async def test_what_is_taken_is_taken_in_one_way(
    certificates: Path, calls: Calls, sent: bytes, asked: tuple[str, str]
) -> None:
    """It is a request, and the one behind it is another one; neither has a credential."""
    closing = get(b"Connection: close\r\n", line=b"GET /next HTTP/1.1\r\n")
    async with serving(certificates, calls.app) as port:
        received = await answers_to(certificates, port, sent + closing)
    assert statuses(received) == [b"200", b"200"]
    assert calls.asked == [asked, ("GET", "/next")]
    assert b"True" not in received


@pytest.mark.parametrize(
    "last",
    [
        get(b"Connection: close\r\n"),
        get(b"Connection: keep-alive, Close\r\n"),
        b"GET / HTTP/1.0\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    ],
    ids=["close", "close in a list", "HTTP/1.0", "HTTP/1.0 kept alive"],
)
async def test_nothing_follows_the_last_request(
    certificates: Path, calls: Calls, last: bytes
) -> None:
    """Whoever said that nothing follows is taken at the word."""
    async with serving(certificates, calls.app) as port:
        received = await answers_to(certificates, port, last + FOLLOWING)
    assert statuses(received) == [b"200"]
    assert calls.asked == [("GET", "/")]


async def test_pipelined_requests_are_answered_in_order(certificates: Path, calls: Calls) -> None:
    """A few are allowed."""
    few = b"".join(get(line=b"GET /%d HTTP/1.1\r\n" % number) for number in range(8))
    async with serving(certificates, calls.app) as port:
        received = await answers_to(certificates, port, few + get(b"Connection: close\r\n"))
    assert statuses(received) == [b"200"] * 9
    assert [path for _, path in calls.asked] == [f"/{number}" for number in range(8)] + ["/"]


async def test_pipelining_is_bounded(certificates: Path, calls: Calls) -> None:
    """Each that waits costs a hundred times the bytes it was sent in."""
    async with serving(certificates, calls.app) as port:
        received = await answers_to(certificates, port, get() * 1000)
    assert len(statuses(received)) < 100
    assert len(calls.asked) < 100


@pytest.mark.parametrize("host", [b"localhost", b"evil.example", b"evil.example:1", b"[::1]"])
async def test_no_answer_depends_on_the_host(certificates: Path, calls: Calls, host: bytes) -> None:
    """Neither what is matched nor what is said."""
    sent = b"GET /x HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"
    async with serving(certificates, calls.app) as port:
        received = await answers_to(certificates, port, sent)
    assert statuses(received) == [b"200"]
    assert b"evil" not in received
    assert calls.asked == [("GET", "/x")]
