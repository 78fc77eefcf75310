"""A rule's alarm follows its open findings, and says why it changed."""

from datetime import datetime
from typing import Any

from monitor.records import (
    ABOUT_LEDGER,
    Alarm,
    AlarmState,
    AlarmTransition,
    Finding,
    Place,
    Rule,
    Severity,
)
from monitor.security.alarms import rule_alarm, switched_off
from tests.monitor.security.ledger_events import at

RULE = Rule.TOKEN_SHARED


def finding(key: str, seen_at: datetime) -> Finding:
    """An open one."""
    return Finding(
        rule=RULE,
        key=key,
        severity=Severity.PAGE,
        opened_at=at(0),
        seen_at=seen_at,
        since=at(0),
        until=at(0),
        count=1,
        words=f"{key} twice",
        evidence=(Place("gateway", 5), Place("gateway", 7)),
    )


def alarm(state: AlarmState, **members: Any) -> Alarm:
    """The rule's alarm since noon."""
    return Alarm(
        model_name=ABOUT_LEDGER,
        name="token_shared",
        state=state,
        since=at(0),
        model_version="",
        **members,
    )


def test_a_finding_raises_the_alarm() -> None:
    """Where the newest is, and how many there are; nobody is named."""
    after, transition = rule_alarm(
        RULE, [finding("a", at(5)), finding("b", at(9))], None, is_current=False, now=at(10)
    )
    words = "2 findings, the newest at gateway/5, gateway/7: see `monitor status`"
    assert (AlarmState.FIRING, at(10), words) == (after.state, after.since, after.diagnosis)
    assert (
        AlarmTransition(
            model_name=ABOUT_LEDGER,
            name="token_shared",
            at=at(10),
            before=AlarmState.UNKNOWN,
            after=AlarmState.FIRING,
            model_version="",
            features=(),
            diagnosis=words,
        )
        == transition
    )


def test_another_finding_changes_what_a_raised_alarm_says_and_not_its_state() -> None:
    """It has been raised since the first."""
    before = alarm(AlarmState.FIRING, diagnosis="1 finding")
    after, transition = rule_alarm(
        RULE, [finding("a", at(5)), finding("b", at(9))], before, is_current=True, now=at(10)
    )
    assert (AlarmState.FIRING, at(0)) == (after.state, after.since)
    assert after.diagnosis.startswith("2 findings")
    assert transition is None


def test_without_findings_it_is_clear_once_everything_was_read() -> None:
    """What is still unread may hold one."""
    unread, transition = rule_alarm(RULE, [], None, is_current=False, now=at(1))
    assert (AlarmState.UNKNOWN, None) == (unread.state, transition)
    read, transition = rule_alarm(RULE, [], unread, is_current=True, now=at(2))
    assert (AlarmState.CLEAR, at(2)) == (read.state, read.since)
    assert transition is not None
    assert "nothing was found" == transition.diagnosis
    behind, transition = rule_alarm(RULE, [], read, is_current=False, now=at(3))
    assert (read, None) == (behind, transition)


def test_when_the_last_finding_is_closed_it_clears_and_says_why() -> None:
    """Somebody acknowledged it, or it is over."""
    before = alarm(AlarmState.FIRING, diagnosis="1 finding")
    after, transition = rule_alarm(
        RULE, [], before, is_current=False, now=at(10), why_clear="acknowledged"
    )
    assert (AlarmState.CLEAR, "") == (after.state, after.diagnosis)
    assert transition is not None
    assert "acknowledged" == transition.diagnosis


def test_a_rule_that_is_switched_off_vouches_for_nothing() -> None:
    """Neither raised nor clear."""
    after, transition = switched_off(alarm(AlarmState.FIRING, diagnosis="x"), now=at(10))
    assert (AlarmState.UNKNOWN, at(10), "") == (after.state, after.since, after.diagnosis)
    assert "the rule is switched off" == transition.diagnosis
