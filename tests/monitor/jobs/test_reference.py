"""Making references: from lines, folders and stored samples; what is refused and why."""

import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from gateway.inference import labelled
from gateway.store.queries.models import find_production_version
from gateway.store.records import ModelVersion, Stage
from monitor.jobs.judging import ReferenceCache
from monitor.jobs.reference import (
    IMAGE_SUFFIXES,
    MAX_REFERENCE_SAMPLES,
    collect_lines,
    collect_stored,
    open_lines,
    require_enough_images,
    store_reference,
)
from monitor.records import Alarm, AlarmState, InputError, NotReadyError, SampleLineError
from monitor.tables.alarm_queries import save_alarm

NOW = datetime(2030, 1, 1, tzinfo=UTC)
Promote = Callable[[str], None]
AddSamples = Callable[..., datetime]


def test_a_reference_of_lines_is_stored_and_found(engine: Engine, promote: Promote) -> None:
    """Any window may be compared with it: it holds no stored sample."""
    promote("1")
    collected = collect_lines(_lines(120), source="images/train", on_progress=_ignore)
    stored = store_reference(engine, collected, now=NOW)
    assert (stored.sample_count, stored.features) == (
        120,
        ("brightness", "class_count_1", "class_count_other"),
    )
    with engine.connect() as connection:
        found = ReferenceCache()(connection, _production(engine))
    assert found is not None
    assert (found.id, found.source, found.covers_until) == (stored.id, "images/train", None)
    assert found.window.features["brightness"].tolist() == [i / 1000 for i in range(120)]


def test_progress_is_told_line_by_line() -> None:
    """Measuring thousands of images takes minutes."""
    seen: list[int] = []
    collect_lines(_lines(100), source="x", on_progress=seen.append)
    assert seen == list(range(1, 101))


def test_too_few_lines_are_refused_with_the_number_needed() -> None:
    """99 cannot tell a rare scene from a new one."""
    with pytest.raises(NotReadyError, match=r"images: 99 samples, a reference needs at least 100"):
        collect_lines(_lines(99), source="images", on_progress=_ignore)


def test_no_lines_are_refused() -> None:
    """An empty folder."""
    with pytest.raises(NotReadyError, match=r"images: 0 samples"):
        collect_lines([], source="images", on_progress=_ignore)


def test_a_broken_line_is_named() -> None:
    """By its number in the file."""
    lines = [*_lines(3), "{"]
    with pytest.raises(SampleLineError, match=r"^line 4: not JSON"):
        collect_lines(lines, source="x", on_progress=_ignore)


def test_two_model_versions_are_refused() -> None:
    """Confidences of two versions do not compare."""
    lines = [*_lines(3), *_lines(1, version="2")]
    with pytest.raises(
        InputError, match="line 4: made by conveyor 2, the first line by conveyor 1"
    ):
        collect_lines(lines, source="x", on_progress=_ignore)


def test_very_many_lines_are_thinned_evenly() -> None:
    """Every second of 12,000: from the whole set, not its beginning."""
    collected = collect_lines(_lines(MAX_REFERENCE_SAMPLES + 2000), source="x", on_progress=_ignore)
    values = [m.features["brightness"] for m in collected.measurements]
    assert (collected.seen, len(values)) == (12_000, 6_000)
    assert values[:3] == [0.0, 0.002, 0.004]
    assert values[-1] == 11.998


def test_stored_samples_are_covered_until_the_newest(
    engine: Engine, promote: Promote, add_samples: AddSamples
) -> None:
    """So that they are not compared with themselves."""
    promote("1")
    newest = add_samples(150)
    collected = collect_stored(engine, _production(engine), newest=100)
    assert (len(collected.measurements), collected.covers_until) == (100, newest)


def test_too_few_stored_samples_are_refused(
    engine: Engine, promote: Promote, add_samples: AddSamples
) -> None:
    """With how many there are and how many it takes."""
    promote("1")
    add_samples(99)
    with pytest.raises(NotReadyError, match="only 99 samples of conveyor 1 are stored"):
        collect_stored(engine, _production(engine), newest=1000)


@pytest.mark.parametrize(
    ("state", "version", "force", "is_refused"),
    [
        ("firing", "1", False, True),
        ("firing", "1", True, False),
        ("firing", "0", False, False),
        ("clear", "1", False, False),
    ],
)
@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_drift_is_not_made_normal_unasked(
    engine: Engine,
    promote: Promote,
    add_samples: AddSamples,
    state: str,
    version: str,
    force: bool,
    is_refused: bool,
) -> None:
    """While this version's alarm is firing only with force; the period is named either way."""
    promote("1")
    add_samples(100)
    with engine.begin() as connection:
        save_alarm(connection, _alarm(AlarmState(state), version))
    model, period = _production(engine), "from 2030-01-01 00:00:01 to 2030-01-01 00:01:40"
    if is_refused:
        with pytest.raises(InputError, match=rf"is raised .* {period} .* --force"):
            collect_stored(engine, model, newest=100, force=force)
    else:
        assert period in collect_stored(engine, model, newest=100, force=force).source


