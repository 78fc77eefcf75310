"""uvicorn's HTTP/1.1 protocol with limits, for callers of whom nothing is known yet.

Rules: the parser sees only what the framing let through; trailer fields are dropped; every wait for the caller has a
deadline that bytes do not extend, but for a body, whose reader has its own; after an answer to a request that is still
arriving, the rest is discarded for a bounded time; only a call that is being answered, for a caller who takes its
answers, keeps others out of a full house. What is no request is answered 400 without an audit record, since
there is nothing to record, and its connection ends.
"""

import asyncio
import errno
from collections import deque
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.api.client_certificates import TLS_1_3, ClientCertificate, verified_certificate
from gateway.api.deadlines import Deadlines
from gateway.api.framing import NO_TUNNEL, NOT_HTTP, Framing
from gateway.api.limits import CLOSE_GRACE_SECONDS, EdgeLimits, Ended
from gateway.api.places import Place
from gateway.api.problems import problem_body
from gateway.api.request_ids import new_request_id
from gateway.errors import Code, RequestError

# Every call that waits for the answers before it costs some kilobytes, and fits into forty bytes of a client's.
MAX_PIPELINED = 16
MAX_WAITING_HEAD_BYTES = 64 << 10  # of all of them together
FIELD_OVERHEAD_BYTES = 32  # what a field costs beyond its bytes, as RFC 9113 section 6.5.2 counts
WRITE_HIGH_WATER_BYTES = 64 << 10


class GatewayProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: EdgeLimits,
        place: Place,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._place = place
        self._framing = Framing()
        self._deadlines = Deadlines[Ended](self.loop, on_due=self._end)
        self._phase: Ended | None = None  # the deadline of what is waited for now
        self._answers = _AnswerTransport(self)
        self._is_in_head = True
        self._keeps_alive = True
        self._is_lingering = False
        self._linger_bytes = 0
        self._is_faulty = False
        self._waiting_head_bytes: deque[int] = deque()  # of the calls in the pipeline
        self._certificate: ClientCertificate | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._place.take(self)
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)
        self._certificate = verified_certificate(transport.get_extra_info("ssl_object"))
        self._expect(Ended.HEADER_TIMEOUT, self._limits.header_timeout_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give back what the connection holds."""
        self._deadlines.stop()
        if isinstance(exc, OSError) and exc.errno == errno.ETIMEDOUT:
            self._place.count(Ended.WRITE_TIMEOUT)  # by the kernel, see the acceptor
        self._place.leave()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Let the caller read, for a time."""
        super().pause_writing()
        self._place_anew()
        self._deadlines.set(Ended.WRITE_TIMEOUT, self._limits.write_timeout_seconds)

    def resume_writing(self) -> None:
        """Go on writing."""
        super().resume_writing()
        self._place_anew()
        self._deadlines.clear(Ended.WRITE_TIMEOUT)

    def data_received(self, data: bytes) -> None:
        """Parse; bytes after the close are nobody's, and closing may itself hand over what TLS still holds."""
        if self.transport.is_closing() or self._is_faulty:
            return
        if self._is_lingering:
            self._linger_bytes += len(data)
            if self._linger_bytes > self._limits.max_linger_bytes:
                self._place.count(Ended.LINGER_BYTES)
                self._abort()
                return
        elif self._phase is Ended.IDLE_TIMEOUT:
            self._expect(Ended.HEADER_TIMEOUT, self._limits.header_timeout_seconds)
        fault = self._parse(self._framing.take(data))
        if self.transport.is_closing():
            return
        if fault is not None:
            self._refuse(fault)
        elif self._framing.fault is not None:
            self._refuse_what_follows(self._framing.fault)

    def on_message_begin(self) -> None:
        """Make the scope, with what TLS says of the caller."""
        super().on_message_begin()
        self._is_in_head = True
        # ASGI TLS extension, version 0.2, and a key of our own; no header is ever looked at for this.
        tls = {"tls_version": TLS_1_3, "client_cert_thumbprint": self._thumbprint()}
        self.scope["extensions"] = {"tls": tls}  # type: ignore[dict-item]

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head; one of the trailer must not become a credential, and is dropped."""
        if self._is_in_head:
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """Start a call."""
        if self._is_lingering or self.transport.is_closing():
            raise _invalid(NOT_HTTP)
        if self.parser.should_upgrade():
            # The parser takes what follows an upgrade for no HTTP, and its next bytes for a new request.
            raise _invalid(NO_TUNNEL)
        if self._is_answering():
            self._count_waiting()
        self._is_in_head = False
        self._expect(None)
        super().on_headers_complete()
        self._place_anew()
        # Until the body is complete the connection cannot be kept: its rest would be read without a credential.
        self._keeps_alive = self.cycle.keep_alive and not self._must_renew()
        self.cycle.keep_alive = False
        self.cycle.transport = self._answers

    def on_body(self, body: bytes) -> None:
        """Pass bytes on while somebody may want them."""
        if not self._is_lingering:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Keep the connection if the call wants that and was not answered before this."""
        if self._is_lingering:
            self._close(CLOSE_GRACE_SECONDS)
            return
        if not self.cycle.response_started:
            self.cycle.keep_alive = self._keeps_alive
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start the next call or wait for it, unless none may come."""
        self.server_state.total_requests += 1
        if self._is_lingering or self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._waiting_head_bytes.popleft()
            self._start_asgi_task(cycle, app)
            return
        self._place_anew()
        if self._framing.is_between:
            self._expect(Ended.IDLE_TIMEOUT, self._limits.idle_timeout_seconds)
        else:
            self._expect(Ended.HEADER_TIMEOUT, self._limits.header_timeout_seconds)

    def shutdown(self) -> None:
        """End after the call that is being answered."""
        self._keeps_alive = False
        if self._is_answering():
            self.cycle.keep_alive = False
        elif not self._is_lingering:
            self._close(CLOSE_GRACE_SECONDS)

    def give_way(self) -> None:
        """End at once, for a connection that may have more to say."""
        self._place.count(Ended.GAVE_WAY)
        self._abort()

    def finish_answers(self) -> None:
        """Close once the caller is done sending: closed earlier, the answer could be lost on its way (RFC 9112 9.6)."""
        if not self.cycle.more_body:
            self._close(self._limits.write_timeout_seconds)
        elif not self._is_lingering:
            self._is_lingering = True
            self._place_anew()
            self._expect(Ended.LINGER_TIMEOUT, self._limits.linger_timeout_seconds)
            self.flow.resume_reading()

    def _parse(self, passed: bytes) -> RequestError | None:
        if not passed:
            return None
        try:
            self.parser.feed_data(passed)
        except httptools.HttpParserError as exc:
            cause = exc.__context__  # what a callback above raised
            return cause if isinstance(cause, RequestError) else _invalid(NOT_HTTP)
        return None

    def _count_waiting(self) -> None:
        fields_bytes = sum(
            len(name) + len(value) + FIELD_OVERHEAD_BYTES for name, value in self.headers
        )
        self._waiting_head_bytes.append(len(self.url) + fields_bytes)
        if (
            len(self._waiting_head_bytes) > MAX_PIPELINED
            or sum(self._waiting_head_bytes) > MAX_WAITING_HEAD_BYTES
        ):
            raise _invalid(NOT_HTTP)

    def _thumbprint(self) -> str | None:
        certificate = self._certificate
        is_good = certificate is not None and not certificate.is_over(self._place.now())
        return certificate.thumbprint if certificate is not None and is_good else None

    def _must_renew(self) -> bool:
        certificate = self._certificate
        has_ended = certificate is not None and certificate.is_over(self._place.now())
        return has_ended or self._place.must_renew()

    def _place_anew(self) -> None:
        """Keep the place only while a call is worked on: what waits for the caller could be held by anybody."""
        waits_for_caller = (
            self._is_lingering or self.flow.write_paused or self.transport.is_closing()
        )
        if waits_for_caller or not self._is_answering():
            self._place.wait()
        else:
            self._place.work()

    def _expect(self, phase: Ended | None, seconds: float = 0.0) -> None:
        """Replace the deadline of what was waited for until now."""
        if self._phase is not None:
            self._deadlines.clear(self._phase)
        self._phase = phase
        if phase is not None:
            self._deadlines.set(phase, seconds)

    def _end(self, reason: Ended) -> None:
        """A deadline has passed."""
        if self.transport.is_closing():
            self._abort()
            return
        self._place.count(reason)
        if reason in _POLITE:
            self._close(CLOSE_GRACE_SECONDS)
        else:
            self._abort()

    def _close(self, grace_seconds: float) -> None:
        """End TLS in order, but wait no longer for the other side to read the rest and agree."""
        self.transport.close()
        self._place_anew()
        self._expect(_CLOSING, grace_seconds)

    def _abort(self) -> None:
        self._place.cut_off()
        self.transport.abort()

    def _refuse(self, error: RequestError) -> None:
        self._place.count(Ended.HTTP_INVALID)
        # An answer written while an earlier call still waits for its own would be taken for that one.
        if not self._is_lingering and not self._owes_an_answer():
            if self.cycle is not None:
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            self.transport.write(self._refusal(error))
        self._close(CLOSE_GRACE_SECONDS)

    def _refuse_what_follows(self, error: RequestError) -> None:
        """Refuse what lies behind whole requests, but answer those: their caller may have had no part in the rest."""
        if self._is_answering() and not self.cycle.more_body:
            self._is_faulty = True
            self._place.count(Ended.HTTP_INVALID)
            self.cycle.keep_alive = False
        else:
            self._refuse(error)

    def _refusal(self, error: RequestError) -> bytes:
        body = problem_body(error, request_id=new_request_id())
        fields = [
            *self.server_state.default_headers,
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        head = b"".join(b"%s: %s\r\n" % field for field in fields)
        return b"HTTP/1.1 400 Bad Request\r\n" + head + b"\r\n" + body

    def _is_answering(self) -> bool:
        is_begun = self.cycle is not None  # as on a connection without a call yet
        return is_begun and not self.cycle.response_complete

    def _owes_an_answer(self) -> bool:
        if not self._is_answering():
            return False
        return bool(self.pipeline) or not self.cycle.more_body or self.cycle.response_started


# Whoever only waits is told that we leave; whoever does not read or does not stop sending is cut off.
_POLITE = frozenset({Ended.HEADER_TIMEOUT, Ended.IDLE_TIMEOUT})
_CLOSING = Ended.IDLE_TIMEOUT  # once the transport is closing, any deadline means abort


class _AnswerTransport(asyncio.Transport):
    """What calls write their answers to; its close leaves the end of the connection to the protocol."""

    def __init__(self, protocol: GatewayProtocol) -> None:
        super().__init__()
        self._protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._protocol.transport.write(data)

    def is_closing(self) -> bool:
        return self._protocol.transport.is_closing()

    def close(self) -> None:
        self._protocol.finish_answers()


def _invalid(message: str) -> RequestError:
    return RequestError(Code.HTTP_INVALID, message)
