"""Alarms come and go with hysteresis, on judged samples only, and never change silently."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.alarms import (
    MEMORY,
    AlarmRule,
    Switch,
    Watched,
    acknowledge_alarm,
    is_silenced,
    next_alarm,
    switch_alarm,
)
from monitor.lacks import Supply, SupplyRule, stale_switch, supply_switch
from monitor.records import Alarm, AlarmState, AlarmTransition, Harm, NotReadyError, Silence

NOW = datetime(2030, 1, 1, tzinfo=UTC)
RULE = AlarmRule(clear_after_samples=100)
SUPPLY = SupplyRule(hours=24, min_samples=30)
FIRING, PENDING, CLEAR = AlarmState.FIRING, AlarmState.PENDING, AlarmState.CLEAR
UNKNOWN, RESOLVED, ACKNOWLEDGED = (
    AlarmState.UNKNOWN,
    AlarmState.RESOLVED,
    AlarmState.ACKNOWLEDGED,
)
# What may follow what while a model version is judged by one reference.
LEGAL = {
    UNKNOWN: {CLEAR, PENDING, FIRING},
    CLEAR: {UNKNOWN, PENDING, FIRING},
    PENDING: {UNKNOWN, CLEAR, FIRING},
    FIRING: {FIRING, RESOLVED},
    ACKNOWLEDGED: {FIRING, RESOLVED},
    RESOLVED: {UNKNOWN, PENDING, FIRING},
}
seen_numbers = iter(range(10**9))


def watched(**members: Any) -> Watched:
    """A tick with a new sample that found nothing."""
    usual: dict[str, Any] = {
        "model_name": "conveyor",
        "model_version": "1",
        "is_judged": True,
        "newest_request_id": f"r{next(seen_numbers)}",
        "judged": 10,
    }
    return Watched(**usual | members)


def rung(took: int = 20, **members: Any) -> Watched:
    """A tick whose evidence was enough."""
    found: dict[str, Any] = {
        "has_fired": True,
        "evidence_ratio": 1.5,
        "armed_samples": took,
        "features": ("noise",),
        "diagnosis": "images are noisier",
        "harm": Harm.HARMFUL,
        "details": {"pattern": "noise"},
    }
    return watched(**found | members)


def alarm(state: AlarmState, **members: Any) -> Alarm:
    """The drift alarm since yesterday."""
    usual: dict[str, Any] = {
        "model_name": "conveyor",
        "name": "drift",
        "state": state,
        "since": NOW - timedelta(days=1),
        "model_version": "1",
    }
    return Alarm(**usual | members)


def after(last: Alarm | None, *ticks: Watched, rule: AlarmRule = RULE) -> Alarm:
    """The alarm after some ticks."""
    for tick in ticks:
        last, _ = next_alarm(last, tick, rule=rule, now=NOW)
    assert last is not None
    return last


@pytest.mark.parametrize(
    ("before", "ratio", "expected"),
    [
        (UNKNOWN, 0.0, CLEAR),
        (UNKNOWN, 0.09, CLEAR),
        (CLEAR, 0.099, CLEAR),
        (CLEAR, 0.1, PENDING),
        (PENDING, 0.05, PENDING),
        (PENDING, 0.01, PENDING),
        (PENDING, 0.0099, CLEAR),
        (RESOLVED, 0.09, RESOLVED),
        (RESOLVED, 0.1, PENDING),
    ],
)
def test_evidence_makes_it_pending_and_lets_it_go_far_below(
    before: AlarmState, ratio: float, expected: AlarmState
) -> None:
    """A tenth of what ringing needs, and a hundredth: what hovers about one does not flap."""
    assert expected is after(alarm(before), watched(evidence_ratio=ratio)).state


@pytest.mark.parametrize("before", [None, UNKNOWN, CLEAR, PENDING, RESOLVED])
def test_enough_evidence_rings_with_what_was_found(before: AlarmState | None) -> None:
    """The transition says what, and the alarm how many samples it took."""
    last = None if before is None else alarm(before)
    tick = rung(20)
    found, transition = next_alarm(last, tick, rule=RULE, now=NOW)
    assert (
        AlarmTransition(
            model_name="conveyor",
            name="drift",
            at=NOW,
            before=before or UNKNOWN,
            after=FIRING,
            model_version="1",
            features=("noise",),
            diagnosis="images are noisier",
            harm=Harm.HARMFUL,
            details={"pattern": "noise"},
        )
        == transition
    )
    assert (FIRING, NOW, 20, 0) == (
        found.state,
        found.since,
        found.armed_samples,
        found.quiet_samples,
    )
    assert (("noise",), Harm.HARMFUL) == (found.features, found.harm)


def test_a_slice_has_its_own_alarm() -> None:
    """In its state and in its history."""
    found, transition = next_alarm(None, rung(slice="source=cam3"), rule=RULE, now=NOW)
    assert transition is not None
    assert ("source=cam3", "source=cam3") == (found.slice, transition.slice)


@pytest.mark.parametrize("state", [FIRING, ACKNOWLEDGED])
def test_evidence_while_it_rings_begins_the_quiet_anew(state: AlarmState) -> None:
    """And people see what differs now; whether a person knows stays."""
    last = after(None, rung(20, features=("noise", "blur"), diagnosis="old"))
    last = replace(last, state=state, quiet_samples=90, since=NOW - timedelta(days=1))
    found, transition = next_alarm(last, rung(33), rule=RULE, now=NOW)
    assert (None, state, 0, 33) == (
        transition,
        found.state,
        found.quiet_samples,
        found.armed_samples,
    )
    assert ("images are noisier", ("noise",)) == (found.diagnosis, found.features)
    assert last.since == found.since


@pytest.mark.parametrize("state", [FIRING, ACKNOWLEDGED])
@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"harm": Harm.HARMFUL}, "it makes the model worse now: images are noisier"),
        ({"features": ("width", "hue", "size")}, "other features changed: images are noisier"),
    ],
)
def test_what_nobody_was_told_rings_anew(
    state: AlarmState, members: dict[str, Any], words: str
) -> None:
    """Who knew of one change does not know of the other; the second time it is told."""
    last = after(None, rung(features=("noise", "blur", "skew", "hue"), harm=Harm.HARMLESS))
    last = replace(last, state=state, acknowledged_by="ops", acknowledged_at=NOW)
    news = rung(**{"features": ("blur", "noise"), "harm": Harm.HARMLESS} | members)
    found, transition = next_alarm(last, news, rule=RULE, now=NOW + timedelta(hours=1))
    assert transition is not None
    assert (state, FIRING, words) == (transition.before, transition.after, transition.diagnosis)
    assert (NOW + timedelta(hours=1), None, None) == (
        found.since,
        found.acknowledged_by,
        found.acknowledged_at,
    )
    assert MEMORY not in transition.details
    known = replace(found, state=ACKNOWLEDGED)
    for again in (rung(**members), rung(features=("noise",), harm=Harm.UNKNOWN)):
        known, transition = next_alarm(known, again, rule=RULE, now=NOW)
        if again.harm is Harm.HARMFUL and "harm" not in members:
            assert (FIRING, True) == (known.state, transition is not None)
            known = replace(known, state=ACKNOWLEDGED)
        else:
            assert (ACKNOWLEDGED, None) == (known.state, transition)


@pytest.mark.parametrize(
    "members",
    [
        {"features": ("width", "noise")},
        {"features": ("width", "hue", "size", "noise"), "is_judged": False},
        {"features": ()},
        {"features": ("width",), "has_fired": False},
    ],
)
def test_what_was_told_in_part_does_not_ring_anew(members: dict[str, Any]) -> None:
    """One of the first three is among the first three still, or there is no new evidence."""
    last = replace(after(None, rung(features=("noise", "blur"))), state=ACKNOWLEDGED)
    found, transition = next_alarm(last, rung(**members), rule=RULE, now=NOW)
    assert (ACKNOWLEDGED, None) == (found.state, transition)


@pytest.mark.parametrize("memory", [5, [], {}, {"features": 3}, {"features": [1]}])
def test_what_was_told_is_what_was_found_where_the_memory_is_broken(memory: object) -> None:
    """As with an alarm of a version before there was one; nothing but another change rings anew."""
    last = alarm(ACKNOWLEDGED, features=("noise",), harm=Harm.HARMFUL, details={MEMORY: memory})
    found, _ = next_alarm(last, rung(harm=Harm.HARMLESS), rule=RULE, now=NOW)
    assert ACKNOWLEDGED is found.state


@pytest.mark.parametrize("state", [FIRING, ACKNOWLEDGED])
@pytest.mark.parametrize(("took", "needed"), [(20, 100), (34, 102), (300, 900), (10**6, 1000)])
def test_enough_quiet_samples_resolve_it(state: AlarmState, took: int, needed: int) -> None:
    """Three times what it took to ring, at least and at most what the setting says."""
    ringing = alarm(state, armed_samples=took, features=("noise",), acknowledged_by="ops")
    almost = after(ringing, watched(judged=needed - 1))
    assert (state, needed - 1) == (almost.state, almost.quiet_samples)
    found, transition = next_alarm(almost, watched(judged=1), rule=RULE, now=NOW)
    assert (RESOLVED, (), None, 0) == (
        found.state,
        found.features,
        found.acknowledged_by,
        found.quiet_samples,
    )
    assert transition is not None
    assert f"{needed} samples in a row brought no such evidence again" == transition.diagnosis
    assert ("noise",) == transition.features


@pytest.mark.parametrize("members", [{"is_above": True}, {"evidence_ratio": 0.1}])
def test_what_still_shows_keeps_it_ringing(members: dict[str, Any]) -> None:
    """A windowed score above its threshold, or evidence that would make it pending at once."""
    found = after(alarm(FIRING, quiet_samples=500), watched(**members))
    assert (FIRING, 510) == (found.state, found.quiet_samples)
    assert RESOLVED is after(found, watched()).state


def test_a_tick_without_new_samples_changes_nothing() -> None:
    """The same sample judged a hundred times is one look."""
    tick = watched(judged=60)
    once = after(alarm(FIRING), tick)
    assert (60, FIRING) == (once.quiet_samples, once.state)
    assert (once, None) == next_alarm(once, tick, rule=RULE, now=NOW)


def test_too_few_samples_make_a_clear_alarm_unknown() -> None:
    """No news is not good news."""
    for state in (CLEAR, PENDING, RESOLVED):
        found, transition = next_alarm(alarm(state), too_few(), rule=RULE, now=NOW)
        assert UNKNOWN is found.state
        assert transition is not None
        assert "too few samples to judge, or no reference" == transition.diagnosis


def test_too_few_samples_never_resolve_it() -> None:
    """However long they last."""
    ringing = alarm(FIRING, quiet_samples=99)
    assert ringing == after(ringing, *[too_few() for _ in range(50)])


def test_another_model_version_starts_afresh_and_says_so() -> None:
    """What rang for the old version says nothing about the new one."""
    tick = watched(model_version="2")
    found, transition = next_alarm(alarm(FIRING, quiet_samples=5), tick, rule=RULE, now=NOW)
    assert (CLEAR, "2", 0) == (found.state, found.model_version, found.quiet_samples)
    assert transition is not None
    assert "the model version changed from 1 to 2" == transition.diagnosis
    assert UNKNOWN is after(alarm(FIRING), replace(too_few(), model_version="2")).state


def test_a_new_reference_starts_afresh_and_says_so() -> None:
    """Without and with samples that it judged; the same tick again changes nothing."""
    for tick, expected in ((too_few(), UNKNOWN), (watched(), CLEAR)):
        tick = replace(tick, is_new_reference=True)
        found, transition = next_alarm(alarm(ACKNOWLEDGED), tick, rule=RULE, now=NOW)
        assert (expected, (), NOW) == (found.state, found.features, found.since)
        assert transition is not None
        assert "a new reference is in use" == transition.diagnosis
        assert (found, None) == next_alarm(found, tick, rule=RULE, now=NOW)


def test_evidence_of_the_first_tick_is_not_lost_to_a_new_version() -> None:
    """It is enough: the evidence is begun anew after it, and would have to come again."""
    assert FIRING is after(alarm(CLEAR), rung(model_version="2")).state


def test_what_rang_is_not_dropped_where_its_newest_sample_was_known() -> None:
    """As in the first tick after an upgrade: the evidence is begun anew after it, and would have to come again."""
    known = alarm(CLEAR, newest_request_id="r")
    assert FIRING is after(known, rung(newest_request_id="r")).state
    assert PENDING is after(known, watched(newest_request_id="r", evidence_ratio=0.5)).state
    assert CLEAR is after(known, watched(newest_request_id="r", evidence_ratio=0.5, judged=0)).state


def test_what_nobody_looks_at_any_more_ends_once() -> None:
    """What rang is over, and anything else can no longer be vouched for."""
    gone = watched(is_judged=False, ended="no longer in production")
    for state, expected in ((FIRING, RESOLVED), (ACKNOWLEDGED, RESOLVED), (PENDING, UNKNOWN)):
        found, transition = next_alarm(alarm(state), gone, rule=RULE, now=NOW)
        assert transition is not None
        assert (expected, "no longer in production") == (found.state, transition.diagnosis)
        assert (found, None) == next_alarm(found, gone, rule=RULE, now=NOW)


ticks = st.builds(
    lambda newest, judged, ratio, took, has_fired, is_above, is_judged, features, harm: watched(
        newest_request_id=f"n{newest}",
        judged=judged,
        evidence_ratio=ratio,
        armed_samples=took,
        has_fired=has_fired,
        is_above=is_above,
        is_judged=is_judged,
        features=features,
        harm=harm,
    ),
    st.integers(0, 5),
    st.integers(0, 300),
    st.sampled_from([0.0, 0.005, 0.05, 0.5]),
    st.integers(1, 10**6),
    st.booleans(),
    st.booleans(),
    st.sampled_from([True, True, True, False]),
    st.sampled_from([(), ("noise", "blur"), ("blur", "width"), ("width",)]),
    st.sampled_from(Harm),
)


@given(st.lists(ticks, max_size=30), st.integers(1, 1000), st.data())
def test_any_history_is_legal(history: list[Watched], clear_after: int, data: Any) -> None:
    """States change exactly by transitions, those follow each other, and judging again changes nothing."""
    rule = AlarmRule(clear_after_samples=clear_after)
    last: Alarm | None = None
    for tick in history:
        before = UNKNOWN if last is None else last.state
        found, transition = next_alarm(last, tick, rule=rule, now=NOW)
        assert (found.state is before) is (
            transition is None or transition.before is transition.after
        )
        if transition is not None:
            assert (before, found.state) == (transition.before, transition.after)
            assert transition.after in LEGAL[transition.before]
        assert (found, None) == next_alarm(found, tick, rule=rule, now=NOW)
        last = found
        if found.state is FIRING and data.draw(st.booleans()):
            last, _ = acknowledge_alarm(found, by="ops", why="", now=NOW)


@given(st.lists(ticks, max_size=30), st.integers(1, 1000))
def test_nothing_is_resolved_without_quiet_samples(
    history: list[Watched], clear_after: int
) -> None:
    """At least clear_after_samples were judged since the evidence was last enough."""
    rule = AlarmRule(clear_after_samples=clear_after)
    last, quiet = alarm(FIRING), 0
    for tick in history:
        is_new = tick.is_judged and tick.newest_request_id != last.newest_request_id
        if is_new:
            quiet = 0 if tick.has_fired else quiet + tick.judged
        last, transition = next_alarm(last, tick, rule=rule, now=NOW)
        if transition is not None and transition.after is RESOLVED:
            assert quiet >= clear_after
            assert not tick.is_above
            last, quiet = alarm(FIRING, newest_request_id=tick.newest_request_id), 0


def test_a_person_takes_a_firing_alarm_as_known() -> None:
    """The account is on the alarm, and in no transition: those go into logs and to webhooks."""
    ringing = alarm(FIRING, features=("noise",), quiet_samples=7, diagnosis="noisier")
    known, transition = acknowledge_alarm(ringing, by="alice", why="lens was cleaned", now=NOW)
    assert (ACKNOWLEDGED, "alice", NOW, 7, "noisier") == (
        known.state,
        known.acknowledged_by,
        known.acknowledged_at,
        known.quiet_samples,
        known.diagnosis,
    )
    assert (FIRING, ACKNOWLEDGED) == (transition.before, transition.after)
    assert "acknowledged: lens was cleaned" == transition.diagnosis
    assert "alice" not in repr(transition)


@pytest.mark.parametrize("state", [UNKNOWN, CLEAR, PENDING, ACKNOWLEDGED, RESOLVED])
def test_only_what_rings_unknown_to_anybody_is_acknowledged(state: AlarmState) -> None:
    """A typing mistake must not look like done."""
    with pytest.raises(NotReadyError, match="the alarm drift of conveyor, source=a is"):
        acknowledge_alarm(
            alarm(state, slice="source=a", acknowledged_at=NOW), by="a", why="", now=NOW
        )


def test_a_switch_rings_while_it_is_on() -> None:
    """From the first look on; a person's knowledge stays with it, and goes with it."""
    off, transition = switch_alarm(None, switch(is_on=False), now=NOW)
    assert (CLEAR, "") == (off.state, off.diagnosis)
    assert transition is not None
    on, transition = switch_alarm(off, switch(is_on=True), now=NOW)
    assert (FIRING, "stale", NOW) == (on.state, on.diagnosis, on.since)
    assert transition is not None
    known, _ = acknowledge_alarm(on, by="ops", why="", now=NOW)
    assert (known, None) == switch_alarm(known, switch(is_on=True), now=NOW)
    over, transition = switch_alarm(known, switch(is_on=False, why="ticks again"), now=NOW)
    assert (RESOLVED, None) == (over.state, over.acknowledged_by)
    assert transition is not None
    assert "ticks again" == transition.diagnosis
    assert (over, None) == switch_alarm(over, switch(is_on=False), now=NOW)
    assert FIRING is switch_alarm(over, switch(is_on=True), now=NOW)[0].state


