"""`gateway dev`: prepare a home, run gateway and monitor beside each other, show how they are, stop them in order.

Rules: loopback only; the children are processes of their own, so that either can die without the other; on Ctrl-C the
gateway drains first and the monitor, which reads what it wrote, stops after it.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from gateway.commands.opening import settings_of_process, utc_now
from gateway.dev.home import (
    ROLES,
    Layout,
    demo_folder,
    gateway_overrides,
    layout_of,
    monitor_environment,
    prepare,
    prepare_reference,
)
from gateway.dev.status import Snapshot, read_snapshot, status_line
from gateway.errors import Code, OperatorError
from gateway.settings import GatewaySettings

MONITOR_METRICS_PORT = 9465
START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 20.0
STATUS_SECONDS = 1.0
DEV_TICK_SECONDS = "2"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything answers."""

    url: str
    gateway_metrics: str
    monitor_metrics: str


def run(*, home: Path | None, any_ports: bool, as_json: bool, since: float | None) -> None:
    """Prepare, start, show, and stop on SIGINT or SIGTERM.

    since: Unix time from which the start is counted, so that installing can be part of it.
    as_json: one JSON line on standard output once serving, instead of text for people. Raises OperatorError if a step
    fails or a child ends by itself.
    """
    started = time.time() if since is None else since
    console = Console(stderr=True, soft_wrap=True)
    layout = layout_of(home)
    settings = settings_of_process(**gateway_overrides(layout), **_ports(any_ports))
    monitor_port = free_port() if any_ports else MONITOR_METRICS_PORT
    gateway_env = _gateway_environment(layout, settings)
    monitor_env = {
        "MONITOR_TICK_SECONDS": DEV_TICK_SECONDS,
        **_own("MONITOR_"),
        **monitor_environment(layout),
        "MONITOR_METRICS_PORT": str(monitor_port),
    }
    console.print(
        "DEVELOPMENT: keys, CA and tokens lie in the clear below", layout.state, style="yellow"
    )
    prepare(layout, settings, clock=utc_now, console=console)
    prepare_reference({**gateway_env, **monitor_env}, console=console)
    stop = threading.Event()
    with _stopping_on_signals(stop), _log_files(layout) as (gateway_log, monitor_log):
        gateway, port = _start("gateway", ["serve"], gateway_env, gateway_log)
        try:
            monitor, _ = _start("monitor", ["run"], monitor_env, monitor_log)
        except OperatorError:
            _stop(gateway)
            raise
        try:
            addresses = Addresses(
                url=f"https://127.0.0.1:{port}",
                gateway_metrics=f"http://127.0.0.1:{settings.metrics_port}/metrics",
                monitor_metrics=f"http://127.0.0.1:{monitor_port}/metrics",
            )
            seconds = time.time() - started
            _announce(layout, addresses, seconds=seconds, as_json=as_json, console=console)
            _watch({"gateway": gateway, "monitor": monitor}, addresses, stop, console)
        finally:
            _stop(gateway)
            _stop(monitor)
    console.print("stopped")


def free_port() -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _ports(any_ports: bool) -> dict[str, object]:  # noqa: FBT001  (the one caller names it)
    return {"port": 0, "metrics_port": free_port()} if any_ports else {}


def _gateway_environment(layout: Layout, settings: GatewaySettings) -> dict[str, str]:
    decided = {
        **gateway_overrides(layout),
        "port": settings.port,
        "metrics_port": settings.metrics_port,
    }
    named = {settings.variable_name(field): str(value) for field, value in decided.items()}
    return {**_own("GATEWAY_"), **named}


def _own(prefix: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(prefix)}


def _start(
    module: str, arguments: list[str], environment: Mapping[str, str], log: Any
) -> tuple["subprocess.Popen[bytes]", int]:
    """One of the two processes and the port it says that it serves."""
    reader, writer = os.pipe()
    command = [sys.executable, "-m", module, *arguments, "--ready-descriptor", str(writer)]
    try:
        process = _spawn(command, environment, log, pass_fds=(writer,))
    finally:
        os.close(writer)
    with os.fdopen(reader, "rb") as ready:
        # The line means serving; an end without a line means that the process ended.
        readable, _, _ = select.select([ready], [], [], START_TIMEOUT_SECONDS)
        line = ready.readline() if readable else b""
    if not line:
        _stop(process)
        raise _ended(module, Path(log.name))
    return process, int(line)


