"""Heads, trailers and bodies that attack whoever parses them, over real TLS on loopback."""

import asyncio
import json
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.api.framing import HEAD_TOO_LARGE, MAX_FIELDS, MAX_HEAD_BYTES, NOT_HTTP
from gateway.api.limits import EdgeLimits
from tests.gateway.api.conftest import connect, exchange, serving

pytestmark = pytest.mark.anyio

HOST = b"Host: localhost\r\n"
CLOSE = b"Connection: close\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


class Calls:
    """An application that remembers its calls.

    /names answers the names of header fields, /refuse reads no body, /held answers once it may.
    """

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.bodies: list[bytes] = []
        self.is_held = asyncio.Event()
        self.may_end = asyncio.Event()
        methods = ["GET", "POST"]
        self.app = Starlette(
            routes=[
                Route("/names", self._names, methods=methods),
                Route("/refuse", self._refuse, methods=methods),
                Route("/held", self._held),
            ]
        )

    async def _names(self, request: Request) -> Response:
        self.paths.append(request.url.path)
        self.bodies.append(await request.body())
        return JSONResponse(sorted(request.headers.keys()))

    async def _held(self, request: Request) -> Response:
        self.paths.append(request.url.path)
        self.is_held.set()
        await self.may_end.wait()
        return Response(b"held")

    async def _refuse(self, request: Request) -> Response:
        self.paths.append(request.url.path)
        return Response(b"no", 413)


@pytest.fixture
def calls() -> Calls:
    """An application that was not called yet."""
    return Calls()


def content_of(received: bytes) -> tuple[bytes, bytes]:
    """The status line and the body of one answer."""
    head, _, body = received.partition(b"\r\n\r\n")
    return head.split(b"\r\n")[0], body


def assert_refused(received: bytes, detail: str) -> None:
    """One problem for all that is not a request."""
    head, body = content_of(received)
    assert head == b"HTTP/1.1 400 Bad Request"
    content = json.loads(body)
    assert (content["code"], content["detail"]) == ("http_invalid", detail)


async def test_a_trailer_is_no_header(certificates: Path, calls: Calls) -> None:
    """A credential behind the body, in the same write, would count although nobody before us saw it."""
    sent = (
        b"POST /names HTTP/1.1\r\n" + HOST + CLOSE + CHUNKED
        + b"\r\n2\r\nhi\r\n0\r\nAuthorization: Bearer x\r\n\r\n"
    )  # fmt: skip
    async with serving(certificates, calls.app) as port:
        received = await exchange(certificates, port, sent)
    assert json.loads(content_of(received)[1]) == ["connection", "host", "transfer-encoding"]
    assert calls.bodies == [b"hi"]


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /names HTTP/1.1\r\n" + HOST + b"a: b\r\n" * MAX_FIELDS + b"\r\n",
        b"GET /names HTTP/1.1\r\n" + HOST + b"a: " + b"b" * MAX_HEAD_BYTES + b"\r\n\r\n",
        b"GET /names HTTP/1.1\r\n" + HOST + b"a: " + b"b" * MAX_HEAD_BYTES,
        b"GET /" + b"a" * MAX_HEAD_BYTES + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /" + b"a" * MAX_HEAD_BYTES,
    ],
    ids=["fields", "field", "unfinished field", "target", "unfinished target"],
)
async def test_a_head_is_bounded(certificates: Path, calls: Calls, sent: bytes) -> None:
    """Before anything is known of the caller, memory is what it may not have."""
    async with serving(certificates, calls.app) as port:
        received = await exchange(certificates, port, sent)
    assert_refused(received, HEAD_TOO_LARGE)
    assert calls.paths == []


async def test_a_head_within_bounds_is_taken(certificates: Path, calls: Calls) -> None:
    """As many fields as there may be, in two writes."""
    start = b"GET /names HTTP/1.1\r\n" + HOST + CLOSE + b"a: b\r\n" * (MAX_FIELDS - 2)
    async with serving(certificates, calls.app) as port:
        reader, writer = await connect(certificates, port)
        writer.write(start)
        await writer.drain()
        writer.write(b"\r\n")
        received = await asyncio.wait_for(reader.read(), 20)
        writer.close()
    assert content_of(received)[0] == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize(
    "trailer",
    [b"a: b\r\n" * MAX_FIELDS, b"a: " + b"b" * MAX_HEAD_BYTES + b"\r\nc"],
    ids=["fields", "bytes"],
)
async def test_a_trailer_is_bounded(certificates: Path, calls: Calls, trailer: bytes) -> None:
    """With the head, in one budget."""
    head = b"POST /names HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n"
    async with serving(certificates, calls.app) as port:
        reader, writer = await connect(certificates, port)
        writer.write(head + b"2\r\nhi\r\n0\r\n")
        await writer.drain()
        writer.write(trailer)
        received = await asyncio.wait_for(reader.read(), 20)
        writer.close()
    assert_refused(received, HEAD_TOO_LARGE)


