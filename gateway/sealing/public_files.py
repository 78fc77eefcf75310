"""Files and folders that everybody may read and that decide whom this process believes."""

import os
import stat
from pathlib import Path

_ROOT = 0
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_FOLDER_MODE = 0o755


def why_changeable(status: os.stat_result, *, safe_mode: int) -> str | None:
    """Why others can change the file or folder of this status, and the fix, to stand after its path; None if not.

    safe_mode: the permission bits that the fix names.
    """
    if status.st_uid not in (_ROOT, os.geteuid()):
        return f"belongs to user {status.st_uid}; chown it to root or to user {os.geteuid()}"
    if status.st_mode & _WRITABLE_BY_OTHERS:
        return f"can be changed by others; chmod it to {safe_mode:04o}"
    return None


def why_replaceable(file: Path) -> str | None:
    """Why everybody can put another file in the place of this one, and the fix, to stand after its path; None if not.

    Of the path, links and all, only the folders of the link and of the file count, and their groups may write: with
    the usual umask of a desktop they may, and that group is its owner's own. Where a file system is mounted read-only,
    as volumes of Kubernetes are, modes say nothing. Raises OSError for what cannot be looked at.
    """
    for folder in dict.fromkeys((file.absolute().parent, file.resolve().parent)):
        if not folder.stat().st_mode & stat.S_IWOTH:
            continue
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            continue
        return f"lies in {folder}, where everybody can replace it; chmod that folder to 0755 or move the file"
    return None


def why_path_changeable(path: Path) -> str | None:
    """Why others can put another file where this absolute path leads: the part of it, why, and the fix; None if not.

    Every folder up to the root counts, and every link with the way to what it names. A folder that all may write keeps
    what lies in it from others only if it is sticky, as /tmp is, and is safe only further up: what lies directly in
    one, the file or a link, may be somebody's who was there first. Raises OSError for what cannot be looked at.
    """
    left, seen = [path], set[Path]()
    while left:
        entry = left.pop()
        if entry in seen:
            continue
        seen.add(entry)
        for folder in entry.parents:
            fault = _why_folder_changeable(folder, is_direct=folder == entry.parent)
            if fault is not None:
                return f"in {folder}, which {fault}"
            if folder.is_symlink():
                left.append(folder)
        if entry.is_symlink():
            left.append(entry.parent / entry.readlink())
    return None


def _why_folder_changeable(folder: Path, *, is_direct: bool) -> str | None:
    status = folder.stat()
    if status.st_mode & stat.S_ISVTX and not is_direct and status.st_uid in (_ROOT, os.geteuid()):
        return None
    return why_changeable(status, safe_mode=_FOLDER_MODE)
