"""A call ends with its caller: work for somebody who hung up is dropped, and the pipeline records why.

Rules: the listener is asked only once the body has been read, because until then the body's reader hears of a hang-up
itself; a call is cancelled only while it runs inside the context, so an answer that is on its way is never torn.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.requests import Request

from gateway.errors import Code


@contextmanager
def ending_with_its_caller(request: Request) -> Iterator[Callable[[], None]]:
    """Cancel the running task, with CLIENT_GONE as its message, if the caller hangs up after the yielded call."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("internal: a request is handled outside of any task")
    watch: asyncio.Task[None] | None = None
    is_gone = False

    async def wait_for_end() -> None:
        nonlocal is_gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        is_gone = True
        task.cancel(Code.CLIENT_GONE.value)

    def start() -> None:
        nonlocal watch
        watch = asyncio.create_task(wait_for_end())

    try:
        yield start
    finally:
        if watch is not None:
            watch.cancel()
        if is_gone:
            # Counting and logging, which follow, are no part of what was cancelled.
            task.uncancel()
