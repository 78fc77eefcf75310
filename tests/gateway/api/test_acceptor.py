"""Connections are counted and bounded from their accept on, over real sockets on loopback."""

import asyncio
import errno
import logging
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.acceptor import address_key, address_text
from gateway.api.limits import EdgeLimits, Ended
from gateway.api.server import build_server
from gateway.api.tls import TlsContexts, TlsFiles
from gateway.metrics import GatewayMetrics
from tests.gateway.api.conftest import connect, exchange, serving

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
KEPT = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LARGE_BYTES = 16 << 20  # more than the kernel holds for a client that does not read
TEST_TIMEOUT_SECONDS = 30


class Calls:
    """An application whose calls end when they are let go."""

    def __init__(self) -> None:
        self.is_called = asyncio.Event()
        self.may_end = asyncio.Event()
        self.app = Starlette(
            routes=[
                Route("/", self._answer),
                Route("/wait", self._wait),
                Route("/large", self._large),
            ]
        )

    async def _answer(self, _request: Request) -> Response:
        return Response(b"here")

    async def _wait(self, _request: Request) -> Response:
        self.is_called.set()
        await self.may_end.wait()
        return Response(b"waited")

    async def _large(self, _request: Request) -> Response:
        return Response(bytes(LARGE_BYTES))


@pytest.fixture
def metrics() -> GatewayMetrics:
    """Nothing is counted yet."""
    return GatewayMetrics(CollectorRegistry())


