"""What both processes are told and where they listen, decided before anything is made.

Rules: a home decides where its state lies; for everything else one's own variables and .env win over the defaults
here. Of the monitor only the names of its variables are known. Loopback only.
"""

import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from gateway.commands.opening import settings_of_process
from gateway.dev.home import Layout, gateway_overrides, monitor_environment
from gateway.errors import Code, SettingsError
from gateway.settings import GatewaySettings
from gateway.store.environment import read_environment

# The names that the development certificate is for.
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")
MONITOR_DEFAULTS = {
    "MONITOR_METRICS_HOST": "127.0.0.1",
    "MONITOR_METRICS_PORT": "9465",
    "MONITOR_MIN_WINDOW_SAMPLES": "30",
    "MONITOR_TICK_SECONDS": "2",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """The gateway's settings, and the variables with which either process starts."""

    settings: GatewaySettings
    gateway: Mapping[str, str]
    monitor: Mapping[str, str]


def plan_of(layout: Layout, *, any_ports: bool) -> Plan:
    """The plan for a home. Raises SettingsError for a wrong setting or a host that is not loopback."""
    settings = settings_of_process(**gateway_overrides(layout), **_ports(any_ports))
    if settings.metrics_port == 0:
        # It serves its metrics without saying where.
        settings = settings.model_copy(update={"metrics_port": free_port()})
    variables = read_environment(os.environ, dotenv_file=Path(".env"))
    monitor = {
        **MONITOR_DEFAULTS,
        "MONITOR_MODEL_NAME": settings.model_name,
        **{name: value for name, value in variables.items() if name.startswith("MONITOR_")},
        **monitor_environment(layout),
    }
    if any_ports:
        monitor["MONITOR_METRICS_PORT"] = str(free_port())
    plan = Plan(settings, _gateway_variables(layout, settings, variables), monitor)
    for name, host, _ in _listening(plan):
        if host not in LOOPBACK_HOSTS:
            message = f"{name}_HOST is {host}: for development only {', '.join(LOOPBACK_HOSTS)}"
            raise SettingsError(Code.SETTINGS_INVALID, message)
    return plan


def check_ports(plan: Plan) -> None:
    """Raise SettingsError naming every port that cannot be listened on."""
    taken = []
    with ExitStack() as probes:
        for name, host, port in _listening(plan):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            try:
                probes.enter_context(socket.create_server((host, port), family=family))
            except OSError as exc:
                # create_server puts the address behind the words.
                cause = os.strerror(exc.errno) if exc.errno else str(exc)
                taken.append(f"  {host} port {port} ({name}_PORT): {cause}")
    if taken:
        fix = "stop what listens there, set other ports, or take any free ones with `gateway dev --any-ports`"
        raise SettingsError(
            Code.SETTINGS_INVALID, "\n".join(["these ports cannot be used:", *taken, fix])
        )


def url_host(host: str) -> str:
    """A host as it stands in a URL. Source: RFC 3986 section 3.2.2."""
    return f"[{host}]" if ":" in host else host


def free_port() -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _ports(any_ports: bool) -> dict[str, object]:  # noqa: FBT001  (the one caller names it)
    return {"port": 0, "metrics_port": free_port()} if any_ports else {}


def _gateway_variables(
    layout: Layout, settings: GatewaySettings, variables: Mapping[str, str]
) -> dict[str, str]:
    decided = {
        **gateway_overrides(layout),
        "port": settings.port,
        "metrics_port": settings.metrics_port,
    }
    own = {name: value for name, value in variables.items() if name.startswith("GATEWAY_")}
    return own | {settings.variable_name(field): str(value) for field, value in decided.items()}


def _listening(plan: Plan) -> list[tuple[str, str, int]]:
    settings, monitor = plan.settings, plan.monitor
    text = monitor["MONITOR_METRICS_PORT"]
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 16):
        message = f"MONITOR_METRICS_PORT: {text!r} is no port: name a number up to 65535"
        raise SettingsError(Code.SETTINGS_INVALID, message)
    return [
        ("GATEWAY", settings.host, settings.port),
        ("GATEWAY_METRICS", settings.metrics_host, settings.metrics_port),
        ("MONITOR_METRICS", monitor["MONITOR_METRICS_HOST"], int(text)),
    ]
