"""All metrics of the monitor, on a registry that is passed in.

Rules: base units, `_total` on counters, labels from closed sets: models in production, features of their
references, their slices (MONITOR_MAX_SLICES at most), ledgers that a witness saw (monitor.jobs.witness.MAX_LEDGERS at
most), the enums of monitor.records. A label set that no longer means anything is removed: a stale score would keep an
alert alive.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from threading import Lock

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from monitor.records import (
    ABOUT_LEDGER,
    Alarm,
    AlarmState,
    FeatureScore,
    Harm,
    Outcome,
    Passed,
    Rule,
    Window,
)

READ_TABLES = (
    "alarms",
    "alarm_deliveries",
    "alarm_silences",
    "alarm_transitions",
    "drift_cursors",
    "model_versions",
)
WEBHOOK_OUTCOMES = ("delivered", "failed", "given_up", "silenced", "database_error", "error")
TICK_BUCKETS_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class MonitorMetrics:
    """The monitor's metrics; one object a process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._features: dict[str, frozenset[str]] = {}
        # Of the alarms that are shown; several threads show some.
        self._alarms: set[tuple[str, str, str]] = set()
        self._alarms_lock = Lock()
        self._slices: dict[str, frozenset[str]] = {}
        self._add_what_is_watched(registry)
        self._add_evidence(registry)
        self._add_alarms(registry)
        self._add_webhooks(registry)
        self._add_what_ledgers_show(registry)
        self._add_what_the_witness_saw(registry)
        self._add_how_the_monitor_is(registry)

    def _add_what_is_watched(self, registry: CollectorRegistry) -> None:
        self.drift_score = Gauge(
            "monitor_drift_score",
            "Distance of the current window from the reference, 0 to 1; larger is more drift.",
            ["model", "feature"],
            registry=registry,
        )
        self.drift_threshold = Gauge(
            "monitor_drift_threshold",
            "The score that chance alone exceeds too rarely to believe.",
            ["model", "feature"],
            registry=registry,
        )
        self.drift_effect = Gauge(
            "monitor_drift_effect",
            "How much likelier a value is larger than in the reference, less how much likelier smaller; -1 to 1.",
            ["model", "feature"],
            registry=registry,
        )
        self.window_samples = Gauge(
            "monitor_window_samples",
            "Samples on each side of the comparison; 0 without a reference.",
            ["model", "window"],
            registry=registry,
        )
        self.window_age = Gauge(
            "monitor_window_age_seconds",
            "Age of the newest sample at the last tick.",
            ["model"],
            registry=registry,
        )

    def _add_evidence(self, registry: CollectorRegistry) -> None:
        self.drift_evidence = Gauge(
            "monitor_drift_evidence_ratio",
            "log10 of the evidence of a change over what ringing needs: it rings at 0.",
            ["model", "slice"],
            registry=registry,
        )
        self.drift_lag = Gauge(
            "monitor_drift_lag_samples",
            "Samples that the last tick left unread.",
            ["model"],
            registry=registry,
        )
        self.drift_state_bytes = Gauge(
            "monitor_drift_state_bytes",
            "Size of the evidence that is kept between ticks.",
            ["model"],
            registry=registry,
        )
        self.drift_judged = Counter(
            "monitor_drift_judged_samples", "Samples that were judged.", registry=registry
        )
        self.drift_passed = Counter(
            "monitor_drift_passed_samples",
            "Samples that were looked at and not judged, by reason.",
            ["reason"],
            registry=registry,
        )
        for reason in Passed:
            self.drift_passed.labels(reason.value)
        self.lease_held = Gauge(
            "monitor_lease_held",
            "1 while this monitor judges, 0 while another does.",
            registry=registry,
        )

    def _add_alarms(self, registry: CollectorRegistry) -> None:
        names = ["model", "alarm", "slice"]
        self.alarm_active = Gauge(
            "monitor_alarm_active", "1 while firing or acknowledged.", names, registry=registry
        )
        self.alarm_pending = Gauge(
            "monitor_alarm_pending",
            "1 while the evidence is not enough to ring.",
            names,
            registry=registry,
        )
        self.alarm_acknowledged = Gauge(
            "monitor_alarm_acknowledged",
            "1 while it rings and a person knows.",
            names,
            registry=registry,
        )
        self.alarm_harmful = Gauge(
            "monitor_alarm_harmful",
            "1 while it rings and what differs makes the model worse.",
            names,
            registry=registry,
        )
        self.alarm_silenced = Gauge(
            "monitor_alarm_silenced", "1 while nobody is told of it.", names, registry=registry
        )
        self.alarm_unknown = Gauge(
            "monitor_alarm_unknown",
            "1 while there is too little data, or no reference, to say; what rings goes on ringing.",
            names,
            registry=registry,
        )
        self.alarm_since = Gauge(
            "monitor_alarm_since_timestamp_seconds",
            "When the alarm took its present state.",
            names,
            registry=registry,
        )
        self._alarm_gauges = (
            self.alarm_active,
            self.alarm_pending,
            self.alarm_acknowledged,
            self.alarm_harmful,
            self.alarm_silenced,
            self.alarm_unknown,
            self.alarm_since,
        )

    def _add_webhooks(self, registry: CollectorRegistry) -> None:
        self.webhook_deliveries = Counter(
            "monitor_webhook_deliveries",
            "Changes of alarms for webhooks by outcome: delivered, failed (a try), given_up, silenced, "
            "database_error, error (no try was made).",
            ["outcome"],
            registry=registry,
        )
        self.webhook_waiting = Gauge(
            "monitor_webhook_waiting",
            "Changes of alarms that webhooks have not taken yet.",
            registry=registry,
        )
        for outcome in WEBHOOK_OUTCOMES:
            self.webhook_deliveries.labels(outcome)

    def _add_what_ledgers_show(self, registry: CollectorRegistry) -> None:
        self.security_findings = Counter(
            "monitor_security_findings",
            "Findings in the ledgers that were opened.",
            ["rule"],
            registry=registry,
        )
        self.security_forgotten = Counter(
            "monitor_security_forgotten",
            "Addresses, principals and tokens that a rule forgot for lack of room.",
            ["rule"],
            registry=registry,
        )
        self.security_records = Counter(
            "monitor_security_records", "Audit records read by the rules.", registry=registry
        )
        self.security_lag = Gauge(
            "monitor_security_lag_records",
            "Audit records that the last look at the ledgers left unread.",
            registry=registry,
        )
        self.security_last_look = Gauge(
            "monitor_security_last_look_timestamp_seconds",
            "When the last look at the ledgers began that ended well.",
            registry=registry,
        )
        self.security_failures = Counter(
            "monitor_security_failures",
            "Looks at the ledgers that failed, by outcome.",
            ["outcome"],
            registry=registry,
        )
        for rule in Rule:
            self.security_findings.labels(rule.value)
        for outcome in (Outcome.DATABASE_ERROR, Outcome.ERROR):
            self.security_failures.labels(outcome.value)

    def _add_what_the_witness_saw(self, registry: CollectorRegistry) -> None:
        self.witness_size = Gauge(
            "monitor_witness_size",
            "Records of the largest checkpoint that was accepted of a ledger.",
            ["ledger"],
            registry=registry,
        )
        self.witness_accepted_at = Gauge(
            "monitor_witness_last_checkpoint_timestamp_seconds",
            "When a larger checkpoint of a ledger was last accepted.",
            ["ledger"],
            registry=registry,
        )
        self.witness_last_look = Gauge(
            "monitor_witness_last_look_timestamp_seconds",
            "When the witness last looked at every ledger.",
            registry=registry,
        )
        self.witness_failures = Counter(
            "monitor_witness_failures",
            "Looks of the witness that failed, by outcome.",
            ["outcome"],
            registry=registry,
        )
        for outcome in (Outcome.DATABASE_ERROR, Outcome.ERROR):
            self.witness_failures.labels(outcome.value)

    def _add_how_the_monitor_is(self, registry: CollectorRegistry) -> None:
        self.last_tick = Gauge(
            "monitor_last_tick_timestamp_seconds",
            "When the last tick that read the database ended.",
            registry=registry,
        )
        self.ticks = Counter(
            "monitor_ticks", "Models judged, by outcome.", ["outcome"], registry=registry
        )
        self.tick_seconds = Histogram(
            "monitor_tick_duration_seconds",
            "Time of one tick over all models.",
            buckets=TICK_BUCKETS_SECONDS,
            registry=registry,
        )
        self.reports = Counter(
            "monitor_reports", "Reports by outcome: ok or failed.", ["outcome"], registry=registry
        )
        self.audit_records = Counter(
            "monitor_audit_records",
            "Records of the monitor's own ledger by outcome: written, or failed for tries that wrote none.",
            ["outcome"],
            registry=registry,
        )
        self.unreadable_rows = Counter(
            "monitor_unreadable_rows",
            "Rows that a look passed by because they cannot be read, by table; each look counts them anew.",
            ["table"],
            registry=registry,
        )
        for table in READ_TABLES:
            self.unreadable_rows.labels(table)
        self.build_info = Gauge(
            "monitor_build_info", "1 for the running version.", ["version"], registry=registry
        )
        for outcome in Outcome:
            self.ticks.labels(outcome.value)
        for audit_outcome in ("written", "failed"):
            self.audit_records.labels(audit_outcome)
        for report_outcome in ("ok", "failed"):
            self.reports.labels(report_outcome)

    def set_scores(self, model: str, scores: Sequence[FeatureScore]) -> None:
        """Show the scores of one model, and no others of it."""
        for score in scores:
            self.drift_score.labels(model, score.feature).set(score.score)
            self.drift_threshold.labels(model, score.feature).set(score.threshold)
            self.drift_effect.labels(model, score.feature).set(score.effect)
        shown = frozenset(score.feature for score in scores)
        for feature in self._features.get(model, frozenset()) - shown:
            self.drift_score.remove(model, feature)
            self.drift_threshold.remove(model, feature)
            self.drift_effect.remove(model, feature)
        self._features[model] = shown

    def set_evidence(self, model: str, ratios: Mapping[str, float]) -> None:
        """Show how far the slices of one model are from ringing, and no others of it. ratios: log10, by slice."""
        for slice_text, ratio in ratios.items():
            self.drift_evidence.labels(model, slice_text).set(ratio)
        for slice_text in self._slices.get(model, frozenset()) - ratios.keys():
            self.drift_evidence.remove(model, slice_text)
        self._slices[model] = frozenset(ratios)

    def set_progress(self, model: str, *, lag: int, state_bytes: int) -> None:
        """Show what a look at one model left unread, and what it keeps."""
        self.drift_lag.labels(model).set(lag)
        self.drift_state_bytes.labels(model).set(state_bytes)

    def set_windows(
        self, model: str, *, reference_count: int, current: Window, now: datetime
    ) -> None:
        """Show how much data stands behind the scores, and how old it is."""
        self.window_samples.labels(model, "reference").set(reference_count)
        self.window_samples.labels(model, "current").set(current.sample_count)
        if current.newest_received_at is not None:
            age = now - current.newest_received_at
            self.window_age.labels(model).set(age.total_seconds())

    def set_alarm(self, alarm: Alarm, *, is_judged: bool) -> None:
        """Show the state of one alarm; is_judged: whether the last tick had enough to judge."""
        labels = (alarm.model_name, alarm.name, alarm.slice)
        self.alarm_active.labels(*labels).set(alarm.state.is_active)
        self.alarm_pending.labels(*labels).set(alarm.state is AlarmState.PENDING)
        self.alarm_acknowledged.labels(*labels).set(alarm.state is AlarmState.ACKNOWLEDGED)
        is_harmful = alarm.state.is_active and alarm.harm is Harm.HARMFUL
        self.alarm_harmful.labels(*labels).set(is_harmful)
        with self._alarms_lock:
            if labels not in self._alarms:
                self.alarm_silenced.labels(*labels).set(0)
            self._alarms.add(labels)
        self.alarm_unknown.labels(*labels).set(not is_judged or alarm.state is AlarmState.UNKNOWN)
        self.alarm_since.labels(*labels).set(alarm.since.timestamp())

    def set_unjudged(self, model: str, *, alarm: str) -> None:
        """Show that the last tick failed for a model; whether its alarms ring stays as it was."""
        self._features.setdefault(model, frozenset())
        self.alarm_unknown.labels(model, alarm, "").set(1)
        for labels in self._shown(model, alarm):
            self.alarm_unknown.labels(*labels).set(1)

    def set_silenced(self, is_silenced: Callable[[str, str, str], bool]) -> None:
        """Show of each alarm whether nobody is told of it. is_silenced: by model, alarm and slice."""
        with self._alarms_lock:
            for labels in self._alarms:
                self.alarm_silenced.labels(*labels).set(is_silenced(*labels))

    def keep_slices(self, model: str, alarm: str, slices: Collection[str]) -> None:
        """Remove the gauges of one alarm's slices but these."""
        for labels in self._shown(model, alarm):
            if labels[2] not in slices:
                self._forget_alarm(labels)

    def set_ledger_unjudged(self, rules: Iterable[Rule]) -> None:
        """Show that the last look at the ledgers failed; whether their alarms are raised stays as it was."""
        for rule in rules:
            self.alarm_unknown.labels(ABOUT_LEDGER, rule.value, "").set(1)

    def set_witnessed(self, ledger: str, *, size: int, accepted_at: datetime) -> None:
        """Show what the witness has of one ledger."""
        self.witness_size.labels(ledger).set(size)
        self.witness_accepted_at.labels(ledger).set(accepted_at.timestamp())

    def forget_models(self, watched: Sequence[str], *, alarm: str) -> None:
        """Remove every gauge of models that are no longer watched."""
        for model in self._features.keys() - set(watched):
            self.set_scores(model, ())
            self.set_evidence(model, {})
            del self._features[model], self._slices[model]
            self.drift_lag.remove(model)
            self.drift_state_bytes.remove(model)
            # One that was never judged shows alone that it is unknown.
            self.alarm_unknown.remove(model, alarm, "")
            for labels in self._shown(model):
                self._forget_alarm(labels)
            self.window_samples.remove(model, "reference")
            self.window_samples.remove(model, "current")
            self.window_age.remove(model)

    def _shown(self, model: str, alarm: str | None = None) -> list[tuple[str, str, str]]:
        with self._alarms_lock:
            return [each for each in self._alarms if each[0] == model and alarm in (None, each[1])]

    def _forget_alarm(self, labels: tuple[str, str, str]) -> None:
        with self._alarms_lock:
            for gauge in self._alarm_gauges:
                gauge.remove(*labels)
            self._alarms.discard(labels)
