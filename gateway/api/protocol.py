"""uvicorn's HTTP/1.1 protocol with limits, for callers of whom nothing is known yet.

Rules: a head is bounded in bytes and fields; one reading of a request or none (RFC 9112); trailer fields are dropped;
after an answer to a request that is still arriving, the rest is discarded for a bounded time. What breaks these rules
is answered 400 without an audit record, since there is no request to record, and its connection ends.
"""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.api.problems import problem_body
from gateway.errors import Code, RequestError

MAX_HEAD_BYTES = 32 << 10  # request line and fields; a token is at most a quarter of it
MAX_FIELDS = 100
LINGER_SECONDS = 5.0
MAX_LINGER_BYTES = 256 << 20  # a client that sends a body far too large still gets to read its 413

NOT_HTTP = "the request is not valid HTTP/1.1"
HEAD_TOO_LARGE = f"the head is over {MAX_HEAD_BYTES} bytes or {MAX_FIELDS} header fields"


class GatewayProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._answers = _AnswerTransport(self)
        self._head_bytes = 0
        self._fields = 0
        self._is_in_head = True
        # What was fed to the parser since it last came to an end of a head, to body bytes or to the end of a request.
        self._unsettled_bytes = 0
        self._keeps_alive = True
        self._linger_timer: asyncio.TimerHandle | None = None
        self._linger_bytes = 0

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; bytes after the close are nobody's, and closing may itself hand over what TLS still holds."""
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        if self._linger_timer is not None:
            self._linger_bytes += len(data)
            if self._linger_bytes > MAX_LINGER_BYTES:
                self.transport.abort()
                return
        self._unsettled_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as exc:
            cause = exc.__context__  # what a callback below raised
            self._refuse(cause if isinstance(cause, RequestError) else _invalid(NOT_HTTP))
        else:
            # The parser keeps an unfinished field to itself, so the callbacks alone cannot bound it.
            if self._unsettled_bytes > MAX_HEAD_BYTES:
                self._refuse(_invalid(HEAD_TOO_LARGE))

    def on_message_begin(self) -> None:
        """Count anew."""
        super().on_message_begin()
        self._head_bytes = 0
        self._fields = 0
        self._is_in_head = True

    def on_url(self, url: bytes) -> None:
        """Take a part of the request target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head; one of the trailer must not become a credential, and is dropped."""
        self._fields += 1
        self._count(len(name) + len(value))
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start a call if its head can be read in one way only."""
        if self._linger_timer is not None or self.transport.is_closing():
            raise _invalid(NOT_HTTP)
        if self.parser.should_upgrade():
            # The parser takes what follows CONNECT or an upgrade for no HTTP, and its next bytes for a new request.
            raise _invalid("this server takes neither CONNECT nor an upgrade to another protocol")
        _check_head(self.headers, self.parser.get_http_version())
        self._unsettled_bytes = 0
        self._is_in_head = False
        super().on_headers_complete()
        # Until the body is complete the connection cannot be kept: its rest would be read without a credential.
        self._keeps_alive = self.cycle.keep_alive
        self.cycle.keep_alive = False
        self.cycle.transport = self._answers

    def on_body(self, body: bytes) -> None:
        """Pass bytes on while somebody may want them."""
        self._unsettled_bytes = 0
        if self._linger_timer is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Keep the connection if the call wants that and was not answered before this."""
        self._unsettled_bytes = 0
        if self._linger_timer is not None:
            self.transport.close()
            return
        if not self.cycle.response_started:
            self.cycle.keep_alive = self._keeps_alive
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next call, unless none may come."""
        if self._linger_timer is None:
            super().on_response_complete()

    def shutdown(self) -> None:
        """End after the call that is being answered."""
        self._keeps_alive = False
        super().shutdown()

    def finish_answers(self) -> None:
        """Close once the caller is done sending: closed earlier, the answer could be lost on its way (RFC 9112 9.6)."""
        if not self.cycle.more_body:
            self.transport.close()
        elif self._linger_timer is None:
            self._linger_timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)
            self.flow.resume_reading()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES or self._fields > MAX_FIELDS:
            raise _invalid(HEAD_TOO_LARGE)

    def _refuse(self, error: RequestError) -> None:
        # An answer written while an earlier call still waits for its own would be taken for that one.
        if self._linger_timer is None and not self._owes_an_answer():
            if self.cycle is not None:
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            body = problem_body(error, request_id=str(uuid.uuid4()))
            head = (
                b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n"
                b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            )
            self.transport.write(head + body)
        self.transport.close()

    def _owes_an_answer(self) -> bool:
        is_owed = False
        if self.cycle is not None:  # as on a connection without a call yet
            cycle = self.cycle
            is_begun = bool(self.pipeline) or not cycle.more_body or cycle.response_started
            is_owed = is_begun and not cycle.response_complete
        return is_owed


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


def _check_head(headers: Sequence[tuple[bytes, bytes]], http_version: str) -> None:
    """Refuse what a proxy in front could read in another way than we do."""
    if http_version not in {"1.0", "1.1"}:
        raise _invalid(NOT_HTTP)
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1 or (not hosts and http_version == "1.1"):
        raise _invalid("exactly one Host header is needed")  # RFC 9112 section 3.2
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if codings and (codings != [b"chunked"] or http_version == "1.0"):
        # RFC 9112 section 6.1: other codings are not undone here, and HTTP/1.0 knows none.
        raise _invalid("the only transfer coding is chunked, in HTTP/1.1")


def _invalid(message: str) -> RequestError:
    return RequestError(Code.HTTP_INVALID, message)