@pytest.mark.parametrize(
    ("ticked", "is_on"),
    [(None, False), (timedelta(seconds=300), False), (timedelta(seconds=301), True)],
)
def test_a_monitor_that_missed_five_ticks_is_stale(ticked: timedelta | None, is_on: bool) -> None:
    """Where none ever ticked there is nothing to miss; the words say between which times nothing was judged."""
    found = stale_switch(None if ticked is None else NOW - ticked, tick_seconds=60, now=NOW)
    assert ("(monitor)", "stale", is_on) == (found.model_name, found.name, found.is_on)
    if is_on:
        assert "between 2029-12-31 23:54:59 and 2030-01-01 00:00:00 UTC" in found.why


@pytest.mark.parametrize(("seconds", "is_on"), [(300, False), (301, True)])
def test_a_tick_that_is_yet_to_come_is_none(seconds: int, is_on: bool) -> None:
    """Somebody wrote it there, or a clock is wrong: it says nothing about the present."""
    found = stale_switch(NOW + timedelta(seconds=seconds), tick_seconds=60, now=NOW)
    assert is_on is found.is_on
    assert is_on is ("which is yet to come" in found.why)


@pytest.mark.parametrize(("seconds", "is_on"), [(60, False), (61, True)])
def test_short_ticks_are_missed_after_a_minute(seconds: int, is_on: bool) -> None:
    """A report is drawn for longer than five of them."""
    ticked = NOW - timedelta(seconds=seconds)
    assert is_on is stale_switch(ticked, tick_seconds=1, now=NOW).is_on


