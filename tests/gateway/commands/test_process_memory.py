"""What a process that opens weights allows: no dump, no debugger, no swapping, as far as the system grants it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gateway.commands import (
    doctor,
    features,
    kek_listing,
    kek_rotation,
    models,
    samples,
    sealing,
    serve,
)
from gateway.commands.process_memory import MemoryProtection
from gateway.commands.seal_order import SealOrder
from gateway.settings import GatewaySettings
from gateway.store.records import Traffic

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc are Linux's")

GRANTED = MemoryProtection(
    core_limit_bytes=0, is_dumpable=False, dump_filter=0, lock_limit_bytes=None, is_all_locked=True
)

# The imports come first: another user may not read where they lie. Dropping root makes a process undumpable, so that
# is undone, as it would be by starting a program.
_PROTECT = """
import ctypes, json, os, resource, sys
from dataclasses import asdict
from gateway.commands.process_memory import protect_process
prctl = ctypes.CDLL(None).prctl
resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534); prctl(4, 1, 0, 0, 0)
said = asdict(protect_process())
try:
    open("/proc/self/coredump_filter", "wb").write(b"0x33")
    can_undo = True
except PermissionError:
    can_undo = False
kernel = {
    "core_limit_bytes": resource.getrlimit(resource.RLIMIT_CORE)[1],
    "is_dumpable": bool(prctl(3, 0, 0, 0, 0)),
    "dump_filter": int(open("/proc/self/coredump_filter").read(), 16),
    "lock_limit_bytes": resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
}
print(json.dumps([said, kernel, can_undo]))
"""


@pytest.fixture(scope="module")
def unprivileged() -> tuple[dict[str, Any], dict[str, Any], bool]:
    """What a process without privileges says of itself, what the kernel says, and whether it can undo it."""
    done = subprocess.run(
        [sys.executable, "-c", _PROTECT], capture_output=True, text=True, check=True, timeout=60
    )
    said, kernel, can_undo = json.loads(done.stdout)
    return said, kernel, can_undo


@linux_only
def test_a_process_cannot_be_dumped(
    unprivileged: tuple[dict[str, Any], dict[str, Any], bool],
) -> None:
    """No core file, not dumpable, and no kind of memory in a dump: what a collector's pipe ignores, another stops."""
    said, kernel, _ = unprivileged
    expected = {"core_limit_bytes": 0, "is_dumpable": False, "dump_filter": 0}
    assert expected == {key: kernel[key] for key in expected}
    assert expected == {key: said[key] for key in expected}


@linux_only
def test_what_a_dump_holds_cannot_be_widened_again(
    unprivileged: tuple[dict[str, Any], dict[str, Any], bool],
) -> None:
    """From then on only root writes the process's files in /proc."""
    assert not unprivileged[2]


@linux_only
def test_a_finite_limit_of_locked_memory_is_said(
    unprivileged: tuple[dict[str, Any], dict[str, Any], bool],
) -> None:
    """Nothing is locked as a whole, for later allocations would fail; the fix is named."""
    said, kernel, _ = unprivileged
    assert (65536, 65536, False) == (
        kernel["lock_limit_bytes"],
        said["lock_limit_bytes"],
        said["is_all_locked"],
    )
    (gap,) = MemoryProtection(**said).gaps()
    assert "only 65536 bytes may be locked" in gap
    assert "LimitMEMLOCK=infinity" in gap


def test_nothing_is_missing_where_all_is_granted() -> None:
    """No finding, and one line for the log."""
    assert () == GRANTED.gaps()
    assert (
        "core_limit_bytes=0 dumpable=False dump_filter=0 lock_limit_bytes=unlimited all_locked=True"
        == str(GRANTED)
    )


@pytest.mark.parametrize(
    ("core_limit_bytes", "is_dumpable", "dump_filter", "gap_count"),
    [
        (0, True, 0, 0),
        (None, False, 0x33, 0),
        (0, True, 0x33, 1),
        (None, True, 0, 1),
        (0, None, None, 1),
    ],
)
def test_dumps_are_a_gap_unless_the_kernel_has_refused_them(
    core_limit_bytes: int | None, is_dumpable: bool | None, dump_filter: int | None, gap_count: int
) -> None:
    """A dumpable process needs both the limit and the filter: a collector's pipe ignores the limit."""
    protection = MemoryProtection(
        core_limit_bytes=core_limit_bytes,
        is_dumpable=is_dumpable,
        dump_filter=dump_filter,
        lock_limit_bytes=None,
        is_all_locked=True,
    )
    assert gap_count == len(protection.gaps())


class StoppedError(Exception):
    """Ends a command right after its first step."""


def _stop() -> None:
    raise StoppedError


@pytest.mark.parametrize(
    "command",
    [
        "serve", "seal", "features", "doctor", "models promote", "models rollback", "models traffic",
        "keys list", "keys rotate", "samples image",
    ],
)  # fmt: skip
def test_commands_that_open_keys_protect_themselves_first(
    settings: GatewaySettings,
    order: SealOrder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    """Before they read one."""
    modules = (serve, sealing, features, doctor, models, kek_listing, kek_rotation, samples)
    for module in modules:
        monkeypatch.setattr(module, "protect_process", _stop)
    # What opens a key, were it reached, would say that there is none.
    without = settings.model_copy(update={"keks": f"file:{tmp_path}/absent"})
    quiet = Console(quiet=True)
    run: dict[str, Callable[[], object]] = {
        "serve": lambda: serve.serve(without, ready_descriptor=None),
        "seal": lambda: sealing.seal(without, order, console=quiet),
        "features": lambda: features.print_features(without, tmp_path),
        "doctor": lambda: doctor.examine(without, as_json=True),
        "models promote": lambda: models.promote(without, name="belt", version="1"),
        "models rollback": lambda: models.roll_back(without, name="belt"),
        "models traffic": lambda: models.direct_traffic(
            without, name="belt", version="1", traffic=Traffic.SHADOW, share=1.0
        ),
        "keys list": lambda: kek_listing.list_keks(without, as_json=True),
        "keys rotate": lambda: kek_rotation.rotate(
            without, specs=[], is_dry_run=True, as_json=True, console=quiet
        ),
        "samples image": lambda: samples.write_image(without, "request-1", tmp_path / "out"),
    }
    with pytest.raises(StoppedError):
        run[command]()