@pytest.mark.parametrize("protocol_name", [b"websocket", b"h2c"])
async def test_an_upgrade_is_refused(
    certificates: Path, calls: Calls, protocol_name: bytes
) -> None:
    """Its body would be parsed as the next request."""
    inner = b"GET /names HTTP/1.1\r\n" + HOST + b"\r\n"
    sent = (
        b"POST /names HTTP/1.1\r\n" + HOST
        + b"Connection: upgrade\r\nUpgrade: " + protocol_name
        + b"\r\nContent-Length: %d\r\n\r\n" % len(inner) + inner
    )  # fmt: skip
    async with serving(certificates, calls.app) as port:
        received = await exchange(certificates, port, sent)
    assert_refused(received, "this server takes neither CONNECT nor an upgrade to another protocol")
    assert calls.paths == []


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        (b"CONNECT localhost:1 HTTP/1.1\r\n" + HOST + b"\r\n",
         "this server takes neither CONNECT nor an upgrade to another protocol"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", NOT_HTTP),
        (b"GET /names\r\n\r\n", NOT_HTTP),
        (b"GET /names HTTP/0.9\r\n" + HOST + b"\r\n", NOT_HTTP),
        (b"GET /names HTTP/1.1\r\n\r\n", "exactly one Host header is needed"),
        (b"GET /names HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
         "exactly one Host header is needed"),
        (b"POST /names HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
         "the only transfer coding is chunked, in HTTP/1.1"),
        (b"POST /names HTTP/1.1\r\n" + HOST + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n", NOT_HTTP),
        (b"POST /names HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n0\r\n\r\n",
         "the only transfer coding is chunked, in HTTP/1.1"),
    ],
    ids=["connect", "h2", "simple", "0.9", "no host", "two hosts", "gzip", "two codings", "1.0"],
)  # fmt: skip
async def test_what_has_two_readings_is_refused(
    certificates: Path, calls: Calls, sent: bytes, detail: str
) -> None:
    """A proxy in front must not see another request than we do."""
    async with serving(certificates, calls.app) as port:
        received = await exchange(certificates, port, sent)
    assert_refused(received, detail)
    assert calls.paths == []


async def test_a_refusal_never_stands_for_an_earlier_answer(
    certificates: Path, calls: Calls
) -> None:
    """Whoever counts answers would take the second one's for the first one's: each whole request has its own."""
    good = b"GET /names HTTP/1.1\r\n" + HOST + b"\r\n"
    async with serving(certificates, calls.app) as port:
        received = await exchange(certificates, port, good * 2 + b"GET / HTTP/9.9\r\n\r\n" + good)
    assert received.count(b"HTTP/1.1 200 OK\r\n") == received.count(b"HTTP/1.1 ") == 2
    assert received.count(b"connection: close\r\n") == 1
    assert received.endswith(b'["host"]')
    assert calls.paths == ["/names", "/names"]


async def test_what_follows_a_fault_is_never_read(certificates: Path, calls: Calls) -> None:
    """Not even while the request before it is still being answered."""
    async with serving(certificates, calls.app) as port:
        reader, writer = await connect(certificates, port)
        writer.write(b"GET /held HTTP/1.1\r\n" + HOST + b"\r\nXX\r\n")
        await asyncio.wait_for(calls.is_held.wait(), 20)
        writer.write(b"GET /names HTTP/1.1\r\n" + HOST + b"\r\n")
        writer.write(b"GET /names HTTP/1.1\r\n" + HOST + b"\r\n")
        await writer.drain()
        calls.may_end.set()
        received = await asyncio.wait_for(reader.read(), 20)
        writer.close()
    assert received.count(b"HTTP/1.1 ") == 1
    assert received.endswith(b"held")
    assert calls.paths == ["/held"]


async def test_a_fault_behind_a_cut_request_has_no_answer_of_an_earlier_one(
    certificates: Path, calls: Calls
) -> None:
    """The call that waits has half a body: it is not run, and nothing stands for its answer."""
    half = b"POST /names HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\nXX\r\n"
    async with serving(certificates, calls.app) as port:
        received = await exchange(
            certificates, port, b"GET /held HTTP/1.1\r\n" + HOST + b"\r\n" + half
        )
        calls.may_end.set()
    assert received == b""