def test_a_model_that_is_judged_too_rarely_rings_after_a_day() -> None:
    """With how many there were, since when; and goes quiet once there are enough."""
    starve = supplied()
    assert CLEAR is starve(0, hours=0).state
    assert CLEAR is starve(29, hours=23.9).state
    ringing = starve(29, hours=24)
    assert FIRING is ringing.state
    assert "29 samples of conveyor 1 were judged since 2030-01-01 00:00:00 UTC" in ringing.diagnosis
    assert FIRING is starve(29, hours=25).state
    assert RESOLVED is starve(59, hours=25.5).state


def test_a_steady_supply_never_rings() -> None:
    """Thirty a day, evenly; what is remembered stays small."""
    starve = supplied()
    for step in range(400):
        found = starve(2 * step, hours=step)
        assert CLEAR is found.state
        assert 26 >= len(found.details[MEMORY])


def test_a_count_that_begins_anew_is_not_a_lack() -> None:
    """Another reference counts from zero."""
    starve = supplied()
    for step in range(24):
        starve(10 * step, hours=step)
    for step in range(24, 60):
        assert CLEAR is starve(10 * (step - 24), hours=step).state


def test_another_version_is_counted_from_its_own_beginning() -> None:
    """It has its day, too."""
    starve = supplied()
    starve(0, hours=0)
    assert FIRING is starve(0, hours=30).state
    assert RESOLVED is starve(0, hours=31, version="2").state
    assert FIRING is starve(0, hours=55, version="2").state


