"""The `monitor` command: parsing, printing and exit codes; the work is in monitor.jobs.

Results go to standard output, words and progress to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage or
configuration, 3 something has to exist first (a model in production, a reference, enough samples), 4 an alarm is
raised (`monitor tick --fail-on-alarm` only).
"""

import logging
import os
import sys
import threading
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry, start_http_server

from gateway.store.environment import EnvironmentInvalidError, read_environment
from monitor.jobs.acknowledging import record_acknowledgement
from monitor.jobs.collecting import collect_dataset
from monitor.jobs.database import opened_database
from monitor.jobs.judging import (
    ReferenceCache,
    find_watched_model,
    judge,
    why_none_is_watched,
)
from monitor.jobs.ledger import OwnLedger
from monitor.jobs.loop import Loop
from monitor.jobs.printing import (
    describe_tick,
    print_json,
    print_reference,
    print_report,
    progress,
    tick_line,
)
from monitor.jobs.recording import record_reference, record_report
from monitor.jobs.reference import collect_stored
from monitor.jobs.running import log_to_stderr, run_until_signal
from monitor.jobs.security_begin import thresholds_of
from monitor.jobs.security_loop import SecurityLoop
from monitor.jobs.security_status import describe_ledgers, ledger_lines, read_ledger_status
from monitor.jobs.status import describe_status, read_status, status_lines
from monitor.jobs.tick import Watch
from monitor.jobs.witness import Witness
from monitor.jobs.witness_loop import WitnessLoop, look_once, print_looked
from monitor.metrics import MonitorMetrics
from monitor.records import (
    AlarmState,
    DatabaseUnavailableError,
    InputError,
    MonitorError,
    NotReadyError,
    Rule,
)
from monitor.reports.render import require_report_tools
from monitor.security.rules import watched_rules
from monitor.settings import MonitorSettings, read_settings

EXIT_FAILED, EXIT_USAGE, EXIT_NOT_READY, EXIT_ALARM = 1, 2, 3, 4

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Watch what goes through the gateway and raise alarms when the world drifts.\n\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, "
    "3 something has to exist first (a model in production, a reference, enough samples), "
    "4 an alarm is raised (`monitor tick --fail-on-alarm` only).",
)
ledger_commands = typer.Typer(no_args_is_help=True, help="Begin the monitor's own ledger.")
app.add_typer(ledger_commands, name="ledger")
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, for scripts.")]
ModelName = Annotated[
    str | None, typer.Option("--model", help="Which model; instead of MONITOR_MODEL_NAME.")
]


class Origin(StrEnum):
    """Where a reference comes from."""

    DATASET = "dataset"
    SAMPLES = "samples"


def main() -> None:
    """The console script."""
    try:
        app()
    except MonitorError as exc:
        print(f"monitor: {exc}", file=sys.stderr)
        sys.exit(_exit_code(exc))


@app.command()
def run(
    ready_descriptor: Annotated[
        int | None,
        typer.Option(help="Write the metrics port to this open descriptor once serving it."),
    ] = None,
) -> None:
    """Watch until stopped (SIGTERM or Ctrl-C), and serve metrics.

    A missing, locked or restarting database is waited for.

    Example: `MONITOR_TICK_SECONDS=10 monitor run`
    """
    settings = _settings()
    log_to_stderr()
    stop = threading.Event()
    registry = CollectorRegistry()
    metrics = _metrics(registry)
    ledger = OwnLedger(settings=settings, metrics=metrics, clock=_utc_now)
    _check_database(settings, ledger)
    witness = WitnessLoop(settings=settings, metrics=metrics, clock=_utc_now, stop=stop)
    try:
        server, server_thread = start_http_server(
            settings.metrics_port, addr=settings.metrics_host, registry=registry
        )
    except OSError as exc:
        raise InputError(
            f"cannot serve metrics on {settings.metrics_host}:{settings.metrics_port}: "
            f"{exc.strerror or exc}: set MONITOR_METRICS_PORT to a free port"
        ) from exc
    logging.getLogger("monitor").info(
        "started metrics=http://%s:%d/metrics", settings.metrics_host, server.server_port
    )
    if ready_descriptor is not None:
        os.write(ready_descriptor, f"{server.server_port}\n".encode("ascii"))
        os.close(ready_descriptor)
    loop = Loop(
        settings=settings,
        metrics=metrics,
        environment=os.environ,
        clock=_utc_now,
        stop=stop,
        ledger=ledger,
    )
    security = SecurityLoop(settings=settings, metrics=metrics, clock=_utc_now, stop=stop)
    loops = {
        "monitor-loop": loop.run,
        "monitor-witness": witness.run,
        "monitor-security": security.run,
    }
    try:
        run_until_signal(loops, stop)
    finally:
        server.shutdown()
        server.server_close()
        server_thread.join()
    logging.getLogger("monitor").info("stopped")


