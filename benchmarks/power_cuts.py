"""What a disk can hold after the power went at some moment of a trace (storage_shim.c writes traces). Pure but for rng.

Model: what was synced is there. Of each write since the file's last sync any set of its sectors of 512 bytes may be
there, in any order; of each other change since the last sync (a new size, name or removal) all or nothing. A sync
of a file makes its content, its size and its name durable; one of the folder makes every name durable.
"""

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

SECTOR_BYTES = 512
_HEAD = struct.Struct("<cHQI")


@dataclass(frozen=True, slots=True)
class Change:
    """One record of a trace; see storage_shim.c for the kinds."""

    kind: str
    path: str
    offset: int
    data: bytes


def read_trace(content: bytes) -> Iterator[Change]:
    """The records of a trace; a cut last one, as a killed process leaves it, ends it."""
    start = 0
    while start + _HEAD.size <= len(content):
        kind, path_length, offset, length = _HEAD.unpack_from(content, start)
        data_start = start + _HEAD.size + path_length
        start, end = data_start + length, data_start + length
        if end > len(content):
            return
        path = content[data_start - path_length : data_start].decode()
        yield Change(kind.decode(), path, offset, content[data_start:end])


@dataclass(slots=True)
class _Content:
    durable: bytearray = field(default_factory=bytearray)
    unsynced: list[Change] = field(default_factory=list)

    def sync(self) -> None:
        for change in self.unsynced:
            _apply(self.durable, change)
        self.unsynced.clear()


class Disk:
    """What is durable, and what is not yet."""

    def __init__(self, files: dict[str, bytes]) -> None:
        """files: what is durable at the beginning, by path."""
        self._durable_names = {
            path: _Content(bytearray(content)) for path, content in files.items()
        }
        # Names as the process sees them; each unsynced change of names, in order.
        self._names = dict(self._durable_names)
        self._unsynced_names: list[tuple[Change, _Content]] = []

    def apply(self, change: Change) -> None:
        """Follow one record of the trace."""
        if change.kind == "D":
            self._sync_names()
        elif change.kind in "CUR":
            # A created file has one content, whichever of its names survives.
            created = _Content()
            _change_names(self._names, change, created)
            self._unsynced_names.append((change, created))
        elif change.path in self._names:
            content = self._names[change.path]
            if change.kind == "S":
                content.sync()
                self._sync_name(change.path)
            else:
                content.unsynced.append(change)

    def after_power_cut(self, rng: random.Random) -> dict[str, bytes]:
        """The files that a machine may find when it starts again, by path."""
        kept_share = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        names = dict(self._durable_names)
        for change, created in self._unsynced_names:
            if rng.random() < kept_share:
                _change_names(names, change, created)
        return {path: _torn(content, rng, kept_share) for path, content in names.items()}

    def _sync_names(self) -> None:
        self._durable_names = dict(self._names)
        self._unsynced_names.clear()

    def _sync_name(self, path: str) -> None:
        # Only a creation: ext4 and XFS make a new file's name durable with it, and promise nothing of the others.
        self._durable_names.setdefault(path, self._names[path])


def _change_names(names: dict[str, _Content], change: Change, created: _Content) -> None:
    if change.kind == "C":
        names[change.path] = created
    elif change.kind == "U":
        names.pop(change.path, None)
    elif change.path in names:
        names[change.data.decode()] = names.pop(change.path)


def _torn(content: _Content, rng: random.Random, kept_share: float) -> bytes:
    found = bytearray(content.durable)
    for change in content.unsynced:
        if change.kind == "T":
            if rng.random() < kept_share:
                _apply(found, change)
            continue
        for start in range(0, len(change.data), SECTOR_BYTES):
            if rng.random() < kept_share:
                part = change.data[start : start + SECTOR_BYTES]
                _apply(found, Change("W", change.path, change.offset + start, part))
    return bytes(found)


def _apply(content: bytearray, change: Change) -> None:
    if change.kind == "T":
        del content[change.offset :]
        content.extend(bytes(change.offset - len(content)))
        return
    end = change.offset + len(change.data)
    if len(content) < change.offset:
        content.extend(bytes(change.offset - len(content)))
    content[change.offset : end] = change.data
