"""An event loop whose looking up of names ends with the time of whoever asked.

Rules: the system's resolver can be neither bounded nor stopped, so it is left behind in a thread that nobody waits for.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import Any


class Loop(asyncio.SelectorEventLoop):
    """Looks names up in threads that nobody waits for: asyncio's own are waited for, here and when the process ends."""

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """See asyncio.loop.getaddrinfo."""
        answer = self.create_future()

        def look_up() -> None:
            try:
                found = socket.getaddrinfo(host, port, family, type, proto, flags)
            except Exception as exc:  # noqa: BLE001  (it is the waiting side's to judge)
                settle = partial(_settle, answer, partial(answer.set_exception, exc))
            else:
                settle = partial(_settle, answer, partial(answer.set_result, found))
            # RuntimeError: the loop is closed, its time was over.
            with suppress(RuntimeError):
                self.call_soon_threadsafe(settle)

        Thread(target=look_up, name="webhook-lookup", daemon=True).start()
        return await answer


def _settle(answer: asyncio.Future[Any], settle: Callable[[], None]) -> None:
    if not answer.done():
        settle()
