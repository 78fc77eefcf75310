"""The exposition names what dashboards use and drops what no longer means anything."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from monitor.metrics import MonitorMetrics
from monitor.records import Alarm, AlarmState, FeatureScore, Harm


def test_every_metric_has_its_name() -> None:
    """Dashboards and rules refer to these."""
    registry = CollectorRegistry()
    MonitorMetrics(registry)
    names = {
        line.split()[2]
        for line in generate_latest(registry).decode().splitlines()
        if line.startswith("# TYPE") and not line.split()[2].endswith("_created")
    }
    assert names == {
        "monitor_drift_score",
        "monitor_drift_threshold",
        "monitor_alarm_active",
        "monitor_alarm_pending",
        "monitor_alarm_acknowledged",
        "monitor_alarm_harmful",
        "monitor_alarm_silenced",
        "monitor_webhook_deliveries_total",
        "monitor_webhook_waiting",
        "monitor_alarm_unknown",
        "monitor_alarm_since_timestamp_seconds",
        "monitor_window_samples",
        "monitor_window_age_seconds",
        "monitor_drift_effect",
        "monitor_drift_evidence_ratio",
        "monitor_drift_lag_samples",
        "monitor_drift_state_bytes",
        "monitor_drift_judged_samples_total",
        "monitor_drift_passed_samples_total",
        "monitor_lease_held",
        "monitor_last_tick_timestamp_seconds",
        "monitor_ticks_total",
        "monitor_tick_duration_seconds",
        "monitor_reports_total",
        "monitor_build_info",
        "monitor_security_findings_total",
        "monitor_security_forgotten_total",
        "monitor_security_records_total",
        "monitor_security_lag_records",
        "monitor_security_last_look_timestamp_seconds",
        "monitor_security_failures_total",
        "monitor_witness_size",
        "monitor_witness_last_checkpoint_timestamp_seconds",
        "monitor_witness_last_look_timestamp_seconds",
        "monitor_witness_failures_total",
        "monitor_audit_records_total",
        "monitor_unreadable_rows_total",
    }


def test_outcomes_start_at_zero() -> None:
    """A rate over a series that does not exist yet is no number."""
    registry = CollectorRegistry()
    MonitorMetrics(registry)
    value = registry.get_sample_value("monitor_ticks_total", {"outcome": "database_error"})
    assert value == 0.0


def test_scores_that_are_gone_are_removed() -> None:
    """Of that model only."""
    registry = CollectorRegistry()
    metrics = MonitorMetrics(registry)
    metrics.set_scores("a", [_score("noise"), _score("width")])
    metrics.set_scores("b", [_score("noise")])
    metrics.set_scores("a", [_score("width")])

    def shown(model: str, feature: str) -> float | None:
        labels = {"model": model, "feature": feature}
        return registry.get_sample_value("monitor_drift_score", labels)

    assert (shown("a", "noise"), shown("a", "width"), shown("b", "noise")) == (None, 0.5, 0.5)


def test_evidence_of_slices_that_are_gone_is_removed() -> None:
    """Of that model only; and all of a model that is no longer watched."""
    registry = CollectorRegistry()
    metrics = MonitorMetrics(registry)
    metrics.set_scores("a", [])
    metrics.set_evidence("a", {"": -1.0, "source=x": -2.0})
    metrics.set_evidence("b", {"source=x": -3.0})
    metrics.set_evidence("a", {"": -0.5})

    def shown(model: str, slice_text: str) -> float | None:
        labels = {"model": model, "slice": slice_text}
        return registry.get_sample_value("monitor_drift_evidence_ratio", labels)

    assert (-0.5, None, -3.0) == (shown("a", ""), shown("a", "source=x"), shown("b", "source=x"))
    metrics.forget_models([], alarm="drift")
    assert shown("a", "") is None


def _score(feature: str) -> FeatureScore:
    return FeatureScore(feature=feature, score=0.5, threshold=0.2)


def _alarm(state: AlarmState, *, model: str = "a", slice_text: str = "") -> Alarm:
    return Alarm(
        model_name=model,
        name="drift",
        state=state,
        since=datetime(2030, 1, 1, tzinfo=UTC),
        model_version="1",
        slice=slice_text,
    )


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (AlarmState.UNKNOWN, {"unknown"}),
        (AlarmState.CLEAR, set()),
        (AlarmState.PENDING, {"pending"}),
        (AlarmState.FIRING, {"active"}),
        (AlarmState.ACKNOWLEDGED, {"active", "acknowledged"}),
        (AlarmState.RESOLVED, set()),
    ],
)
def test_an_alarm_shows_its_state(state: AlarmState, shown: set[str]) -> None:
    """An acknowledged one is active still."""
    registry = CollectorRegistry()
    MonitorMetrics(registry).set_alarm(_alarm(state, slice_text="source=a"), is_judged=True)
    labels = {"model": "a", "alarm": "drift", "slice": "source=a"}
    names = ("active", "pending", "acknowledged", "silenced", "unknown")
    values = {name: registry.get_sample_value(f"monitor_alarm_{name}", labels) for name in names}
    assert {name: float(name in shown) for name in names} == values


@pytest.mark.parametrize(
    ("state", "harm", "shown"),
    [
        (AlarmState.FIRING, Harm.HARMFUL, 1.0),
        (AlarmState.FIRING, Harm.UNKNOWN, 0.0),
        (AlarmState.PENDING, Harm.HARMFUL, 0.0),
    ],
)
def test_what_makes_a_model_worse_is_shown(state: AlarmState, harm: Harm, shown: float) -> None:
    """While it rings: somebody is woken by it."""
    registry = CollectorRegistry()
    MonitorMetrics(registry).set_alarm(replace(_alarm(state), harm=harm), is_judged=True)
    assert {("drift", shown)} == _values(registry, "monitor_alarm_harmful", "alarm")


def test_silenced_alarms_are_shown() -> None:
    """Those that are shown at all."""
    registry = CollectorRegistry()
    metrics = MonitorMetrics(registry)
    for model in ("a", "b"):
        metrics.set_alarm(_alarm(AlarmState.FIRING, model=model), is_judged=True)
    metrics.set_silenced(lambda model, alarm, slice_text: (model, alarm, slice_text)[0] == "a")
    assert {("a", 1.0), ("b", 0.0)} == _values(registry, "monitor_alarm_silenced", "model")


def test_slices_and_models_that_are_gone_are_removed() -> None:
    """From every gauge of theirs: a stale one would ring for ever."""
    registry = CollectorRegistry()
    metrics = MonitorMetrics(registry)
    for slice_text in ("", "source=a", "source=b"):
        metrics.set_alarm(_alarm(AlarmState.FIRING, slice_text=slice_text), is_judged=True)
    metrics.set_alarm(_alarm(AlarmState.FIRING, model="b"), is_judged=True)
    metrics.keep_slices("a", "drift", {"", "source=b"})
    for name in ("active", "pending", "acknowledged", "silenced", "unknown"):
        slices = {
            slice_text for slice_text, _ in _values(registry, f"monitor_alarm_{name}", "slice")
        }
        assert {"", "source=b"} == slices
    metrics.set_scores("a", [])
    metrics.forget_models(["b"], alarm="drift")
    assert {("b", 1.0)} == _values(registry, "monitor_alarm_active", "model")


def test_a_failed_look_makes_every_slice_unknown() -> None:
    """What rings goes on ringing."""
    registry = CollectorRegistry()
    metrics = MonitorMetrics(registry)
    metrics.set_alarm(_alarm(AlarmState.FIRING, slice_text="source=a"), is_judged=True)
    metrics.set_unjudged("a", alarm="drift")
    assert {("", 1.0), ("source=a", 1.0)} == _values(registry, "monitor_alarm_unknown", "slice")
    assert {("source=a", 1.0)} == _values(registry, "monitor_alarm_active", "slice")


def _values(registry: CollectorRegistry, name: str, label: str) -> set[tuple[str, float]]:
    return {
        (sample.labels[label], sample.value)
        for family in registry.collect()
        for sample in family.samples
        if sample.name == name
    }
