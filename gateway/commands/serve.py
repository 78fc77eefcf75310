"""Running the gateway until it is told to stop."""

import gc
import logging
import os
from concurrent.futures import ThreadPoolExecutor

from gateway.commands.opening import open_keks, open_trusted_signers, opened_store, utc_now
from gateway.commands.process_memory import protect_process
from gateway.models.changes import find_production
from gateway.models.loading import loader_of
from gateway.models.served import ServedVersion
from gateway.settings import GatewaySettings

log = logging.getLogger(__name__)


def serve(settings: GatewaySettings, *, ready_descriptor: int | None) -> None:
    """Serve until SIGINT or SIGTERM, then drain and return.

    ready_descriptor: an open file descriptor that gets one line, the port, once the socket takes calls; whoever started
    this process waits on it. Raises OperatorError if something needed is missing or wrong.
    """
    log.info("memory_protection %s", protect_process())
    with opened_store(settings) as store, ThreadPoolExecutor(1, "first-version") as thread:
        keks, signers = open_keks(settings), open_trusted_signers(settings)

        def load_first() -> ServedVersion:
            loader = loader_of(settings, keks=keks, trusted_signers=signers)
            return loader.load(find_production(store, settings.model_name))

        # Compiling the network leaves the interpreter free: half a second of imports goes on beside it.
        first = thread.submit(load_first)
        from gateway.api.server import bind, build_server, tls_context
        from gateway.app import Opened, built

        context = tls_context(settings.tls_certificate_file, settings.tls_key_file)
        opened = Opened(store, keks, signers, first.result)
        with (
            built(settings, opened, clock=utc_now) as app,
            bind(settings.host, settings.port) as socket,
        ):
            port = socket.getsockname()[1]
            server = build_server(
                app,
                context=context,
                shutdown_timeout_seconds=settings.shutdown_timeout_seconds,
                on_serving=lambda: _announce(settings.host, port, ready_descriptor),
            )
            server.run(sockets=[socket])


def _announce(host: str, port: int, ready_descriptor: int | None) -> None:
    # What was made until now lives as long as the process: no collection has to look at it again.
    gc.freeze()
    gc.enable()
    log.info("serving host=%s port=%d", host, port)
    if ready_descriptor is not None:
        os.write(ready_descriptor, f"{port}\n".encode("ascii"))
        os.close(ready_descriptor)
