"""Making a reference: from a folder of images or a sample file, or from samples that the gateway stored."""

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from sqlalchemy import Engine

from gateway.store.database import write_transaction
from gateway.store.records import ModelVersion
from monitor.alarms import DRIFT_ALARM
from monitor.records import AlarmState, InputError, Measurement, NotReadyError, SampleLine
from monitor.tables.alarm_queries import find_alarm
from monitor.tables.queries import insert_reference
from monitor.windows.arrays import build_window, feature_names
from monitor.windows.content import dump_window
from monitor.windows.sample_lines import MAX_LINE_CHARACTERS, parse_sample_line
from monitor.windows.stored import measurements, read_samples

# Fewer cannot tell a rare scene from a new one: with 100, the threshold on a window of 100 is about 0.3.
MIN_REFERENCE_SAMPLES = 100
# More adds next to nothing to the threshold, and each tick sorts them.
MAX_REFERENCE_SAMPLES = 10_000
# What `gateway features` measures in a folder.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Collected:
    """Measurements of one model version, enough for a reference.

    seen: how many there were before thinning to MAX_REFERENCE_SAMPLES. covers_until: see Reference.
    """

    model_name: str
    model_version: str
    measurements: list[Measurement]
    seen: int
    source: str
    covers_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class StoredReference:
    """What was stored, for the person who asked."""

    id: int
    model_name: str
    model_version: str
    sample_count: int
    seen: int
    features: tuple[str, ...]
    source: str


def store_reference(engine: Engine, collected: Collected, *, now: datetime) -> StoredReference:
    """Store a reference; from this commit on it is the one its model version is judged by.

    Raises InputError if there are too many features.
    """
    names = feature_names(collected.measurements)
    window = build_window(collected.measurements, names=names)
    with write_transaction(engine) as connection:
        reference_id = insert_reference(
            connection,
            model_name=collected.model_name,
            model_version=collected.model_version,
            created_at=now,
            source=collected.source,
            covers_until=collected.covers_until,
            sample_count=window.sample_count,
            content=dump_window(window),
        )
    return StoredReference(
        id=reference_id,
        model_name=collected.model_name,
        model_version=collected.model_version,
        sample_count=window.sample_count,
        seen=collected.seen,
        features=names,
        source=collected.source,
    )


def collect_stored(
    engine: Engine, model: ModelVersion, *, newest: int, force: bool = False
) -> Collected:
    """The newest stored samples of a model version.

    newest: MIN_REFERENCE_SAMPLES to MAX_REFERENCE_SAMPLES. force: even while the drift alarm of this version is raised.
    Raises InputError if newest is out of range or the alarm is raised, NotReadyError if fewer than
    MIN_REFERENCE_SAMPLES are stored.
    """
    if not MIN_REFERENCE_SAMPLES <= newest <= MAX_REFERENCE_SAMPLES:
        raise InputError(
            f"--newest {newest}: a reference takes {MIN_REFERENCE_SAMPLES} to {MAX_REFERENCE_SAMPLES} samples"
        )
    bad_rows: list[int] = []
    with engine.connect() as connection:
        samples = read_samples(
            connection,
            model_name=model.name,
            model_version=model.version,
            newest=newest,
            on_bad_row=bad_rows.append,
        )
        alarm = find_alarm(connection, model.name, DRIFT_ALARM)
    if len(samples) < MIN_REFERENCE_SAMPLES:
        broken = f" ({len(bad_rows)} more cannot be read)" if bad_rows else ""
        raise NotReadyError(
            f"only {len(samples)} samples of {model.name} {model.version} are stored{broken}, a "
            f"reference needs {MIN_REFERENCE_SAMPLES}: send more traffic that you know to be normal"
        )
    times = [sample.received_at for sample in samples]
    period = f"from {min(times):%Y-%m-%d %H:%M:%S} to {max(times):%Y-%m-%d %H:%M:%S} UTC"
    is_raised = alarm is not None and alarm.state is AlarmState.FIRING
    if alarm is not None and is_raised and alarm.model_version == model.version and not force:
        raise InputError(
            f"the drift alarm of {model.name} is firing since {alarm.since:%Y-%m-%d %H:%M:%S} UTC "
            f"({alarm.diagnosis}): the newest {len(samples)} samples, {period}, would make that "
            "normal; if it is, say --force"
        )
    return Collected(
        model_name=model.name,
        model_version=model.version,
        measurements=measurements(samples),
        seen=len(samples),
        source=f"the newest {len(samples)} stored samples, {period}",
        covers_until=max(times),
    )


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
    """The measurements of a sample file, thinned evenly if there are very many.

    on_progress: called with the count so far after each line.
    Raises SampleLineError for a broken line, InputError if there are several model versions, NotReadyError if there
    are too few.
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
    return Collected(
        model_name=first.model_name,
        model_version=first.model_version,
        measurements=kept,
        seen=seen,
        source=source,
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
