"""The listener: real TLS on loopback, HTTP that is none, and the socket's own errors."""

import asyncio
import errno
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.limits import EdgeLimits
from gateway.api.safe_headers import SAFE_HEADERS
from gateway.api.server import bind, build_server
from gateway.api.tls import TlsContexts, TlsFiles
from gateway.errors import Code, OperatorError
from gateway.metrics import GatewayMetrics
from tests.gateway.api.conftest import exchange, serving


async def _echo(request: Request) -> Response:
    return Response(await request.body())


async def _fail(_request: Request) -> Response:
    raise ValueError


ECHO = Starlette(
    routes=[Route("/echo", _echo, methods=["POST"]), Route("/fail", _fail, methods=["POST"])]
)
POST = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"


@pytest.mark.anyio
async def test_a_call_is_answered_over_tls_without_a_banner(certificates: Path) -> None:
    """Nothing tells a stranger what runs here."""
    async with serving(certificates, ECHO) as port:
        received = await exchange(certificates, port, POST + b"Content-Length: 2\r\n\r\nhi")
    head, _, body = received.partition(b"\r\n\r\n")
    assert (head.split(b"\r\n")[0], body) == (b"HTTP/1.1 200 OK", b"hi")
    assert b"server:" not in head.lower()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01 not HTTP\r\n\r\n",
        b"GET /echo HTTP/9.9\r\n\r\n",
        POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        POST + b"Bad Name: x\r\n\r\n",
    ],
    ids=["bytes", "version", "two lengths", "length and chunks", "negative", "chunk", "name"],
)
async def test_what_is_not_http_is_answered_as_a_problem(certificates: Path, sent: bytes) -> None:
    """A constant one: the caller's bytes are not echoed; the connection ends, or the rest would be read as a call."""
    async with serving(certificates, ECHO) as port:
        received = await exchange(certificates, port, sent)
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 400 Bad Request"
    assert b"content-type: application/problem+json" in lines
    assert b"connection: close" in lines
    content = json.loads(body)
    assert len(content.pop("request_id")) == 36
    assert content == {
        "type": "urn:gatewatch:problem:http_invalid",
        "title": "Bad Request",
        "status": 400,
        "detail": "the request is not valid HTTP/1.1",
        "code": "http_invalid",
    }


@pytest.mark.anyio
@pytest.mark.parametrize(
    "sent",
    [
        POST + b"Content-Length: 2\r\n\r\nhi",
        POST.replace(b"/echo", b"/fail") + b"Content-Length: 2\r\n\r\nhi",
        b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"no HTTP\r\n",
    ],
    ids=["answered", "failed", "unknown", "refused"],
)
async def test_every_answer_carries_the_safe_headers(certificates: Path, sent: bytes) -> None:
    """Once each, whoever made the answer."""
    async with serving(certificates, ECHO) as port:
        received = await exchange(certificates, port, sent)
    lines = received.partition(b"\r\n\r\n")[0].split(b"\r\n")
    safe = [b"%s: %s" % (name.lower().encode(), value.encode()) for name, value in SAFE_HEADERS]
    assert [line for line in lines if line in safe] == safe
    assert {
        "strict-transport-security",
        "x-content-type-options",
        "content-security-policy",
        "referrer-policy",
        "cache-control",
        "cross-origin-resource-policy",
    } == {name.lower() for name, _ in SAFE_HEADERS}


@pytest.mark.anyio
async def test_nobody_connects_before_the_application_has_started(certificates: Path) -> None:
    """Bound, but not listening: a call that is accepted would wait without any deadline."""
    outcomes = []

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        with socket.socket() as client:
            outcomes.append(client.connect_ex(bound[0].getsockname()))
        yield

    bound: list[socket.socket] = []
    app = Starlette(lifespan=lifespan)
    with bind("127.0.0.1", 0) as listener:
        bound.append(listener)
        await serve_once(certificates, app, listener)
    assert outcomes == [errno.ECONNREFUSED]


@pytest.mark.anyio
async def test_an_address_that_was_taken_meanwhile_ends_the_start_in_order(
    certificates: Path,
) -> None:
    """Two gateways may bind before either listens; the second one stops its application and says why."""
    stopped = []

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        stopped.append(True)

    with bind("127.0.0.1", 0) as first, bind("127.0.0.1", first.getsockname()[1]) as second:
        first.listen()
        with pytest.raises(OperatorError, match="set GATEWAY_PORT"):
            await serve_once(certificates, Starlette(lifespan=lifespan), second)
    assert stopped == [True]


async def serve_once(certificates: Path, app: Starlette, listener: socket.socket) -> None:
    """Start a server on this socket, and stop it as soon as it serves."""
    metrics = GatewayMetrics(CollectorRegistry())
    files = TlsFiles(certificates / "server.pem", certificates / "server.key")
    server = build_server(
        app,
        contexts=TlsContexts(files, metrics=metrics, clock=lambda: datetime.now(UTC)),
        limits=EdgeLimits(),
        metrics=metrics,
        shutdown_timeout_seconds=5,
        on_serving=lambda: setattr(server, "should_exit", True),
    )
    await asyncio.wait_for(server.serve(sockets=[listener]), 20)


@pytest.mark.anyio
async def test_forwarding_headers_do_not_change_the_peer(certificates: Path) -> None:
    """The ledger's address is the socket's, whatever a caller writes."""
    seen: list[str] = []

    async def show(request: Request) -> Response:
        seen.append(request.client.host if request.client else "")
        return Response(b"")

    forged = POST + b"X-Forwarded-For: 198.51.100.1\r\nForwarded: for=198.51.100.1\r\n\r\n"
    async with serving(
        certificates, Starlette(routes=[Route("/echo", show, methods=["POST"])])
    ) as port:
        await exchange(certificates, port, forged)
    assert seen == ["127.0.0.1"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_free_port_is_bound(host: str) -> None:
    """Port 0 takes one, of either family."""
    with bind(host, 0) as bound:
        assert bound.getsockname()[0] == host
        assert bound.getsockname()[1] > 0


def test_a_taken_port_is_named_with_its_setting() -> None:
    """Whoever starts the gateway reads what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OperatorError, match=f"port {port}.* set GATEWAY_PORT") as caught:
            bind("127.0.0.1", port)
    assert caught.value.code is Code.SETTINGS_INVALID
