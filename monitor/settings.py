"""Everything the monitor process needs, read once from the environment.

Rules: one frozen object; every limit has its unit in the name and its reason beside it. The README's configuration
table is checked against this class by a test.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from gateway.store.environment import EnvironmentInvalidError, StrictSettings
from monitor.records import InputError

Port = Annotated[int, Field(ge=0, le=65535)]


class MonitorSettings(StrictSettings):
    """The monitor's settings; each is the environment variable MONITOR_<NAME>."""

    prefix: ClassVar[str] = "MONITOR_"

    # The gateway's database: read for samples, written for references, results and alarms.
    database_url: Annotated[str, Field(repr=False)] = "sqlite:///var/gatewatch.db"
    # Which model to watch; empty: every model that has a version in production.
    model_name: str = ""

    # A minute is far below the time in which people react to drift.
    tick_seconds: Annotated[float, Field(ge=0.2, le=86_400)] = 60.0
    # 100 samples show a shift of a quarter of the distribution. 2000: the exact threshold takes seconds beyond.
    window_samples: Annotated[int, Field(ge=10, le=2000)] = 100
    # Below 30 only the grossest change could exceed its threshold, so the alarm says `unknown` instead.
    min_window_samples: Annotated[int, Field(ge=10, le=2000)] = 30
    # Chance of any feature exceeding its threshold in one window without drift.
    alpha: Annotated[float, Field(ge=1e-6, le=0.2)] = 0.001
    # Features to leave out, comma-separated: those that change for a known and harmless reason.
    ignored_features: str = ""

    # Consecutive ticks on new samples. Two forgive one odd window; three keep a fading drift from flapping.
    raise_after_ticks: Annotated[int, Field(ge=1, le=1000)] = 2
    clear_after_ticks: Annotated[int, Field(ge=1, le=1000)] = 3
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

    @model_validator(mode="after")
    def _minimum_fits_window(self) -> Self:
        if self.min_window_samples > self.window_samples:
            raise ValueError(
                f"MONITOR_MIN_WINDOW_SAMPLES ({self.min_window_samples}) is larger than "
                f"MONITOR_WINDOW_SAMPLES ({self.window_samples}): no window could ever be judged"
            )
        return self

    def ignored_feature_names(self) -> frozenset[str]:
        """The names in ignored_features."""
        return frozenset(name.strip() for name in self.ignored_features.split(",") if name.strip())


def read_settings(environment: Mapping[str, str], **overrides: object) -> MonitorSettings:
    """The monitor's settings from the environment; command-line overrides win.

    Raises InputError listing every mistake at once.
    """
    try:
        return MonitorSettings.read(environment, **overrides)
    except EnvironmentInvalidError as exc:
        raise InputError(f"the configuration is wrong:\n{exc}") from exc
