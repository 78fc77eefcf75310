"""Evidently's own verdict on windows, in a process that ends: `python drift_evidently.py JOB.npz SECONDS`.

JOB.npz has reference_N, float64 (n, F), NaN for a missing value; window_I, float64 (m, F); and size_I, the N of its
reference. Prints one JSON line: for each window in turn its share of drifted columns, or null where Evidently raised,
as it does for a column without a number; stops after SECONDS, so there may be fewer.
Rules: nothing is sent anywhere; the verdict is that of `DataDriftPreset()` with its defaults, whose dataset drift is
its first metric, DriftedColumnsCount; if there is time, one window goes through the whole preset and must agree. The
others leave out its pictures, which take ten times as long and decide nothing.
"""

import json
import os
import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.reports.evidently_process import refuse_network

Table = NDArray[np.float64]
_FATAL = (KeyboardInterrupt, SystemExit, MemoryError)


def main(arguments: Sequence[str]) -> int:
    """Judge the windows of a job."""
    job_file, seconds = arguments
    end = time.monotonic() + float(seconds)
    refuse_network()
    warnings.simplefilter("ignore")
    os.environ["DO_NOT_TRACK"] = "1"  # before the import, which reads it
    from evidently.metrics import DriftedColumnsCount
    from evidently.presets import DataDriftPreset

    job = np.load(job_file)
    count = sum(name.startswith("window_") for name in job.files)
    shares: list[float | None] = []
    agrees: bool | None = None
    for index in range(count):
        sides = job[f"window_{index}"], job[f"reference_{job[f'size_{index}']}"]
        shares.append(_share(DriftedColumnsCount(), *sides))
        if time.monotonic() > end:
            break
        if agrees is None and shares[-1] is not None:
            agrees = _share(DataDriftPreset(), *sides) == shares[-1]
    print(json.dumps({"shares": shares, "preset_agrees": agrees}))
    return 0


def _share(metric: Any, current: Table, reference: Table) -> float | None:
    """The share of columns that drifted by Evidently's defaults, the first number that the metric gives."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report

    names = [f"column_{number}" for number in range(reference.shape[1])]
    definition = DataDefinition(numerical_columns=names)
    window, normal = (
        Dataset.from_pandas(pd.DataFrame(side, columns=names), data_definition=definition)
        for side in (current, reference)
    )
    try:
        snapshot = Report([metric]).run(window, normal)
        return float(snapshot.dict()["metrics"][0]["value"]["share"])
    except _FATAL:
        raise
    except BaseException:  # noqa: BLE001  (some of its errors derive from BaseException)
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
