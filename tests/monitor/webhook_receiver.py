"""A receiver of webhooks on loopback, and a check of signatures that shares no code with ours."""

import base64
import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SECRET = bytes(range(32))


@dataclass
class Receiver:
    """What came, and what is answered: statuses one after the other, then the last one again.

    drip: answers come a byte at a time, without end.
    """

    url: str = ""
    statuses: list[int] = field(default_factory=lambda: [200])
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"thanks"
    drip: bool = False
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    came: threading.Condition = field(default_factory=threading.Condition)

    def states(self) -> list[tuple[str, str]]:
        """Alarm and state of the messages, in the order in which they came."""
        told = [json.loads(body)["data"] for _, body in self.got]
        return [(data["alarm"], data["state"]) for data in told]

    def documents(self) -> list[dict[str, Any]]:
        """The bodies."""
        return [json.loads(body) for _, body in self.got]

    def wait(self, count: int, *, timeout_seconds: float) -> bool:
        """Until so many came; whether they did."""
        with self.came:
            return self.came.wait_for(lambda: len(self.got) >= count, timeout_seconds)

    def next_status(self) -> int:
        """For the request that just came."""
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]


def is_signed(headers: dict[str, str], body: bytes, *, secret: bytes = SECRET) -> bool:
    """Whether a message is from whoever has the secret, as the README's example checks it."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(secret, signed, hashlib.sha256).digest()
    expected = "v1," + base64.b64encode(digest).decode()
    return expected in headers["webhook-signature"].split()


@contextmanager
def received(*, certificates: Path | None = None) -> Iterator[Receiver]:
    """A receiver, over TLS with a folder of certificates."""
    receiver = Receiver()
    stop = threading.Event()

    class Requests(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with receiver.came:
                receiver.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
                receiver.came.notify_all()
            self.send_response(receiver.next_status())
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            length = 10**9 if receiver.drip else len(receiver.body)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            while receiver.drip and not stop.wait(0.02):
                self.wfile.write(b"-")
                self.wfile.flush()
            self.wfile.write(receiver.body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  (the interface)
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A sender that left early is what a test wants."""

    server = Server(("127.0.0.1", 0), Requests)
    if certificates is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "http" if certificates is None else "https"
    receiver.url = f"{scheme}://localhost:{server.server_port}/hooks/secret-path?token=t0ken"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield receiver
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
        thread.join()
