"""The TLS listener: uvicorn with an acceptor, TLS contexts and a protocol of our own.

Rules: TLS 1.3 only; no server banner; no WebSocket; the socket is bound here, so the port is known before anything is
built, but nobody can connect before the application has started.
"""

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from gateway.api.acceptor import SEND_BUFFER_BYTES, Acceptor, Seat
from gateway.api.limits import EdgeLimits, Ended
from gateway.api.protocol import GatewayProtocol
from gateway.api.safe_headers import SAFE_HEADERS
from gateway.api.tls import TlsContexts
from gateway.errors import Code, OperatorError
from gateway.metrics import GatewayMetrics

STARTUP_FAILURE = 3  # what uvicorn's own server ends with
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def bind(host: str, port: int) -> socket.socket:
    """A bound TCP socket that does not listen yet; port 0 takes a free one.

    Raises OperatorError if the address is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Connections inherit all of these but the first.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family is socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((host, port))
    except OSError as exc:
        bound.close()
        raise _cannot_listen(host, port, exc) from exc
    return bound


class GatewayServer(uvicorn.Server):
    """uvicorn's server behind our own acceptor.

    It says when it takes calls, takes its certificate anew on SIGHUP, and returns after a signal so that its caller
    can clean up.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        contexts: TlsContexts,
        limits: EdgeLimits,
        metrics: GatewayMetrics,
        on_serving: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._contexts = contexts
        self._limits = limits
        self._metrics = metrics
        self._on_serving = on_serving
        self._watch: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then open for calls, then say so.

        Raises OperatorError if somebody else listens on the address by now.
        """
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        self._loop = asyncio.get_running_loop()
        await self.on_tick(0)  # the first answer needs its default fields
        self._watch = self._loop.create_task(self._contexts.watch())
        self.servers = []
        for bound in sockets or ():
            await self._listen(bound)
        self.started = True
        self._on_serving()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, finish calls, stop the application."""
        await self._stop_watching()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGINT and SIGTERM, take certificates anew on SIGHUP.

        uvicorn raises the signal again once it has stopped, which would end the process before queued samples are
        written and the ledger is closed.
        """
        before = {number: signal.signal(number, self.handle_exit) for number in _STOP_SIGNALS}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._ask_for_reload)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask_for_reload(self, *_signal: object) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._contexts.ask)

    async def _listen(self, bound: socket.socket) -> None:
        acceptor = self._acceptor(bound)
        try:
            acceptor.start()
        except OSError as exc:
            await self._stop_watching()
            await self.lifespan.shutdown()
            host, port = bound.getsockname()[:2]
            raise _cannot_listen(host, port, exc) from exc
        self.servers.append(cast("Any", acceptor))

    def _acceptor(self, bound: socket.socket) -> Acceptor:
        return Acceptor(
            bound,
            tls=self._contexts,
            limits=self._limits,
            make_protocol=self._make_protocol,
            on_ended=self._count_ended,
            on_count=self._metrics.connections.set,
        )

    def _make_protocol(self, seat: Seat) -> asyncio.Protocol:
        return GatewayProtocol(
            self.config,
            self.server_state,
            self.lifespan.state,
            self._loop,
            limits=self._limits,
            place=seat,
        )

    def _count_ended(self, reason: Ended) -> None:
        self._metrics.connections_ended.labels(reason.value).inc()

    async def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch


def build_server(
    app: ASGIApp,
    *,
    contexts: TlsContexts,
    limits: EdgeLimits,
    metrics: GatewayMetrics,
    shutdown_timeout_seconds: int,
    on_serving: Callable[[], None],
) -> GatewayServer:
    """A server for one socket that bind() made. on_serving is called once, when calls are taken."""
    config = uvicorn.Config(
        app,
        http=GatewayProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        headers=list(SAFE_HEADERS),
        timeout_graceful_shutdown=shutdown_timeout_seconds,
    )
    return GatewayServer(
        config, contexts=contexts, limits=limits, metrics=metrics, on_serving=on_serving
    )


def _cannot_listen(host: str, port: int, exc: OSError) -> OperatorError:
    message = f"cannot listen on {host} port {port}: {exc.strerror}; stop what holds it or set GATEWAY_PORT"
    return OperatorError(Code.SETTINGS_INVALID, message)
