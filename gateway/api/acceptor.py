"""Taking connections from a listening socket: counted and bounded from the first packet, before any TLS.

Rules: a connection counts from its accept to its end, whatever becomes of its handshake; one address never holds more
than its share, and over it new ones are closed at once; where the whole is full, the connection that has waited for
its caller longest gives way, and the new one is closed only if all are at work; the loop is never kept by a flood, nor
by a lack of descriptors.
"""

import asyncio
import contextlib
import errno
import fcntl
import functools
import logging
import resource
import socket
import ssl
import struct
import sys
import termios
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from gateway.api.limits import KERNEL_GRACE_SECONDS, EdgeLimits, Ended
from gateway.api.places import Served
from gateway.identity.suppression import Suppression

BACKLOG = 512
MAX_ACCEPTED_AT_ONCE = 4  # a handshake takes a millisecond, in which nobody else is served
SEND_BUFFER_BYTES = 128 << 10  # the kernel's, of answers that nobody reads
PAUSE_SECONDS = 0.5
RESERVED_DESCRIPTORS = 256  # for everything that is no connection

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = logging.getLogger("gateway.api")


class TlsSource(Protocol):
    """Where the context for the next connection comes from."""

    @property
    def current(self) -> ssl.SSLContext:
        """The newest one."""

    def now(self) -> datetime:
        """The time by which certificates end."""

    def must_renew(self, context: ssl.SSLContext) -> bool:
        """Whether connections made with this one should end soon."""


class Seat:
    """What the acceptor keeps of one connection; the protocol's Place."""

    __slots__ = ("_acceptor", "_has_left", "_socket", "address", "context", "served", "task")

    def __init__(
        self,
        acceptor: "Acceptor",
        accepted: socket.socket,
        address: bytes,
        context: ssl.SSLContext,
    ) -> None:
        self._acceptor = acceptor
        self._socket = accepted
        self._has_left = False
        self.address = address
        self.context = context
        self.served: Served | None = None  # from the end of the handshake on
        self.task: asyncio.Task[None] | None = None

    def take(self, served: Served) -> None:
        """The handshake is done."""
        self.served = served

    def wait(self) -> None:
        """This connection may give way from now on."""
        if not self._has_left:
            self._acceptor.waiting[self] = None

    def work(self) -> None:
        """This connection may not give way."""
        self._acceptor.waiting.pop(self, None)

    def count(self, reason: Ended) -> None:
        """Say why the gateway ends it."""
        self._acceptor.on_ended(reason)

    def cut_off(self) -> None:
        """Let the socket end by a reset if its peer has not taken all that it was sent.

        The usual end would wait behind that: the peer would see nothing, and the kernel would keep it all.
        """
        with contextlib.suppress(OSError):
            if _unacknowledged_bytes(self._socket):
                at_once = struct.pack("ii", 1, 0)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)

    def now(self) -> datetime:
        """The time by which certificates end."""
        return self._acceptor.tls.now()

    def must_renew(self) -> bool:
        """Whether it should end once its present call is answered."""
        return self._acceptor.tls.must_renew(self.context)

    def leave(self) -> None:
        """Free the seat, once."""
        if not self._has_left:
            self._has_left = True
            self._acceptor.free(self)

    def give_way(self) -> None:
        """End the connection, in whatever state it is."""
        self.leave()
        if self.served is not None:
            self.served.give_way()
        elif self.task is not None:
            self.count(Ended.GAVE_WAY)
            self.task.cancel()


