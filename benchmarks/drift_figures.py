"""From trials to figures: shares that rang, delays, tables by corruption, what missed its target, the trade-off curve.

Rules: a delay counts the samples from the change to the alarm, both included; a stream that did not ring within its
horizon has a delay longer than any, so a median of such is none; figures are keyed by reference size and, where it
matters, by the clean samples before the change.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

# Benchmarks run by path, which makes their folder the place to import from; type checkers see it from the root.
if TYPE_CHECKING:
    from benchmarks.drift_peers import SEV1_SAMPLES, SEV3_SAMPLES, KsTrial
    from benchmarks.drift_pool import Condition, Pool
    from benchmarks.drift_streams import CADENCES, QUIET_SAMPLES, Trial
else:
    from drift_peers import SEV1_SAMPLES, SEV3_SAMPLES, KsTrial
    from drift_pool import Condition, Pool
    from drift_streams import CADENCES, QUIET_SAMPLES, Trial

HARMFUL_LOSS = 0.05
Conditions = tuple[Condition, ...]

# Name: what the figure may be at most or at least.
_AT_MOST: dict[str, float] = {
    "false_alarm_10k": 0.01,
    "median_delay_sev3": 15,
    "median_delay_sev5": 10,
    "delay_20pct_contaminated": 150,
    "feature_ms": 2,
    "update_us": 100,
    "state_kb": 256,
    "state_16_slices_kb": 256,
}
_AT_LEAST: dict[str, float] = {"power_sev3_30": 0.99, "power_sev1_harmful_50": 0.95}


def of_severity(pool: Pool, severity: int) -> Conditions:
    """The conditions of a severity that the pool has."""
    return tuple(condition for condition in pool.rows if condition.severity == severity)


def harmful(pool: Pool) -> Conditions:
    """The conditions of severity 1 that cost at least 0.05 of mAP50."""
    return tuple(c for c in of_severity(pool, 1) if pool.loss(c) >= HARMFUL_LOSS)


def false_alarms(trials: Iterable[Trial]) -> dict[str, dict[str, Any]]:
    """By reference size: how many clean streams there were, and the share that rang at each cadence."""
    figures: dict[str, dict[str, Any]] = {}
    for size, group in _by_size(trial for trial in trials if trial.rang).items():
        shares = {
            str(cadence): round(statistics.mean(trial.rang[cadence] for trial in group), 4)
            for cadence in CADENCES
        }
        figures[size] = {"streams": len(group), "share_by_cadence": shares}
    return figures


def detections(pool: Pool, trials: Sequence[Trial]) -> dict[str, Any]:
    """Power and delays after a change, each by reference size and clean samples before; and by corruption."""
    tried = _by_size(trial for trial in trials if trial.changed)
    sev3, sev5, sev1 = of_severity(pool, 3), of_severity(pool, 5), harmful(pool)
    return {
        "power_sev3_30": _keyed(
            tried, lambda group, quiet: _power(group, sev3, quiet, SEV3_SAMPLES)
        ),
        "power_sev1_harmful_50": _keyed(
            tried, lambda group, quiet: _power(group, sev1, quiet, SEV1_SAMPLES)
        ),
        "median_delay_sev3": _keyed(tried, lambda group, quiet: _median(group, sev3, quiet)),
        "median_delay_sev5": _keyed(tried, lambda group, quiet: _median(group, sev5, quiet)),
        "delay_20pct_contaminated": _keyed(tried, lambda group, quiet: _mixed(group, sev3, quiet)),
        "by_corruption": _keyed(tried, lambda group, quiet: _table(pool, group, quiet)),
    }


def ks_row(pool: Pool, trials: Sequence[KsTrial]) -> dict[str, dict[str, Any]]:
    """By reference size: windows and streams that rang although nothing changed, and changes that were seen."""
    rows = {}
    sev1 = harmful(pool)
    for size, group in _by_size(trials).items():
        windows = [rang for trial in group for rang in trial.clean]
        seen = {
            severity: [rang for t in group for c, rang in t.changed.items() if c in conditions]
            for severity, conditions in ((3, of_severity(pool, 3)), (1, sev1))
        }
        rows[size] = {
            "streams": len(group),
            "false_alarm_window": _share(windows),
            "false_alarm_10k": _share([any(trial.clean) for trial in group]),
            "power_sev3_30": _share(seen[3]),
            "power_sev1_harmful_50": _share(seen[1]),
        }
    return rows


def own_row(figures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The evidence's line in the table of peers, after the longer quiet time."""
    quiet = str(max(QUIET_SAMPLES))
    return {
        size: {
            "streams": alarms["streams"],
            "false_alarm_10k": max(alarms["share_by_cadence"].values()),
            **{
                name: figures[name].get(size, {}).get(quiet)
                for name in ("power_sev3_30", "power_sev1_harmful_50")
            },
        }
        for size, alarms in figures["clean_streams"].items()
    }


