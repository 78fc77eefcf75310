"""The benchmarks run and print their line; figures are for benchmarks, so none is checked here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.inference.engines.openvino import has_bfloat16

pytestmark = [pytest.mark.system, pytest.mark.needs_seal]

ROOT = Path(__file__).resolve().parents[2]


def run(test_data: Path, *command: str) -> dict[str, Any]:
    """The line that a benchmark prints."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / command[0]), *command[1:]],
        env={**os.environ, "GATEWATCH_TEST_DATA": str(test_data)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


@pytest.mark.usefixtures("ultralytics")
def test_the_path_benchmark_prints_its_line(test_data: Path) -> None:
    """Every figure is there and none is zero."""
    figures = run(test_data, "path.py", "--quick")
    sides = ["r_images_per_s", "secured_images_per_s", "ratio"]
    expected = [*sides, *(f"small_{name}" for name in sides)]
    assert [*expected, "ultralytics_predict_images_per_s", "rss_mb"] == list(figures)
    assert all(value > 0 for value in figures.values())


@pytest.mark.usefixtures("ultralytics")
def test_the_runner_benchmark_prints_its_line(test_data: Path) -> None:
    """From the .pt through three sealed precisions to answers; every figure is there and none is zero."""
    pytest.importorskip("onnxruntime")
    figures = run(test_data, "runner.py", "--quick")
    latencies, accuracies = figures.pop("p50_ms"), figures.pop("map50_95")
    precisions = {"f32", "bf16", "int8"} if has_bfloat16() else {"f32", "int8"}
    assert precisions | {"onnxruntime", "ultralytics"} == set(latencies)
    assert precisions == set(accuracies)
    assert {
        *(f"r_{precision}" for precision in precisions),
        *(f"{precision}_over_ultralytics" for precision in precisions),
        "r_onnxruntime", "ultralytics", "open_ms", "sealed_mib", "cold_start_s", "rss_mb",
    } == set(figures)  # fmt: skip
    values = [*figures.values(), *latencies.values(), *accuracies.values()]
    assert all(value > 0 for value in values)


@pytest.mark.usefixtures("ultralytics")
def test_the_obfuscation_benchmark_prints_its_line(test_data: Path) -> None:
    """Not one bit differs and no name is left, which is no matter of speed."""
    pytest.importorskip("onnxruntime")
    figures = run(test_data, "obfuscation.py", "--quick")
    assert (6, 0, 0) == (figures["images"], figures["differing_bits"], figures["names_left"])
    assert figures["slowdown"] > 0
