"""Clients that hold a connection without using it, over real TLS on loopback: the server ends each in time."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.body import read_body
from gateway.api.limits import EdgeLimits, Ended
from gateway.errors import GatewayError
from gateway.metrics import GatewayMetrics
from tests.gateway.api.conftest import connect, serving

pytestmark = pytest.mark.anyio

SHORT_SECONDS = 0.3
TEST_TIMEOUT_SECONDS = 30
LONG_SECONDS = 600.0  # a deadline that a test does not wait for
GET = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _read_slowly(request: Request) -> Response:
    try:
        body = await read_body(
            request,
            max_body_bytes=1 << 20,
            timeout_seconds=LONG_SECONDS,
            min_bytes_per_second=1_000,
            grace_seconds=SHORT_SECONDS,
        )
    except GatewayError as exc:
        return Response(exc.code.value, 408)
    return Response(body)


async def _refuse(_request: Request) -> Response:
    return Response(b"no", 413)


async def _large(_request: Request) -> Response:
    return Response(bytes(1 << 20))


async def _small(_request: Request) -> Response:
    return Response(bytes(100_000))


async def _large_and_last(_request: Request) -> Response:
    return Response(bytes(8 << 20), headers={"connection": "close"})


APP = Starlette(
    routes=[
        Route("/body", _read_slowly, methods=["POST"]),
        Route("/refuse", _refuse, methods=["POST"]),
        Route("/large", _large),
        Route("/small", _small),
        Route("/last", _large_and_last),
    ]
)


def limits(short: str) -> EdgeLimits:
    """Only this deadline is one that a test waits for."""
    seconds = {
        name: LONG_SECONDS for name in EdgeLimits.__slots__ if name.endswith("timeout_seconds")
    }
    return EdgeLimits(**{**seconds, short: SHORT_SECONDS})  # type: ignore[arg-type]


class OpenConnections:
    """In place of the gauge: says when it becomes zero."""

    def __init__(self) -> None:
        self.is_zero = asyncio.Event()
        self.is_zero.set()

    def set(self, count: int) -> None:
        """So many are open."""
        if count:
            self.is_zero.clear()
        else:
            self.is_zero.set()


class Attacked:
    """A server, and how to reach it."""

    def __init__(
        self,
        certificates: Path,
        port: int,
        metrics: GatewayMetrics,
        open_connections: OpenConnections,
    ) -> None:
        self.open = open_connections
        self.certificates = certificates
        self.port = port
        self.metrics = metrics

    async def connect(self) -> Streams:
        """A connection over TLS."""
        return await connect(self.certificates, self.port)

    def ended(self, reason: Ended) -> float:
        """How many connections were ended for this reason."""
        labels = {"reason": reason.value}
        registry = self.metrics.registry
        return registry.get_sample_value("gateway_connections_ended_total", labels) or 0.0

    async def empty(self) -> None:
        """Wait until no connection is counted."""
        async with asyncio.timeout(TEST_TIMEOUT_SECONDS):
            await self.open.is_zero.wait()

    async def assert_ended(self, reason: Ended, count: int = 1) -> None:
        """So many were ended for this reason, and none is left."""
        await self.empty()
        assert self.ended(reason) == count


@asynccontextmanager
async def attacked(certificates: Path, short: str) -> AsyncIterator[Attacked]:
    """A server with one short deadline, by which every connection must be gone at the end."""
    metrics = GatewayMetrics(CollectorRegistry())
    metrics.connections = open_connections = OpenConnections()  # type: ignore[assignment]
    async with serving(certificates, APP, limits=limits(short), metrics=metrics) as port:
        server = Attacked(certificates, port, metrics, open_connections)
        yield server
        await server.empty()


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What comes until the server ends the connection, in whatever way."""
    received = b""
    async with asyncio.timeout(TEST_TIMEOUT_SECONDS):
        try:
            while part := await reader.read(1 << 16):
                received += part
        except (ConnectionError, ssl.SSLError):
            pass
    return received


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, part: bytes) -> bytes:
    """The same bytes again and again, well within the deadline each, and what comes back."""

    async def send() -> None:
        try:
            while True:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(SHORT_SECONDS / 10)
        except ConnectionError:
            return

    task = asyncio.create_task(send())
    try:
        return await rest(reader)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_no_client_hello(certificates: Path) -> None:
    """A socket that never speaks TLS."""
    async with attacked(certificates, "handshake_timeout_seconds") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await rest(reader) == b""
        writer.close()
        await server.assert_ended(Ended.HANDSHAKE_TIMEOUT)


async def test_idle_after_the_handshake(certificates: Path) -> None:
    """TLS is done, and nothing follows."""
    async with attacked(certificates, "header_timeout_seconds") as server:
        reader, writer = await server.connect()
        assert await rest(reader) == b""
        writer.close()
        await server.assert_ended(Ended.HEADER_TIMEOUT)


async def test_partial_header(certificates: Path) -> None:
    """A head that never ends."""
    async with attacked(certificates, "header_timeout_seconds") as server:
        reader, writer = await server.connect()
        writer.write(GET[:-2])
        assert await rest(reader) == b""
        writer.close()
        await server.assert_ended(Ended.HEADER_TIMEOUT)


async def test_dripped_header(certificates: Path) -> None:
    """What arrives does not extend the deadline."""
    async with attacked(certificates, "header_timeout_seconds") as server:
        reader, writer = await server.connect()
        writer.write(GET[:-2])
        assert await drip(reader, writer, b"a: b\r\n") == b""
        writer.close()
        await server.assert_ended(Ended.HEADER_TIMEOUT)


