"""Times that go back or lie ahead are found; the order of commits is not taken for it."""

from collections.abc import Sequence

import pytest

from gateway.audit.events import Action, AuditEvent
from monitor.records import Place, Rule
from monitor.security.clocks import Clocks
from monitor.security.findings import Hit
from tests.monitor.security.ledger_events import all_seen, at, call, command


def hits(
    *ledgers: Sequence[AuditEvent], now: float = 1e6, tolerance_seconds: float = 30.0
) -> list[Hit]:
    """What the records of some ledgers hit. now: seconds after noon, by the monitor's clock."""
    clocks = Clocks(tolerance_seconds=tolerance_seconds)
    return [
        hit
        for number, events in enumerate(ledgers)
        for record in all_seen(events, origin=f"gateway-{number}")
        for hit in clocks.observe(record, now_seconds=at(now).timestamp())
    ]


def test_a_time_that_goes_back_is_found_once() -> None:
    """With the record before, which was the newest, and the one that goes back."""
    assert [
        Hit(
            Rule.CLOCK_JUMPED,
            "gateway-0",
            at(-60).timestamp(),
            at(10).timestamp(),
            1,
            "times go back by 70 s at position 2",
            (Place("gateway-0", 1), Place("gateway-0", 2)),
        )
    ] == hits([call(at(0)), call(at(10)), call(at(-60)), call(at(-50)), call(at(20))])


def test_within_the_tolerance_records_may_be_out_of_order() -> None:
    """They wait for one commit; just beyond it they may not."""
    assert [] == hits([call(at(0)), call(at(-30)), call(at(1)), call(at(-29))])
    assert 1 == len(hits([call(at(0)), call(at(-30.5))]))


def test_small_steps_back_add_up() -> None:
    """Against the newest time, and not the one before."""
    assert 1 == len(hits([call(at(-20.0 * n)) for n in range(3)]))


def test_a_long_silence_is_no_leap() -> None:
    """Nobody calls at night."""
    assert [] == hits([call(at(0)), call(at(80_000))])


def test_a_time_ahead_of_the_monitors_clock_is_found() -> None:
    """A gateway's clock was set forward, or the monitor's is late."""
    assert [] == hits([call(at(30))], now=0.0)
    (found,) = hits([call(at(3600))], now=0.0)
    assert "records are 3600 s ahead of the monitor's clock" == found.words


def test_ledgers_have_clocks_of_their_own() -> None:
    """One is read after the other."""
    assert [] == hits([call(at(1000))], [call(at(0))])


@pytest.mark.parametrize(
    "action",
    [Action.AUDIT_OUTAGE, Action.ALARM_CHANGE, Action.MONITOR_START, Action.MONITOR_STOP],
)
def test_what_could_not_be_written_at_once_tells_of_times_before(action: Action) -> None:
    """It goes back without a jump, and is no newest time."""
    late = command(at(-5000), action)
    assert [] == hits([call(at(0)), late, call(at(1))])
