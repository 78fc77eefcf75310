"""The alert rules name metrics that exist, and say what to do."""

import re
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry

from gateway.metrics import GatewayMetrics
from monitor.alarms import DRIFT_ALARM, SAMPLES_ALARM, STALE_ALARM
from monitor.metrics import WEBHOOK_OUTCOMES, MonitorMetrics
from monitor.records import ABOUT_LEDGER, LEDGER_ALARM, Outcome, Rule
from monitor.security.findings import TRAITS

FOLDER = Path(__file__).resolve().parents[2] / "grafana"


def rules() -> list[dict[str, Any]]:
    """All of them."""
    document = yaml.safe_load((FOLDER / "rules.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def exposed() -> set[str]:
    """The names that both processes' metrics have for Prometheus."""
    registry = CollectorRegistry()
    GatewayMetrics(registry)
    MonitorMetrics(registry)
    return {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in registry.collect()
    }


def test_every_metric_of_an_alert_exists() -> None:
    """A misspelt one would never ring."""
    named = {
        name
        for rule in rules()
        for name in re.findall(r"(?:gateway|monitor)_[a-z_]+", rule["expr"])
    }
    assert 22 == len(rules())
    assert named <= exposed()
    assert 21 == len(named)


def test_every_alert_says_how_urgent_it_is_and_what_to_do() -> None:
    """Somebody reads it at night."""
    for rule in rules():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def test_prometheus_loads_the_rules() -> None:
    """By the name they have."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    assert ["rules.yml"] == config["rule_files"]


def test_the_alarms_of_alerts_are_alarms() -> None:
    """A misspelt one would never ring either."""
    named = {name for rule in rules() for name in re.findall(r'alarm="([a-z_]+)"', rule["expr"])}
    known = {LEDGER_ALARM, DRIFT_ALARM, SAMPLES_ALARM, STALE_ALARM}
    assert known <= named <= {*known, *Rule}


def test_an_alarm_that_a_person_knows_or_silenced_does_not_ring() -> None:
    """Each alert on drift leaves those out, and the one that pages is on what is harmful."""
    drift = {rule["alert"]: rule for rule in rules() if rule["alert"].startswith("Drift")}
    assert {"DriftHarmful": "page", "DriftFiring": "ticket"} == {
        name: rule["labels"]["severity"] for name, rule in drift.items()
    }
    for rule in drift.values():
        for gauge in ("monitor_alarm_acknowledged", "monitor_alarm_silenced"):
            assert f"unless ({gauge} == 1)" in rule["expr"]
    assert "monitor_alarm_harmful" in drift["DriftHarmful"]["expr"]


def test_every_rule_on_the_ledgers_has_one_alert_as_urgent_as_its_findings() -> None:
    """A rule that is added must ring somewhere."""
    pattern = rf'\{{model="{re.escape(ABOUT_LEDGER)}",alarm=~"([a-z_|]+)"\}}'
    urgencies = [
        (name, rule["labels"]["severity"])
        for rule in rules()
        for names in re.findall(pattern, rule["expr"])
        for name in names.split("|")
    ]
    assert sorted((rule.value, traits.severity.value) for rule, traits in TRAITS.items()) == sorted(
        urgencies
    )


def test_what_fails_beside_a_monitor_that_goes_on_rings() -> None:
    """By the outcomes that its counters have: a tick that ends is no sign that every model was judged."""
    outcomes = {
        metric: set(found.split("|"))
        for rule in rules()
        for metric, found in re.findall(r'(monitor_[a-z_]+)\{outcome=~"([a-z_|]+)"\}', rule["expr"])
    }
    assert {
        "monitor_ticks_total": {"error", "database_error", "unfit_reference"},
        "monitor_webhook_deliveries_total": {"error", "database_error"},
    } == outcomes
    assert outcomes["monitor_ticks_total"] <= set(Outcome)
    assert outcomes["monitor_webhook_deliveries_total"] <= set(WEBHOOK_OUTCOMES)
    assert any("monitor_unreadable_rows_total" in rule["expr"] for rule in rules())
