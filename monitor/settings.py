"""Everything the monitor process needs, read once from the environment.

Rules: one frozen object; every limit has its unit in the name and its reason beside it. The README's configuration
table is checked against this class by a test.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from gateway.store.environment import EnvironmentInvalidError, StrictSettings
from monitor.hours import HoursInvalidError, WorkingHours, parse_hours
from monitor.records import InputError

# How many records are suspicious; 0 switches the rule off.
Threshold = Annotated[int, Field(ge=0, le=1_000_000_000)]
Port = Annotated[int, Field(ge=0, le=65535)]


class MonitorSettings(StrictSettings):
    """The monitor's settings; each is the environment variable MONITOR_<NAME>."""

    prefix: ClassVar[str] = "MONITOR_"
    replaced: ClassVar[Mapping[str, str]] = {
        "MONITOR_RAISE_AFTER_TICKS": "MONITOR_DRIFT_ALPHA, the chance of a false alarm, instead",
        "MONITOR_CLEAR_AFTER_TICKS": "MONITOR_CLEAR_AFTER_SAMPLES, which counts samples, instead",
    }

    # The gateway's database: read for samples, written for references, results and alarms.
    database_url: Annotated[str, Field(repr=False)] = "sqlite:///var/gatewatch.db"
    # Which model to watch; empty: every model that has a version in production.
    model_name: str = ""

    # A minute is far below the time in which people react to drift.
    tick_seconds: Annotated[float, Field(ge=0.2, le=86_400)] = 60.0
    # Chance that the drift alarm of a model version ever rings though nothing changed, however long it is watched.
    drift_alpha: Annotated[float, Field(ge=1e-9, le=0.2)] = 0.01
    # Judged samples without evidence until what rang is over: at 0.2 it takes some dozen to ring for a small change.
    clear_after_samples: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    # A tick takes a second or two on as many samples; after a day off one tick follows the other.
    max_tick_samples: Annotated[int, Field(ge=10, le=100_000)] = 5000
    # Of one camera, samples that follow each other sooner show one scene: the second is no news, and no evidence.
    thin_seconds: Annotated[float, Field(ge=0, le=86_400)] = 10.0
    # Scores are for people, evidence rings. 100 show a shift of a quarter of the distribution, and all 2000 are loaded
    # with every tick.
    window_samples: Annotated[int, Field(ge=10, le=2000)] = 100
    # Below 30 only the grossest change could exceed its threshold, so the alarm is `unknown` until as many were judged.
    min_window_samples: Annotated[int, Field(ge=10, le=2000)] = 30
    # Chance of any feature's score exceeding its threshold in one window without drift.
    alpha: Annotated[float, Field(ge=1e-6, le=0.2)] = 0.001
    # Features to leave out, comma-separated: those that change for a known and harmless reason.
    ignored_features: str = ""
    # Cameras and clients that a reference tells apart; each gets an equal part of half the level.
    max_slices: Annotated[int, Field(ge=0, le=64)] = 16
    # Hours in which min_window_samples must be judged of a model in production, or the alarm `samples` rings; 0: none.
    starved_hours: Annotated[float, Field(ge=0, le=8760)] = 24.0

    # Scores of every tick; 30 days hold the month that a review looks back on.
    keep_results_days: Annotated[int, Field(ge=1, le=3650)] = 30

    # Loopback by default: the exposition names models and needs no credentials.
    metrics_host: str = "127.0.0.1"
    metrics_port: Port = 9465

    reports_folder: Path = Path("var/reports")
    # 0: only when asked with `monitor report`.
    report_every_hours: Annotated[float, Field(ge=0, le=8760)] = 0.0
    # A report takes about 15 seconds on two cores; a busy machine gets ten times that.
    report_timeout_seconds: Annotated[float, Field(ge=5, le=3600)] = 180.0

    # Who is told of alarms, comma-separated: https, or http to this host. Their paths are often secret.
    webhook_urls: Annotated[str, Field(repr=False)] = ""
    # What the messages are signed with: whsec_ and base64, or 24 bytes and more; mode 0600.
    webhook_secret_file: str = ""
    # PEM; empty: the system's certificates.
    webhook_ca_file: str = ""
    # For a whole request. Longer than most take, and short beside the back-off.
    webhook_timeout_seconds: Annotated[float, Field(ge=0.1, le=60)] = 15.0

    # The monitor's own ledger: reports, references, changes of alarms. Not the gateway's key, which it never has.
    audit_origin: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9./-]{0,126}$")] = "monitor"
    audit_key_file: Path = Path("var/keys/monitor-ledger.key")
    # Makes the operator's account a keyed hash there, as GATEWAY_AUDIT_PSEUDONYM_KEY_FILE does in the gateway's.
    audit_pseudonym_key_file: str = ""

    # What was seen of ledgers. On another volume, better another host, than the database: whoever has both has all.
    witness_folder: Path = Path("var/witness")
    # Ed25519, PEM; empty: nothing is cosigned, and what was seen is kept all the same.
    witness_key_file: str = ""
    # The name that cosignatures have; keys of witnesses and of ledgers are told apart by it.
    witness_name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9./-]{0,126}$")] = "monitor"
    # The keys of the ledgers as `gateway audit create` prints them, comma-separated; empty: as they are at first sight.
    witness_ledgers: str = ""
    # How long somebody could cut off what was just signed before it is seen. A look is a few queries a ledger.
    witness_seconds: Annotated[float, Field(ge=0.2, le=3600)] = 5.0

    # Calls from one address that were refused before anybody was known. A site of 60 cameras behind one address, each
    # refused three times after a deployment, stays below; whoever guesses has 60 a minute and more.
    security_address_failures: Threshold = 200
    # From all addresses together: what a botnet does, each of its addresses below its own threshold.
    security_all_failures: Threshold = 5000
    # Calls of one principal that were refused for want of a role, a second factor or a quota.
    security_subject_failures: Threshold = 60
    # The window of the three above. A guesser is found in minutes, and a deployment is over.
    security_failure_window_seconds: Annotated[float, Field(ge=10, le=86_400)] = 600.0
    # Network addresses (IPv6 by /64) and client certificates that one token may be used from. A client that moves
    # between networks with one token, or has IPv4 and IPv6, needs 2 or more.
    security_token_addresses: Threshold = 1
    security_token_certificates: Threshold = 1
    # As long as a token may be good: GATEWAY_TOKEN_MAX_LIFETIME_SECONDS, and so much is read again at a start.
    security_token_hours: Annotated[float, Field(ge=0.1, le=168)] = 24.0
    # Operator actions refused in an hour. For want of a role: nobody asks for that by habit. For want of a valid token
    # or a fresh second factor: each honest operator is asked to sign in again once in a while.
    security_operator_denials: Threshold = 1
    security_operator_unproven: Threshold = 5
    # When operators work, e.g. "mon-fri 07:00-19:00", several with commas between; empty: at any time.
    security_working_hours: str = ""
    # The IANA time zone of these hours, e.g. Europe/Berlin.
    security_time_zone: str = "UTC"
    # Subjects that may work at any time, comma-separated: automation.
    security_off_hours_excepted: str = ""
    # What has never been seen before and gives others a way in; an issuer that changes its keys daily is a reason to
    # switch the second off.
    security_new_issuers: bool = True
    security_new_keys: bool = True
    # In an hour by one principal. People look at some samples, and page through some dozen pages of the ledger.
    security_sample_views: Threshold = 100
    security_audit_reads: Threshold = 300
    # Records of the ledger that one principal read or exported in an hour: far more than a person looks through.
    security_audit_records: Threshold = 100_000
    # Subjects that ship the ledger elsewhere, comma-separated: not counted above, and anybody else's export is told.
    security_exporters: str = ""
    # Answered predictions in an hour by one principal, as somebody needs who copies the model. What is usual is known
    # only on the site.
    security_predictions: Threshold = 0
    # Models that a gateway loaded though no operator's record asks for it.
    security_unordered_loads: bool = True
    # Records that are written at the same time may wait for GATEWAY_AUDIT_TIMEOUT_SECONDS, and clocks differ.
    security_clock_tolerance_seconds: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    # Records of times when no record could be written.
    security_outages: bool = True
    # Addresses, principals and tokens that each rule tells apart at a time. 0.7 KB a token, 0.5 to 2 KB the others: 70
    # MB for as many tokens, and 50 to 200 MB where strangers fill the room for addresses.
    security_max_keys: Annotated[int, Field(ge=100, le=10_000_000)] = 100_000
    # A burst is over after this long without another hit; anything else is held over a long weekend.
    security_quiet_minutes: Annotated[float, Field(ge=1, le=10_080)] = 30.0
    security_hold_hours: Annotated[float, Field(ge=1, le=8760)] = 96.0

    @model_validator(mode="after")
    def _hours_can_be_read(self) -> Self:
        try:
            parse_hours(self.security_working_hours, zone=self.security_time_zone)
        except HoursInvalidError as exc:
            raise ValueError(
                f"MONITOR_SECURITY_WORKING_HOURS, MONITOR_SECURITY_TIME_ZONE: {exc}"
            ) from exc
        return self

    @model_validator(mode="after")
    def _minimum_fits_window(self) -> Self:
        if self.min_window_samples > self.window_samples:
            raise ValueError(
                f"MONITOR_MIN_WINDOW_SAMPLES ({self.min_window_samples}) is larger than "
                f"MONITOR_WINDOW_SAMPLES ({self.window_samples}): no window could ever be judged"
            )
        return self

    @model_validator(mode="after")
    def _webhooks_are_signed(self) -> Self:
        if self.webhook_urls.strip() and not self.webhook_secret_file:
            raise ValueError(
                "MONITOR_WEBHOOK_URLS is set and MONITOR_WEBHOOK_SECRET_FILE is not: whoever gets a message could "
                "not tell that it is from here"
            )
        return self

    def ignored_feature_names(self) -> frozenset[str]:
        """The names in ignored_features."""
        return _names(self.ignored_features)

    def working_hours(self) -> WorkingHours | None:
        """When operators work; None where that is not looked at."""
        if not self.security_working_hours.strip():
            return None
        return parse_hours(self.security_working_hours, zone=self.security_time_zone)

    def off_hours_excepted(self) -> frozenset[str]:
        """The subjects in security_off_hours_excepted."""
        return _names(self.security_off_hours_excepted)

    def exporters(self) -> frozenset[str]:
        """The subjects in security_exporters."""
        return _names(self.security_exporters)


def read_settings(environment: Mapping[str, str], **overrides: object) -> MonitorSettings:
    """The monitor's settings from the environment; command-line overrides win.

    Raises InputError listing every mistake at once.
    """
    try:
        return MonitorSettings.read(environment, **overrides)
    except EnvironmentInvalidError as exc:
        raise InputError(f"the configuration is wrong:\n{exc}") from exc


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",") if name.strip())
