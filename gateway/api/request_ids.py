"""Ids of requests: UUIDs that sort by time.

Rules: nobody chooses one but the gateway. Consecutive ids lie together in an index; with random ones each audit
record would touch a page of its own.
"""

import os
import time
import uuid
from collections.abc import Callable

_VERSION, _VARIANT = 7, 0b10


def new_request_id(
    *,
    now_ns: Callable[[], int] = time.time_ns,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> str:
    """A version 7 UUID: 48 bits of Unix milliseconds, 74 random bits. Source: RFC 9562 section 5.7."""
    milliseconds = (now_ns() // 1_000_000) & ((1 << 48) - 1)
    random = int.from_bytes(random_bytes(10), "big") >> 6
    high, low = random >> 62, random & ((1 << 62) - 1)
    number = milliseconds << 80 | _VERSION << 76 | high << 64 | _VARIANT << 62 | low
    return str(uuid.UUID(int=number))