async def test_dripped_later_header(certificates: Path) -> None:
    """The deadline of a second head counts from its first byte, whatever the idle one is."""
    async with attacked(certificates, "header_timeout_seconds") as server:
        reader, writer = await server.connect()
        writer.write(b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")
        await reader.readuntil(b"\r\n\r\nx")
        assert await drip(reader, writer, b"G") == b""
        writer.close()
        await server.assert_ended(Ended.HEADER_TIMEOUT)


async def test_header_begun_behind_a_call(certificates: Path) -> None:
    """A piece of the next head that came with the last call is no idleness."""
    async with attacked(certificates, "header_timeout_seconds") as server:
        reader, writer = await server.connect()
        whole = b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"
        writer.write(whole + GET[:4])
        assert (await rest(reader)).endswith(b"\r\n\r\nx")
        writer.close()
        await server.assert_ended(Ended.HEADER_TIMEOUT)


@pytest.mark.parametrize("part", [b"", b"x"], ids=["no body", "dripped body"])
async def test_slow_body(certificates: Path, part: bytes) -> None:
    """A body below the least rate is answered 408, and what dripped on is cut off."""
    async with attacked(certificates, "linger_timeout_seconds") as server:
        reader, writer = await server.connect()
        writer.write(POST)
        received = await (drip(reader, writer, part) if part else rest(reader))
        assert received.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert b"body_timeout" in received
        writer.close()
        await server.assert_ended(Ended.LINGER_TIMEOUT)


async def test_dripped_body_that_nobody_reads(certificates: Path) -> None:
    """A call that is refused before its body."""
    async with attacked(certificates, "linger_timeout_seconds") as server:
        reader, writer = await server.connect()
        writer.write(POST.replace(b"/body", b"/refuse"))
        received = await drip(reader, writer, b"x")
        assert received.startswith(b"HTTP/1.1 413 ")
        writer.close()
        await server.assert_ended(Ended.LINGER_TIMEOUT)


async def test_idle_between_calls(certificates: Path) -> None:
    """A connection is kept for the next call, for a time."""
    async with attacked(certificates, "idle_timeout_seconds") as server:
        reader, writer = await server.connect()
        writer.write(b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")
        assert (await rest(reader)).endswith(b"\r\n\r\nx")
        writer.close()
        await server.assert_ended(Ended.IDLE_TIMEOUT)


async def test_many_idle(certificates: Path) -> None:
    """Each has its own deadline."""
    async with attacked(certificates, "header_timeout_seconds") as server:
        connections = await asyncio.gather(*(server.connect() for _ in range(20)))
        received = await asyncio.gather(*(rest(reader) for reader, _ in connections))
        assert set(received) == {b""}
        for _, writer in connections:
            writer.close()
        await server.assert_ended(Ended.HEADER_TIMEOUT, 20)


@asynccontextmanager
async def deaf(server: Attacked) -> AsyncIterator[asyncio.StreamWriter]:
    """A connection whose client never reads: its transport stands still from the start."""
    reader, writer = await server.connect()
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    del reader
    yield writer
    writer.transport.abort()


async def _asks_once(writer: asyncio.StreamWriter) -> None:
    writer.write(GET.replace(b"/large", b"/last"))


async def _asks_often(writer: asyncio.StreamWriter) -> None:
    writer.write(GET * 12)


@pytest.mark.parametrize("ask", [_asks_once, _asks_often], ids=["once", "pipelined"])
async def test_unread_response(
    certificates: Path, ask: Callable[[asyncio.StreamWriter], Awaitable[None]]
) -> None:
    """What lies unread is given up, also when the answer was the last one and only its end is missing."""
    async with (
        attacked(certificates, "write_timeout_seconds") as server,
        deaf(server) as writer,
    ):
        await ask(writer)
        await server.empty()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has this option")
async def test_unread_response_that_fits_into_buffers(certificates: Path) -> None:
    """Nothing of ours stands still: the kernel holds what it cannot deliver, and gives up."""
    async with attacked(certificates, "write_timeout_seconds") as server:
        connection = await asyncio.to_thread(_narrow_connection, certificates, server.port)
        with connection:
            connection.sendall(GET.replace(b"/large", b"/small"))
            await server.assert_ended(Ended.WRITE_TIMEOUT)


def _narrow_connection(certificates: Path, port: int) -> ssl.SSLSocket:
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", port))
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    return context.wrap_socket(raw, server_hostname="localhost")


async def test_a_large_answer_arrives_whole_at_a_client_that_reads(certificates: Path) -> None:
    """The write deadline is about standing still: reading on clears it, and so a later one may pass."""
    async with attacked(certificates, "write_timeout_seconds") as server:
        reader, writer = await server.connect()
        for _ in range(2):
            writer.write(GET)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK")
            assert await reader.readexactly(1 << 20) == bytes(1 << 20)
            await asyncio.sleep(2 * SHORT_SECONDS)
        writer.close()
        await server.assert_ended(Ended.WRITE_TIMEOUT, 0)


async def test_a_body_at_a_good_rate_may_take_longer_than_the_grace(certificates: Path) -> None:
    """A camera on a slow line is not cut off."""
    async with attacked(certificates, "idle_timeout_seconds") as server:
        reader, writer = await server.connect()
        writer.write(POST)
        for _ in range(10):
            writer.write(b"x" * 100)
            await writer.drain()
            await asyncio.sleep(SHORT_SECONDS / 5)  # 0.6 s in all, at twice the least rate
        assert (await rest(reader)).endswith(b"x" * 1000)
        writer.close()
