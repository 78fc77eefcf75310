"""Reading a request's body: bounded in bytes and in time, into memory only."""

import asyncio

from starlette.requests import ClientDisconnect, Request

from gateway.errors import Code, RequestError

# Until then a body may be slower than the least rate: a connection has to find its speed first.
GRACE_SECONDS = 4.0
# A deadline is moved by no less than this: a timer for each byte would cost more than the byte.
_STEP_SECONDS = 0.25


async def read_body(
    request: Request,
    *,
    max_body_bytes: int,
    timeout_seconds: float,
    min_bytes_per_second: int = 0,
    grace_seconds: float = GRACE_SECONDS,
) -> bytes:
    """The whole body, 1 to max_body_bytes bytes.

    min_bytes_per_second: what must have arrived on average since the start, once grace_seconds are over; 0 is no such
    limit. A declared length over the limit is refused before anything is read. Raises RequestError with
    BODY_TOO_LARGE, BODY_TIMEOUT, BODY_INVALID (the caller hung up) or BODY_EMPTY.
    """
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > max_body_bytes:
        raise _too_large(max_body_bytes)
    grace_seconds = min(grace_seconds, timeout_seconds) if min_bytes_per_second else timeout_seconds
    try:
        async with asyncio.timeout(grace_seconds) as timeout:
            pace = _Pace(timeout, timeout_seconds, grace_seconds, min_bytes_per_second)
            body = await _collect(request, max_body_bytes, pace)
    except TimeoutError as exc:
        message = _too_slow(timeout_seconds, min_bytes_per_second)
        raise RequestError(Code.BODY_TIMEOUT, message) from exc
    except ClientDisconnect as exc:
        message = "the connection closed before the body was complete"
        raise RequestError(Code.BODY_INVALID, message, reason="client_disconnected") from exc
    if not body:
        raise RequestError(Code.BODY_EMPTY, "the body is empty: send the bytes of one image")
    return body


class _Pace:
    """Moves the deadline of a body as its bytes arrive."""

    def __init__(
        self, timeout: asyncio.Timeout, timeout_seconds: float, grace_seconds: float, rate: int
    ) -> None:
        self._timeout = timeout
        self._rate = rate
        self._due = timeout.when() or 0.0
        self._start = self._due - grace_seconds
        self._grace_seconds = grace_seconds
        self._end = self._start + timeout_seconds

    def note(self, received_bytes: int) -> None:
        """So many have arrived by now."""
        if self._rate == 0:
            return
        due = self._start + self._grace_seconds + received_bytes / self._rate
        due = min(due, self._end)
        if due - self._due >= _STEP_SECONDS or (due == self._end and due > self._due):
            self._due = due
            self._timeout.reschedule(due)


async def _collect(request: Request, max_body_bytes: int, pace: _Pace) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_body_bytes:
            raise _too_large(max_body_bytes)
        chunks.append(chunk)
        pace.note(size)
    return b"".join(chunks)


def _too_slow(timeout_seconds: float, min_bytes_per_second: int) -> str:
    message = f"the body did not arrive within {timeout_seconds:g} s"
    if min_bytes_per_second:
        message += f" or came at less than {min_bytes_per_second} bytes a second"
    return message + ": send it faster or smaller"


def _too_large(max_body_bytes: int) -> RequestError:
    message = f"the body is larger than {max_body_bytes} bytes: send a smaller image"
    return RequestError(Code.BODY_TOO_LARGE, message)
