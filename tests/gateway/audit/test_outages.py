"""Remembering outages for the writer: quietly, whatever happens in it."""

from collections.abc import Sequence

import pytest

from gateway.audit.events import AuditEvent
from gateway.audit.outages import QuietOutages
from tests.gateway.audit.faults import FakeOutages


class Failing(FakeOutages):
    """Fails at everything."""

    def note(self, *, reason: str, refused: int) -> None:
        raise ZeroDivisionError

    def pending(self) -> Sequence[AuditEvent]:
        raise ZeroDivisionError

    def settle(self) -> None:
        raise ZeroDivisionError

    def close(self) -> None:
        raise ZeroDivisionError


def test_everything_is_handed_on() -> None:
    """With its result."""
    fake = FakeOutages()
    quiet = QuietOutages(fake)
    quiet.note(reason="because", refused=2)
    assert fake.events is quiet.pending()
    quiet.settle()
    quiet.close()
    assert (fake.noted, fake.settled, fake.is_closed) == ([("because", 2)], 1, True)


@pytest.mark.parametrize("outages", [None, Failing()], ids=["none", "failing"])
def test_nothing_is_raised(outages: FakeOutages | None, caplog: pytest.LogCaptureFixture) -> None:
    """A fault is logged, and nothing is pending."""
    quiet = QuietOutages(outages)
    quiet.note(reason="because", refused=2)
    assert quiet.pending() == ()
    quiet.settle()
    quiet.close()
    told = ["audit_outage_not_remembered"] * (0 if outages is None else 4)
    assert told == [record.getMessage() for record in caplog.records]
