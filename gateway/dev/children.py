"""The two processes that `gateway dev` starts: how each is spawned, waited for and stopped.

Rules: each leads a session of its own, so that Ctrl-C reaches the parent alone, which stops them in order; none
outlives the parent, however that dies (Linux).
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gateway.dev.home import failed
from gateway.errors import OperatorError

START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 20.0
_PR_SET_PDEATHSIG = 1  # prctl(2)

Child = subprocess.Popen[bytes]


def start(
    module: str,
    arguments: list[str],
    environment: Mapping[str, str],
    log: Any,
    *,
    told_to_stop: int,
) -> tuple[Child, int] | None:
    """One of the two processes and the port it says that it serves; None if a stop came first.

    told_to_stop: a descriptor that is readable once everything shall stop. Raises OperatorError with the end of its
    log if the process does not start.
    """
    reader, writer = os.pipe()
    command = [sys.executable, "-m", module, *arguments, "--ready-descriptor", str(writer)]
    log_start = Path(log.name).stat().st_size
    try:
        process = spawn(command, environment, log, pass_fds=(writer,))
    finally:
        os.close(writer)
    with os.fdopen(reader, "rb") as ready:
        # The line means serving; an end without a line means that the process ended.
        waited_for = [ready.fileno(), told_to_stop]
        readable, _, _ = select.select(waited_for, [], [], START_TIMEOUT_SECONDS)
        if told_to_stop in readable:
            stop(process)
            return None
        line = ready.readline() if readable else b""
    if not line:
        stop(process)
        raise _not_started(module, Path(log.name), log_start)
    return process, int(line)


def spawn(
    command: list[str], environment: Mapping[str, str], log: Any, *, pass_fds: tuple[int, ...] = ()
) -> Child:
    """The process, its output in the log."""
    return subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        pass_fds=pass_fds,
        start_new_session=True,
        # Safe here: the parent runs no other thread when it starts a child.
        preexec_fn=_ending_with_parent(),
    )


def stop(process: Child) -> None:
    """End a process in order, or at once if it does not end in time."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def how_it_ended(process: Child) -> str:
    """In words, of a process that has ended."""
    if process.returncode is not None and process.returncode < 0:
        return f"was killed by signal {-process.returncode}"
    return f"ended with code {process.returncode}"


def _ending_with_parent() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def ask_for_sigterm() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # It died before it could be watched.
            os._exit(1)

    return ask_for_sigterm


def _not_started(name: str, log_file: Path, log_start: int) -> OperatorError:
    # An earlier start's lines stand before these and explain something else.
    with log_file.open("rb") as log:
        log.seek(log_start)
        text = log.read().decode("utf-8", "replace")
    return failed(f"the {name} did not start; {log_file} ends with", text)
