"""Memory for plaintext: outside the heap, out of core dumps, locked against swapping where the system allows it.

Rules: what the operating system refuses is not pretended, each buffer says what it got; a buffer is overwritten when
it is closed and at no other time, for slices of its view may outlive the object. Python's `bytes` cannot be
overwritten, so whatever shall be gone is held here or in a bytearray.
"""

import ctypes
import mmap
import sys
from types import TracebackType
from typing import Any, Self

_MADV_WIPEONFORK = 18  # Linux 4.14, asm-generic/mman-common.h; Python's mmap has no name for it.


class GuardedBuffer:
    """Memory of its own: anonymous, private, zero at first; overwritten and given back by `close`.

    is_locked: it never reaches a swap device. is_undumped: it is in no core dump, whatever the process's limits.
    is_zero_in_children: a forked child reads zeros.
    """

    def __init__(self, length: int) -> None:
        """Map so many bytes, >= 0. Raises OSError if there is no memory for them."""
        # A mapping cannot be empty, a message can.
        self._memory = mmap.mmap(-1, max(length, 1), flags=mmap.MAP_PRIVATE)
        self._view: memoryview | None = memoryview(self._memory)[:length]
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        # Advice first: locking fills the pages.
        self.is_undumped = self._is_advised(getattr(mmap, "MADV_DONTDUMP", None))
        on_fork = _MADV_WIPEONFORK if sys.platform == "linux" else None
        self.is_zero_in_children = self._is_advised(on_fork)
        self.is_locked = _lock(self._address, len(self._memory))

    @property
    def view(self) -> memoryview:
        """The memory itself: writable, unsigned bytes. Raises ValueError once it is closed."""
        if self._view is None:
            raise ValueError("this guarded buffer is closed")
        return self._view

    def __enter__(self) -> Self:
        """The buffer, closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Overwrite the memory and give it back; a second call does nothing.

        Slices of the view that others still hold read zeros from now on, and the pages go with the last of them.
        """
        if self._view is None:
            return
        ctypes.memset(self._address, 0, len(self._memory))
        view, self._view = self._view, None
        try:
            view.release()
            self._memory.close()
        except BufferError:
            # Unmapping what somebody may still read would end the process, and the secret is gone already.
            return

    def _is_advised(self, advice: int | None) -> bool:
        if advice is None:
            return False
        try:
            self._memory.madvise(advice)
        except OSError:
            return False
        return True


def wipe(secret: bytearray) -> None:
    """Overwrite a key in place; its length stays."""
    secret[:] = bytes(len(secret))


def return_freed_memory() -> None:
    """Give pages that the C heap no longer uses back to the kernel, and with them freed copies of plaintext.

    Parsers and compilers of networks leave such copies behind. Takes about 10 ms; glibc only, else does nothing.
    """
    trim = getattr(_libc(), "malloc_trim", None)
    if trim is not None:
        trim.argtypes, trim.restype = (ctypes.c_size_t,), ctypes.c_int
        trim(0)


def _lock(address: int, length: int) -> bool:
    mlock = _libc().mlock
    mlock.argtypes, mlock.restype = (ctypes.c_void_p, ctypes.c_size_t), ctypes.c_int
    return bool(mlock(address, length) == 0)


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)
