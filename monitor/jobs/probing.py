"""Trying whether webhooks take messages, before an alarm depends on it."""

from dataclasses import dataclass
from datetime import datetime

from gateway.audit.events import printable
from monitor.jobs.delivering import new_sender
from monitor.records import NotReadyError
from monitor.settings import MonitorSettings
from monitor.webhooks import MAX_SHOWN_CHARACTERS, Answer, parse_webhooks, probe_message


@dataclass(frozen=True, slots=True)
class Probed:
    """How one webhook took a test message."""

    title: str
    answer: Answer

    def line(self) -> str:
        """For people."""
        said = printable(self.answer.text.strip(), max_characters=MAX_SHOWN_CHARACTERS)
        how = self.answer.error or f"answered {self.answer.status}"
        return f"{self.title}: {how}" + (f": {said}" if said else "")


def probe_all(settings: MonitorSettings, *, now: datetime) -> list[Probed]:
    """Send each webhook a signed test message.

    Raises NotReadyError if there is none, InputError for addresses, secrets or a CA that cannot be used.
    """
    webhooks = parse_webhooks(settings.webhook_urls)
    if not webhooks:
        raise NotReadyError("no webhook is set: name some with MONITOR_WEBHOOK_URLS")
    sender = new_sender(settings)
    # Unlike that of any other test, so that receivers do not take it for the same.
    message = probe_message(f"msg_test_{int(now.timestamp() * 1e6)}", now=now)
    return [Probed(each.title, sender.send(each, message, now=now)) for each in webhooks]
