"""Running the process that draws Evidently's HTML: what goes in, how long it may take, what can go wrong."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from gateway.store.queries.samples import FEATURE_NAME
from monitor.records import FeatureArray, ReportError, ReportToolMissingError
from monitor.reports.document import ReportContent

POLL_SECONDS = 0.1
MAX_ERROR_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Rendered:
    """The finished HTML and the features it shows."""

    html_file: Path
    drawn: tuple[str, ...]


def drawable_features(content: ReportContent) -> tuple[str, ...]:
    """The watched features with a number on both sides: Evidently fails as a whole on an empty column.

    Evidently writes names into a script of its HTML as they are, so one that could end the script is left out.
    """
    return tuple(
        score.feature
        for score in content.scores
        if FEATURE_NAME.fullmatch(score.feature)
        and np.isfinite(content.before.features[score.feature]).any()
        and np.isfinite(content.window.features[score.feature]).any()
    )


def render_html(
    content: ReportContent,
    *,
    folder: Path,
    environment: Mapping[str, str],
    timeout_seconds: float,
    should_stop: Callable[[], bool],
) -> Rendered:
    """Draw the report's HTML into a private folder.

    environment: of the new process, without what it must not know. should_stop: asked several times a second.
    Raises ReportToolMissingError without the `reports` extra, ReportError if drawing fails or takes too long.
    """
    require_report_tools()
    job_file, html_file, drawn_file, error_file = (
        folder / name for name in ("job.json", "report.html", "drawn.json", "error")
    )
    job_file.write_text(json.dumps(_job(content)), encoding="utf-8")
    command = [
        *(sys.executable, "-P", "-m", "monitor.reports.evidently_process"),
        *(str(job_file), str(html_file), str(drawn_file)),
    ]
    with error_file.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=_child_environment(environment),
        )
        _wait(process, timeout_seconds=timeout_seconds, should_stop=should_stop)
    if process.returncode != 0 or not html_file.is_file() or html_file.stat().st_size == 0:
        raise ReportError(f"drawing the report failed: {_last_line(error_file)}")
    return Rendered(html_file=html_file, drawn=tuple(json.loads(drawn_file.read_bytes())))


def require_report_tools() -> None:
    """Raises ReportToolMissingError unless Evidently and pandas are installed; imports neither."""
    missing = [name for name in ("evidently", "pandas") if find_spec(name) is None]
    if missing:
        raise ReportToolMissingError(
            f"{' and '.join(missing)} not installed: reports need the extra, "
            "install it with `pip install 'gatewatch[reports]'`"
        )


def _job(content: ReportContent) -> dict[str, object]:
    names = drawable_features(content)
    if not names:
        raise ReportError("no watched feature has numbers on both sides: nothing to draw")
    return {
        "alpha": content.alpha,
        "columns": {
            name: {
                "reference": _values(content.before.features[name]),
                "current": _values(content.window.features[name]),
            }
            for name in names
        },
        "metadata": {
            "model": _inert(content.model_name),
            "version": _inert(content.model_version),
        },
    }


def _inert(text: str) -> str:
    """Text that cannot end a script or an attribute; Evidently escapes neither."""
    return "".join(f"\\u{ord(c):04x}" if c in "<>&\"'" else c for c in text)


def _values(column: FeatureArray) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in column.tolist()]


def _child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Our environment without settings (a database URL may hold a password), telemetry off, this package findable."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith(("GATEWAY_", "MONITOR_", "PYTHONPATH"))
    }
    return {**kept, "DO_NOT_TRACK": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


def _wait(
    process: subprocess.Popen[bytes], *, timeout_seconds: float, should_stop: Callable[[], bool]
) -> None:
    deadline = time.monotonic() + timeout_seconds
    try:
        while process.poll() is None:
            if should_stop():
                raise ReportError("drawing the report was stopped")
            if time.monotonic() > deadline:
                raise ReportError(
                    f"drawing the report took more than {timeout_seconds:g} s: "
                    "raise MONITOR_REPORT_TIMEOUT_SECONDS"
                )
            time.sleep(POLL_SECONDS)
    finally:
        # Also when we are interrupted: no process of ours outlives its report.
        if process.poll() is None:
            process.kill()
            process.wait()


def _last_line(error_file: Path) -> str:
    lines = error_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][-MAX_ERROR_CHARACTERS:] if lines else "it died without a word"
