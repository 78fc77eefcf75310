"""From when on something counts as suspicious: the settings of the rules, as plain values."""

from dataclasses import dataclass

from monitor.hours import WorkingHours


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """0, None or False: not looked for.

    Counts are records in a window: failures of failure_window_seconds, the others of an hour. max_keys: addresses,
    principals or tokens that each rule tells apart at a time.
    """

    address_failures: int
    all_failures: int
    subject_failures: int
    failure_window_seconds: float
    token_addresses: int
    token_certificates: int
    token_kept_seconds: float
    operator_denials: int
    operator_unproven: int
    working_hours: WorkingHours | None
    off_hours_excepted: frozenset[str]
    looks_at_new_issuers: bool
    looks_at_new_keys: bool
    sample_views: int
    audit_reads: int
    audit_records: int
    exporters: frozenset[str]
    predictions: int
    looks_at_loads: bool
    clock_tolerance_seconds: float
    looks_at_outages: bool
    max_keys: int
