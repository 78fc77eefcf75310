"""What the monitor computes and keeps, as frozen dataclasses, and the errors it names.

Rules: all times are UTC-aware; a larger score is more drift, always; a score has drifted when it exceeds its threshold;
a finding's own times are the ledger's, and may be wrong where a clock was.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from monitor.summaries import ReferenceSummary

FeatureArray: TypeAlias = NDArray[np.float64]

# Where an alarm has the name of its model, those about the ledgers have this: no model can be called so.
ABOUT_LEDGER = "(ledger)"
# The alarm that checkpoints and witnesses disagree. The others about the ledgers are named by Rule.
LEDGER_ALARM = "ledger"


class MonitorError(Exception):
    """A failure the monitor names; the message tells cause and fix."""


class InputError(MonitorError):
    """What the operator passed in is wrong: a file, a folder, a number."""


class NotReadyError(MonitorError):
    """Something has to exist first: a model in production, a reference, enough samples."""


class DatabaseUnavailableError(MonitorError):
    """The database is missing, locked, restarting or not migrated; the next tick may succeed."""


class LeaseLostError(MonitorError):
    """Another monitor took the lease while this one was at work; nothing of it was stored."""


class LedgerUnavailableError(MonitorError):
    """The monitor's own ledger cannot be written; the message says whether what had to be on record was made."""


class ReportError(MonitorError):
    """The report could not be rendered or written."""


class ReportToolMissingError(ReportError):
    """The optional packages that render reports are not installed."""


class SampleLineError(InputError):
    """A line of a sample file is not what `gateway features` prints; the message names the line."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What is compared of one sample: the gateway's features, and its detections to count classes.

    features: None where one has no value. detections: rows (class_id, confidence, x1, y1, x2, y2), pixels. embedding:
    float32 (C,), the network's pooled feature; None if it has none.
    """

    features: Mapping[str, float | None]
    detections: tuple[tuple[int, float, float, float, float, float], ...]
    embedding: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class SampleLine:
    """One line of a sample file: a measurement and which model version made it when."""

    measurement: Measurement
    model_name: str
    model_version: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Window:
    """One side of a comparison: one array for each feature, one entry for each sample, oldest first.

    features: name -> float64 (sample_count,); a missing value is -inf, below every number.
    newest_request_id, newest_received_at: of its newest sample; None in an empty window and in references.
    bad_count: of the newest rows, left out. received_at: of each sample; empty in references.
    """

    features: Mapping[str, FeatureArray]
    sample_count: int
    newest_request_id: str | None = None
    newest_received_at: datetime | None = None
    bad_count: int = 0
    received_at: tuple[datetime, ...] = ()


@dataclass(frozen=True, slots=True)
class Reference:
    """What normal looks like for one model version.

    source: where its samples came from, in words for people. covers_until: set if it was made of stored samples.
    """

    id: int
    model_name: str
    model_version: str
    created_at: datetime
    source: str
    covers_until: datetime | None
    summary: ReferenceSummary

    @property
    def judges_after(self) -> datetime:
        """Only samples received later are compared with it; a clock that was ahead must not keep those of now out."""
        return min(self.covers_until or self.created_at, self.created_at)


@dataclass(frozen=True, slots=True)
class FeatureScore:
    """The drift of one feature in one window: score and threshold are 0..1, larger is more drift.

    effect: -1..1, how much likelier a value of the window is larger than one of the reference, less how much likelier
    smaller. evidence: log10 of the feature's share of the evidence against "nothing changed"; None where it is not
    watched by evidence.
    """

    feature: str
    score: float
    threshold: float
    effect: float = 0.0
    evidence: float | None = None

    @property
    def is_drifted(self) -> bool:
        """Whether the score exceeds its threshold."""
        return self.score > self.threshold


class Outcome(StrEnum):
    """How a tick ended for one model; the last four may concern the tick as a whole."""

    JUDGED = "judged"
    NO_NEW_SAMPLES = "no_new_samples"
    TOO_FEW_SAMPLES = "too_few_samples"
    NO_REFERENCE = "no_reference"
    UNFIT_REFERENCE = "unfit_reference"
    NO_MODEL = "no_model"
    DATABASE_ERROR = "database_error"
    ERROR = "error"
    STANDBY = "standby"


class Passed(StrEnum):
    """Why a sample was not judged.

    COVERED: the reference holds samples of its time, or was made after it. TOO_SOON: after another of its camera.
    OVER_KEPT: it was likelier to be stored than others, and so many are left out that they are as frequent as in the
    traffic. OTHER_HOURS: the reference knows nothing of its hour. UNREADABLE: its row holds no sample.
    """

    COVERED = "covered"
    TOO_SOON = "too_soon"
    OVER_KEPT = "over_kept"
    OTHER_HOURS = "other_hours"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class DriftResult:
    """One stored FeatureScore: when, against which reference, on how many current samples."""

    ticked_at: datetime
    model_name: str
    model_version: str
    reference_id: int
    window_count: int
    score: FeatureScore
    slice: str = ""
    window_newest_at: datetime | None = None


