"""Making references of data sets: lines, files and folders; what is refused and why."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.inference import labelled
from monitor.jobs.collected import MAX_REFERENCE_SAMPLES
from monitor.jobs.collecting import (
    IMAGE_SUFFIXES,
    collect_lines,
    open_lines,
    require_enough_images,
)
from monitor.records import InputError, NotReadyError, SampleLineError

NOW = datetime(2030, 1, 1, tzinfo=UTC)


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
    ranked = collected.summary.slices[0].strata[0].features["brightness"]
    assert (12_000, 6_000) == (collected.seen, ranked.sample_count)
    assert [0.0, 0.002, 0.004] == [round(float(value), 3) for value in ranked.lowest[:3]]
    assert 11.998 == round(float(ranked.lowest[-1]), 3)


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


def _ignore(_count: int) -> None:
    """Progress nobody watches."""
