"""Keeping what this process holds in memory, decrypted weights above all, out of core dumps."""

import ctypes
import logging
import resource
import sys

log = logging.getLogger(__name__)

_PR_SET_DUMPABLE = 4  # linux/prctl.h


def forbid_core_dumps() -> None:
    """No core file of this process and its children; on Linux no dump by a collector and no debugger of others either.

    RLIMIT_CORE alone does not keep a kernel that pipes dumps to a program from writing them: core(5).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        log.warning("core_dumps_not_forbidden errno=%d", ctypes.get_errno())
