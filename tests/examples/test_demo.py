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


def test_an_alarm_about_the_ledgers_is_not_the_drift_alarm() -> None:
    """The story would go on before anything has drifted."""
    others = [
        line.replace("1.0", "0.0") if "drift" in line else line[:-3] + "1.0" for line in ALARMS
    ]
    for lines in (others, others[::-1]):
        head = "# TYPE monitor_alarm_active gauge\n"
        assert not read_watched(head + "\n".join(lines) + "\n").is_alarm_on
