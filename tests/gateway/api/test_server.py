"""The listener: real TLS on loopback, HTTP that is none, and the socket's own errors."""

import json
import socket
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.server import bind
from gateway.errors import Code, OperatorError
from tests.gateway.api.conftest import exchange, serving


async def _echo(request: Request) -> Response:
    return Response(await request.body())


ECHO = Starlette(routes=[Route("/echo", _echo, methods=["POST"])])
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