class Harm(StrEnum):
    """Whether what is different makes the model worse; UNKNOWN: the data cannot tell."""

    HARMFUL = "harmful"
    HARMLESS = "harmless"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class DriftCursor:
    """How far the samples of a model version were judged.

    reference_id: by which reference. last_sample_id: the largest id that was looked at. judged_samples,
    passed_samples: how many were judged, and how many passed over (too soon after another of their camera, or too
    likely to be kept). memory: JSON values, bounded (monitor.jobs.intake).
    """

    model_name: str
    model_version: str
    reference_id: int
    last_sample_id: int
    judged_samples: int
    passed_samples: int
    memory: Mapping[str, Any]
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class DriftState:
    """The evidence of one slice between ticks. evidence: monitor.drift.evidence dumps it. memory: as in DriftCursor."""

    model_name: str
    model_version: str
    slice: str
    judged_samples: int
    evidence: bytes
    memory: Mapping[str, Any]
    updated_at: datetime


class AlarmState(StrEnum):
    """Where an alarm stands.

    UNKNOWN: too little data to say; it is neither good nor bad news. PENDING: something points to it, not enough to
    ring. ACKNOWLEDGED: it rings, and a person knows. RESOLVED: it rang, and what rang is over.
    """

    UNKNOWN = "unknown"
    CLEAR = "clear"
    PENDING = "pending"
    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"

    @property
    def is_active(self) -> bool:
        """Whether it rings, known to a person or not."""
        return self in (AlarmState.FIRING, AlarmState.ACKNOWLEDGED)


@dataclass(frozen=True, slots=True)
class Alarm:
    """The stored state of one alarm of one model, or of one slice of it.

    slice: monitor.summaries.Slice.text; empty for all samples. newest_request_id: the newest sample that was judged.
    features, diagnosis, harm, details: what was found when it rang or since, kept while it is active; details: JSON
    values for people (the pattern, effects, examples). armed_samples: judged since it was armed, when it rang: how many
    it took. quiet_samples: judged since the evidence was last enough to ring. acknowledged_*: who knows of it.
    """

    model_name: str
    name: str
    state: AlarmState
    since: datetime
    model_version: str
    slice: str = ""
    newest_request_id: str | None = None
    features: tuple[str, ...] = ()
    diagnosis: str = ""
    harm: Harm = Harm.UNKNOWN
    details: Mapping[str, Any] = field(default_factory=dict)
    armed_samples: int = 0
    quiet_samples: int = 0
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    acknowledged_why: str | None = None


@dataclass(frozen=True, slots=True)
class AlarmTransition:
    """One change of an alarm's state, with the reason in plain words."""

    model_name: str
    name: str
    at: datetime
    before: AlarmState
    after: AlarmState
    model_version: str
    features: tuple[str, ...]
    diagnosis: str
    slice: str = ""
    harm: Harm = Harm.UNKNOWN
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Silence:
    """Alarms that nobody is told of until ends_at. model_name, name, slice: None stands for all."""

    model_name: str | None
    name: str | None
    slice: str | None
    created_at: datetime
    created_by: str
    why: str
    ends_at: datetime
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One change of an alarm on its way to one webhook. next_at: when it is tried; None: delivered or given up."""

    transition_id: int
    target: str
    attempts: int
    next_at: datetime | None
    delivered_at: datetime | None = None
    last_error: str | None = None
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """One published report; the file names are relative to the reports folder."""

    created_at: datetime
    model_name: str
    model_version: str
    reference_id: int
    window_count: int
    drifted_features: int
    html_file: str
    json_file: str


class Rule(StrEnum):
    """What in the ledger is suspicious; each is the name of an alarm too (monitor.security)."""

    ADDRESS_FAILURES = "address_failures"
    ALL_FAILURES = "all_failures"
    SUBJECT_FAILURES = "subject_failures"
    TOKEN_SHARED = "token_shared"  # noqa: S105  (a rule's name)
    OPERATOR_REFUSED = "operator_refused"
    OPERATOR_OFF_HOURS = "operator_off_hours"
    ISSUER_NEW = "issuer_new"
    KEY_NEW = "key_new"
    SAMPLES_VIEWED = "samples_viewed"
    AUDIT_READ = "audit_read"
    AUDIT_EXPORTED = "audit_exported"
    PREDICTIONS_MANY = "predictions_many"
    LOAD_UNORDERED = "load_unordered"
    CLOCK_JUMPED = "clock_jumped"
    AUDIT_OUTAGE = "audit_outage"
    RECORD_UNREADABLE = "record_unreadable"


class Severity(StrEnum):
    """How soon a person must look, in the words of the alert rules."""

    PAGE = "page"
    TICKET = "ticket"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an audit record stands: the ledger's name and the position in it."""

    origin: str
    position: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a ledger was read: up to before next_position. What stands below learn_until was there at first."""

    origin: str
    next_position: int
    learn_until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a rule saw of one key, from its first record to its newest.

    key: the address, principal, token, issuer, model or ledger that it is about. since, until: of its records, by
    their clocks. opened_at, seen_at: when the first and the newest of them were judged, by the monitor's. count:
    records, of a burst the most in one window. evidence: some of them, the first and the newest. closed_why: in words;
    None as closed_at while it is open. id: None until it is stored.
    """

    rule: Rule
    key: str
    severity: Severity
    opened_at: datetime
    seen_at: datetime
    since: datetime
    until: datetime
    count: int
    words: str
    evidence: tuple[Place, ...]
    closed_at: datetime | None = None
    closed_why: str | None = None
    id: int | None = None
