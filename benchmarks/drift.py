"""The drift alarm on real images: false alarms on clean streams, power and delay after a change, peers, costs.

Photographs and conveyor scenes go clean and corrupted (benchmarks/corruptions.py) through the gateway's decoder, its
detector and its features; streams are drawn from those rows. Nothing is tuned on the streams.

false_alarm_10k: by reference size, share of clean streams of 10,000 samples that ring at any of the cadences.
power_sev3_30, power_sev1_harmful_50: share of streams that ring within so many samples of a change of severity 3, or of
  severity 1 where it costs at least 0.05 of mAP50; median_delay_*: samples until then; delay_20pct_contaminated: the
  same where a fifth of the samples are corrupted, the median over corruptions. Each by reference size, and by the clean
  samples before the change.
table: the same streams through peers. curve: what another level or reference size would give. conveyor: the same on the
  demo's scenes. odd_inputs: whether each has its defined result. missed: figures that do not meet their target.
Exits 1 if a promise does not hold (false alarms, merging, odd inputs), 2 without photographs. Prints one JSON line.
Example: python benchmarks/drift.py --quick
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
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
        Pool,
        cached_pool,
        conveyor_scenes,
        measure_pool,
        photographs,
    )
    from benchmarks.drift_streams import Order, Trial, Workers, try_order
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
        Pool,
        cached_pool,
        conveyor_scenes,
        measure_pool,
        photographs,
    )
    from drift_streams import Order, Trial, Workers, try_order

PHOTOGRAPHS, SCENES = 0, 1  # the pools' numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of everything. counts are of references, each with streams of its own, for each size of reference."""

    photographs: int = 50
    scenes: int = 40
    conditions: tuple[Condition, ...] = ALL_CONDITIONS
    sizes: tuple[int, ...] = (200, 1000, 5000)
    clean_samples: int = 10_000
    clean_count: int = 300
    scene_clean_count: int = 100
    changed_count: int = 100
    scene_changed_count: int = 30
    ks_count: int = 6
    evidently_windows: int = 10
    evidently_seconds: float = 90.0
    curve_sizes: tuple[int, ...] = (100, 200, 500, 1000, 5000)
    curve_alphas: tuple[float, ...] = (0.1, 0.01, 0.001)
    curve_count: int = 10
    many: int = 1_000_000
    repeats: int = 7


_QUICK_CORRUPTIONS = (None, Corruption.NOISE)
QUICK = Plan(
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
    clock = _Clock()
    pools, pictures = _pools(data, plan, cache)
    clock.note("pools")
    with Workers(pools) as workers:
        trials = _trials(workers, pools, plan)
        clock.note("streams")
        photographed = _figures(pools[PHOTOGRAPHS], trials, PHOTOGRAPHS)
        ks = _ks(workers, pools[PHOTOGRAPHS], plan)
        clock.note("ks")
        points = _curve(workers, pools[PHOTOGRAPHS], plan)
        clock.note("curve")
        costs = workers.call(measure_costs, pools[PHOTOGRAPHS], pictures, repeats=plan.repeats)
        clock.note("costs")
        odd_inputs = workers.call(try_oddities, pools[PHOTOGRAPHS], many=plan.many)
        clock.note("odd_inputs")
    table = {
        "gatewatch": figures_of.own_row(photographed),
        "ks_bonferroni": ks,
        **_peers(pools[PHOTOGRAPHS], plan, alibi_python),
    }
    clock.note("peers")
    figures = {
        **photographed,
        **costs,
        "odd_inputs": odd_inputs,
        "equals_monitor": all(trial.is_same for trial in trials if trial.is_same is not None),
        "table": table,
        "curve": points,
        "conveyor": _figures(pools[SCENES], trials, SCENES),
        "seconds": clock.seconds,
    }
    return {"missed": figures_of.missed(figures), **figures}


def keeps_promises(figures: dict[str, Any]) -> bool:
    """Whether what was promised held; power and speed are no promises."""
    rates = [*figures["false_alarm_10k"].values(), *figures["conveyor"]["false_alarm_10k"].values()]
    return (
        max(rates) <= 0.01
        and figures["merge_equal"]
        and figures["equals_monitor"]
        and all(figures["odd_inputs"].values())
    )


def _pools(data: Path, plan: Plan, cache: Path | None) -> tuple[list[Pool], Sequence[Any]]:
    pictures = photographs(data / "coco50", count=plan.photographs)
    pools = []
    for name, count, onnx in (
        ("photographs", plan.photographs, data / "yolov8n_coco.onnx"),
        ("conveyor", plan.scenes, CONVEYOR / "conveyor.onnx"),
    ):

        def make(name: str = name, count: int = count, onnx: Path = onnx) -> Pool:
            return measure_pool(
                name,
                pictures if name == "photographs" else conveyor_scenes(count=count),
                onnx=onnx.read_bytes(),
                conditions=plan.conditions,
                say=_say,
            )

        path = None if cache is None else cache / f"{name}.json.gz"
        pools.append(cached_pool(path, make, conditions=plan.conditions, count=count))
    return pools, pictures


def _trials(workers: Workers, pools: Sequence[Pool], plan: Plan) -> list[Trial]:
    orders: list[Order] = []
    for number, (clean_count, changed_count) in enumerate(
        (
            (plan.clean_count, plan.changed_count),
            (plan.scene_clean_count, plan.scene_changed_count),
        )
    ):
        changed = tuple(each for each in plan.conditions if each.corruption)
        mixed = figures_of.of_severity(pools[number], 3)
        orders += [
            Order(
                pool=number,
                reference_count=size,
                number=index,
                clean_samples=plan.clean_samples,
                changed=changed if index < changed_count else (),
                mixed=mixed if index < changed_count else (),
                is_checked=index < 3,
            )
            for size in plan.sizes
            for index in range(clean_count)
        ]
    return list(_counted(workers.try_all(try_order, orders), len(orders), "streams"))


def _figures(pool: Pool, trials: Sequence[Trial], number: int) -> dict[str, Any]:
    trials = [trial for trial in trials if trial.order.pool == number]
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
        Order(PHOTOGRAPHS, size, index, clean_samples=plan.clean_samples, changed=changed)
        for size in plan.sizes
        for index in range(count)
    ]


def _curve(workers: Workers, pool: Pool, plan: Plan) -> dict[str, Any]:
    changed = (*figures_of.of_severity(pool, 3), *figures_of.harmful(pool))
    orders = [
        Order(PHOTOGRAPHS, size, index, changed=changed, alpha=alpha, quiet_samples=(1000,))
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
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def note(self, stage: str) -> None:
        """End a stage."""
        now = time.monotonic()
        self.seconds[stage] = round(now - self._last, 1)
        self._last = now


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
