"""Giving the memory of large images back to the system as soon as they are done with.

Rules: glibc only, else nothing happens; nothing depends on it but how large the process stays. Left alone, glibc raises
its limits with the largest block that was ever freed, and then keeps up to 64 MB in the heap of every thread: after a
few large images from anybody the process holds them for ever.
"""

import ctypes

# A frame of 1080p stays below, is 6 MB in the heap and needs no fresh pages each time.
LARGE_BYTES = 8 << 20
# What may stay free at the end of a thread's heap: two such frames.
KEPT_BYTES = 16 << 20

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def return_large_blocks() -> bool:
    """Make blocks from LARGE_BYTES on mappings of their own, which end when they are freed; True if glibc agreed.

    Called once, before the first thread. Source: mallopt(3): setting either limit ends its growth.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    is_mapped: bool = mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES) == 1
    is_trimmed: bool = mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES) == 1
    return is_mapped and is_trimmed