@app.command()
def tick(
    *,
    fail_on_alarm: Annotated[
        bool, typer.Option("--fail-on-alarm", help="Exit with 4 if an alarm is raised.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Judge every watched model once, store the result and print it; for cron and systemd timers.

    Exit codes: 0 judged, 1 a model could not be judged, 3 no model in production, 4 see `--fail-on-alarm`.

    Example: `monitor tick --json`
    """
    settings = _settings()
    log_to_stderr()
    watch = Watch(settings=settings, metrics=_metrics(CollectorRegistry()))
    ticked = watch.tick(_utc_now())
    _ledger(settings).settle()
    if not ticked:
        raise NotReadyError(why_none_is_watched(settings))
    if as_json:
        print_json({"models": [describe_tick(each) for each in ticked]})
    else:
        for each in ticked:
            print(tick_line(each))
    if any(each.judgement is None for each in ticked):
        raise MonitorError("a model could not be judged: see the log line above")
    is_raised = any(t.alarm is not None and t.alarm.state is AlarmState.FIRING for t in ticked)
    if fail_on_alarm and is_raised:
        raise typer.Exit(EXIT_ALARM)


@app.command()
def reference(
    path: Annotated[
        str | None,
        typer.Argument(help="A folder of images, a file that `gateway features` wrote, or -."),
    ] = None,
    *,
    origin: Annotated[Origin, typer.Option("--from", help="What to make it of.")],
    newest: Annotated[
        int, typer.Option("--newest", help="With samples: how many of the newest to take.")
    ] = 1000,
    force: Annotated[
        bool, typer.Option("--force", help="With samples: even while the drift alarm is raised.")
    ] = False,
    model: ModelName = None,
    as_json: AsJson = False,
) -> None:
    """Make the reference that a model version is judged by: what normal looks like.

    Needs 100 images or samples. Samples taken while the alarm is raised would make the drift normal.

    Examples:

    `monitor reference --from dataset images/train`

    `gateway features images/train > train.jsonl; monitor reference --from dataset train.jsonl`

    `monitor reference --from samples --newest 2000`
    """
    settings = _settings(model)
    if (path is None) is (origin is Origin.DATASET):
        raise InputError("`--from dataset` takes a PATH, `--from samples` takes none")
    ledger = _ledger(settings)
    with opened_database(settings.database_url) as engine:
        # Before minutes go into measuring a folder.
        ledger.check(engine)
        if path is None:
            collected = collect_stored(
                engine, find_watched_model(engine, settings), newest=newest, force=force
            )
        else:
            collected = collect_dataset(path, settings)
        stored = record_reference(ledger, engine, collected, now=_utc_now())
    print_reference(stored, as_json=as_json)


@app.command()
def report(*, model: ModelName = None, as_json: AsJson = False) -> None:
    """Write a report of the current window: Evidently's HTML, a JSON twin, a timeline.

    Needs the `reports` extra. Takes about 15 seconds.

    Example: `monitor report --json`
    """
    settings = _settings(model)
    require_report_tools()
    with opened_database(settings.database_url) as engine:
        watched = find_watched_model(engine, settings)
        with engine.connect() as connection:
            judgement = judge(
                connection, watched, settings=settings, find_reference=ReferenceCache()
            )
        with progress("drawing the report"):
            published = record_report(
                _ledger(settings),
                engine,
                judgement,
                settings=settings,
                environment=os.environ,
                now=_utc_now(),
                should_stop=lambda: False,
            )
    print_report(published, settings.reports_folder, as_json=as_json)


@app.command()
def status(*, model: ModelName = None, as_json: AsJson = False) -> None:
    """Show what is known about each watched model, and what was found in the ledgers; changes nothing.

    Example: `monitor status --json | jq '.models[].alarm.state'`
    """
    settings = _settings(model)
    with opened_database(settings.database_url) as engine:
        statuses = read_status(engine, settings)
        ledgers = read_ledger_status(engine)
    if not (statuses or ledgers.alarms):
        raise NotReadyError(why_none_is_watched(settings))
    if as_json:
        print_json(describe_status(statuses) | {"ledgers": describe_ledgers(ledgers)})
        return
    lines = status_lines(statuses, settings=settings, now=_utc_now())
    lines = lines or [why_none_is_watched(settings)]
    print("\n".join([*lines, *ledger_lines(ledgers)]))


@app.command()
def acknowledge(
    rule: Annotated[Rule, typer.Argument(help="The alarm, as `monitor status` names it.")],
    *,
    key: Annotated[
        str | None, typer.Option("--key", help="Only the finding on this; default all of it.")
    ] = None,
    why: Annotated[str, typer.Option("--why", help="For the record.")] = "",
) -> None:
    """Take what a rule found in the ledgers as known: it is closed, and the alarm clears if nothing is left.

    What goes on after that is found again.

    Example: `monitor acknowledge key_new --why "the issuer changed its keys"`
    """
    settings = _settings()
    with opened_database(settings.database_url) as engine:
        closed = record_acknowledgement(
            _ledger(settings),
            engine,
            rule,
            key,
            watched=watched_rules(thresholds_of(settings)),
            why=why,
            now=_utc_now(),
        )
    for finding in closed:
        print(f"{rule.value}: closed {finding.key}: {finding.words}")


@ledger_commands.command("create")
def ledger_create() -> None:
    """Begin the monitor's own ledger, MONITOR_AUDIT_ORIGIN, and make MONITOR_AUDIT_KEY_FILE where it is missing.

    Reports, references and changes of alarms are recorded there; `monitor run` does not start without it.

    Example: `monitor ledger create`
    """
    ledger = _ledger(_settings())
    is_new = ledger.begin()
    name, public_key = ledger.public_key().partition("+")[0], ledger.public_key()
    print(f"{name}: {'begun' if is_new else 'it was begun before'}")
    print(f"its public key, for whoever checks proofs: {public_key}")


@app.command()
def witness(
    *,
    acknowledge: Annotated[
        str | None,
        typer.Option("--acknowledge", help="Take what was found wrong with it as known."),
    ] = None,
    forget: Annotated[
        str | None, typer.Option("--forget", help="Put what was seen of it aside, and begin anew.")
    ] = None,
    fail_on_alarm: Annotated[
        bool, typer.Option("--fail-on-alarm", help="Exit with 4 if a ledger disagrees.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare every ledger with what was seen of it, and show both. `monitor run` does it all the time.

    The alarm `ledger` clears once each disagreement is acknowledged and none is found again.

    Example: `monitor witness --acknowledge gateway`
    """
    settings = _settings()
    log_to_stderr()
    job = Witness(settings=settings, metrics=_metrics(CollectorRegistry()))
    looked, alarm = look_once(job, acknowledged=acknowledge, forgotten=forget, now=_utc_now())
    print_looked(looked, alarm, as_json=as_json, witness=job.verifier)
    if fail_on_alarm and alarm.state is AlarmState.FIRING:
        raise typer.Exit(EXIT_ALARM)


def _settings(model: str | None = None) -> MonitorSettings:
    try:
        environment = read_environment(os.environ, dotenv_file=Path(".env"))
    except EnvironmentInvalidError as exc:
        raise InputError(f"the configuration is wrong:\n{exc}") from exc
    overrides = {} if model is None else {"model_name": model}
    return read_settings(environment, **overrides)


def _ledger(settings: MonitorSettings) -> OwnLedger:
    return OwnLedger(settings=settings, metrics=_metrics(CollectorRegistry()), clock=_utc_now)


def _check_database(settings: MonitorSettings, ledger: OwnLedger) -> None:
    """What will never work is refused: a wrong URL, a ledger that was not begun. A database that is not there yet is
    waited for.
    """
    try:
        with opened_database(settings.database_url) as engine:
            ledger.check(engine)
    except DatabaseUnavailableError as exc:
        logging.getLogger("monitor").warning("waiting for the database: %s", exc)


def _metrics(registry: CollectorRegistry) -> MonitorMetrics:
    metrics = MonitorMetrics(registry)
    try:
        metrics.build_info.labels(version("gatewatch")).set(1)
    except PackageNotFoundError:  # run from a source tree that was not installed
        metrics.build_info.labels("unknown").set(1)
    return metrics


def _exit_code(exc: MonitorError) -> int:
    if isinstance(exc, InputError):
        return EXIT_USAGE
    return EXIT_NOT_READY if isinstance(exc, NotReadyError) else EXIT_FAILED


def _utc_now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    main()
