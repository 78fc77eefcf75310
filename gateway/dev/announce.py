"""What is told once both processes serve: one JSON line for programs, commands to copy for people."""

import json
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from gateway.dev.home import ROLES, Layout, demo_folder, layout_of, monitor_environment


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything answers."""

    url: str
    gateway_metrics: str
    monitor_metrics: str


def announce(
    layout: Layout, addresses: Addresses, *, seconds: float, as_json: bool, console: Console
) -> None:
    """Tell where everything is. as_json: on standard output, without the tokens themselves."""
    tokens = {role: layout.tokens / f"{role}.jwt" for role in ROLES}
    if as_json:
        print(json.dumps(_facts(layout, addresses, tokens, seconds)), flush=True)
        return

    def tell(text: str, style: str | None = None) -> None:
        console.print(text, style=style, highlight=False, markup=False)

    for role, file in tokens.items():
        tell(f"token {role} ({file}):\n  {file.read_text(encoding='ascii')}")
    frame, token = (
        shlex.quote(f"@{demo_folder() / 'frame.jpg'}"),
        shlex.quote(str(tokens["client"])),
    )
    tell(
        f"try it:\n  curl --cacert {shlex.quote(str(layout.ca_file))}"
        f' -H "Authorization: Bearer $(cat {token})" \\\n'
        f"    --data-binary {frame} -H 'Content-Type: image/jpeg' {addresses.url}/predict"
    )
    tell(f"metrics: {addresses.gateway_metrics} and {addresses.monitor_metrics}")
    tell(f"reports: {layout.reports}; write one:\n  {monitor_command(layout, 'report')}")
    tell(f"state:\n  {monitor_command(layout, 'status')}")
    tell(f"logs: {layout.state / 'logs'}")
    tell(f"serving on {addresses.url} after {seconds:.1f} s; Ctrl-C stops both", "bold green")


def monitor_command(layout: Layout, name: str) -> str:
    """A command of the monitor as it is typed for this home."""
    # The defaults name ./var, so only a home elsewhere has to be named.
    named = {} if layout == layout_of(None) else monitor_environment(layout)
    return command_line(named, ["monitor", name])


def command_line(variables: Mapping[str, str], command: list[str]) -> str:
    """A line for a shell that starts a script of this installation with these variables."""
    settings = "".join(f"{name}={shlex.quote(value)} " for name, value in variables.items())
    return settings + shlex.join([_script(command[0]), *command[1:]])


def _script(name: str) -> str:
    script = Path(sys.executable).parent / name
    if (found := shutil.which(name)) is not None and Path(found).resolve() == script.resolve():
        return name
    return str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script)


def _facts(
    layout: Layout, addresses: Addresses, tokens: Mapping[str, Path], seconds: float
) -> dict[str, object]:
    return {
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
