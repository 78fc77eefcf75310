"""The exposition names what dashboards use and drops what no longer means anything."""

from prometheus_client import CollectorRegistry, generate_latest

from monitor.metrics import MonitorMetrics
from monitor.records import FeatureScore


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
        "monitor_alarm_unknown",
        "monitor_alarm_since_timestamp_seconds",
        "monitor_window_samples",
        "monitor_window_age_seconds",
        "monitor_window_bad_samples",
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


def _score(feature: str) -> FeatureScore:
    return FeatureScore(feature=feature, score=0.5, threshold=0.2)
