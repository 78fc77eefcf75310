"""From the open findings of a rule to its alarm. Pure.

Rules: raised while a finding is open; clear only once the ledgers were read to their ends; every change of state is a
transition that says in words why. Neither says whom it is about: they go into logs and into the monitor's own ledger,
the findings do not.
"""

from collections.abc import Sequence
from datetime import datetime

from monitor.records import ABOUT_LEDGER, Alarm, AlarmState, AlarmTransition, Finding, Rule


def rule_alarm(
    rule: Rule,
    findings: Sequence[Finding],
    last: Alarm | None,
    *,
    is_current: bool,
    now: datetime,
    why_clear: str = "",
) -> tuple[Alarm, AlarmTransition | None]:
    """The alarm of a rule, and the transition if its state changed.

    findings: the open ones of it. last: None if it was never judged. is_current: whether every ledger was read to its
    end. why_clear: what closed the last finding, in words.
    """
    before = AlarmState.UNKNOWN if last is None else last.state
    state = _state(findings, before, is_current=is_current)
    is_changed = last is None or state is not before
    words = _words(findings)
    alarm = Alarm(
        model_name=ABOUT_LEDGER,
        name=rule.value,
        state=state,
        since=now if last is None or is_changed else last.since,
        model_version="",
        diagnosis=words,
    )
    if state is before:
        return alarm, None
    return alarm, _transition(alarm, before, now, words or why_clear or "nothing was found")


def switched_off(last: Alarm, *, now: datetime) -> tuple[Alarm, AlarmTransition]:
    """The alarm of a rule that is no longer looked for. last: not unknown."""
    alarm = Alarm(
        model_name=ABOUT_LEDGER,
        name=last.name,
        state=AlarmState.UNKNOWN,
        since=now,
        model_version="",
    )
    return alarm, _transition(alarm, last.state, now, "the rule is switched off")


def _state(findings: Sequence[Finding], before: AlarmState, *, is_current: bool) -> AlarmState:
    if findings:
        return AlarmState.FIRING
    if is_current or before is AlarmState.FIRING:
        return AlarmState.CLEAR
    return before


def _words(findings: Sequence[Finding]) -> str:
    if not findings:
        return ""
    newest = max(findings, key=lambda finding: finding.seen_at)
    places = ", ".join(f"{place.origin}/{place.position}" for place in newest.evidence)
    count = f"{len(findings)} finding{'s' * (len(findings) > 1)}"
    return f"{count}, the newest at {places}: see `monitor status`"


def _transition(alarm: Alarm, before: AlarmState, now: datetime, words: str) -> AlarmTransition:
    return AlarmTransition(
        model_name=alarm.model_name,
        name=alarm.name,
        at=now,
        before=before,
        after=alarm.state,
        model_version="",
        features=alarm.features,
        diagnosis=words,
    )
