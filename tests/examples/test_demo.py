"""What the demo reads of the monitor's metrics."""

from examples.conveyor.demo import read_watched

ALARMS = [
    'monitor_alarm_active{alarm="drift",model="conveyor"} 1.0',
    'monitor_alarm_active{alarm="ledger",model="(ledger)"} 0.0',
]


def test_the_drift_alarm_is_looked_at_whichever_stands_last() -> None:
    """Those about the ledgers stand beside it, in no order."""
    for lines in (ALARMS, ALARMS[::-1]):
        head = "# TYPE monitor_alarm_active gauge\n"
        assert read_watched(head + "\n".join(lines) + "\n").is_alarm_on
