"""Alibi Detect's online MMD over streams, by the Python of a venv of its own: `PYTHON drift_alibi.py JOB.npz`.

JOB.npz has reference_N, float32 (n, F), scaled, and stream_I, float32 (T, F), with size_I, the N of its reference.
Prints one JSON line: for each stream the number of the first sample with an alarm, or null.
It knows an expected run time, not a level: 10,000 samples, which is the stream's own length, with its default of
bootstraps. It is under the Business Source License and needs numpy < 2, so nothing of it is imported anywhere else.
"""

import importlib
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

EXPECTED_RUN_TIME = 10_000
WINDOW_SAMPLES = 30


def main(arguments: Sequence[str]) -> int:
    """Watch the streams of a job."""
    detectors = importlib.import_module("alibi_detect.cd")
    job = np.load(arguments[0])
    known: dict[int, Any] = {}
    alarms: list[int | None] = []
    for index in range(sum(name.startswith("stream_") for name in job.files)):
        size = int(job[f"size_{index}"])
        if size not in known:
            known[size] = detectors.MMDDriftOnline(
                job[f"reference_{size}"],
                ert=EXPECTED_RUN_TIME,
                window_size=WINDOW_SAMPLES,
                backend="pytorch",
                verbose=False,
            )
        known[size].reset_state()
        alarms.append(_first_alarm(known[size], job[f"stream_{index}"]))
    print(json.dumps(alarms))
    return 0


def _first_alarm(detector: Any, stream: Any) -> int | None:
    for number, row in enumerate(stream, start=1):
        if detector.predict(row)["data"]["is_drift"]:
            return number
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