def test_too_few_images_are_refused_before_they_are_measured(tmp_path: Path) -> None:
    """Counted as the gateway counts them; files and standard input pass."""
    for number in range(99):
        (tmp_path / f"{number}.JPG").touch()
    (tmp_path / "notes.txt").touch()
    require_enough_images(str(tmp_path / "notes.txt"))
    require_enough_images("-")
    with pytest.raises(NotReadyError, match="99 images, a reference needs at least 100"):
        require_enough_images(str(tmp_path))
    (tmp_path / "99.png").touch()
    require_enough_images(str(tmp_path))


def test_images_are_what_the_gateway_measures() -> None:
    """The monitor may not import it."""
    assert labelled.IMAGE_SUFFIXES == IMAGE_SUFFIXES


@pytest.mark.parametrize("newest", [99, MAX_REFERENCE_SAMPLES + 1, -1])
def test_impossible_numbers_are_refused(sqlite_engine: Engine, newest: int) -> None:
    """Before anything is read."""
    model = _model()
    with pytest.raises(InputError, match="a reference takes 100 to 10000 samples"):
        collect_stored(sqlite_engine, model, newest=newest)


def test_lines_come_from_a_file_or_standard_input(tmp_path: Path) -> None:
    """`-` is standard input, as everywhere."""
    path = tmp_path / "samples.jsonl"
    path.write_text("a\nb\n")
    assert _read(str(path)) == ["a\n", "b\n"]
    assert _read("-", standard_input=io.StringIO("c\n")) == ["c\n"]


def test_a_missing_file_is_refused_with_what_can_be_passed(tmp_path: Path) -> None:
    """Not a traceback."""
    with pytest.raises(InputError, match="No such file or directory: pass a folder of images"):
        _read(str(tmp_path / "absent"))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """An image passed instead of its folder."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(InputError, match="not UTF-8 text"):
        _read(str(path))


def test_a_file_without_line_ends_is_read_in_bounded_pieces(tmp_path: Path) -> None:
    """A gigabyte of zeros must not be read at once; the parser refuses its first piece."""
    path = tmp_path / "zeros"
    path.write_bytes(b"0" * (3 << 20))
    with (
        pytest.raises(SampleLineError, match=r"^line 1: longer than"),
        open_lines(str(path), standard_input=io.StringIO()) as lines,
    ):
        collect_lines(lines, source="zeros", on_progress=_ignore)


def test_a_folder_is_measured_by_the_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its output is read, its progress on standard error passes through."""
    _fake_python(tmp_path, monkeypatch, f"echo measuring >&2; printf '%s\\n' '{_line(0)}'")
    assert _read(str(tmp_path)) == [_line(0) + "\n"]
    assert capfd.readouterr().err == "measuring\n"


def test_the_gateway_is_called_with_the_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One argument, whatever is in its name."""
    folder = tmp_path / "a; b"
    folder.mkdir()
    _fake_python(tmp_path, monkeypatch, 'printf "%s\\n" "$@"')
    assert _read(str(folder)) == ["-m\n", "gateway\n", "features\n", f"{folder}\n"]


def test_a_failed_gateway_explains_missing_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its failure is named, not the too few lines that it left."""
    _fake_python(tmp_path, monkeypatch, "exit 3")
    with (
        pytest.raises(InputError, match="failed with status 3"),
        open_lines(str(tmp_path), standard_input=io.StringIO()) as lines,
    ):
        collect_lines(lines, source="x", on_progress=_ignore)


def test_the_gateway_is_ended_when_a_line_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would go on measuring a folder whose reference is refused already."""
    _fake_python(tmp_path, monkeypatch, "echo broken; exec sleep 600")
    with (
        pytest.raises(SampleLineError, match="line 1"),
        open_lines(str(tmp_path), standard_input=io.StringIO()) as lines,
    ):
        collect_lines(lines, source="x", on_progress=_ignore)


def _fake_python(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    fake = folder / "python"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(fake))


def _read(path: str, *, standard_input: io.StringIO | None = None) -> list[str]:
    with open_lines(path, standard_input=standard_input or io.StringIO()) as lines:
        return list(lines)


def _lines(count: int, *, version: str = "1") -> Iterator[str]:
    return (_line(number, version) for number in range(count))


def _line(number: int, version: str = "1") -> str:
    return json.dumps(
        {
            "features": {"brightness": number / 1000},
            "detections": [[1, 0.9, 0, 0, 1, 1]],
            "model_name": "conveyor",
            "model_version": version,
            "received_at": NOW.isoformat(),
        }
    )


def _production(engine: Engine) -> ModelVersion:
    with engine.connect() as connection:
        found = find_production_version(connection, "conveyor")
    assert found is not None
    return found


def _model() -> ModelVersion:
    return ModelVersion(
        name="conveyor",
        version="1",
        stage=Stage.PRODUCTION,
        file_name="x",
        plaintext_sha256="0" * 64,
        class_names=(),
        input_size=(320, 320),
        registered_at=NOW,
    )


def _alarm(state: AlarmState, version: str) -> Alarm:
    return Alarm(
        model_name="conveyor",
        name="drift",
        state=state,
        since=NOW,
        model_version=version,
        diagnosis="images are darker",
    )


def _ignore(_count: int) -> None:
    """Progress nobody watches."""