def _spawn(
    command: list[str], environment: Mapping[str, str], log: Any, *, pass_fds: tuple[int, ...] = ()
) -> "subprocess.Popen[bytes]":
    # A session of its own: Ctrl-C in the terminal reaches this process alone, which then stops the two in order.
    return subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        pass_fds=pass_fds,
        start_new_session=True,
    )


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _announce(
    layout: Layout, addresses: Addresses, *, seconds: float, as_json: bool, console: Console
) -> None:
    tokens = {role: layout.tokens / f"{role}.jwt" for role in ROLES}
    facts = {
        "url": addresses.url,
        "ca_file": str(layout.ca_file),
        "gateway_metrics": addresses.gateway_metrics,
        "monitor_metrics": addresses.monitor_metrics,
        "reports_folder": str(layout.reports),
        "database_url": layout.database_url,
        "home": str(layout.state),
        "token_files": {role: str(file) for role, file in tokens.items()},
        "start_seconds": round(seconds, 1),
    }
    if as_json:
        print(json.dumps(facts), flush=True)
        return
    console.print(f"serving on {addresses.url} after {seconds:.1f} s", style="bold green")
    for role, file in tokens.items():
        console.print(f"token {role}: {file.read_text(encoding='ascii')}", highlight=False)
    console.print(
        f'try it:\n  curl --cacert {layout.ca_file} -H "Authorization: Bearer $(cat {tokens["client"]})" \\\n'
        f"    --data-binary @{demo_folder() / 'frame.jpg'} -H 'Content-Type: image/jpeg' {addresses.url}/predict",
        highlight=False,
    )
    console.print(f"metrics: {addresses.gateway_metrics} and {addresses.monitor_metrics}")
    console.print(
        f"reports: {layout.reports} (write one with `monitor report`); logs: {layout.state / 'logs'}"
    )
    console.print("Ctrl-C stops both")


def _watch(
    children: Mapping[str, "subprocess.Popen[bytes]"],
    addresses: Addresses,
    stop: threading.Event,
    console: Console,
) -> None:
    before: Snapshot | None = None
    running = dict(children)
    with _line(console) as show:
        while not stop.wait(STATUS_SECONDS):
            for name, child in list(running.items()):
                if child.poll() is not None:
                    del running[name]
                    console.print(
                        f"the {name} ended with code {child.returncode}: see its log", style="red"
                    )
            if not running:
                raise OperatorError(Code.INTERNAL, "gateway and monitor have both ended")
            now = read_snapshot(addresses.gateway_metrics, addresses.monitor_metrics)
            show(status_line(now, before, seconds=STATUS_SECONDS))
            before = now


@contextmanager
def _line(console: Console) -> Iterator[Callable[[str], None]]:
    """A line that is drawn over on a terminal; nothing elsewhere, where it would fill a log."""
    if not console.is_terminal:
        yield lambda _text: None
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda text: live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)


@contextmanager
def _log_files(layout: Layout) -> Iterator[tuple[Any, Any]]:
    folder = layout.state / "logs"
    folder.mkdir(exist_ok=True)
    with (
        (folder / "gateway.log").open("ab") as gateway,
        (folder / "monitor.log").open("ab") as monitor,
    ):
        yield gateway, monitor


@contextmanager
def _stopping_on_signals(stop: threading.Event) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {
        number: signal.signal(number, lambda _number, _frame: stop.set()) for number in numbers
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ended(name: str, log_file: Path) -> OperatorError:
    lines = log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    tail = "\n".join(lines[-5:])
    return OperatorError(Code.INTERNAL, f"the {name} did not start; {log_file} ends with:\n{tail}")
