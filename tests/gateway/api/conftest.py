"""A real TLS server on loopback around any application, and a client that says exactly what it is told."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine
from starlette.types import ASGIApp

from gateway.api.limits import EdgeLimits
from gateway.api.server import bind, build_server
from gateway.api.tls import TlsContexts, TlsFiles
from gateway.dev.certificates import create_certificates
from gateway.metrics import GatewayMetrics
from tests.gateway.api.in_process import Gateway, connected


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The event loops that the gateway runs on: they close TLS connections each in its own way."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def gateway(sqlite_engine: Engine) -> Iterator[Gateway]:
    """A gateway over an empty database."""
    built = Gateway(sqlite_engine)
    yield built
    built.audit.close()


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """A client without credentials."""
    async with connected(gateway.app) as connection:
        yield connection


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A development set."""
    folder = tmp_path_factory.mktemp("certs")
    create_certificates(folder, now=datetime.now(UTC))
    return folder


@asynccontextmanager
async def serving(
    certificates: Path,
    app: ASGIApp,
    *,
    shutdown_timeout_seconds: int = 5,
    limits: EdgeLimits | None = None,
    files: TlsFiles | None = None,
    metrics: GatewayMetrics | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> AsyncIterator[int]:
    """A server of this application; its port, once it said that it serves."""
    is_serving = asyncio.Event()
    metrics = metrics or GatewayMetrics(CollectorRegistry())
    files = files or TlsFiles(certificates / "server.pem", certificates / "server.key")
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        server = build_server(
            app,
            contexts=TlsContexts(files, metrics=metrics, clock=clock),
            limits=limits or EdgeLimits(),
            metrics=metrics,
            shutdown_timeout_seconds=shutdown_timeout_seconds,
            on_serving=is_serving.set,
        )
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await asyncio.wait_for(is_serving.wait(), 20)
        try:
            yield port
        finally:
            server.should_exit = True
            await asyncio.wait_for(task, 20)


async def connect(
    certificates: Path, port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A TLS connection to the server."""
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    return await asyncio.open_connection("127.0.0.1", port, ssl=context)


async def exchange(certificates: Path, port: int, sent: bytes) -> bytes:
    """What comes back for these bytes until the server closes."""
    reader, writer = await connect(certificates, port)
    writer.write(sent)
    received = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return received
