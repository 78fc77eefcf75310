"""The drift alarm on real images: false alarms on clean streams, power and delay after a change, peers, costs.

Photographs and conveyor scenes go clean and corrupted (benchmarks/corruptions.py) through the gateway's decoder, its
detector and its features; streams are drawn from those rows. Nothing is tuned on the streams.

false_alarm_10k: by reference size, share of clean streams of 10,000 samples that ring at any of the cadences.
power_sev3_30, power_sev1_harmful_50: share of streams that ring within so many samples of a change of severity 3, or of
  severity 1 where it costs at least 0.05 of mAP50; median_delay_*: samples until then; delay_20pct_contaminated: the
  same where a fifth of the samples are corrupted, the median over corruptions. Each by reference size, and by the clean
  samples before the change.
tick_ms: of the monitor, by samples stored. table: the same streams through peers. conveyor: the same on the demo's
  scenes. curve: what another level or reference size would give. odd_inputs: whether each has its defined result.
  missed: figures that do not meet their target.
It takes 11 minutes of two nearly idle cores. After 14 minutes it begins no further part, and says which it left out.
Exits 1 if a promise does not hold (false alarms, merging, odd inputs), 2 without photographs. Prints one JSON line.
Example: python benchmarks/drift.py --quick
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Benchmarks run by path, which makes their folder the place to import from; type checkers see it from the root.
if TYPE_CHECKING:
    from benchmarks import drift_figures as figures_of
    from benchmarks.corruptions import Corruption
    from benchmarks.drift_costs import measure_costs
    from benchmarks.drift_oddities import try_oddities
    from benchmarks.drift_peers import ask_alibi, ask_evidently, try_ks
    from benchmarks.drift_pool import (
        ALL_CONDITIONS,
        CONVEYOR,
        ROOT,
        Condition,
        Picture,
        Pool,
        cached_pool,
        conveyor_scenes,
        measure_pool,
        photographs,
    )
    from benchmarks.drift_streams import Order, Trial, Workers, try_order
    from benchmarks.drift_ticks import measure_ticks
else:
    import drift_figures as figures_of
    from corruptions import Corruption
    from drift_costs import measure_costs
    from drift_oddities import try_oddities
    from drift_peers import ask_alibi, ask_evidently, try_ks
    from drift_pool import (
        ALL_CONDITIONS,
        CONVEYOR,
        ROOT,
        Condition,
        Picture,
        Pool,
        cached_pool,
        conveyor_scenes,
        measure_pool,
        photographs,
    )
    from drift_streams import Order, Trial, Workers, try_order
    from drift_ticks import measure_ticks

# What a stage takes on two cores that do nothing else, roughly; with less left it is not begun.
_NEEDS_SECONDS = {"ks": 30.0, "peers": 100.0, "conveyor": 90.0, "curve": 15.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of everything. counts are of references, each with streams of its own, for each size of reference.

    seconds: after so many, what is not begun is left out: peers and the conveyor come last, the curve at the very end.
    """

    seconds: float = 840.0
    photographs: int = 50
    scenes: int = 40
    conditions: tuple[Condition, ...] = ALL_CONDITIONS
    sizes: tuple[int, ...] = (200, 1000, 5000)
    clean_samples: int = 10_000
    clean_count: int = 300
    scene_clean_count: int = 100
    changed_count: int = 100
    scene_changed_count: int = 30
    mixed_count: int = 40
    ks_count: int = 6
    evidently_windows: int = 10
    evidently_seconds: float = 90.0
    curve_sizes: tuple[int, ...] = (100, 200, 500, 1000, 5000)
    curve_alphas: tuple[float, ...] = (0.1, 0.01, 0.001)
    curve_count: int = 10
    many: int = 1_000_000
    repeats: int = 7
    stored_samples: tuple[int, ...] = (10_000, 100_000, 1_000_000)


