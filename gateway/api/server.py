"""The TLS listener: uvicorn with a TLS 1.3 context and a protocol of our own.

Rules: TLS 1.3 only; no server banner; no WebSocket; the socket is bound here, so the port is known before serving.
"""

import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from gateway.api.protocol import GatewayProtocol
from gateway.errors import Code, OperatorError
from gateway.keyfiles import read_private_file

BACKLOG = 512
KEEP_ALIVE_SECONDS = 30
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def tls_context(certificate_file: Path, key_file: Path) -> ssl.SSLContext:
    """A server context that speaks TLS 1.3 and nothing older.

    key_file must be private (0600). Raises KeyFileError for that, OperatorError if the pair does not load.
    """
    read_private_file(key_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate_file, key_file)
    except (OSError, ssl.SSLError) as exc:
        message = f"the TLS certificate {certificate_file} and key {key_file} do not load: {exc}"
        raise OperatorError(Code.SETTINGS_INVALID, message) from exc
    return context


def bind(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one. Raises OperatorError if the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as exc:
        message = f"cannot listen on {host} port {port}: {exc.strerror}; stop what holds it or set GATEWAY_PORT"
        raise OperatorError(Code.SETTINGS_INVALID, message) from exc


class GatewayServer(uvicorn.Server):
    """uvicorn's server, which says when it takes calls and returns after a signal so that its caller can clean up."""

    def __init__(self, config: uvicorn.Config, *, on_serving: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_serving = on_serving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open for calls, then say so."""
        await super().startup(sockets)
        if self.started:
            self._on_serving()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGINT and SIGTERM.

        uvicorn raises the signal again once it has stopped, which would end the process before queued samples are
        written and the ledger is closed.
        """
        before = {number: signal.signal(number, self.handle_exit) for number in _STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def build_server(
    app: ASGIApp,
    *,
    context: ssl.SSLContext,
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
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=shutdown_timeout_seconds,
        ssl_context_factory=lambda _config, _default: context,
    )
    return GatewayServer(config, on_serving=on_serving)
