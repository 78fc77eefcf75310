"""Alarms rise and fall with hysteresis, on new samples only, and never change silently."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from monitor.alarms import AlarmRule, Observation, next_alarm
from monitor.records import Alarm, AlarmState, AlarmTransition

NOW = datetime(2030, 1, 1, tzinfo=UTC)
RULE = AlarmRule(raise_after_ticks=2, clear_after_ticks=3)


def test_the_first_quiet_tick_leaves_the_alarm_unknown() -> None:
    """One tick below is not yet a verdict."""
    alarm, transition = next_alarm(None, _seen("r1"), rule=RULE, now=NOW)
    assert (alarm.state, alarm.below_ticks, transition) == (AlarmState.UNKNOWN, 1, None)


def test_enough_ticks_above_raise_it_with_the_diagnosis() -> None:
    """The second tick on new data raises; the transition says what was found."""
    alarm, _ = next_alarm(None, _seen("r1", "noise"), rule=RULE, now=NOW)
    later = NOW + timedelta(minutes=1)
    alarm, transition = next_alarm(alarm, _seen("r2", "noise", "blur"), rule=RULE, now=later)
    assert transition == AlarmTransition(
        model_name="conveyor",
        name="drift",
        at=later,
        before=AlarmState.UNKNOWN,
        after=AlarmState.FIRING,
        model_version="1",
        features=("noise", "blur"),
        diagnosis="drifted: noise, blur",
    )
    assert (alarm.state, alarm.since, alarm.features) == (
        AlarmState.FIRING,
        later,
        ("noise", "blur"),
    )


def test_one_tick_above_between_quiet_ones_does_not_raise_it() -> None:
    """Ticks must be consecutive."""
    assert _states("clear", ["noise", "", "noise", ""]) == ["clear"] * 4


def test_enough_ticks_below_clear_it() -> None:
    """Only the third quiet tick in a row clears, and forgets the features."""
    assert _states("firing", ["", "", "noise", "", "", ""]) == [*["firing"] * 5, "clear"]


def test_a_cleared_alarm_keeps_no_features() -> None:
    """What was wrong is history then, in the transitions."""
    raised = replace(_alarm("firing"), below_ticks=2, features=("noise",), diagnosis="noisier")
    alarm, transition = next_alarm(raised, _seen("new"), rule=RULE, now=NOW)
    assert (alarm.features, alarm.diagnosis) == ((), "")
    assert transition is not None
    assert transition.diagnosis == "no watched feature exceeds its threshold"


def test_a_raised_alarm_follows_what_drifts_now() -> None:
    """On-call people see the present diagnosis, not the first one."""
    raised = replace(_alarm("firing"), features=("noise",), diagnosis="old")
    alarm, transition = next_alarm(raised, _seen("new", "blur"), rule=RULE, now=NOW)
    assert (alarm.features, alarm.diagnosis, transition) == (("blur",), "drifted: blur", None)


def test_a_tick_without_new_samples_changes_nothing() -> None:
    """The same window judged a hundred times is one tick."""
    alarm, _ = next_alarm(None, _seen("r1", "noise"), rule=RULE, now=NOW)
    assert next_alarm(alarm, _seen("r1", "noise"), rule=RULE, now=NOW) == (alarm, None)


def test_too_few_samples_make_a_clear_alarm_unknown() -> None:
    """No news is not good news."""
    alarm, transition = next_alarm(_alarm("clear"), _too_few(), rule=RULE, now=NOW)
    assert alarm.state is AlarmState.UNKNOWN
    assert transition is not None
    assert transition.diagnosis == "too few samples to judge, or no reference"


def test_too_few_samples_never_clear_a_raised_alarm() -> None:
    """However long they last."""
    alarm = _alarm("firing")
    for _ in range(10):
        alarm, transition = next_alarm(alarm, _too_few(), rule=RULE, now=NOW)
        assert (alarm.state, transition) == (AlarmState.FIRING, None)


def test_too_few_samples_interrupt_a_streak() -> None:
    """Two ticks above with a gap between them are not consecutive."""
    alarm, _ = next_alarm(_alarm("clear"), _seen("r1", "noise"), rule=RULE, now=NOW)
    alarm, _ = next_alarm(alarm, _too_few(), rule=RULE, now=NOW)
    alarm, _ = next_alarm(alarm, _seen("r2", "noise"), rule=RULE, now=NOW)
    assert (alarm.state, alarm.above_ticks) == (AlarmState.UNKNOWN, 1)


def test_another_model_version_starts_afresh_and_says_so() -> None:
    """What was raised for the old version says nothing about the new one."""
    seen = replace(_seen("new"), model_version="2")
    alarm, transition = next_alarm(_alarm("firing"), seen, rule=RULE, now=NOW)
    assert (alarm.state, alarm.model_version) == (AlarmState.UNKNOWN, "2")
    assert transition is not None
    assert transition.diagnosis == "the model version changed from 1 to 2"


def test_a_new_reference_starts_afresh_and_says_so() -> None:
    """What was raised by the old one says nothing about the new one, with and without samples."""
    for seen in (_seen("new"), _too_few()):
        seen = replace(seen, is_new_reference=True)
        alarm, transition = next_alarm(_alarm("firing"), seen, rule=RULE, now=NOW)
        assert (alarm.state, alarm.features, alarm.since) == (AlarmState.UNKNOWN, (), NOW)
        assert transition is not None
        assert transition.diagnosis == "a new reference is in use"
        assert next_alarm(alarm, seen, rule=RULE, now=NOW) == (alarm, None)


@given(
    st.lists(st.tuples(st.sampled_from(["few", "above", "below"]), st.integers(0, 2))),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_every_change_of_state_is_a_transition(
    ticks: list[tuple[str, int]], raise_after: int, clear_after: int
) -> None:
    """For any history: states change exactly with transitions, and judging again changes nothing."""
    rule = AlarmRule(raise_after_ticks=raise_after, clear_after_ticks=clear_after)
    alarm: Alarm | None = None
    for kind, newest in ticks:
        seen = _too_few() if kind == "few" else _seen(f"r{newest}", *["noise"] * (kind == "above"))
        before = AlarmState.UNKNOWN if alarm is None else alarm.state
        alarm, transition = next_alarm(alarm, seen, rule=rule, now=NOW)
        assert (transition is not None) is (alarm.state is not before)
        assert next_alarm(alarm, seen, rule=rule, now=NOW) == (alarm, None)


def _states(first: str, drifted: list[str]) -> list[str]:
    alarm, states = _alarm(first), []
    for number, feature in enumerate(drifted):
        seen = _seen(f"r{number}", *filter(None, [feature]))
        alarm, _ = next_alarm(alarm, seen, rule=RULE, now=NOW)
        states.append(alarm.state.value)
    return states


def _alarm(state: str) -> Alarm:
    return Alarm(
        model_name="conveyor",
        name="drift",
        state=AlarmState(state),
        since=NOW - timedelta(days=1),
        model_version="1",
    )


def _seen(newest: str, *drifted: str) -> Observation:
    return Observation(
        model_name="conveyor",
        model_version="1",
        is_enough=True,
        newest_request_id=newest,
        drifted=drifted,
        diagnosis=f"drifted: {', '.join(drifted)}" if drifted else "",
    )


def _too_few() -> Observation:
    return replace(_seen("few"), is_enough=False)
