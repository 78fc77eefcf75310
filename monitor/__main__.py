"""The `monitor` command: parsing, printing and exit codes; the work is in monitor.jobs.

Results go to standard output, words and progress to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage or
configuration, 3 something has to exist first (a model in production, a reference, enough samples), 4 an alarm is
raised (`monitor tick --fail-on-alarm` only).
"""

import logging
import os
import sys
import threading
from collections.abc import Sequence
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry, start_http_server

from monitor.command_line.alarms import alarms
from monitor.command_line.references import reference, references
from monitor.command_line.shared import (
    AsJson,
    ModelName,
    new_metrics,
    own_ledger,
    settings_of_process,
    utc_now,
)
from monitor.command_line.webhooks import new_delivery_loop, webhook_commands
from monitor.jobs.acknowledging import record_acknowledgement
from monitor.jobs.alarm_list import read_stale
from monitor.jobs.database import opened_database
from monitor.jobs.judging import (
    ReferenceCache,
    find_watched_model,
    judge,
    why_none_is_watched,
)
from monitor.jobs.lease import new_keeper
from monitor.jobs.ledger import OwnLedger
from monitor.jobs.loop import Loop
from monitor.jobs.printing import (
    describe_tick,
    print_json,
    print_report,
    progress,
    tick_line,
)
from monitor.jobs.recording import record_report
from monitor.jobs.running import log_to_stderr, run_until_signal
from monitor.jobs.security_begin import thresholds_of
from monitor.jobs.security_loop import SecurityLoop
from monitor.jobs.security_status import describe_ledgers, ledger_lines, read_ledger_status
from monitor.jobs.status import ModelStatus, describe_status, read_status, status_lines
from monitor.jobs.tick import Watch
from monitor.jobs.witness import Witness
from monitor.jobs.witness_loop import WitnessLoop, look_once, print_looked
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
from monitor.settings import MonitorSettings
from monitor.texts import shown

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
app.add_typer(alarms, name="alarms")
app.add_typer(webhook_commands, name="webhook")


