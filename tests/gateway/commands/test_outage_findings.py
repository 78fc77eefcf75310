"""The file for outages as an examination finds it."""

from datetime import UTC, datetime

from gateway.audit.emergency import EmergencyFile
from gateway.commands.findings import Finding, Mark
from gateway.commands.outage_findings import outage_finding
from gateway.settings import GatewaySettings

NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)


def test_a_file_without_an_outage_is_good(settings: GatewaySettings) -> None:
    """It can take one."""
    finding = outage_finding(settings)
    assert (finding.subject, finding.mark) == ("outages of the ledger", Mark.GOOD)


def test_an_outage_that_is_not_recorded_is_told(settings: GatewaySettings) -> None:
    """With its times, how much was refused, and why."""
    file = EmergencyFile(settings.audit_emergency_file, clock=lambda: NOW)
    file.note(reason="database or disk is full", refused=3)
    file.close()
    assert outage_finding(settings) == Finding(
        "outages of the ledger",
        Mark.DOUBTFUL,
        "3 records were refused from 2031-05-06T07:08:09.000000Z to 2031-05-06T07:08:09.000000Z "
        "(database or disk is full): mend the cause, and the gateway records it with the next call or start",
    )


def test_a_missing_file_is_broken(settings: GatewaySettings) -> None:
    """A start would refuse it."""
    settings.audit_emergency_file.unlink()
    finding = outage_finding(settings)
    assert finding.mark is Mark.BROKEN
    assert "run `gateway audit create`" in finding.said
