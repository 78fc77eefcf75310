"""Memory of large images goes back to the system."""

import ctypes
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc"
)

# Two images of 24 MB one after the other, as two requests would decode them; the first teaches glibc its limit.
_DECODE = """
from pathlib import Path
import numpy as np
from gateway.commands.heap import return_large_blocks

def held_mb():
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in l)
    return int(line.split()[1]) // 1024

if {is_called}:
    assert return_large_blocks()
before = held_mb()
for _ in range(2):
    image = np.ones(24 << 20, np.uint8)
    del image
print(held_mb() - before)
"""


def growth_mb(*, is_called: bool) -> int:
    """What a fresh process holds more after two large arrays."""
    done = subprocess.run(
        [sys.executable, "-c", _DECODE.format(is_called=is_called)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_large_blocks_go_back_to_the_system() -> None:
    """Nothing of two images of 24 MB stays, where all of one would."""
    assert growth_mb(is_called=True) < 6 < 18 < growth_mb(is_called=False)
