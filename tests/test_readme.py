"""The README's tables say what the code does, no more and no less."""

import base64
import itertools
import re
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.api.problems import STATUS
from gateway.api.routes import ROUTES
from gateway.audit.events import Action, Outcome
from gateway.errors import Code
from gateway.identity.policy import DEFAULT_GRANTS
from gateway.metrics import GatewayMetrics
from gateway.settings import GatewaySettings
from monitor.metrics import MonitorMetrics
from monitor.settings import MonitorSettings
from monitor.webhooks import Message, sign

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def rows(pattern: str) -> list[tuple[str, ...]]:
    """The cells of all table rows whose first cell matches."""
    lines = [line for line in README.splitlines() if re.match(rf"\| `{pattern}`", line)]
    return [tuple(cell.strip(" `") for cell in line.strip("|").split("|")) for line in lines]


@pytest.mark.parametrize("settings", [GatewaySettings, MonitorSettings])
def test_every_setting_is_listed_with_its_default(
    settings: type[GatewaySettings] | type[MonitorSettings],
) -> None:
    """The configuration table and the class agree, in order."""
    expected = [
        (settings.variable_name(name), str(field.default))
        for name, field in settings.model_fields.items()
    ]
    assert expected == [(row[0], row[1]) for row in rows(f"{settings.prefix}[A-Z_]+")]


def test_every_error_code_is_listed() -> None:
    """Codes of answers stand with their status, the others without."""
    listed = {
        row[0]: row[1] for row in rows("[a-z_]+") if not row[0].startswith(("gateway_", "monitor_"))
    }
    for code in Code:
        assert code.value in listed
        if code in STATUS:
            assert str(STATUS[code].value) == listed[code.value]


def test_every_metric_is_listed() -> None:
    """Names and types of both expositions."""
    registry = CollectorRegistry()
    GatewayMetrics(registry)
    MonitorMetrics(registry)
    expected = {
        (f"{family.name}_total" if family.type == "counter" else family.name, family.type)
        for family in registry.collect()
    }
    assert expected == {(row[0], row[1]) for row in rows("(gateway|monitor)_[a-z_]+")}


def test_every_audit_action_and_outcome_is_named() -> None:
    """The closed sets of the ledger."""
    for word in (*Action, *Outcome):
        assert f"`{word.value}`" in README


def test_every_route_is_listed() -> None:
    """Path, method and permission of the one table."""
    listed = {row[0]: row[1] for row in rows("(GET|POST) /.*?")}
    expected = {
        f"{entry.method} {entry.path}": entry.permission.value if entry.permission else "none"
        for entry in ROUTES
    }
    assert expected == listed


def test_every_role_is_listed_with_its_permissions() -> None:
    """The roles table says which permissions each has."""
    listed = {
        row[0]: [cell == "yes" for cell in row[1:6]] for row in rows("[a-z]+") if len(row) > 6
    }
    columns = ("predict", "models.read", "models.write", "audit.read", "audit.prove")
    for role, permissions in DEFAULT_GRANTS.items():
        assert [column in permissions for column in columns] == listed[role]


def test_the_example_that_verifies_webhooks_does() -> None:
    """As a receiver would copy it."""
    _, _, text = README.partition("    import base64, hmac, time\n")
    lines = itertools.takewhile(lambda line: not line or line.startswith("    "), text.splitlines())
    code = textwrap.dedent("    import base64, hmac, time\n" + "\n".join(lines))
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    message = Message("msg_1", b'{"type":"alarm.firing"}')
    headers = sign([bytes(32)], message, sent_at=datetime.now(UTC))
    secret = f"whsec_{base64.b64encode(bytes(32)).decode()}\n"
    assert names["is_from_monitor"](headers, message.body, secret)
    assert not names["is_from_monitor"](headers, message.body + b" ", secret)
    assert not names["is_from_monitor"](headers, message.body, f"whsec_{'A' * 42}E=")
    late = sign([bytes(32)], message, sent_at=datetime.now(UTC) - timedelta(minutes=6))
    assert not names["is_from_monitor"](late, message.body, secret)
