"""Files and folders that everybody may read and that decide whom this process believes."""

import os
import stat

_ROOT = 0
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def why_changeable(status: os.stat_result, *, safe_mode: int) -> str | None:
    """Why others can change the file or folder of this status, and the fix, to stand after its path; None if not.

    safe_mode: the permission bits that the fix names.
    """
    if status.st_uid not in (_ROOT, os.geteuid()):
        return f"belongs to user {status.st_uid}; chown it to root or to user {os.geteuid()}"
    if status.st_mode & _WRITABLE_BY_OTHERS:
        return f"can be changed by others; chmod it to {safe_mode:04o}"
    return None