class Acceptor:
    """One listening socket. make_protocol gets a connection's seat, before its handshake."""

    def __init__(
        self,
        listener: socket.socket,
        *,
        tls: TlsSource,
        limits: EdgeLimits,
        make_protocol: Callable[[Seat], asyncio.Protocol],
        on_ended: Callable[[Ended], None],
        on_count: Callable[[int], None],
    ) -> None:
        self.tls = tls
        self.on_ended = on_ended
        self.waiting: dict[Seat, None] = {}  # in the order in which they began to wait
        self._listener = listener
        self._limits = limits
        self._make_protocol = make_protocol
        self._on_count = on_count
        self._loop = asyncio.get_running_loop()
        self._addresses: Counter[bytes] = Counter()
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._told = Suppression(max_addresses=1_000, max_records_per_minute=60)
        self._pause: asyncio.TimerHandle | None = None
        self._is_open = False

    def start(self) -> None:
        """Listen. Raises OSError if another socket listens there by now."""
        _allow_descriptors(self._limits.max_connections + RESERVED_DESCRIPTORS)
        self._listener.settimeout(0)
        _give_up_unread_data(self._listener, self._limits.write_timeout_seconds)
        self._listener.listen(BACKLOG)
        self._is_open = True
        self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Take no more, and give up handshakes; connections that are made go on."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._listener)
            if self._pause is not None:
                self._pause.cancel()
            for task in self._tasks:
                task.cancel()

    async def wait_closed(self) -> None:
        """Wait until no handshake is under way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def free(self, seat: Seat) -> None:
        """Take a seat back."""
        self.waiting.pop(seat, None)
        self._count -= 1
        self._addresses[seat.address] -= 1
        if not self._addresses[seat.address]:
            del self._addresses[seat.address]
        self._on_count(self._count)

    def _accept(self) -> None:
        # What is left wakes the loop again: the connections that are made get their turn in between.
        for _ in range(MAX_ACCEPTED_AT_ONCE):
            try:
                accepted, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                if exc.errno not in _EXHAUSTED:
                    raise
                self._rest(exc)
                return
            self._admit(accepted, address_key(address[0]))

    def _admit(self, accepted: socket.socket, address: bytes) -> None:
        reason = self._why_full(address)
        if reason is not None:
            self.on_ended(reason)
            accepted.close()
            return
        seat = Seat(self, accepted, address, self.tls.current)
        self._count += 1
        self._addresses[address] += 1
        self._on_count(self._count)
        seat.wait()
        task = seat.task = self._loop.create_task(self._shake_hands(accepted, seat))
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._settle, accepted=accepted, seat=seat))

    def _why_full(self, address: bytes) -> Ended | None:
        if self._addresses[address] >= self._limits.max_connections_per_address:
            return Ended.ADDRESS_LIMIT
        if self._count >= self._limits.max_connections:
            oldest = next(iter(self.waiting), None)
            if oldest is None:
                return Ended.CONNECTION_LIMIT
            oldest.give_way()
        return None

    async def _shake_hands(self, accepted: socket.socket, seat: Seat) -> None:
        await self._loop.connect_accepted_socket(
            lambda: self._make_protocol(seat),
            accepted,
            ssl=seat.context,
            ssl_handshake_timeout=self._limits.handshake_timeout_seconds,
            ssl_shutdown_timeout=self._limits.write_timeout_seconds + KERNEL_GRACE_SECONDS,
        )

    def _settle(self, task: asyncio.Task[None], accepted: socket.socket, seat: Seat) -> None:
        # Asked of the seat, not of the task: a handshake that is cut off may end without an error.
        self._tasks.discard(task)
        exc = None if task.cancelled() else task.exception()
        if seat.served is not None:
            return
        accepted.close()
        seat.leave()
        if isinstance(exc, ssl.SSLError):
            seat.count(Ended.HANDSHAKE_FAILED)
            self._tell(seat.address, exc)
        elif isinstance(exc, (TimeoutError, ConnectionAbortedError)):
            seat.count(Ended.HANDSHAKE_TIMEOUT)
        elif exc is not None and not isinstance(exc, OSError):
            log.error("handshake_crashed", exc_info=exc)

    def _tell(self, address: bytes, exc: ssl.SSLError) -> None:
        """Say why a handshake failed, which the event loop does not let the caller hear; once a minute an address."""
        text = address_text(address)
        is_told, untold = self._told.should_record(text, self._loop.time())
        if is_told:
            log.info("handshake_failed address=%s reason=%s untold=%d", text, exc.reason, untold)

    def _rest(self, exc: OSError) -> None:
        # The socket stays readable while nothing can be accepted: without a pause the loop would spin.
        log.warning("accept_paused reason=%s", errno.errorcode.get(exc.errno or 0, ""))
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        self._pause = None
        if self._is_open:
            self._loop.add_reader(self._listener, self._accept)


def address_key(address: str) -> bytes:
    """What counts as one address: an IPv4 address, however it is written, or an IPv6 /64, which one customer has."""
    if ":" not in address:
        return socket.inet_pton(socket.AF_INET, address)
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    is_mapped = packed.startswith(b"\0" * 10 + b"\xff\xff")  # RFC 4291 section 2.5.5.2
    return packed[12:] if is_mapped else packed[:8]


def address_text(key: bytes) -> str:
    """What address_key counts, as people write it."""
    if len(key) == 4:
        return socket.inet_ntop(socket.AF_INET, key)
    return socket.inet_ntop(socket.AF_INET6, key.ljust(16, b"\0")) + "/64"


def _give_up_unread_data(listener: socket.socket, seconds: float) -> None:
    # Connections inherit it. The loop's own buffers only fill once the kernel's are full: a client that asks now and
    # then and never reads would be kept until then.
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        milliseconds = round((seconds + KERNEL_GRACE_SECONDS) * 1000)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def _unacknowledged_bytes(connection: socket.socket) -> int:
    answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(answer, sys.byteorder)


def _allow_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < count:
        log.warning(
            "descriptors_few allowed=%d wanted=%d fix=raise the limit (ulimit -n, LimitNOFILE) "
            "or lower GATEWAY_MAX_CONNECTIONS",
            wanted,
            count,
        )
