"""All metrics of the gateway, on a registry that is passed in.

Rules: base units, `_total` on counters, labels from closed sets only; a request id or a name from a token is never one.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.errors import AuthnError, AuthzError, GatewayError, QuotaError

REQUEST_BUCKETS_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STAGE_BUCKETS_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
AUDIT_BUCKETS_SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)


class GatewayMetrics:
    """The gateway's metrics; one object a process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = Counter(
            "gateway_requests",
            "Answered calls by route, HTTP status and error code (ok if none).",
            ["route", "status", "code"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "gateway_request_duration_seconds",
            "Time from the first header byte parsed to the answer handed to the socket.",
            ["route"],
            buckets=REQUEST_BUCKETS_SECONDS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "gateway_stage_duration_seconds",
            "Time of an answer by stage: queue, decode, preprocess, inference, postprocess, audit.",
            ["stage"],
            buckets=STAGE_BUCKETS_SECONDS,
            registry=registry,
        )
        self.audit_seconds = Histogram(
            "gateway_audit_append_duration_seconds",
            "Time until one audit record is durable.",
            buckets=AUDIT_BUCKETS_SECONDS,
            registry=registry,
        )
        self.authn_failures = Counter(
            "gateway_authn_failures", "Refused tokens by reason.", ["reason"], registry=registry
        )
        self.authz_denials = Counter(
            "gateway_authz_denials", "Refused permissions by reason.", ["reason"], registry=registry
        )
        self.queue_depth = Gauge(
            "gateway_queue_depth", "Images waiting for a worker.", registry=registry
        )
        self.ready = Gauge(
            "gateway_ready",
            "1 while the gateway takes calls and knows every issuer's keys.",
            registry=registry,
        )
        self.build_info = Gauge(
            "gateway_build_info", "1 for the running version.", ["version"], registry=registry
        )
        self._add_checkpoints(registry)
        self._add_identity(registry)
        self._add_edge(registry)
        self._add_samples(registry)
        self._add_models(registry)

    def _add_checkpoints(self, registry: CollectorRegistry) -> None:
        self.audit_checkpoint_size = Gauge(
            "gateway_audit_checkpoint_size",
            "Records that the newest signed checkpoint covers.",
            registry=registry,
        )
        self.audit_checkpoint_time = Gauge(
            "gateway_audit_checkpoint_timestamp_seconds",
            "When this process last signed a checkpoint.",
            registry=registry,
        )
        self.audit_unsigned_records = Gauge(
            "gateway_audit_unsigned_records",
            "Durable records that no checkpoint of this process covers yet.",
            registry=registry,
        )
        self.audit_witness_size = Gauge(
            "gateway_audit_witness_size",
            "Records of the checkpoint that a witness (file, url) has.",
            ["place"],
            registry=registry,
        )
        self.audit_witness_lag = Gauge(
            "gateway_audit_witness_lag_seconds",
            "For how long there has been a checkpoint that a witness lacks; 0 while it lacks none.",
            ["place"],
            registry=registry,
        )
        self.audit_witness_failures = Counter(
            "gateway_audit_witness_failures",
            "Attempts to hand a checkpoint to a witness that failed.",
            ["place"],
            registry=registry,
        )
        self.audit_witness_disagreements = Counter(
            "gateway_audit_witness_disagreements",
            "Times that a witness had what the ledger does not go on from, or had lost what it had.",
            ["place"],
            registry=registry,
        )

    def _add_identity(self, registry: CollectorRegistry) -> None:
        self.jwks_age_seconds = Gauge(
            "gateway_jwks_age_seconds",
            "How long ago the keys of an issuer were fetched; infinite before the first time.",
            ["issuer"],
            registry=registry,
        )
        self.jwks_fetches = Counter(
            "gateway_jwks_fetches",
            "Fetches of an issuer's keys by outcome: fetched, failed.",
            ["issuer", "outcome"],
            registry=registry,
        )
        self.deny_list_age_seconds = Gauge(
            "gateway_deny_list_age_seconds",
            "How long ago the deny list was last read.",
            registry=registry,
        )
        self.deny_list_entries = Gauge(
            "gateway_deny_list_entries", "Entries of the deny list in force.", registry=registry
        )
        self.quota_refusals = Counter(
            "gateway_quota_refusals", "Calls refused by a limit.", ["limit"], registry=registry
        )
        self.quota_store_failures = Counter(
            "gateway_quota_store_failures",
            "Calls for which the shared counters could not be read.",
            registry=registry,
        )

    def _add_edge(self, registry: CollectorRegistry) -> None:
        self.connections = Gauge("gateway_connections", "Open connections.", registry=registry)
        self.connections_ended = Counter(
            "gateway_connections_ended",
            "Connections that the gateway ended, by reason.",
            ["reason"],
            registry=registry,
        )
        self.certificate_expiry = Gauge(
            "gateway_tls_certificate_expiry_timestamp_seconds",
            "When the served certificate ends.",
            registry=registry,
        )
        self.tls_reloads = Counter(
            "gateway_tls_reloads",
            "Certificates taken anew by outcome: loaded, failed.",
            ["outcome"],
            registry=registry,
        )

    def _add_samples(self, registry: CollectorRegistry) -> None:
        self.samples = Counter(
            "gateway_samples", "Samples by what became of them.", ["outcome"], registry=registry
        )
        self.sample_images = Gauge(
            "gateway_sample_images_kept",
            "Images this process stored, encrypted.",
            registry=registry,
        )
        self.sample_lag_seconds = Gauge(
            "gateway_sample_lag_seconds",
            "How long the oldest sample has waited to be stored.",
            registry=registry,
        )

        self.sources_ignored = Counter(
            "gateway_sources_ignored",
            "Answered requests whose camera's name was none: claim_form, header_form, header_repeated.",
            ["reason"],
            registry=registry,
        )

    def _add_models(self, registry: CollectorRegistry) -> None:
        self.model_info = Gauge(
            "gateway_model_info",
            "1 for each model version that is loaded.",
            ["model", "version", "precision", "engine"],
            registry=registry,
        )
        self.model_loads = Counter(
            "gateway_model_loads",
            "Versions loaded while running, by outcome: loaded, failed.",
            ["outcome"],
            registry=registry,
        )
        self.canary_fallbacks = Counter(
            "gateway_canary_fallbacks",
            "Requests that production answered because the canary failed.",
            registry=registry,
        )
        self.shadow_answers = Counter(
            "gateway_shadow_answers",
            "Requests for a shadow by outcome: answered, skipped, failed.",
            ["outcome"],
            registry=registry,
        )

    def count_refusal(self, error: GatewayError) -> None:
        """Count an error by its constant reason, if it is about who calls."""
        if isinstance(error, AuthnError):
            self.authn_failures.labels(error.reason).inc()
        elif isinstance(error, AuthzError):
            self.authz_denials.labels(error.reason).inc()
        elif isinstance(error, QuotaError):
            self.quota_refusals.labels(error.limit).inc()
