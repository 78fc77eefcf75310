"""Making a reference of a data set: a folder of images, a file that `gateway features` wrote, or standard input."""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from monitor.jobs.collected import (
    MAX_REFERENCE_SAMPLES,
    Collected,
    Progress,
    lacking_notes,
)
from monitor.jobs.printing import progress
from monitor.records import InputError, Measurement, NotReadyError, SampleLine
from monitor.settings import MonitorSettings
from monitor.windows.sample_lines import MAX_LINE_CHARACTERS, parse_sample_line
from monitor.windows.summarise import MIN_REFERENCE_SAMPLES, ReferenceSample, summarise_told

# What `gateway features` measures in a folder.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


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


def require_enough_images(path: str) -> None:
    """Refuse a folder with too few images before minutes go into measuring it; anything but a folder passes.

    Raises NotReadyError with the number needed.
    """
    if not Path(path).is_dir():
        return
    count = sum(file.suffix.lower() in IMAGE_SUFFIXES for file in Path(path).rglob("*"))
    if count < MIN_REFERENCE_SAMPLES:
        raise NotReadyError(
            f"{path}: {count} images, a reference needs at least {MIN_REFERENCE_SAMPLES}"
        )


def collect_lines(lines: Iterable[str], *, source: str, on_progress: Progress) -> Collected:
    """The reference of a sample file, thinned evenly if there are very many.

    on_progress: called with the count so far after each line.
    Raises SampleLineError for a broken line, InputError if there are several model versions or too many features,
    NotReadyError if there are too few lines.
    """
    kept: list[Measurement] = []
    first: SampleLine | None = None
    stride, seen = 1, 0
    for number, text in enumerate(lines, start=1):
        line = parse_sample_line(text.rstrip("\n"), number=number)
        first = first or line
        _require_same_model(first, line, number)
        if seen % stride == 0:
            kept.append(line.measurement)
        if len(kept) > MAX_REFERENCE_SAMPLES:
            kept, stride = kept[::2], stride * 2
        seen += 1
        on_progress(seen)
    if first is None or seen < MIN_REFERENCE_SAMPLES:
        raise NotReadyError(
            f"{source}: {seen} samples, a reference needs at least {MIN_REFERENCE_SAMPLES}"
        )
    told = summarise_told([ReferenceSample(measured) for measured in kept])
    return Collected(
        model_name=first.model_name,
        model_version=first.model_version,
        summary=told.summary,
        seen=seen,
        source=source,
        notes=lacking_notes(told.lacking),
    )


@contextmanager
def open_lines(path: str, *, standard_input: IO[str]) -> Iterator[Iterable[str]]:
    """The lines of a sample file, of standard input (`-`), or of `gateway features FOLDER` if path is a folder.

    Raises InputError if the path cannot be read or, while reading, if it is not text or the command fails.
    """
    if path == "-":
        yield _lines(standard_input)
    elif Path(path).is_dir():
        with _measured_folder(path) as lines:
            yield lines
    else:
        with _open_file(path) as file:
            yield _lines(file)


def _open_file(path: str) -> IO[str]:
    try:
        return Path(path).open(encoding="utf-8")
    except OSError as exc:
        raise InputError(
            f"cannot read {path}: {exc.strerror}: pass a folder of images, a file that "
            "`gateway features` wrote, or -"
        ) from exc


@contextmanager
def _measured_folder(folder: str) -> Iterator[Iterable[str]]:
    """Let the gateway measure the images: it holds the keys and the detector, this process holds neither."""
    command = [sys.executable, "-m", "gateway", "features", folder]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    try:
        yield _lines_of(process, f"`gateway features {folder}`")
    finally:
        # Reached early when a line is refused; nothing of ours may go on measuring then.
        if process.poll() is None:
            process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _lines_of(process: subprocess.Popen[str], command: str) -> Iterator[str]:
    if process.stdout is None:
        raise RuntimeError("internal: no pipe to read from")
    yield from _lines(process.stdout)
    # Before the caller counts the lines: a command that died explains why there are few.
    status = process.wait()
    if status != 0:
        raise InputError(f"{command} failed with status {status}: see its message above")


def _lines(file: IO[str]) -> Iterator[str]:
    try:
        while line := file.readline(MAX_LINE_CHARACTERS + 2):
            yield line
    except UnicodeDecodeError as exc:
        raise InputError("not UTF-8 text: is it a sample file?") from exc


def _require_same_model(first: SampleLine, line: SampleLine, number: int) -> None:
    if (line.model_name, line.model_version) != (first.model_name, first.model_version):
        raise InputError(
            f"line {number}: made by {line.model_name} {line.model_version}, the first line by "
            f"{first.model_name} {first.model_version}: a reference belongs to one model version"
        )
