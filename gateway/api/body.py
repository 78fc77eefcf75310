"""Reading a request's body: bounded in bytes and in time, into memory only."""

import asyncio

from starlette.requests import ClientDisconnect, Request

from gateway.errors import Code, RequestError


async def read_body(request: Request, *, max_body_bytes: int, timeout_seconds: float) -> bytes:
    """The whole body, 1 to max_body_bytes bytes.

    A declared length over the limit is refused before anything is read. Raises RequestError with BODY_TOO_LARGE,
    BODY_TIMEOUT, BODY_INVALID (the caller hung up) or BODY_EMPTY.
    """
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > max_body_bytes:
        raise _too_large(max_body_bytes)
    try:
        async with asyncio.timeout(timeout_seconds):
            body = await _collect(request, max_body_bytes)
    except TimeoutError as exc:
        message = f"the body did not arrive within {timeout_seconds:g} s: send it faster or smaller"
        raise RequestError(Code.BODY_TIMEOUT, message) from exc
    except ClientDisconnect as exc:
        message = "the connection closed before the body was complete"
        raise RequestError(Code.BODY_INVALID, message, reason="client_disconnected") from exc
    if not body:
        raise RequestError(Code.BODY_EMPTY, "the body is empty: send the bytes of one image")
    return body


async def _collect(request: Request, max_body_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_body_bytes:
            raise _too_large(max_body_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(max_body_bytes: int) -> RequestError:
    message = f"the body is larger than {max_body_bytes} bytes: send a smaller image"
    return RequestError(Code.BODY_TOO_LARGE, message)
