"""Callers that hang up while their image waits or is looked at."""

import asyncio
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from gateway.api.hangup import ending_with_its_caller
from tests.gateway.api.conftest import connect, serving

pytestmark = pytest.mark.anyio

WAIT_SECONDS = 10.0
MORE: Message = {"type": "http.request", "body": b"", "more_body": False}
GONE: Message = {"type": "http.disconnect"}


class Connection:
    """What the listener says of one connection, in order; then nothing until the caller goes."""

    def __init__(self, *messages: Message) -> None:
        self._messages = iter(messages)
        self.gone = asyncio.Event()
        self.is_waited_for = asyncio.Event()
        self.asked = 0
        self.request = Request({"type": "http", "headers": []}, self._receive)

    async def _receive(self) -> Message:
        self.asked += 1
        for message in self._messages:
            return message
        self.is_waited_for.set()
        await self.gone.wait()
        return GONE


async def call(connection: Connection) -> str:
    """A call that works for ever once its body is read, and tells how it ended."""
    try:
        with ending_with_its_caller(connection.request) as watch:
            watch()
            await asyncio.Event().wait()
    except asyncio.CancelledError as exc:
        task = asyncio.current_task()
        assert task is not None
        return f"cancelled {exc.args} {task.cancelling()}"
    return "never"


async def test_a_call_is_cancelled_when_its_caller_goes() -> None:
    """With the reason as its message, and with nothing left of the cancellation afterwards."""
    connection = Connection(MORE)
    task = asyncio.create_task(call(connection))
    await asyncio.wait_for(connection.is_waited_for.wait(), WAIT_SECONDS)
    assert not task.done()
    connection.gone.set()
    assert await asyncio.wait_for(task, WAIT_SECONDS) == "cancelled ('client_gone',) 0"


async def test_a_cancellation_from_elsewhere_keeps_its_own_reason() -> None:
    """A shutdown is no hang-up, and stays a cancellation."""
    connection = Connection()
    task = asyncio.create_task(call(connection))
    await asyncio.wait_for(connection.is_waited_for.wait(), WAIT_SECONDS)
    task.cancel()
    assert await asyncio.wait_for(task, WAIT_SECONDS) == "cancelled () 1"


async def test_nobody_listens_after_the_answer() -> None:
    """The listener's next message belongs to the next call."""
    connection = Connection()
    before = asyncio.all_tasks()
    with ending_with_its_caller(connection.request) as watch:
        watch()
        await asyncio.sleep(0)
    connection.gone.set()
    await asyncio.sleep(0)
    assert connection.asked == 1
    assert asyncio.all_tasks() == before


async def test_the_body_is_left_to_its_reader() -> None:
    """Until the call says that it has it."""
    connection = Connection(GONE)
    with ending_with_its_caller(connection.request):
        await asyncio.sleep(0)
    assert connection.asked == 0


class Working:
    """An application that answers at once, or on /wait never, and remembers how calls ended."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.ended = asyncio.Event()
        self.reasons: list[tuple[object, ...]] = []
        self.app = Starlette(routes=[Route("/{path}", self._work, methods=["POST"])])

    async def _work(self, request: Request) -> Response:
        try:
            with ending_with_its_caller(request) as watch:
                body = await request.body()
                watch()
                self.started.set()
                # One turn of the loop, in which the listener is asked.
                await asyncio.sleep(0)
                if request.path_params["path"] == "wait":
                    await asyncio.Event().wait()
        except asyncio.CancelledError as exc:
            self.reasons.append(exc.args)
            self.ended.set()
            return Response(b"gone", 400)
        return Response(body)


async def test_a_closed_connection_ends_its_call(certificates: Path) -> None:
    """Over TLS, as a client's own timeout does it."""
    working = Working()
    async with serving(certificates, working.app) as port:
        _, writer = await connect(certificates, port)
        writer.write(b"POST /wait HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi")
        await asyncio.wait_for(working.started.wait(), WAIT_SECONDS)
        writer.close()
        await asyncio.wait_for(working.ended.wait(), WAIT_SECONDS)
    assert working.reasons == [("client_gone",)]


async def test_a_connection_that_is_kept_serves_call_after_call(certificates: Path) -> None:
    """One after the other, and two that came at once: what the listener said of one is never another's end."""
    working = Working()
    post = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n%d"
    async with serving(certificates, working.app) as port:
        reader, writer = await connect(certificates, port)
        answers = []
        for sent in (post % 1, post % 2, post % 3 + post % 4, post % 5):
            writer.write(sent)
            for _ in range(sent.count(b"POST")):
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT_SECONDS)
                assert head.startswith(b"HTTP/1.1 200 OK")
                answers.append(await reader.readexactly(1))
        writer.close()
    assert answers == [b"1", b"2", b"3", b"4", b"5"]
    assert working.reasons == []
