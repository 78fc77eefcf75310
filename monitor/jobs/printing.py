"""What the commands print: results on standard output, as JSON values or lines of text; progress on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from monitor.jobs.tick import Ticked
from monitor.records import Report
from monitor.texts import json_line, shown


def describe_tick(each: Ticked) -> dict[str, object]:
    """What a tick did for one model, as JSON values."""
    alarm, judgement, look = each.alarm, each.judgement, each.look
    return {
        "model": each.model.name,
        "version": each.model.version,
        "outcome": each.outcome.value,
        "alarm": None if alarm is None else alarm.state.value,
        "slices": {a.slice: a.state.value for a in each.alarms if a.slice},
        "drifted": [] if judgement is None else list(judgement.drifted),
        "diagnosis": "" if judgement is None else _found(each),
        "harm": None if alarm is None else alarm.harm.value,
        "evidence": {}
        if judgement is None
        else {part.slice_text: part.log10_ratio for part in judgement.slices},
        "window_samples": None if judgement is None else judgement.window.sample_count,
        "judged_samples": 0 if look is None else look.judged,
        "passed_samples": {}
        if look is None
        else {why.value: count for why, count in look.passed.items()},
        "lag_samples": each.lag,
    }


def tick_line(each: Ticked) -> str:
    """The same as one line for people."""
    state = "failed" if each.alarm is None else each.alarm.state.value
    found = _found(each)
    why = f": {found}" if found else ""
    lag = f", {each.lag} samples left for the next" if each.lag else ""
    return shown(
        f"{each.model.name} {each.model.version}: {each.outcome.value}, drift {state}{why}{lag}"
    )


def _found(each: Ticked) -> str:
    """What the alarm is about, else what the window shows, else why there is nothing to show."""
    if each.alarm is not None and each.alarm.diagnosis:
        return each.alarm.diagnosis
    return "" if each.judgement is None else each.judgement.diagnosis or each.judgement.unfit


def print_report(published: Report, folder: Path, *, as_json: bool) -> None:
    """Where the report is."""
    html_file, json_file = folder / published.html_file, folder / published.json_file
    if as_json:
        print_json(
            {
                "html": str(html_file),
                "json": str(json_file),
                "model": published.model_name,
                "version": published.model_version,
                "drifted_features": published.drifted_features,
            }
        )
    else:
        print(f"{html_file}\n{json_file}")


def print_json(value: object) -> None:
    """One JSON value on one line."""
    print(json_line(value))


@contextmanager
def progress(what: str) -> Iterator[Callable[[int], None]]:
    """A line on standard error that shows a count and the time; nothing where that is not a terminal."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(what)
        yield lambda count: bar.update(task, description=f"{count} {what}")
