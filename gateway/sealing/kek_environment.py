"""Secrets in environment variables: taken once, and then no longer there.

Rules: a variable that was read is removed, so that no child inherits it, and the text that the process was started
with is overwritten, so that /proc/PID/environ no longer shows it. What was there before, in the service's
definition or the shell's history, is the operator's to keep.
"""

import ctypes
import os
import re
from collections.abc import Callable

from gateway.errors import Code, KeyFileError

# The value of the variable of this name; a second call for the same name fails.
TakeVariable = Callable[[str], str]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
# An unknown setting of these is a mistake in the configuration, so a secret of that name would end every start.
_RESERVED = ("GATEWAY_", "MONITOR_")


def check_variable_name(name: str) -> None:
    """Raise KeyFileError unless a secret may stand in a variable of this name."""
    if not _NAME.fullmatch(name):
        raise KeyFileError(
            Code.KEY_INVALID,
            "env: needs the name of a variable: letters, digits and _, e.g. env:KEK",
        )
    if name.startswith(_RESERVED):
        message = (
            f"env:{name}: names that begin with {' or '.join(_RESERVED)} are settings, and a setting never holds "
            "a secret: give the variable another name, e.g. env:KEK"
        )
        raise KeyFileError(Code.KEY_INVALID, message)


def take_variable(name: str) -> str:
    """The value of this process's variable, which is removed and overwritten.

    Raises KeyFileError if it is not set, or was taken before.
    """
    value = os.environ.get(name)
    if not value:
        message = (
            f"env:{name}: the variable is not set for this process (a .env file is not looked at for secrets, and a "
            "secret is read only once): set it where the process is started"
        )
        raise KeyFileError(Code.KEY_INVALID, message)
    _overwrite(name)
    del os.environ[name]
    return value


def _overwrite(name: str) -> None:
    # Unsetting only forgets the pointer; the text stays in the block that /proc/PID/environ shows.
    library = ctypes.CDLL(None)
    library.getenv.restype = ctypes.c_void_p
    address = library.getenv(name.encode("ascii"))
    if address:
        ctypes.memset(address, 0, len(ctypes.string_at(address)))