def main() -> None:
    """The console script."""
    try:
        app()
    except MonitorError as exc:
        # What is wrong with a row is told with some of it; several lines are our own.
        said = "\n".join(map(shown, f"monitor: {exc}".split("\n")))
        print(said, file=sys.stderr)
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
    settings = settings_of_process()
    log_to_stderr()
    stop = threading.Event()
    registry = CollectorRegistry()
    metrics = new_metrics(registry)
    ledger = OwnLedger(settings=settings, metrics=metrics, clock=utc_now)
    _check_database(settings, ledger)
    witness = WitnessLoop(settings=settings, metrics=metrics, clock=utc_now, stop=stop)
    alarm_loop = new_delivery_loop(settings, metrics, stop)
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
        clock=utc_now,
        stop=stop,
        ledger=ledger,
    )
    security = SecurityLoop(settings=settings, metrics=metrics, clock=utc_now, stop=stop)
    loops = {
        "monitor-loop": loop.run,
        "monitor-witness": witness.run,
        "monitor-security": security.run,
        "monitor-alarms": alarm_loop.run,
    }
    try:
        # Before the first tick, which would be taken for one that was never missed.
        alarm_loop.begin()
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

    Exit codes: 0 judged, or another monitor does, 1 a model could not be judged, 3 no model in production, 4 see
    `--fail-on-alarm`.

    Example: `monitor tick --json`
    """
    settings = settings_of_process()
    log_to_stderr()
    metrics = new_metrics(CollectorRegistry())
    # Before the tick: what is wrong with webhooks is told at once.
    alarm_loop = new_delivery_loop(settings, metrics, threading.Event())
    lease = new_keeper(tick_seconds=settings.tick_seconds)
    watch = Watch(settings=settings, metrics=metrics, lease=lease)
    try:
        ticked = watch.tick(utc_now())
    finally:
        watch.release()
    own_ledger(settings).settle()
    alarm_loop.step()
    if watch.standby is not None:
        print(f"monitor: nothing was judged: {watch.standby.why_not()}", file=sys.stderr)
        if as_json:
            print_json({"models": [], "standby_until": watch.standby.until.isoformat()})
        return
    if not ticked:
        raise NotReadyError(why_none_is_watched(settings))
    if as_json:
        print_json({"models": [describe_tick(each) for each in ticked]})
    else:
        for each in ticked:
            print(tick_line(each))
    if any(each.judgement is None for each in ticked):
        raise MonitorError("a model could not be judged: see the log line above")
    if fail_on_alarm and any(each.is_firing for each in ticked):
        raise typer.Exit(EXIT_ALARM)


app.command()(reference)
app.command()(references)


@app.command()
def report(*, model: ModelName = None, as_json: AsJson = False) -> None:
    """Write a report of the current window: Evidently's HTML, a JSON twin, a timeline.

    Needs the `reports` extra. Takes about 15 seconds.

    Example: `monitor report --json`
    """
    settings = settings_of_process(model)
    require_report_tools()
    with opened_database(settings.database_url) as engine:
        watched = find_watched_model(engine, settings)
        with engine.connect() as connection:
            judgement = judge(
                connection, watched, settings=settings, find_reference=ReferenceCache()
            )
        with progress("drawing the report"):
            published = record_report(
                own_ledger(settings),
                engine,
                judgement,
                settings=settings,
                environment=os.environ,
                now=utc_now(),
                should_stop=lambda: False,
            )
    print_report(published, settings.reports_folder, as_json=as_json)


@app.command()
def status(*, model: ModelName = None, as_json: AsJson = False) -> None:
    """Show what is known about each watched model, and what was found in the ledgers; changes nothing.

    Example: `monitor status --json | jq '.models[].alarm.state'`
    """
    settings = settings_of_process(model)
    with opened_database(settings.database_url) as engine:
        statuses = read_status(engine, settings)
        ledgers = read_ledger_status(engine)
        stale = read_stale(engine, settings, now=utc_now())
    if not (statuses or ledgers.alarms):
        raise NotReadyError(why_none_is_watched(settings))
    if as_json:
        others = {"ledgers": describe_ledgers(ledgers), "stale": stale}
        print_json(describe_status(statuses) | others)
        _fail_if_broken(statuses)
        return
    lines = status_lines(statuses, settings=settings, now=utc_now())
    lines = lines or [why_none_is_watched(settings)]
    lines += [] if stale is None else [f"stale now: {stale}"]
    print("\n".join(map(shown, [*lines, *ledger_lines(ledgers)])))
    _fail_if_broken(statuses)


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
    settings = settings_of_process()
    with opened_database(settings.database_url) as engine:
        closed = record_acknowledgement(
            own_ledger(settings),
            engine,
            rule,
            key,
            watched=watched_rules(thresholds_of(settings)),
            why=why,
            now=utc_now(),
        )
    for finding in closed:
        print(shown(f"{rule.value}: closed {finding.key}: {finding.words}"))


@ledger_commands.command("create")
def ledger_create() -> None:
    """Begin the monitor's own ledger, MONITOR_AUDIT_ORIGIN, and make MONITOR_AUDIT_KEY_FILE where it is missing.

    Reports, references and changes of alarms are recorded there; `monitor run` does not start without it.

    Example: `monitor ledger create`
    """
    ledger = own_ledger(settings_of_process())
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
    settings = settings_of_process()
    log_to_stderr()
    job = Witness(settings=settings, metrics=new_metrics(CollectorRegistry()))
    looked, alarm = look_once(job, acknowledged=acknowledge, forgotten=forget, now=utc_now())
    print_looked(looked, alarm, as_json=as_json, witness=job.verifier)
    if fail_on_alarm and alarm.state is AlarmState.FIRING:
        raise typer.Exit(EXIT_ALARM)


def _check_database(settings: MonitorSettings, ledger: OwnLedger) -> None:
    """What will never work is refused: a wrong URL, a ledger that was not begun. A database that is not there yet is
    waited for.
    """
    try:
        with opened_database(settings.database_url) as engine:
            ledger.check(engine)
    except DatabaseUnavailableError as exc:
        logging.getLogger("monitor").warning("waiting for the database: %s", exc)


def _fail_if_broken(statuses: Sequence[ModelStatus]) -> None:
    if any(each.problem for each in statuses):
        raise MonitorError("of a model nothing can be said: see its problem above")


def _exit_code(exc: MonitorError) -> int:
    if isinstance(exc, InputError):
        return EXIT_USAGE
    return EXIT_NOT_READY if isinstance(exc, NotReadyError) else EXIT_FAILED


if __name__ == "__main__":
    main()
