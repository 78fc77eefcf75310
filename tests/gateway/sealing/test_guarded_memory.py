"""Guarded memory: what it is granted is what the kernel says, and nothing is left of it."""

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gateway.sealing.guarded_memory import GuardedBuffer, return_freed_memory, wipe

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def kernel_flags(buffer: GuardedBuffer) -> set[str]:
    """The kernel's own flags of the mapping that holds a buffer."""
    address = ctypes.addressof(ctypes.c_char.from_buffer(buffer.view))
    inside = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        found = re.match("([0-9a-f]+)-([0-9a-f]+) ", line)
        if found is not None:
            inside = int(found[1], 16) <= address < int(found[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return set(line.split()[1:])
    raise AssertionError("the buffer is in no mapping")


@linux_only
def test_what_a_buffer_says_is_what_the_kernel_has() -> None:
    """dd: not dumped; wf: wiped on fork; lo: locked. Nothing is claimed that is not so."""
    with GuardedBuffer(100_000) as buffer:
        flags = kernel_flags(buffer)
        assert (True, True) == (buffer.is_undumped, buffer.is_zero_in_children)
        assert {"dd", "wf"} <= flags
        assert ("lo" in flags) == buffer.is_locked


@linux_only
@pytest.mark.parametrize(
    ("limit_bytes", "expected"), [("65536", "True False"), ("0", "False False")]
)
def test_a_lock_that_is_refused_is_not_claimed(limit_bytes: str, expected: str) -> None:
    """A buffer above the limit works, unlocked; in a process of its own, without the privilege to lock more."""
    run = f"""
import os, resource
from gateway.sealing.guarded_memory import GuardedBuffer
resource.setrlimit(resource.RLIMIT_MEMLOCK, ({limit_bytes}, {limit_bytes}))
if os.getuid() == 0:
    os.setuid(65534)
small, large = GuardedBuffer(4096), GuardedBuffer(1 << 20)
large.view[-1] = 7
print(small.is_locked, large.is_locked)
"""
    assert expected == output_of(run)


def output_of(program: str) -> str:
    """What a Python program prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


@pytest.mark.parametrize("length", [0, 1, 4096, 4097])
def test_a_buffer_has_the_length_that_was_asked_for(length: int) -> None:
    """Zeros at first, to the byte, none included."""
    with GuardedBuffer(length) as buffer:
        assert bytes(length) == bytes(buffer.view)
        assert not buffer.view.readonly


def test_a_closed_buffer_is_zero_for_whoever_still_looks() -> None:
    """Slices and arrays over it stay readable, and read nothing."""
    buffer = GuardedBuffer(5000)
    buffer.view[:] = b"x" * 5000
    piece, array = buffer.view[10:20], np.frombuffer(buffer.view, np.uint8)
    buffer.close()
    assert bytes(10) == bytes(piece)
    assert 0 == array.max()


@linux_only
def test_a_closed_buffer_is_unmapped() -> None:
    """The pages go back when nobody looks any more."""
    buffer = GuardedBuffer(1 << 26)
    before = _mapped_kilobytes()
    buffer.close()
    assert before - _mapped_kilobytes() >= 1 << 16


def _mapped_kilobytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"VmSize:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1])


def test_a_closed_buffer_cannot_be_looked_at() -> None:
    """Its view raises, and closing again does nothing."""
    buffer = GuardedBuffer(3)
    buffer.close()
    buffer.close()
    with pytest.raises(ValueError, match="closed"):
        _ = buffer.view


@linux_only
def test_a_forked_child_reads_zeros() -> None:
    """The plaintext does not follow into children."""
    with GuardedBuffer(16) as buffer:
        buffer.view[:] = b"s" * 16
        child = os.fork()
        if child == 0:
            os._exit(0 if bytes(buffer.view) == bytes(16) else 1)
        assert 0 == os.waitpid(child, 0)[1]
        assert b"s" * 16 == bytes(buffer.view)


def test_a_buffer_shows_nothing_of_itself() -> None:
    """Neither repr nor str holds its bytes."""
    with GuardedBuffer(6) as buffer:
        buffer.view[:] = b"secret"
        assert "secret" not in repr(buffer) + str(buffer)


def test_a_wiped_key_is_zero_in_place() -> None:
    """The same object, the same length."""
    key = bytearray(b"k" * 32)
    same = memoryview(key)
    wipe(key)
    assert bytes(32) == bytes(same)


@linux_only
def test_freed_heap_memory_can_be_returned() -> None:
    """Small freed blocks below the heap's end leave the process; in a process of its own, for a heap of its own."""
    run = """
from pathlib import Path
from gateway.sealing.guarded_memory import return_freed_memory
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
blocks = [libc.malloc(50_000) for _ in range(2000)]
for block in blocks: ctypes.memset(block, 1, 50_000)
for block in blocks[:-1]: libc.free(block)
before = resident()
return_freed_memory()
print(before - resident() > 10_000)
"""
    assert "True" == output_of(run)


def test_returning_freed_memory_can_be_repeated() -> None:
    """With nothing to return it does nothing."""
    return_freed_memory()
    return_freed_memory()
