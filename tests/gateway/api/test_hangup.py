"""Callers that hang up while their image waits or is looked at."""

import asyncio

import pytest
from starlette.requests import Request
from starlette.types import Message

from gateway.api.hangup import ending_with_its_caller

pytestmark = pytest.mark.anyio

WAIT_SECONDS = 10.0
MORE: Message = {"type": "http.request", "body": b"", "more_body": False}
GONE: Message = {"type": "http.disconnect"}


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the gateway runs on."""
    return "asyncio"


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
