"""When each camera was last judged, so that none is judged twice within a time. Pure.

Rules: a camera is a name as one principal says it, so that nobody who says the same name takes another's turn; what is
remembered is bounded, and where it is full a principal that named many cameras makes room, not one that named few.
"""

import hashlib
import re
from base64 import urlsafe_b64encode
from collections import Counter
from datetime import datetime

from monitor.windows.thinning import is_too_soon

# Whose last time is remembered, of one model version.
MAX_CAMERAS = 256
# Of a principal, and of the name that it says: 72 bits, so that nobody finds another's.
_PART_CHARACTERS = 12
CAMERA_KEY = re.compile(r"[A-Za-z0-9_-]{24}")


def camera_key(principal: str, source: str) -> str:
    """What a camera is remembered by: short, also where the names are long."""
    return _part("principal", principal) + _part("source", source)


class CameraTimes:
    """The last time of each camera, by its key, in the order of taking; changes the dictionary that it is given."""

    def __init__(self, times: dict[str, datetime]) -> None:
        """times: at most MAX_CAMERAS."""
        self._times = times
        self._counts = Counter(map(_principal_of, times))

    def takes(self, key: str, at: datetime, *, thin_seconds: float) -> bool:
        """Whether a sample of this time is taken; if so, it is remembered.

        Of a remembered camera at most one in thin_seconds is. Where all places are taken, a principal that has its
        share of them (an equal one for each) waits until its oldest time is over; one that has less takes the oldest
        of whoever has most. So within thin_seconds at most twice MAX_CAMERAS are taken of all together.
        """
        if key in self._times:
            if is_too_soon(at, self._times[key], thin_seconds=thin_seconds):
                return False
            self._forget(key)
        elif len(self._times) >= MAX_CAMERAS and not self._makes_room(
            _principal_of(key), at, thin_seconds
        ):
            return False
        self._times[key] = at
        self._counts[_principal_of(key)] += 1
        return True

    def _makes_room(self, principal: str, at: datetime, thin_seconds: float) -> bool:
        count = self._counts[principal]
        largest, most = self._counts.most_common(1)[0]
        share = max(1, MAX_CAMERAS // (len(self._counts) + (count == 0)))
        if count < share < most:
            self._forget(self._oldest(largest))
            return True
        oldest = self._oldest(principal if count >= share else "")
        if is_too_soon(at, self._times[oldest], thin_seconds=thin_seconds):
            return False
        self._forget(oldest)
        return True

    def _oldest(self, principal: str) -> str:
        return next(key for key in self._times if key.startswith(principal))

    def _forget(self, key: str) -> None:
        del self._times[key]
        principal = _principal_of(key)
        self._counts[principal] -= 1
        if not self._counts[principal]:
            del self._counts[principal]


def _principal_of(key: str) -> str:
    return key[:_PART_CHARACTERS]


def _part(kind: str, name: str) -> str:
    digest = hashlib.sha256(f"gatewatch {kind}\0{name}".encode("utf-8", "surrogatepass"))
    return urlsafe_b64encode(digest.digest()).decode()[:_PART_CHARACTERS]
