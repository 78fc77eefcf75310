"""A Redis server for tests: where it is found, and one of its own on a loopback port, ended by its process."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# What scripts/redis.sh unpacked.
_FETCHED = ROOT / ".venv" / "redis" / "usr"
_START_SECONDS = 20.0


class RedisMissingError(Exception):
    """There is no Redis server here that works; the text says why."""


@contextmanager
def run_redis(folder: Path) -> Iterator[str]:
    """The URL of a new server that keeps nothing on disk; the server ends with the context.

    Raises RedisMissingError if it is not installed, or not fetched.
    """
    fetched = _FETCHED / "bin" / "redis-server"
    program = str(fetched) if fetched.exists() else shutil.which("redis-server")
    if program is None:
        raise RedisMissingError("no Redis server: run scripts/redis.sh, or install redis-server")
    port = _free_port()
    options = {"port": str(port), "bind": "127.0.0.1", "save": "", "appendonly": "no"}
    command = [program, *(word for name, value in options.items() for word in (f"--{name}", value))]
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            _wait(process, port, folder / "redis.log")
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.kill()
            process.wait()


def _environment() -> dict[str, str]:
    libraries = sorted({str(file.parent) for file in (_FETCHED / "lib").glob("**/*.so.*")})
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(16) == b"+PONG\r\n":
                    return
        except OSError:
            time.sleep(0.02)
    raise RedisMissingError(f"the Redis server does not start: {log.read_text(errors='replace')}")
