"""The short-lived process that draws Evidently's HTML: `python -m monitor.reports.evidently_process JOB HTML DRAWN`.

Rules: it may not touch the network, whatever the libraries would like; it writes HTML, and to DRAWN the names of the
columns in it, or fails with one line on standard error; it knows nothing of databases, keys or alarms.
"""

import json
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

NETWORK_EVENTS = frozenset(
    {
        "socket.bind",
        "socket.connect",
        "socket.getaddrinfo",
        "socket.gethostbyaddr",
        "socket.gethostbyname",
        "socket.sendmsg",
        "socket.sendto",
    }
)

_FATAL = (KeyboardInterrupt, SystemExit, MemoryError)


def refuse_network() -> None:
    """Make every attempt to use the network from Python raise PermissionError; cannot be undone in this process."""
    sys.addaudithook(_refuse)


def _refuse(event: str, _arguments: tuple[Any, ...]) -> None:
    if event in NETWORK_EVENTS:
        raise PermissionError(f"{event}: a report needs no network")


def draw(job: dict[str, Any]) -> Any:
    """Evidently's snapshot of one job; its save_html writes the report.

    job: `columns` maps a feature to `reference` and `current` lists of numbers or null, each with at least one
    number; `alpha` is the level over all columns together.
    """
    os.environ["DO_NOT_TRACK"] = "1"  # before the import, which reads it
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    columns: dict[str, dict[str, list[float | None]]] = job["columns"]
    names = list(columns)
    definition = DataDefinition(numerical_columns=names)
    reference, current = (
        Dataset.from_pandas(
            # A reference ranks some features on fewer samples: series fill up with missing values.
            pd.DataFrame({name: pd.Series(columns[name][side], dtype="float64") for name in names}),
            data_definition=definition,
        )
        for side in ("reference", "current")
    )
    # The level of our own thresholds, so that the pictures and the scores seldom disagree; and one drifted column is
    # drift: Evidently's default of half of all columns would call most failures of a camera normal.
    preset = DataDriftPreset(
        columns=names,
        num_method="ks",
        num_threshold=job["alpha"] / len(names),
        drift_share=1 / len(names),
    )
    return Report([preset], metadata=job["metadata"]).run(current, reference)


def draw_what_can_be(job: dict[str, Any]) -> tuple[Any, list[str]]:
    """Evidently's snapshot of the columns that it can draw, and their names.

    One column it cannot bin (a range of 1e300, or of 1e-13 around 640) would otherwise take the whole report down.
    Raises what Evidently raises if it can draw none.
    """
    names = list(job["columns"])
    try:
        return draw(job), names
    except _FATAL:
        raise
    except BaseException:  # some of Evidently's errors derive from BaseException
        drawable = [name for name in names if _can_draw(job, name)]
        if not drawable or drawable == names:
            raise
    return draw(_only(job, drawable)), drawable


def _can_draw(job: dict[str, Any], name: str) -> bool:
    try:
        draw(_only(job, [name]))
    except _FATAL:
        raise
    except BaseException:  # noqa: BLE001  (the same)
        return False
    return True


def _only(job: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {**job, "columns": {name: job["columns"][name] for name in names}}


def main(arguments: Sequence[str]) -> int:
    """Read the job, draw it, write both files; 0 if they are complete."""
    job_file, html_file, drawn_file = arguments
    refuse_network()
    warnings.simplefilter("ignore")
    with open(job_file, encoding="utf-8") as file:
        job = json.load(file)
    try:
        snapshot, drawn = draw_what_can_be(job)
        # A str: given a Path, save_html writes nothing and says nothing.
        snapshot.save_html(str(html_file))
    except BaseException as exc:  # noqa: BLE001  (some of Evidently's errors derive from BaseException)
        sys.stderr.write(f"{type(exc).__name__}: {exc}\n".replace("\n", " ").strip() + "\n")
        return 1
    with open(drawn_file, "w", encoding="utf-8") as file:
        json.dump(drawn, file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
