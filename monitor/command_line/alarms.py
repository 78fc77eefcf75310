"""`monitor alarms`: how alarms stand, and what a person does about them."""

from typing import Annotated

import typer

from monitor.command_line.shared import AsJson, own_ledger, settings_of_process, utc_now
from monitor.jobs.alarm_list import alarm_lines, describe_alarms, read_alarms
from monitor.jobs.alarms import acknowledge, parse_duration, silence, unsilence
from monitor.jobs.database import opened_database
from monitor.jobs.printing import print_json
from monitor.jobs.security_begin import thresholds_of
from monitor.security.rules import watched_rules
from monitor.texts import shown

OfModel = Annotated[str | None, typer.Option("--model", help="Of this model; default all.")]
Why = Annotated[str, typer.Option("--why", help="For the record; not empty.")]

alarms = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="How alarms stand, and what a person does about them.\n\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 there is no such alarm or silence.",
)


@alarms.command("list")
def list_command(
    *,
    shows_all: Annotated[
        bool, typer.Option("--all", help="Also those that are clear or unknown.")
    ] = False,
    history: Annotated[
        int, typer.Option("--history", min=0, max=10_000, help="So many of the newest changes.")
    ] = 0,
    model: OfModel = None,
    as_json: AsJson = False,
) -> None:
    """List what is pending, firing, acknowledged or resolved, silences, and what webhooks have not taken.

    Examples:

    `monitor alarms list --history 20`

    `monitor alarms list --json | jq '.alarms[] | select(.state == "firing")'`
    """
    settings = settings_of_process()
    now = utc_now()
    with opened_database(settings.database_url) as engine:
        view = read_alarms(engine, settings, model_name=model, newest=history, now=now)
    if as_json:
        print_json(describe_alarms(view, now=now))
    else:
        print("\n".join(alarm_lines(view, shows_all=shows_all, now=now)))


@alarms.command("ack")
def ack_command(
    name: Annotated[str, typer.Argument(help="The alarm, as `monitor alarms list` names it.")],
    *,
    why: Why,
    model: OfModel = None,
    slice_text: Annotated[
        str | None,
        typer.Option(
            "--slice",
            help="Of one camera or client: source=NAME, client=NAME; empty: all samples. Without it, all that fire.",
        ),
    ] = None,
) -> None:
    """Take a firing alarm as known: it stays so until what rang is over. It is on record with the account and why.

    Of a rule on the ledgers, what it found is closed, as by `monitor acknowledge`.

    Examples:

    `monitor alarms ack drift --why "lens is cleaned tonight"`

    `monitor alarms ack drift --slice source=cam3 --why "known"`
    """
    settings = settings_of_process()
    with opened_database(settings.database_url) as engine:
        done = acknowledge(
            own_ledger(settings),
            engine,
            name=name,
            model_name=model,
            slice_text=slice_text,
            watched=watched_rules(thresholds_of(settings)),
            why=why,
            now=utc_now(),
        )
    print("\n".join(map(shown, done)))


@alarms.command("silence")
def silence_command(
    name: Annotated[str | None, typer.Argument(help="Which alarm.")] = None,
    *,
    duration: Annotated[str, typer.Option("--for", help="How long: 30m, 2h, 1d12h; at most 30d.")],
    why: Why,
    model: OfModel = None,
    slice_text: Annotated[
        str | None, typer.Option("--slice", help="Of one camera or client; empty: of all samples.")
    ] = None,
    is_of_all: Annotated[
        bool,
        typer.Option("--all", help="Every alarm of every model; where nothing else says which."),
    ] = False,
) -> None:
    """Have no webhook told of alarms for a while; they are judged and shown as ever.

    Needs NAME, `--model`, `--slice` or `--all`, and lasts at most 30 days.

    What still rings when the silence ends is told then.

    Examples:

    `monitor alarms silence drift --for 2h --why "line is being rebuilt"`

    `monitor alarms silence --slice source=cam3 --for 1d --why "camera is replaced"`
    """
    settings = settings_of_process()
    length, now = parse_duration(duration), utc_now()
    with opened_database(settings.database_url) as engine:
        silence_id = silence(
            own_ledger(settings),
            engine,
            name=name,
            model_name=model,
            slice_text=slice_text,
            duration=length,
            why=why,
            now=now,
            is_of_all=is_of_all,
        )
    print(f"silence {silence_id} until {now + length:%Y-%m-%d %H:%M:%S} UTC")


@alarms.command("unsilence")
def unsilence_command(
    silence_id: Annotated[int, typer.Argument(help="As `monitor alarms list` shows it.")],
) -> None:
    """End a silence now.

    Example: `monitor alarms unsilence 3`
    """
    settings = settings_of_process()
    with opened_database(settings.database_url) as engine:
        unsilence(own_ledger(settings), engine, silence_id, now=utc_now())
    print(f"silence {silence_id} has ended")
