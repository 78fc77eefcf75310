"""What every command needs: settings, the clock, the monitor's own ledger, options that look alike."""

import os
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry

from gateway.store.environment import EnvironmentInvalidError, read_environment
from monitor.jobs.ledger import OwnLedger
from monitor.metrics import MonitorMetrics
from monitor.records import InputError
from monitor.settings import MonitorSettings, read_settings

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, for scripts.")]
ModelName = Annotated[
    str | None, typer.Option("--model", help="Which model; instead of MONITOR_MODEL_NAME.")
]


def settings_of_process(model: str | None = None) -> MonitorSettings:
    """The settings of this process. model: instead of MONITOR_MODEL_NAME. Raises InputError."""
    try:
        environment = read_environment(os.environ, dotenv_file=Path(".env"))
    except EnvironmentInvalidError as exc:
        raise InputError(f"the configuration is wrong:\n{exc}") from exc
    overrides = {} if model is None else {"model_name": model}
    return read_settings(environment, **overrides)


def own_ledger(settings: MonitorSettings) -> OwnLedger:
    """The monitor's own ledger."""
    return OwnLedger(settings=settings, metrics=new_metrics(CollectorRegistry()), clock=utc_now)


def new_metrics(registry: CollectorRegistry) -> MonitorMetrics:
    """The monitor's metrics in a registry, with the version that runs."""
    metrics = MonitorMetrics(registry)
    try:
        metrics.build_info.labels(version("gatewatch")).set(1)
    except PackageNotFoundError:  # run from a source tree that was not installed
        metrics.build_info.labels("unknown").set(1)
    return metrics


def utc_now() -> datetime:
    """The time."""
    return datetime.now(UTC)
