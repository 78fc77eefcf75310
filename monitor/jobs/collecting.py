"""Collecting a data set for a reference: from a folder, a file or standard input, with progress for people."""

import sys

from monitor.jobs.printing import progress
from monitor.jobs.reference import Collected, collect_lines, open_lines, require_enough_images
from monitor.records import InputError
from monitor.settings import MonitorSettings


def collect_dataset(path: str, settings: MonitorSettings) -> Collected:
    """What is measured of a data set. path: "-" for standard input.

    Raises InputError if it holds too little, cannot be read, or is of another model than the settings name.
    """
    source = "standard input" if path == "-" else path
    require_enough_images(path)
    with (
        progress("samples read") as advance,
        open_lines(path, standard_input=sys.stdin) as lines,
    ):
        collected = collect_lines(lines, source=source, on_progress=advance)
    if settings.model_name not in ("", collected.model_name):
        raise InputError(
            f"the samples were made by {collected.model_name}, not by {settings.model_name}"
        )
    return collected