@pytest.mark.parametrize("memory", [5, [1], [["x", 1]], [[1, None]], [[1.0, float("inf")]]])
def test_a_memory_that_none_of_ours_wrote_is_begun_anew(memory: object) -> None:
    """Somebody changed the row."""
    last = alarm(CLEAR, name="samples", details={MEMORY: memory})
    found = supply_switch(last, Supply("conveyor", "1", 7), rule=SUPPLY, now=NOW)
    assert [[NOW.timestamp(), 7]] == found.details[MEMORY]


def test_what_an_alarm_remembers_is_told_to_nobody() -> None:
    """History and webhooks get the count alone."""
    found = supply_switch(None, Supply("conveyor", "1", 7), rule=SUPPLY, now=NOW)
    _, transition = switch_alarm(None, replace(found, is_on=True), now=NOW)
    assert transition is not None
    assert {"judged_samples": 0, "since": "2030-01-01T00:00:00+00:00"} == transition.details


@pytest.mark.parametrize(
    ("silence", "expected"),
    [
        ((None, None, None), True),
        (("conveyor", None, None), True),
        (("conveyor", "drift", "source=a"), True),
        (("conveyor", "drift", ""), False),
        ((None, None, ""), False),
        (("other", None, None), False),
        ((None, "samples", None), False),
    ],
)
def test_a_silence_covers_what_it_names(
    silence: tuple[str | None, str | None, str | None],
    expected: bool,
) -> None:
    """None stands for all; an empty slice is that of all samples."""
    model, name, slice_text = silence
    made = Silence(model, name, slice_text, NOW, "ops", "", NOW + timedelta(hours=2))

    def covers(at: datetime) -> bool:
        named = {"model_name": "conveyor", "name": "drift", "slice_text": "source=a"}
        return is_silenced([made], **named, now=at)

    assert expected is covers(NOW)
    assert not covers(NOW + timedelta(hours=2))


def supplied() -> Callable[..., Alarm]:
    """One model's `samples` alarm, looked at with so many judged after so many hours."""
    last: Alarm | None = None

    def look(judged: int, *, hours: float, version: str = "1") -> Alarm:
        nonlocal last
        now = NOW + timedelta(hours=hours)
        supply = Supply("conveyor", version, judged)
        last, _ = switch_alarm(last, supply_switch(last, supply, rule=SUPPLY, now=now), now=now)
        return last

    return look


def switch(*, is_on: bool, why: str = "stale") -> Switch:
    """One that says this."""
    return Switch("(monitor)", "stale", is_on, why)


def too_few() -> Watched:
    """A tick that could judge nothing."""
    return replace(watched(newest_request_id="few", judged=0), is_judged=False)