def curve(pool: Pool, trials: Sequence[Trial]) -> dict[str, Any]:
    """What the level costs: by alpha and reference size, after the longer quiet time."""
    points: dict[str, Any] = {}
    quiet = max(QUIET_SAMPLES)
    for alpha in sorted({trial.order.alpha for trial in trials}, reverse=True):
        of_alpha = _by_size(trial for trial in trials if trial.order.alpha == alpha)
        points[f"{alpha:g}"] = {
            size: {
                "power_sev3_30": _power(group, of_severity(pool, 3), quiet, SEV3_SAMPLES),
                "power_sev1_harmful_50": _power(group, harmful(pool), quiet, SEV1_SAMPLES),
                "median_delay_sev3": _median(group, of_severity(pool, 3), quiet),
            }
            for size, group in of_alpha.items()
        }
    return points


def missed(figures: dict[str, Any]) -> list[str]:
    """What does not meet its target, in words; a median that is none misses it."""
    found = []
    for name in figures.keys() & _AT_MOST.keys():
        limit = _AT_MOST[name]
        for where, value in _leaves(figures[name], name):
            if value is None or value > limit:
                found.append(f"{where}: {value}, at most {limit}")
    for name in figures.keys() & _AT_LEAST.keys():
        limit = _AT_LEAST[name]
        for where, value in _leaves(figures[name], name):
            if value is not None and value < limit:
                found.append(f"{where}: {value}, at least {limit}")
    return sorted(found)


def _leaves(value: Any, where: str) -> Iterable[tuple[str, float | None]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{where}/{key}")
    else:
        yield where, value


def _by_size(trials: Iterable[Any]) -> dict[str, list[Any]]:
    groups: dict[int, list[Any]] = {}
    for trial in trials:
        groups.setdefault(trial.order.reference_count, []).append(trial)
    return {str(size): groups[size] for size in sorted(groups)}


def _keyed(
    tried: dict[str, list[Trial]], figure: Callable[[list[Trial], int], Any]
) -> dict[str, dict[str, Any]]:
    return {
        size: {str(quiet): figure(group, quiet) for quiet in group[0].order.quiet_samples}
        for size, group in tried.items()
    }


def _delays(group: Iterable[Trial], conditions: Conditions, quiet: int) -> list[float]:
    delays = (trial.changed[condition, quiet] for trial in group for condition in conditions)
    return [math.inf if delay is None else delay for delay in delays]


def _power(group: list[Trial], conditions: Conditions, quiet: int, samples: int) -> float | None:
    return _share([delay <= samples for delay in _delays(group, conditions, quiet)])


def _median(group: list[Trial], conditions: Conditions, quiet: int) -> float | None:
    return _finite_median(_delays(group, conditions, quiet))


def _mixed(group: list[Trial], conditions: Conditions, quiet: int) -> float | None:
    """The median over corruptions of each one's median."""
    medians = [_mixed_median(group, condition, quiet) for condition in conditions]
    return _finite_median([math.inf if median is None else median for median in medians])


def _mixed_median(group: list[Trial], condition: Condition, quiet: int) -> float | None:
    delays = (trial.mixed[condition, quiet] for trial in group if trial.mixed)
    return _finite_median([math.inf if delay is None else delay for delay in delays])


def _table(pool: Pool, group: list[Trial], quiet: int) -> dict[str, dict[str, Any]]:
    table = {}
    for severity in (1, 3, 5):
        for condition in of_severity(pool, severity):
            row = {
                f"power_{SEV3_SAMPLES}": _power(group, (condition,), quiet, SEV3_SAMPLES),
                f"power_{SEV1_SAMPLES}": _power(group, (condition,), quiet, SEV1_SAMPLES),
                "median_delay": _median(group, (condition,), quiet),
            }
            if any((condition, quiet) in trial.mixed for trial in group):
                row["delay_20pct"] = _mixed_median(group, condition, quiet)
            table[condition.text] = row
    return table


def _finite_median(values: list[float]) -> float | None:
    if not values:
        return None
    # The upper one of two: a median that half of the streams surely reached.
    median = statistics.median_high(values)
    return None if math.isinf(median) else median


def _share(flags: Sequence[bool]) -> float | None:
    return round(sum(flags) / len(flags), 4) if flags else None
