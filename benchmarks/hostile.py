"""Eight ways to hold a connection of a TLS server without using it, from one thread, without ever reading.

A hostile client does not answer the end of TLS either: a connection counts as held until TCP says that the server left.
"""

import multiprocessing
import os
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from multiprocessing.connection import Connection

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
RECEIVE_BUFFER_BYTES = 4096
CONNECT_TIMEOUT_SECONDS = 20.0
STEP_SECONDS = 0.25
DRIP_SECONDS = 0.5
ADDRESSES = 25
_ESTABLISHED = 1  # the first byte of struct tcp_info


class Shape(StrEnum):
    """What a client does, or does not."""

    NO_CLIENT_HELLO = "no_client_hello"
    IDLE_AFTER_HANDSHAKE = "idle_after_handshake"
    PARTIAL_HEADER = "partial_header"
    DRIPPED_HEADER = "dripped_header"
    NO_BODY = "no_body"
    DRIPPED_BODY = "dripped_body"
    UNREAD_RESPONSE = "unread_response"
    MANY_IDLE = "many_idle"


@dataclass(frozen=True, slots=True)
class Target:
    """The server. authorization: a header line that lets calls through to their bodies."""

    port: int
    ca_file: str
    authorization: bytes

    def first_bytes(self, shape: Shape) -> bytes:
        """What is sent once TLS is up."""
        head = POST + self.authorization + b"\r\n"
        return {
            Shape.PARTIAL_HEADER: GET[:-2],
            Shape.DRIPPED_HEADER: GET[:-2],
            Shape.NO_BODY: head,
            Shape.DRIPPED_BODY: head,
            Shape.UNREAD_RESPONSE: GET.replace(b"/livez", b"/openapi.json") * 12,
            Shape.MANY_IDLE: GET,
        }.get(shape, b"")


DRIPS = {
    Shape.DRIPPED_HEADER: b"a: b\r\n",
    Shape.DRIPPED_BODY: b"x",
}


@dataclass(slots=True)
class Held:
    """One connection."""

    shape: Shape
    socket: socket.socket
    since: float = field(default_factory=time.monotonic)
    dripped_at: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the server has not left."""
        return self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED

    def drip(self) -> None:
        """Send the next few bytes of a shape that drips, if it is time and there is room."""
        now = time.monotonic()
        if self.shape not in DRIPS or now - self.dripped_at < DRIP_SECONDS:
            return
        self.dripped_at = now
        try:
            self.socket.send(DRIPS[self.shape])
        except OSError:  # no room, or nobody there
            return


def hold(target: Target, shape: Shape, *, address: str) -> Held:
    """A connection from this loopback address, in this shape. Raises OSError if the server takes none."""
    raw = socket.socket()
    raw.settimeout(CONNECT_TIMEOUT_SECONDS)
    if shape is Shape.UNREAD_RESPONSE:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    raw.bind((address, 0))
    raw.connect(("127.0.0.1", target.port))
    if shape is Shape.NO_CLIENT_HELLO:
        held = Held(shape, raw)
    else:
        held = Held(shape, _context(target.ca_file).wrap_socket(raw, server_hostname="localhost"))
        held.socket.sendall(target.first_bytes(shape))
    held.since = time.monotonic()
    held.socket.setblocking(False)  # noqa: FBT003
    return held


_contexts: dict[str, ssl.SSLContext] = {}


def _context(ca_file: str) -> ssl.SSLContext:
    # Reading the file for each connection would cost more than the handshake.
    if ca_file not in _contexts:
        _contexts[ca_file] = ssl.create_default_context(cafile=ca_file)
    return _contexts[ca_file]


def seconds_until_closed(target: Target, *, give_up_seconds: float) -> dict[str, float]:
    """How long the server kept each shape, all at the same time; give_up_seconds for one that it still keeps."""
    number_of = {shape: 100 if shape is Shape.MANY_IDLE else 1 for shape in Shape}
    held = deque(
        hold(target, shape, address="127.0.0.1")
        for shape, count in number_of.items()
        for _ in range(count)
    )
    taken = dict.fromkeys((shape.value for shape in Shape), 0.0)
    while held:
        time.sleep(STEP_SECONDS / 10)
        for _ in range(len(held)):
            each = held.popleft()
            seconds = time.monotonic() - each.since
            if each.is_open and seconds < give_up_seconds:
                each.drip()
                held.append(each)
            else:
                each.socket.close()
                taken[each.shape] = max(taken[each.shape], round(seconds, 2))
    return taken


class Siege:
    """Hostile connections in a process of their own, kept at a number."""

    def __init__(self, control: Connection) -> None:
        self._control = control

    def keep(self, count: int) -> int:
        """Hold this many from now on; how many were opened since the last time. Returns once all are held."""
        self._control.send(count)
        return int(self._control.recv())


@contextmanager
def besieging(target: Target) -> Iterator[Siege]:
    """A siege that begins with no connection."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_besiege, args=(theirs, target), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Siege(ours)
    finally:
        ours.close()
        process.join(30)


def _besiege(control: Connection, target: Target) -> None:
    # Attackers have machines of their own: what they compute must not be missing here.
    os.nice(15)
    held: deque[Held] = deque()
    wanted, opened, is_asked = 0, 0, False
    shapes = list(Shape)
    try:
        while True:
            if control.poll(0 if len(held) < wanted else STEP_SECONDS):
                wanted, is_asked = int(control.recv()), True
            opened += _keep(target, held, wanted, shapes)
            if is_asked and len(held) == wanted:
                control.send(opened)
                opened, is_asked = 0, False
    except EOFError:
        return


def _keep(target: Target, held: deque[Held], wanted: int, shapes: list[Shape]) -> int:
    """One look at every connection; opens what is missing, and says how many that were."""
    for _ in range(len(held)):
        each = held.popleft()
        if each.is_open and len(held) < wanted:
            each.drip()
            held.append(each)
        else:
            each.socket.close()
    opened = 0
    while len(held) < wanted:
        shape = shapes[0]
        shapes.append(shapes.pop(0))
        try:
            held.append(hold(target, shape, address=f"127.0.0.{2 + len(held) % ADDRESSES}"))
        except OSError:
            continue
        opened += 1
    return opened
