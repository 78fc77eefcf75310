"""One live line about both processes, read from their metrics as Prometheus would."""

from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the line shows. None: that process did not answer."""

    answered: int | None
    refused: int
    samples: int
    window_samples: int | None
    drifting: bool
    worst_feature: str
    worst_share: float
    has_reference: bool = False
    is_unknown: bool = False


def read_snapshot(gateway_metrics_url: str, monitor_metrics_url: str) -> Snapshot:
    """Both expositions, condensed. worst_share is the largest score over its threshold."""
    gateway = _scrape(gateway_metrics_url)
    monitor = _scrape(monitor_metrics_url)
    calls = gateway.get("gateway_requests_total", [])
    calls = [(labels, value) for labels, value in calls if not labels["route"].endswith("z")]
    worst_feature, worst_share = _worst(monitor)
    window = [
        value
        for labels, value in monitor.get("monitor_window_samples", [])
        if labels.get("window") == "current"
    ]
    reference = [
        value
        for labels, value in monitor.get("monitor_window_samples", [])
        if labels.get("window") == "reference"
    ]
    return Snapshot(
        answered=int(sum(v for labels, v in calls if labels["code"] == "ok")) if gateway else None,
        refused=int(sum(v for labels, v in calls if labels["code"] != "ok")),
        samples=int(sum(v for labels, v in _kept(gateway))),
        window_samples=int(sum(window)) if monitor else None,
        drifting=any(value for _, value in monitor.get("monitor_alarm_active", [])),
        worst_feature=worst_feature,
        worst_share=worst_share,
        has_reference=any(reference),
        is_unknown=any(value for _, value in monitor.get("monitor_alarm_unknown", [])),
    )


def alarm_text(now: Snapshot) -> str:
    """The alarm's state in one word; several models: the worst."""
    if now.window_samples is None:
        return "no answer"
    if now.drifting:
        return "DRIFT"
    return "unknown" if now.is_unknown else "quiet"


def status_line(
    now: Snapshot, before: Snapshot | None, *, seconds: float, min_window_samples: int
) -> str:
    """The line for people.

    before: the snapshot `seconds` earlier, for the rate. min_window_samples: below it the monitor does not judge.
    """
    if now.answered is None:
        served = "gateway: no answer"
    else:
        rate = 0.0 if before is None or before.answered is None else now.answered - before.answered
        per_second = rate / seconds if seconds > 0 else 0.0
        served = f"{now.answered} answered ({per_second:.1f}/s), {now.refused} refused"
    watched = _watched(now, min_window_samples)
    return f"{served} | {now.samples} samples | {watched}"


def _watched(now: Snapshot, min_window_samples: int) -> str:
    if now.window_samples is None:
        return "monitor: no answer"
    alarm = alarm_text(now)
    if alarm == "unknown":
        is_filling = now.has_reference and now.window_samples < min_window_samples
        count = f"{now.window_samples} of {min_window_samples}"
        return f"waiting for samples ({count})" if is_filling else "drift unknown"
    worst = f", {now.worst_feature} at {now.worst_share:.0%} of its threshold"
    watched = f"window {now.window_samples}: {alarm}{worst if now.worst_feature else ''}"
    return f"{watched}; see `monitor status`" if now.drifting else watched


_Series = dict[str, list[tuple[dict[str, str], float]]]


def _scrape(url: str) -> _Series:
    try:
        # Plain HTTP on loopback, where verifying would only mean to read the system's certificates every second.
        answer = httpx.get(url, timeout=TIMEOUT_SECONDS, verify=False)  # noqa: S501
        text = answer.raise_for_status().text
    except httpx.HTTPError:
        return {}
    series: _Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return series


def _kept(gateway: _Series) -> list[tuple[dict[str, str], float]]:
    found = gateway.get("gateway_samples_total", [])
    return [(labels, value) for labels, value in found if labels["outcome"] == "kept"]


def _worst(monitor: _Series) -> tuple[str, float]:
    thresholds = {
        labels["feature"]: value for labels, value in monitor.get("monitor_drift_threshold", [])
    }
    shares = [
        (value / thresholds[labels["feature"]], labels["feature"])
        for labels, value in monitor.get("monitor_drift_score", [])
        if thresholds.get(labels["feature"], 0) > 0
    ]
    share, feature = max(shares, default=(0.0, ""))
    return feature, share
