"""The witness's own folder: one file a ledger, replaced as a whole, durable before anything is said because of it.

Rules: whoever reads and writes a ledger's file holds its lock; a file that cannot be read is never replaced, for it may
hold the only trace of what a ledger was.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from gateway.audit.replaced_files import Disk, lock_beside, read_small_file, replace_file
from monitor.records import MonitorError
from monitor.witness import (
    MAX_STATE_BYTES,
    Seen,
    StateInvalidError,
    format_seen,
    parse_seen,
    state_file_name,
)


class WitnessFolderError(MonitorError):
    """The folder of the witness cannot be read or written; the message says what to do."""


class WitnessFolder:
    """What was seen of ledgers, by their names."""

    def __init__(self, path: Path, *, disk: Disk | None = None) -> None:
        """path: made when it is first written to. disk: for tests."""
        self._path = path
        self._disk = disk or Disk()

    @contextmanager
    def locked(self, origin: str) -> Iterator[None]:
        """Keep every other process from what was seen of this ledger. Raises WitnessFolderError."""
        try:
            self._path.mkdir(parents=True, exist_ok=True, mode=0o755)
            with lock_beside(self._file(origin)):
                yield
        except OSError as exc:
            raise self._failed(exc) from exc

    def load(self, origin: str) -> Seen | None:
        """What was seen of a ledger; None for nothing.

        Raises StateInvalidError if the file is damaged or another ledger's, WitnessFolderError if it cannot be read.
        """
        file = self._file(origin)
        seen = self._load(file)
        if seen is not None and seen.origin != origin:
            raise StateInvalidError(f"{file} is about {seen.origin}")
        return seen

    def save(self, seen: Seen) -> None:
        """Keep this of a ledger, durably. Raises WitnessFolderError: then the old or the new is kept."""
        try:
            replace_file(self._file(seen.origin), format_seen(seen), disk=self._disk)
        except OSError as exc:
            raise self._failed(exc) from exc

    def list_all(self) -> tuple[dict[str, Seen], list[tuple[str, str]]]:
        """What was seen, by ledger; and the names of files that cannot be understood or are misnamed, and why.

        Raises WitnessFolderError.
        """
        found: dict[str, Seen] = {}
        damaged = []
        for file in sorted(self._path.glob("*.json")) if self._path.is_dir() else ():
            try:
                seen = self._load(file)
            except StateInvalidError as exc:
                damaged.append((file.name, str(exc)))
                continue
            if seen is not None and file == self._file(seen.origin):
                found[seen.origin] = seen
            elif seen is not None:
                damaged.append((file.name, f"it is about {seen.origin}"))
        return found, damaged

    def forget(self, origin: str, *, now: datetime) -> Path | None:
        """Put what was seen of a ledger aside, damaged or not; where it is then, None if there was nothing.

        Raises WitnessFolderError.
        """
        file = self._file(origin)
        aside = file.with_suffix(f".forgotten-{now:%Y%m%dT%H%M%S}")
        try:
            self._disk.rename(file, aside)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise self._failed(exc) from exc
        return aside

    def _file(self, origin: str) -> Path:
        return self._path / state_file_name(origin)

    def _load(self, file: Path) -> Seen | None:
        try:
            content = read_small_file(file, max_bytes=MAX_STATE_BYTES)
        except OSError as exc:
            raise self._failed(exc) from exc
        return None if content is None else parse_seen(content)

    def _failed(self, exc: OSError) -> WitnessFolderError:
        return WitnessFolderError(
            f"MONITOR_WITNESS_FOLDER {self._path} cannot be used: {exc.strerror or exc}; check its volume and rights"
        )