_QUICK_CORRUPTIONS = (None, Corruption.NOISE)
QUICK = Plan(
    seconds=1000.0,
    photographs=6,
    scenes=4,
    conditions=tuple(each for each in ALL_CONDITIONS if each.corruption in _QUICK_CORRUPTIONS),
    sizes=(200,),
    clean_samples=1000,
    clean_count=4,
    scene_clean_count=2,
    changed_count=4,
    scene_changed_count=2,
    ks_count=1,
    evidently_windows=1,
    evidently_seconds=0.0,
    curve_sizes=(100,),
    curve_alphas=(0.1,),
    curve_count=2,
    many=5000,
    repeats=1,
    stored_samples=(1500,),
)


def main() -> int:
    """Run the benchmark and print its line."""
    arguments = _arguments()
    data: Path = arguments.data
    if not (data / "coco50").is_dir():
        _say(f"no photographs at {data / 'coco50'}: name the folder that has coco50 with --data")
        return 2
    plan = QUICK if arguments.quick else Plan()
    figures = measure(data, plan, cache=arguments.cache, alibi_python=arguments.alibi_python)
    print(json.dumps(figures))
    return 0 if keeps_promises(figures) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    default = Path(os.environ.get("GATEWATCH_TEST_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--quick", action="store_true", help="a little of each: no figures")
    parser.add_argument("--data", type=Path, default=default, help="folder with coco50 and models")
    parser.add_argument("--cache", type=Path, help="folder that keeps what the detector found")
    parser.add_argument("--alibi-python", type=Path, help="Python of a venv with alibi-detect")
    return parser.parse_args()


def measure(
    data: Path, plan: Plan, *, cache: Path | None, alibi_python: Path | None
) -> dict[str, Any]:
    """All figures, in the order in which they are read."""
    clock = _Clock(plan.seconds)
    pictures = photographs(data / "coco50", count=plan.photographs)
    pool = _pool("photographs", pictures, data / "yolov8n_coco.onnx", plan, cache)
    clock.note("photographs")
    with Workers(pool) as workers:
        trials = _trials(workers, pool, plan, plan.clean_count, plan.changed_count)
        clock.note("streams")
        own = _figures(pool, trials)
        costs = workers.call(measure_costs, pool, pictures, repeats=plan.repeats)
        odd_inputs = workers.call(try_oddities, pool, many=plan.many)
        clock.note("costs")
        ticks = workers.call(measure_ticks, pool, sizes=plan.stored_samples, ticks=plan.repeats)
        clock.note("ticks")
        ks = clock.if_time("ks", lambda: _ks(workers, pool, plan))
        peers = clock.if_time("peers", lambda: _peers(pool, plan, alibi_python))
        conveyor = clock.if_time("conveyor", lambda: _conveyor(plan, cache))
        curve = clock.if_time("curve", lambda: _curve(workers, pool, plan))
    figures = {
        **own,
        **costs,
        **ticks,
        "odd_inputs": odd_inputs,
        "equals_monitor": all(trial.is_same for trial in trials if trial.is_same is not None),
        "table": {"gatewatch": figures_of.own_row(own), "ks_bonferroni": ks, "others": peers},
        "conveyor": conveyor,
        "curve": curve,
        "seconds": clock.seconds,
    }
    return {"missed": figures_of.missed(figures), **figures}


def keeps_promises(figures: dict[str, Any]) -> bool:
    """Whether what was promised held; power and speed are no promises."""
    of_scenes = figures["conveyor"].get("false_alarm_10k", {})
    return (
        max(*figures["false_alarm_10k"].values(), *of_scenes.values(), 0.0) <= 0.01
        and figures["merge_equal"]
        and figures["equals_monitor"]
        and all(figures["odd_inputs"].values())
    )


def _pool(
    name: str, pictures: Sequence[Picture], onnx: Path, plan: Plan, cache: Path | None
) -> Pool:
    return cached_pool(
        None if cache is None else cache / f"{name}.json.gz",
        lambda: measure_pool(
            name, pictures, onnx=onnx.read_bytes(), conditions=plan.conditions, say=_say
        ),
        conditions=plan.conditions,
        count=len(pictures),
    )


def _conveyor(plan: Plan, cache: Path | None) -> dict[str, Any]:
    scenes = conveyor_scenes(count=plan.scenes)
    pool = _pool("conveyor", scenes, CONVEYOR / "conveyor.onnx", plan, cache)
    with Workers(pool) as workers:
        trials = _trials(workers, pool, plan, plan.scene_clean_count, plan.scene_changed_count)
    return _figures(pool, trials)


def _trials(
    workers: Workers, pool: Pool, plan: Plan, clean_count: int, changed_count: int
) -> list[Trial]:
    changed = tuple(each for each in plan.conditions if each.corruption)
    mixed = figures_of.of_severity(pool, 3)
    orders = [
        Order(
            size,
            index,
            clean_samples=plan.clean_samples,
            changed=changed if index < changed_count else (),
            mixed=mixed if index < min(changed_count, plan.mixed_count) else (),
            is_checked=index < 3,
        )
        for size in plan.sizes
        for index in range(clean_count)
    ]
    return list(_counted(workers.try_all(try_order, orders), len(orders), f"{pool.name} streams"))


def _figures(pool: Pool, trials: Sequence[Trial]) -> dict[str, Any]:
    clean = figures_of.false_alarms(trials)
    return {
        "false_alarm_10k": {
            size: max(row["share_by_cadence"].values()) for size, row in clean.items()
        },
        **figures_of.detections(pool, trials),
        "clean_streams": clean,
        "map50": {condition.text: round(value, 4) for condition, value in pool.map50.items()},
        "harmful_sev1": [condition.text for condition in figures_of.harmful(pool)],
    }


def _ks(workers: Workers, pool: Pool, plan: Plan) -> dict[str, Any]:
    orders = _compared(pool, plan, plan.ks_count)
    trials = _counted(workers.try_all(try_ks, orders), len(orders), "KS")
    return figures_of.ks_row(pool, list(trials))


def _peers(pool: Pool, plan: Plan, alibi_python: Path | None) -> dict[str, Any]:
    orders = _compared(pool, plan, 1)
    _say("Evidently")
    evidently = ask_evidently(
        pool, orders, windows=plan.evidently_windows, seconds=plan.evidently_seconds
    )
    alibi = ask_alibi(alibi_python, pool, orders, clean_samples=plan.clean_samples)
    return {"evidently": evidently, "alibi_mmd_online": alibi}


def _compared(pool: Pool, plan: Plan, count: int) -> list[Order]:
    """The first trials of the photographs, at the changes that have a target."""
    changed = (*figures_of.of_severity(pool, 3), *figures_of.harmful(pool))
    return [
        Order(size, index, clean_samples=plan.clean_samples, changed=changed)
        for size in plan.sizes
        for index in range(count)
    ]


def _curve(workers: Workers, pool: Pool, plan: Plan) -> dict[str, Any]:
    changed = (*figures_of.of_severity(pool, 3), *figures_of.harmful(pool))
    orders = [
        Order(size, index, changed=changed, alpha=alpha, quiet_samples=(1000,))
        for size in plan.curve_sizes
        for alpha in plan.curve_alphas
        for index in range(plan.curve_count)
    ]
    trials = _counted(workers.try_all(try_order, orders), len(orders), "curve")
    return figures_of.curve(pool, list(trials))


def _counted(trials: Iterable[Any], count: int, name: str) -> Iterable[Any]:
    """The same, with a line of progress for each tenth."""
    step = max(1, count // 10)
    for number, trial in enumerate(trials, start=1):
        if number % step == 0:
            _say(f"{name}: {number} of {count}")
        yield trial


class _Clock:
    """Seconds of each stage, and whether there is time for another."""

    def __init__(self, seconds: float) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()
        self._end = self._last + seconds

    def note(self, stage: str) -> None:
        """End a stage."""
        now = time.monotonic()
        self.seconds[stage] = round(now - self._last, 1)
        self._last = now

    def if_time(self, stage: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What a stage gives, or that it was left out."""
        left = self._end - time.monotonic()
        if left < _NEEDS_SECONDS[stage]:
            return {"skipped": f"{max(left, 0):.0f} seconds were left: run it on an idle machine"}
        made = work()
        self.note(stage)
        return made


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