def ended(metrics: GatewayMetrics, reason: Ended) -> float:
    """How many connections were ended for this reason."""
    labels = {"reason": reason.value}
    return metrics.registry.get_sample_value("gateway_connections_ended_total", labels) or 0.0


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What comes until the server ends the connection, in whatever way."""
    try:
        return await asyncio.wait_for(reader.read(), TEST_TIMEOUT_SECONDS)
    except (ConnectionError, ssl.SSLError):
        return b""


async def plain(port: int, *, address: str = "127.0.0.1") -> Any:
    """A connection that does not speak TLS."""
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))


@pytest.mark.anyio
async def test_one_address_gets_no_more_than_its_share(
    certificates: Path, metrics: GatewayMetrics
) -> None:
    """From the first packet: no handshake is needed to use it up; others are not concerned."""
    limits = EdgeLimits(max_connections_per_address=2)
    async with serving(certificates, Calls().app, limits=limits, metrics=metrics) as port:
        held = [await plain(port, address="127.0.0.2") for _ in range(2)]
        reader, writer = await plain(port, address="127.0.0.2")
        assert await rest(reader) == b""
        assert ended(metrics, Ended.ADDRESS_LIMIT) == 1
        assert (await exchange(certificates, port, GET)).endswith(b"here")
        for _, each in [*held, (reader, writer)]:
            each.close()


@pytest.mark.anyio
async def test_a_share_comes_back_when_a_connection_ends(
    certificates: Path, metrics: GatewayMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    """However it ends: answered, hung up, no TLS at all; why a handshake failed is in the log."""
    caplog.set_level(logging.INFO)
    limits = EdgeLimits(max_connections_per_address=1)
    async with serving(certificates, Calls().app, limits=limits, metrics=metrics) as port:
        assert (await exchange(certificates, port, GET)).endswith(b"here")
        for sent in (b"", b"GET / HTTP/1.1\r\n\r\n"):
            await until_empty(metrics)
            reader, writer = await plain(port)
            writer.write(sent)
            if not sent:
                writer.close()
            await rest(reader)
            writer.close()
        await until_empty(metrics)
        assert (await exchange(certificates, port, GET)).endswith(b"here")
    assert ended(metrics, Ended.ADDRESS_LIMIT) == 0
    assert ended(metrics, Ended.HANDSHAKE_FAILED) == 1
    assert "handshake_failed address=127.0.0.1 reason=" in caplog.text


async def until_empty(metrics: GatewayMetrics) -> None:
    """Wait until the server has noticed that nobody is connected."""
    async with asyncio.timeout(TEST_TIMEOUT_SECONDS):
        while metrics.registry.get_sample_value("gateway_connections"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.anyio
async def test_the_connection_that_waited_longest_gives_way(
    certificates: Path, metrics: GatewayMetrics
) -> None:
    """Whoever only holds connections does not keep others out, in a handshake or after it."""
    limits = EdgeLimits(max_connections=2)
    async with serving(certificates, Calls().app, limits=limits, metrics=metrics) as port:
        first, first_writer = await plain(port)
        second, second_writer = await connect(certificates, port)
        third, third_writer = await connect(certificates, port)
        assert await rest(first) == b""
        assert ended(metrics, Ended.GAVE_WAY) == 1
        fourth, fourth_writer = await connect(certificates, port)
        assert await rest(second) == b""
        assert ended(metrics, Ended.GAVE_WAY) == 2
        for reader, writer in ((third, third_writer), (fourth, fourth_writer)):
            writer.write(GET)
            assert (await rest(reader)).endswith(b"here")
            writer.close()
        first_writer.close()
        second_writer.close()


@pytest.mark.anyio
async def test_a_call_never_gives_way(certificates: Path, metrics: GatewayMetrics) -> None:
    """When all are at work, the new connection is closed."""
    calls = Calls()
    async with serving(
        certificates, calls.app, limits=EdgeLimits(max_connections=1), metrics=metrics
    ) as port:
        reader, writer = await connect(certificates, port)
        writer.write(GET.replace(b" / ", b" /wait "))
        await asyncio.wait_for(calls.is_called.wait(), TEST_TIMEOUT_SECONDS)
        refused, refused_writer = await plain(port)
        assert await rest(refused) == b""
        refused_writer.close()
        calls.may_end.set()
        assert (await rest(reader)).endswith(b"waited")
        writer.close()
    assert ended(metrics, Ended.CONNECTION_LIMIT) == 1
    assert ended(metrics, Ended.GAVE_WAY) == 0


async def let_in(certificates: Path, port: int) -> bytes:
    """The answer to a call, tried again until the gateway takes the connection."""
    async with asyncio.timeout(TEST_TIMEOUT_SECONDS):
        while True:
            try:
                return await exchange(certificates, port, GET)
            except (ConnectionError, ssl.SSLError):
                await asyncio.sleep(0.01)


@pytest.mark.anyio
async def test_an_answered_call_whose_body_goes_on_gives_way(
    certificates: Path, metrics: GatewayMetrics
) -> None:
    """Anybody can be refused with a body left to send."""
    limits = EdgeLimits(max_connections=1, linger_timeout_seconds=600)
    async with serving(certificates, Calls().app, limits=limits, metrics=metrics) as port:
        reader, writer = await connect(certificates, port)
        writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 405 ")
        assert (await exchange(certificates, port, GET)).endswith(b"here")
        writer.close()
    assert ended(metrics, Ended.GAVE_WAY) == 1


@pytest.mark.anyio
async def test_a_caller_who_does_not_read_gives_way(
    certificates: Path, metrics: GatewayMetrics
) -> None:
    """Also with a call that is being worked on behind the unread answer, and with one that comes later."""
    calls = Calls()
    limits = EdgeLimits(max_connections=1, write_timeout_seconds=600)
    async with serving(certificates, calls.app, limits=limits, metrics=metrics) as port:
        _, writer = await connect(certificates, port)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        # asyncio's TLS takes a first answer of any size before it says that nobody reads.
        writer.write(KEPT.replace(b" / ", b" /large ") * 2 + KEPT.replace(b" / ", b" /wait "))
        await asyncio.wait_for(calls.is_called.wait(), TEST_TIMEOUT_SECONDS)
        assert (await exchange(certificates, port, GET)).endswith(b"here")
        writer.transport.abort()
    assert ended(metrics, Ended.GAVE_WAY) == 1
    assert ended(metrics, Ended.CONNECTION_LIMIT) == 0


@pytest.mark.anyio
async def test_a_caller_who_reads_again_does_not_give_way(
    certificates: Path, metrics: GatewayMetrics
) -> None:
    """Its next call is at work like any other."""
    calls = Calls()
    limits = EdgeLimits(max_connections=1)
    async with serving(certificates, calls.app, limits=limits, metrics=metrics) as port:
        reader, writer = await connect(certificates, port)
        writer.write(KEPT.replace(b" / ", b" /large ") * 2 + GET.replace(b" / ", b" /wait "))
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(LARGE_BYTES)
        await asyncio.wait_for(calls.is_called.wait(), TEST_TIMEOUT_SECONDS)
        refused, refused_writer = await plain(port)
        assert await rest(refused) == b""
        refused_writer.close()
        calls.may_end.set()
        assert (await rest(reader)).endswith(b"waited")
        writer.close()
    assert ended(metrics, Ended.CONNECTION_LIMIT) == 1
    assert ended(metrics, Ended.GAVE_WAY) == 0


@pytest.mark.anyio
async def test_a_connection_that_closes_gives_way(
    certificates: Path, metrics: GatewayMetrics
) -> None:
    """A peer that does not agree to the end of TLS holds it open."""
    limits = EdgeLimits(max_connections=1, write_timeout_seconds=600)
    async with serving(certificates, Calls().app, limits=limits, metrics=metrics) as port:
        _, writer = await connect(certificates, port)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET)
        assert (await let_in(certificates, port)).endswith(b"here")
        writer.transport.abort()
    assert ended(metrics, Ended.GAVE_WAY) == 1


@pytest.mark.anyio
async def test_a_flood_of_connections_is_outlived(
    certificates: Path, metrics: GatewayMetrics
) -> None:
    """Far more than there is room for, made and dropped at once."""
    limits = EdgeLimits(max_connections=20)
    async with serving(certificates, Calls().app, limits=limits, metrics=metrics) as port:
        flood = await asyncio.gather(*(plain(port) for _ in range(200)))
        assert (await exchange(certificates, port, GET)).endswith(b"here")
        for _, writer in flood:
            writer.transport.abort()
        await until_empty(metrics)


@pytest.mark.anyio
async def test_a_shutdown_does_not_wait_for_handshakes(certificates: Path) -> None:
    """They would last as long as their deadline."""
    limits = EdgeLimits(handshake_timeout_seconds=600)
    async with serving(certificates, Calls().app, limits=limits) as port:
        reader, writer = await plain(port)
    assert await rest(reader) == b""
    writer.close()


class Exhausted(socket.socket):
    """A listener without descriptors for the first connection it is to accept."""

    accepts = 0

    def accept(self) -> tuple[socket.socket, Any]:
        """Fail once."""
        type(self).accepts += 1
        if type(self).accepts == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


@pytest.mark.anyio
async def test_a_lack_of_descriptors_pauses(
    certificates: Path, metrics: GatewayMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    """The listener stays readable all the while: tried again at once, it would keep the loop busy for ever."""
    Exhausted.accepts = 0
    is_serving = asyncio.Event()
    files = TlsFiles(certificates / "server.pem", certificates / "server.key")
    with Exhausted(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        server = build_server(
            Calls().app,
            contexts=TlsContexts(files, metrics=metrics, clock=lambda: datetime.now(UTC)),
            limits=EdgeLimits(),
            metrics=metrics,
            shutdown_timeout_seconds=5,
            on_serving=is_serving.set,
        )
        port = listener.getsockname()[1]
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await asyncio.wait_for(is_serving.wait(), TEST_TIMEOUT_SECONDS)
        assert (await exchange(certificates, port, GET)).endswith(b"here")
        server.should_exit = True
        await asyncio.wait_for(task, TEST_TIMEOUT_SECONDS)
    assert "accept_paused reason=EMFILE" in caplog.text
    assert Exhausted.accepts <= 5


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
def test_what_counts_as_one_address(one: str, other: str, *, is_same: bool) -> None:
    """One IPv6 customer has 2**64 addresses."""
    assert (address_key(one) == address_key(other)) is is_same


@given(st.ip_addresses())
def test_every_address_has_a_key(address: object) -> None:
    """Whatever the system reports."""
    assert len(address_key(str(address))) in (4, 8)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
    ],
)
def test_what_counts_as_an_address_is_written_as_people_do(address: str, text: str) -> None:
    """In the log, where somebody looks for the caller."""
    assert text == address_text(address_key(address))
