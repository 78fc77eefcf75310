"""Reading bodies: bounded in bytes and in time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import pytest
from starlette.requests import Request
from starlette.types import Message

from gateway.api.body import read_body
from gateway.errors import Code, RequestError

pytestmark = pytest.mark.anyio
Receive = Callable[[], Awaitable[Message]]


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the gateway runs on."""
    return "asyncio"


class Messages:
    """Hands out ASGI messages in order and remembers how many were taken; waits for ever after the last."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self._messages = list(messages)
        self.taken = 0

    async def __call__(self) -> Message:
        """The next message."""
        if self.taken == len(self._messages):
            await asyncio.Event().wait()
        self.taken += 1
        return self._messages[self.taken - 1]


def chunks(*parts: bytes) -> list[Message]:
    """A whole body in these chunks."""
    last = len(parts) - 1
    return [
        {"type": "http.request", "body": part, "more_body": number < last}
        for number, part in enumerate(parts)
    ]


def request(receive: Receive, declared: str | None = None) -> Request:
    """A POST whose Content-Length says `declared`."""
    headers = [] if declared is None else [(b"content-length", declared.encode("latin-1"))]
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers}
    return Request(scope, receive)


async def read(receive: Receive, declared: str | None = None) -> bytes:
    """The body of such a request, 8 bytes at most."""
    return await read_body(request(receive, declared), max_body_bytes=8, timeout_seconds=5)


async def test_a_body_of_several_chunks_is_joined() -> None:
    """The order of chunks is kept."""
    assert await read(Messages(chunks(b"abc", b"", b"de"))) == b"abcde"


async def test_a_body_of_exactly_the_limit_is_taken() -> None:
    """The limit itself is allowed, declared and sent."""
    assert await read(Messages(chunks(b"abcd", b"efgh")), "8") == b"abcdefgh"


@pytest.mark.parametrize("declared", ["9", "99999999999999999999", "9" * 4000])
async def test_a_declared_length_over_the_limit_is_refused_unread(declared: str) -> None:
    """Nothing is received for a body that says it is too large."""
    messages = Messages(chunks(b"abcdefghi"))
    with pytest.raises(RequestError) as caught:
        await read(messages, declared)
    assert (caught.value.code, messages.taken) == (Code.BODY_TOO_LARGE, 0)


async def test_a_body_larger_than_its_chunks_may_be_is_refused_at_once() -> None:
    """Without a declared length, reading stops at the chunk that crosses the limit."""
    messages = Messages(chunks(b"abcd", b"efghi", b"never taken"))
    with pytest.raises(RequestError) as caught:
        await read(messages)
    assert (caught.value.code, messages.taken) == (Code.BODY_TOO_LARGE, 2)
    assert caught.value.message == "the body is larger than 8 bytes: send a smaller image"


@pytest.mark.parametrize("declared", ["2", "-1", "\xb2", "1e9", ""])
async def test_a_false_declared_length_does_not_lift_the_limit(declared: str) -> None:
    """What counts is what arrives."""
    with pytest.raises(RequestError) as caught:
        await read(Messages(chunks(b"abcdefghi")), declared)
    assert caught.value.code is Code.BODY_TOO_LARGE


async def test_a_body_that_stalls_meets_the_deadline() -> None:
    """The time counts for the whole body, however many chunks came."""
    unfinished: list[Message] = [{"type": "http.request", "body": b"abc", "more_body": True}]
    with pytest.raises(RequestError) as caught:
        await read_body(request(Messages(unfinished), "8"), max_body_bytes=8, timeout_seconds=0.01)
    assert caught.value.code is Code.BODY_TIMEOUT
    assert (
        caught.value.message == "the body did not arrive within 0.01 s: send it faster or smaller"
    )


class Dripped:
    """A body of one byte at a time, for ever; notes how many were taken."""

    def __init__(self, *, size: int) -> None:
        self.taken = 0
        self._size = size

    async def __call__(self) -> Message:
        """The next part, once other things had their turn."""
        await asyncio.sleep(0)
        self.taken += 1
        return {"type": "http.request", "body": b"x" * self._size, "more_body": True}


@pytest.mark.parametrize("messages", [Dripped(size=1), Messages(())], ids=["dripped", "nothing"])
async def test_a_body_below_the_least_rate_is_given_up(messages: Receive) -> None:
    """Long before its time is over: what arrives moves the deadline by no more than it is worth."""
    with pytest.raises(RequestError) as caught:
        await read_body(
            request(messages),
            max_body_bytes=1 << 30,
            timeout_seconds=600,
            min_bytes_per_second=1 << 30,
            grace_seconds=0.1,
        )
    assert caught.value.code is Code.BODY_TIMEOUT
    assert "came at less than 1073741824 bytes a second" in caught.value.message


async def test_a_good_rate_moves_the_deadline() -> None:
    """Beyond the grace, as far as the bytes are worth: here the body takes twice as long."""
    grace_seconds = 0.1
    messages = Messages(chunks(b"ab", b"cd", b"ef"))

    async def slowly() -> Message:
        await asyncio.sleep(grace_seconds * 2 / 3)
        return await messages()

    body = await read_body(
        request(slowly),
        max_body_bytes=8,
        timeout_seconds=600,
        min_bytes_per_second=1,
        grace_seconds=grace_seconds,
    )
    assert body == b"abcdef"


async def test_no_rate_moves_the_deadline_beyond_the_whole_time() -> None:
    """A fast body without an end ends all the same."""
    with pytest.raises(RequestError) as caught:
        await read_body(
            request(Dripped(size=1000)),
            max_body_bytes=1 << 40,
            timeout_seconds=0.1,
            min_bytes_per_second=1,
            grace_seconds=0.05,
        )
    assert caught.value.code is Code.BODY_TIMEOUT


async def test_a_caller_that_hangs_up_is_told_apart() -> None:
    """An incomplete body is never taken for a whole one; the reason is for the audit record."""
    messages: list[Message] = [
        {"type": "http.request", "body": b"abc", "more_body": True},
        {"type": "http.disconnect"},
    ]
    with pytest.raises(RequestError) as caught:
        await read(Messages(messages))
    assert (caught.value.code, caught.value.reason) == (Code.BODY_INVALID, "client_disconnected")


@pytest.mark.parametrize("parts", [(b"",), (b"", b"", b"")])
async def test_an_empty_body_is_refused(parts: tuple[bytes, ...]) -> None:
    """No bytes are no image."""
    with pytest.raises(RequestError) as caught:
        await read(Messages(chunks(*parts)))
    assert caught.value.code is Code.BODY_EMPTY
