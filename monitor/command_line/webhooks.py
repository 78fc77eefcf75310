"""`monitor webhook`, and what `monitor run` and `monitor tick` tell webhooks with."""

import random
import threading

import typer

from monitor.command_line.shared import settings_of_process, utc_now
from monitor.jobs.delivering import DeliveryLoop
from monitor.jobs.probing import probe_all
from monitor.metrics import MonitorMetrics
from monitor.records import MonitorError
from monitor.settings import MonitorSettings

webhook_commands = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Who is told of alarms.",
)


@webhook_commands.command("test")
def test_command() -> None:
    """Send one signed test message to each of MONITOR_WEBHOOK_URLS, and print what it answers.

    Exit codes: 0 all took it, 1 one did not, 2 wrong configuration.

    Example: `monitor webhook test`
    """
    probed = probe_all(settings_of_process(), now=utc_now())
    for each in probed:
        print(each.line())
    if not all(each.answer.is_taken for each in probed):
        raise MonitorError("a webhook did not take the message: see the line above")


def new_delivery_loop(
    settings: MonitorSettings, metrics: MonitorMetrics, stop: threading.Event
) -> DeliveryLoop:
    """What looks at alarms beside the ticks. Raises InputError for addresses, secrets or a CA that cannot be used."""
    # When a try is repeated is no secret.
    return DeliveryLoop(
        settings=settings, metrics=metrics, draw=random.random, clock=utc_now, stop=stop
    )
