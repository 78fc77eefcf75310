"""Keeping what this process holds in memory, decrypted weights above all, out of core dumps and off swap devices.

Rules: every step is tried and none is required, for containers forbid some; what was refused is said, never
pretended. Nothing here stops root: who may read /proc/PID/mem of a running process reads its weights.
"""

import ctypes
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4  # linux/prctl.h
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4  # asm-generic/mman.h
_DUMP_FILTER = Path("/proc/self/coredump_filter")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryProtection:
    """What the operating system granted this process.

    core_limit_bytes: the largest core file; None: any size. is_dumpable: whether dumps and debuggers of the same user
    are allowed. dump_filter: the kinds of memory a dump would hold, as bits of core(5), 0 is none. Both are None where
    the system has no such thing. lock_limit_bytes: how much may be locked; None: everything. is_all_locked: no page of
    this process, of today or later, reaches a swap device.
    """

    core_limit_bytes: int | None
    is_dumpable: bool | None
    dump_filter: int | None
    lock_limit_bytes: int | None
    is_all_locked: bool

    def gaps(self) -> tuple[str, ...]:
        """What is missing, each in words with its fix; empty if weights are neither dumped nor swapped."""
        found = []
        if self.is_dumpable is not False and (self.core_limit_bytes != 0 or self.dump_filter != 0):
            found.append(
                "a crash may write weights into a core file: run on Linux with /proc mounted, "
                "or turn core dumps off for the whole system"
            )
        if not self.is_all_locked:
            found.append(
                f"memory may be swapped out, for only {self.lock_limit_bytes} bytes may be locked: set the limit "
                "to unlimited (LimitMEMLOCK=infinity, `ulimit -l unlimited`), or use no swap or an encrypted one"
            )
        return tuple(found)

    def __str__(self) -> str:
        """One line for the log."""
        return (
            f"core_limit_bytes={_or_unlimited(self.core_limit_bytes)} dumpable={self.is_dumpable} "
            f"dump_filter={self.dump_filter} lock_limit_bytes={_or_unlimited(self.lock_limit_bytes)} "
            f"all_locked={self.is_all_locked}"
        )


def protect_process() -> MemoryProtection:
    """No core dump of this process and its children, no debugger of others, no swapping; says what was granted.

    Takes about a millisecond and is called before anything secret is read, so it holds for all later memory.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # Before the process is undumpable: from then on only root may write its files in /proc.
    dump_nothing()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    lock_limit_bytes = _raise_lock_limit()
    return MemoryProtection(
        core_limit_bytes=_limit(resource.RLIMIT_CORE),
        is_dumpable=_make_undumpable(libc),
        dump_filter=_read_dump_filter(),
        lock_limit_bytes=lock_limit_bytes,
        is_all_locked=lock_limit_bytes is None and _lock_all(libc),
    )


def dump_nothing() -> None:
    """Leave every kind of memory out of this process's core dumps, whoever makes them; without /proc does nothing.

    The filter covers memory that a heap or a thread gets later, which advice for each mapping would miss.
    """
    try:
        _DUMP_FILTER.write_bytes(b"0")
    except OSError:
        # `protect_process` reads it back, so what it says is what the kernel has.
        return


def _read_dump_filter() -> int | None:
    try:
        return int(_DUMP_FILTER.read_bytes(), 16)
    except (OSError, ValueError):
        return None


def _raise_lock_limit() -> int | None:
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    # Raising the hard limit is a privilege; raising the soft one to it is not.
    for wanted in ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), (hard, hard)):
        try:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, wanted)
            break
        except (OSError, ValueError):
            continue
    return _limit(resource.RLIMIT_MEMLOCK)


def _limit(kind: int) -> int | None:
    soft, _ = resource.getrlimit(kind)
    return None if soft == resource.RLIM_INFINITY else soft


def _make_undumpable(libc: Any) -> bool | None:
    # RLIMIT_CORE alone does not keep a kernel that pipes dumps to a program from writing them: core(5).
    if sys.platform != "linux":
        return None
    prctl = libc.prctl
    prctl.argtypes, prctl.restype = (ctypes.c_int, *[ctypes.c_ulong] * 4), ctypes.c_int
    prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return bool(prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)


def _lock_all(libc: Any) -> bool:
    # Under a finite limit later allocations would fail. On fault only: untouched memory stays untouched, so the process
    # is no larger than without.
    if sys.platform != "linux":
        return False
    mlockall = libc.mlockall
    mlockall.argtypes, mlockall.restype = (ctypes.c_int,), ctypes.c_int
    return bool(mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0)


def _or_unlimited(limit_bytes: int | None) -> str:
    return "unlimited" if limit_bytes is None else str(limit_bytes)
