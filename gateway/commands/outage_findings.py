"""The file for the ledger's outages, examined, and what it remembers."""

from gateway.audit.emergency import read_outage
from gateway.audit.entries import format_time
from gateway.audit.outage_slots import Outage
from gateway.commands.findings import Finding, broken, doubtful, good
from gateway.errors import GatewayError
from gateway.settings import GatewaySettings


def outage_finding(settings: GatewaySettings) -> Finding:
    """Whether outages can be remembered, and one that is not in the ledger yet."""
    subject = "outages of the ledger"
    try:
        outage = read_outage(settings.audit_emergency_file)
    except GatewayError as exc:
        return broken(subject, exc)
    if outage is None:
        return good(subject, "can be remembered; none waits to be recorded")
    return doubtful(subject, _said(outage))


def _said(outage: Outage) -> str:
    return (
        f"{outage.refused} records were refused from {format_time(outage.since)} to "
        f"{format_time(outage.until)} ({'; '.join(outage.causes)}): mend the cause, and the gateway "
        "records it with the next call or start"
    )