@pytest.mark.parametrize(
    ("fields", "count", "is_taken"),
    [(b"", 17, True), (b"", 18, False), (b"a: " + b"b" * 30_000 + b"\r\n", 3, True),
     (b"a: " + b"b" * 30_000 + b"\r\n", 4, False), (b"a:\r\n" * 98, 16, True)],
    ids=["count", "over the count", "bytes", "over the bytes", "small fields"],
)  # fmt: skip
async def test_waiting_calls_are_bounded(
    certificates: Path, calls: Calls, fields: bytes, count: int, *, is_taken: bool
) -> None:
    """In number and in bytes: nothing is known of their callers yet."""
    first = b"GET /held HTTP/1.1\r\n" + HOST + fields + b"\r\n"
    more = b"GET /names HTTP/1.1\r\n" + HOST + fields + b"\r\n"
    async with serving(certificates, calls.app) as port:
        reader, writer = await connect(certificates, port)
        writer.write(first)
        await asyncio.wait_for(calls.is_held.wait(), 20)
        writer.write(more * (count - 2) + more.replace(HOST, HOST + CLOSE))
        if is_taken:
            calls.may_end.set()
        received = await asyncio.wait_for(reader.read(), 20)
        calls.may_end.set()
        writer.close()
    assert received.count(b"HTTP/1.1 200 OK\r\n") == (count if is_taken else 0)


async def test_a_complete_call_keeps_its_connection(certificates: Path, calls: Calls) -> None:
    """Cameras call again and again; a body is complete before the answer."""
    one = b"POST /names HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n"
    async with serving(certificates, calls.app) as port:
        reader, writer = await connect(certificates, port)
        for _ in range(2):
            writer.write(one)
            await writer.drain()
            writer.write(b"hi")
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            assert b"connection: close" not in head
            await reader.readexactly(len(b'["content-length","host"]'))
        writer.close()
    assert calls.bodies == [b"hi", b"hi"]


REFUSED = b"POST /refuse HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000000\r\n\r\n"


async def test_an_answer_before_the_body_ends_the_connection(
    certificates: Path, calls: Calls
) -> None:
    """What a refused caller goes on sending is read for a time, then it is cut off."""
    limits = EdgeLimits(linger_timeout_seconds=0.3)
    async with serving(certificates, calls.app, limits=limits) as port:
        received = await exchange(certificates, port, REFUSED)
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"connection: close" in head.split(b"\r\n")
    assert body == b"no"


async def send_forever(writer: asyncio.StreamWriter) -> None:
    """Zeros, until the connection breaks."""
    while True:
        writer.write(bytes(1 << 16))
        await writer.drain()
        await asyncio.sleep(0)  # drain alone need not let the loop see that the connection broke


async def test_the_rest_of_a_refused_body_is_bounded(certificates: Path, calls: Calls) -> None:
    """In bytes too: a fast caller without a credential costs no more than that."""
    limits = EdgeLimits(linger_timeout_seconds=60.0, max_linger_bytes=1 << 20)
    async with serving(certificates, calls.app, limits=limits) as port:
        reader, writer = await connect(certificates, port)
        writer.write(REFUSED)
        await reader.readuntil(b"\r\n\r\nno")
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(send_forever(writer), 20)
        writer.close()


async def test_a_refused_body_that_ends_closes_at_once(certificates: Path, calls: Calls) -> None:
    """And what follows it is no call."""
    head = b"POST /refuse HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n"
    limits = EdgeLimits(linger_timeout_seconds=60.0)
    async with serving(certificates, calls.app, limits=limits) as port:
        reader, writer = await connect(certificates, port)
        writer.write(head)
        await reader.readuntil(b"\r\n\r\nno")
        writer.write(b"hi" + b"GET /names HTTP/1.1\r\n" + HOST + b"\r\n")
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
    assert calls.paths == ["/refuse"]


async def test_a_call_cancelled_by_a_shutdown_is_told(certificates: Path) -> None:
    """Through the whole server: what the application makes of it still reaches the caller."""
    is_called = asyncio.Event()

    async def wait(_request: Request) -> Response:
        is_called.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return Response(b"cancelled", 503)
        return Response(b"")

    app = Starlette(routes=[Route("/wait", wait)])
    async with serving(certificates, app, shutdown_timeout_seconds=1) as port:
        reader, writer = await connect(certificates, port)
        writer.write(b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\n")
        await asyncio.wait_for(is_called.wait(), 20)
    received = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    assert content_of(received) == (b"HTTP/1.1 503 Service Unavailable", b"cancelled")
