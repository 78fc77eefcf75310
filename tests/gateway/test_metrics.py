"""The gateway's metrics: names, closed label sets, and what refusals count as."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.errors import AuthnError, AuthzError, Code, RequestError
from gateway.metrics import GatewayMetrics


@pytest.fixture
def metrics() -> GatewayMetrics:
    """Metrics on a registry of their own."""
    return GatewayMetrics(CollectorRegistry())


def test_the_names_and_labels(metrics: GatewayMetrics) -> None:
    """Dashboards and rules are written against these; no label can hold an id or a name from a token."""
    labels = {
        f"{metric._name}": set(metric._labelnames)
        for metric in vars(metrics).values()
        if hasattr(metric, "_labelnames")
    }
    assert labels == {
        "gateway_requests": {"route", "status", "code"},
        "gateway_request_duration_seconds": {"route"},
        "gateway_stage_duration_seconds": {"stage"},
        "gateway_audit_append_duration_seconds": set(),
        "gateway_audit_checkpoint_size": set(),
        "gateway_audit_checkpoint_timestamp_seconds": set(),
        "gateway_audit_unsigned_records": set(),
        "gateway_audit_witness_size": {"place"},
        "gateway_audit_witness_lag_seconds": {"place"},
        "gateway_audit_witness_failures": {"place"},
        "gateway_audit_witness_disagreements": {"place"},
        "gateway_authn_failures": {"reason"},
        "gateway_authz_denials": {"reason"},
        "gateway_jwks_age_seconds": {"issuer"},
        "gateway_jwks_fetches": {"issuer", "outcome"},
        "gateway_deny_list_age_seconds": set(),
        "gateway_deny_list_entries": set(),
        "gateway_quota_refusals": {"limit"},
        "gateway_quota_store_failures": set(),
        "gateway_connections": set(),
        "gateway_connections_ended": {"reason"},
        "gateway_tls_certificate_expiry_timestamp_seconds": set(),
        "gateway_tls_reloads": {"outcome"},
        "gateway_queue_depth": set(),
        "gateway_samples": {"outcome"},
        "gateway_sample_images_kept": set(),
        "gateway_sample_lag_seconds": set(),
        "gateway_sources_ignored": {"reason"},
        "gateway_ready": set(),
        "gateway_model_info": {"model", "version", "precision", "engine"},
        "gateway_model_loads": {"outcome"},
        "gateway_canary_fallbacks": set(),
        "gateway_shadow_answers": {"outcome"},
        "gateway_build_info": {"version"},
    }


def test_refusals_are_counted_by_reason(metrics: GatewayMetrics) -> None:
    """Only those about who calls; the others are counted by code with the calls."""
    metrics.count_refusal(AuthnError(Code.AUTHN_INVALID, "m", reason="expired"))
    metrics.count_refusal(AuthnError(Code.AUTHN_MISSING, "m"))
    metrics.count_refusal(AuthzError(Code.AUTHZ_DENIED, "m", reason="other_model"))
    metrics.count_refusal(RequestError(Code.BODY_EMPTY, "m"))
    counted = {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(generate_latest(metrics.registry).decode())
        for sample in family.samples
        if sample.name.endswith("_total") and sample.value
    }
    assert counted == {
        ("gateway_authn_failures_total", ("expired",)): 1.0,
        ("gateway_authn_failures_total", ("authn_missing",)): 1.0,
        ("gateway_authz_denials_total", ("other_model",)): 1.0,
    }


def test_two_registries_do_not_share(metrics: GatewayMetrics) -> None:
    """Nothing is registered for the whole process at import."""
    other = GatewayMetrics(CollectorRegistry())
    metrics.ready.set(1)
    assert other.registry.get_sample_value("gateway_ready") == 0.0
