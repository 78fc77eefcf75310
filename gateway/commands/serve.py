"""Running the gateway until it is told to stop."""

import gc
import logging
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from gateway.commands.heap import return_large_blocks
from gateway.commands.opening import open_keks, open_trusted_signers, opened_store, utc_now
from gateway.commands.process_memory import protect_process
from gateway.models.changes import find_production
from gateway.models.loading import loader_of
from gateway.models.served import ServedVersion
from gateway.settings import GatewaySettings

log = logging.getLogger(__name__)


def serve(settings: GatewaySettings, *, ready_descriptor: int | None) -> None:
    """Serve until SIGINT or SIGTERM, then drain and return; SIGHUP takes the certificates anew.

    ready_descriptor: an open file descriptor that gets one line, the port, once the socket takes calls; whoever started
    this process waits on it. Raises OperatorError if something needed is missing or wrong.
    """
    log.info("memory_protection %s", protect_process())
    return_large_blocks()
    with (
        _outliving_hangups(),
        opened_store(settings) as store,
        ThreadPoolExecutor(1, "first-version") as thread,
    ):
        keks, signers = open_keks(settings), open_trusted_signers(settings)

        def load_first() -> ServedVersion:
            loader = loader_of(settings, keks=keks, trusted_signers=signers)
            return loader.load(find_production(store, settings.model_name))

        # Compiling the network leaves the interpreter free: half a second of imports goes on beside it.
        first = thread.submit(load_first)
        from prometheus_client import CollectorRegistry

        from gateway.admission import configured_policy
        from gateway.api.limits import EdgeLimits
        from gateway.api.server import bind, build_server
        from gateway.api.tls import TlsContexts, TlsFiles
        from gateway.app import Opened, built
        from gateway.metrics import GatewayMetrics

        # Before the port is asked for, which another gateway may still hold: a mistake in a file is told all the same.
        configured_policy(settings)
        metrics = GatewayMetrics(CollectorRegistry())
        contexts = TlsContexts(TlsFiles.of(settings), metrics=metrics, clock=utc_now)
        with bind(settings.host, settings.port) as socket:
            port = socket.getsockname()[1]
            opened = Opened(
                public_url=settings.public_url or origin(settings.host, port),
                metrics=metrics,
                store=store,
                keks=keks,
                trusted_signers=signers,
                first=first.result,
            )
            with built(settings, opened, clock=utc_now) as app:
                server = build_server(
                    app,
                    contexts=contexts,
                    limits=EdgeLimits.of(settings),
                    metrics=metrics,
                    shutdown_timeout_seconds=settings.shutdown_timeout_seconds,
                    on_serving=lambda: _announce(settings.host, port, ready_descriptor),
                )
                server.run(sockets=[socket])


def origin(host: str, port: int) -> str:
    """The https origin of a listener, which is where callers reach it unless the settings say otherwise."""
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


@contextmanager
def _outliving_hangups() -> Iterator[None]:
    # SIGHUP means new certificates: one that comes before there is anybody to take them must not end the process.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        # What is ignored stays ignored in every process that is started from here.
        signal.signal(signal.SIGHUP, before)


def _announce(host: str, port: int, ready_descriptor: int | None) -> None:
    # What was made until now lives as long as the process: no collection has to look at it again.
    gc.freeze()
    gc.enable()
    log.info("serving host=%s port=%d", host, port)
    if ready_descriptor is not None:
        os.write(ready_descriptor, f"{port}\n".encode("ascii"))
        os.close(ready_descriptor)
