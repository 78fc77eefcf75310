"""Names of report files, and writing them so that a reader never sees half of one."""

import os
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from gateway.audit.replaced_files import Disk, sync_folder


def report_stem(model_name: str, model_version: str, now: datetime) -> str:
    """The common beginning of one report's file names, safe on every file system."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", f"{model_name}-{model_version}").lstrip(".")
    # Milliseconds: two reports asked for in one second do not overwrite each other.
    return f"{safe}-{now.astimezone(UTC):%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}Z"


def write_atomically(path: Path, text: str, *, disk: Disk | None = None) -> None:
    """Replace a file by one with this UTF-8 text: before the rename the old file stands, after it the new one.

    Durable when it returns. disk: for tests.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    # Or after a power cut the ledger says that there is a report whose name is gone.
    sync_folder(path.parent, disk=disk or Disk())
