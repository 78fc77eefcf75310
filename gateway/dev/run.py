"""`gateway dev`: prepare a home, run gateway and monitor beside each other, show how they are, stop them in order.

Rules: loopback only; the children are processes of their own, so that either can die without the other; on Ctrl-C the
gateway drains first and the monitor, which reads what it wrote, stops after it.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from gateway.commands.opening import utc_now
from gateway.dev.announce import Addresses, announce, command_line
from gateway.dev.children import Child, how_it_ended, start, stop
from gateway.dev.claim import claimed, unusable
from gateway.dev.home import (
    Layout,
    begin_monitor_ledger,
    layout_of,
    prepare,
    prepare_reference,
)
from gateway.dev.plan import Plan, check_ports, plan_of, url_host
from gateway.dev.status import Snapshot, alarm_text, read_snapshot, status_line
from gateway.errors import Code, OperatorError

STATUS_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Running:
    """A child, where its log is, and what starts it again."""

    child: Child
    log_file: Path
    command: str


def run(*, home: Path | None, any_ports: bool, as_json: bool, since: float | None) -> None:
    """Prepare, start, show, and stop on SIGINT or SIGTERM.

    since: Unix time from which the start is counted, so that installing can be part of it.
    as_json: one JSON line on standard output once serving, instead of text for people. Raises OperatorError if a step
    fails or both children end by themselves.
    """
    started = time.time() if since is None else since
    console = Console(stderr=True, soft_wrap=True)
    layout = layout_of(home)
    plan = plan_of(layout, any_ports=any_ports)
    with claimed(layout.state):
        check_ports(plan)
        console.print(
            f"DEVELOPMENT: keys, CA and tokens lie in the clear below {layout.state}",
            style="yellow",
            markup=False,
        )
        prepare(layout, plan.settings, clock=utc_now, console=console)
        begin_monitor_ledger(plan.settings, plan.monitor)
        prepare_reference({**plan.gateway, **plan.monitor}, console=console)

        def tell(addresses: Addresses) -> None:
            seconds = time.time() - started
            announce(layout, addresses, seconds=seconds, as_json=as_json, console=console)

        _serve(layout, plan, tell, console)
    console.print("stopped")


def _serve(layout: Layout, plan: Plan, tell: Callable[[Addresses], None], console: Console) -> None:
    stopping = threading.Event()
    running: dict[str, Running] = {}
    with _stopping_on_signals(stopping) as told_to_stop, _log_files(layout) as logs:
        try:
            ports = {}
            for name, arguments, environment in (
                ("gateway", ["serve"], plan.gateway),
                ("monitor", ["run"], plan.monitor),
            ):
                log = logs[name]
                begun = start(name, arguments, environment, log, told_to_stop=told_to_stop)
                if begun is None:
                    return
                child, ports[name] = begun
                again = {**environment, _PORT_NAMES[name]: str(ports[name])}
                command = command_line(again, [name, *arguments])
                running[name] = Running(child, Path(log.name), command)
            addresses = _addresses(plan, ports)
            tell(addresses)
            least = int(float(plan.monitor["MONITOR_MIN_WINDOW_SAMPLES"]))
            _watch(running, addresses, stopping, console, min_window_samples=least)
        finally:
            for each in running.values():
                stop(each.child)


_PORT_NAMES = {"gateway": "GATEWAY_PORT", "monitor": "MONITOR_METRICS_PORT"}


def _addresses(plan: Plan, ports: Mapping[str, int]) -> Addresses:
    settings = plan.settings
    monitor_host = plan.monitor["MONITOR_METRICS_HOST"]
    return Addresses(
        url=f"https://{url_host(settings.host)}:{ports['gateway']}",
        gateway_metrics=f"http://{url_host(settings.metrics_host)}:{settings.metrics_port}/metrics",
        monitor_metrics=f"http://{url_host(monitor_host)}:{ports['monitor']}/metrics",
    )


def _watch(
    children: Mapping[str, Running],
    addresses: Addresses,
    stopping: threading.Event,
    console: Console,
    *,
    min_window_samples: int,
) -> None:
    before: Snapshot | None = None
    running = dict(children)
    with _line(console) as show:
        while not stopping.wait(STATUS_SECONDS):
            for name, each in list(running.items()):
                if each.child.poll() is not None:
                    del running[name]
                    console.print(_ended(name, each), style="red", markup=False, highlight=False)
            if not running:
                logs = " and ".join(str(each.log_file) for each in children.values())
                raise OperatorError(
                    Code.NOT_READY, f"gateway and monitor have both ended: see {logs}"
                )
            now = read_snapshot(addresses.gateway_metrics, addresses.monitor_metrics)
            line = status_line(
                now, before, seconds=STATUS_SECONDS, min_window_samples=min_window_samples
            )
            show(line)
            if not console.is_terminal and before is not None and _has_turned(before, now):
                console.print(line, markup=False, highlight=False)
            before = now


def _has_turned(before: Snapshot, now: Snapshot) -> bool:
    return alarm_text(before) != alarm_text(now)


def _ended(name: str, ended: Running) -> str:
    return (
        f"the {name} {how_it_ended(ended.child)}: see {ended.log_file}; start it again with\n"
        f"  {ended.command}"
    )


@contextmanager
def _line(console: Console) -> Iterator[Callable[[str], None]]:
    """A line that is drawn over on a terminal; nothing elsewhere, where it would fill a log."""
    if not console.is_terminal:
        yield lambda _text: None
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda text: live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)


@contextmanager
def _log_files(layout: Layout) -> Iterator[Mapping[str, Any]]:
    folder = layout.state / "logs"
    with ExitStack() as opened:
        try:
            folder.mkdir(exist_ok=True)
            logs = {
                name: opened.enter_context((folder / f"{name}.log").open("ab"))
                for name in ("gateway", "monitor")
            }
        except OSError as exc:
            raise unusable(layout.state, exc) from exc
        yield logs


@contextmanager
def _stopping_on_signals(stopping: threading.Event) -> Iterator[int]:
    """Set the event on SIGINT or SIGTERM, and make the yielded descriptor readable for who waits on descriptors."""
    reader, writer = os.pipe()

    def tell(_number: int, _frame: Any) -> None:
        if not stopping.is_set():  # Once is enough, and a full pipe would block.
            stopping.set()
            os.write(writer, b"\n")

    before = {number: signal.signal(number, tell) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield reader
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
