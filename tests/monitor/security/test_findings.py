"""Hits become findings that grow, end, and are bounded."""

from datetime import timedelta

import pytest

from monitor.records import Finding, Place, Rule, Severity
from monitor.security.findings import (
    MAX_OPEN,
    OTHER_KEYS,
    TRAITS,
    Hit,
    Lifetimes,
    OpenFindings,
    bounded_evidence,
)
from tests.monitor.security.ledger_events import at

LIFETIMES = Lifetimes(quiet=timedelta(minutes=30), hold=timedelta(hours=96))


def hit(
    rule: Rule = Rule.ADDRESS_FAILURES, *, key: str = "a", seconds: float = 0, count: int = 1
) -> Hit:
    """Of one record, whose position is its time."""
    when = at(seconds).timestamp()
    place = Place("gateway", int(seconds))
    return Hit(rule, key, when, when, count, f"{count} seen", (place,))


def test_the_first_hit_opens_a_finding() -> None:
    """With the rule's severity and both clocks' times."""
    findings = OpenFindings([])
    findings.add(hit(seconds=5, count=20), now=at(100))
    assert [
        Finding(
            rule=Rule.ADDRESS_FAILURES,
            key="a",
            severity=Severity.TICKET,
            opened_at=at(100),
            seen_at=at(100),
            since=at(5),
            until=at(5),
            count=20,
            words="20 seen",
            evidence=(Place("gateway", 5),),
        )
    ] == findings.take_changed()
    assert [] == findings.take_changed()


def test_more_hits_of_a_burst_keep_the_worst_window() -> None:
    """Its count and words; times and evidence grow."""
    findings = OpenFindings([])
    for seconds, count in ((0, 20), (10, 35), (20, 21)):
        findings.add(hit(seconds=seconds, count=count), now=at(100 + seconds))
    (found,) = findings.take_changed()
    assert (35, "35 seen") == (found.count, found.words)
    assert (at(0), at(20), at(100), at(120)) == (
        found.since,
        found.until,
        found.opened_at,
        found.seen_at,
    )
    assert [0, 10, 20] == [place.position for place in found.evidence]


def test_more_hits_of_another_rule_add_up() -> None:
    """Each is something that happened."""
    findings = OpenFindings([])
    for seconds in range(3):
        findings.add(hit(Rule.OPERATOR_OFF_HOURS, seconds=seconds), now=at(100))
    assert [3] == [found.count for found in findings.take_changed()]


def test_a_burst_ends_after_the_quiet_time_by_the_monitors_clock() -> None:
    """Whatever the ledger's clock says."""
    findings = OpenFindings([])
    findings.add(hit(seconds=1e9), now=at(0))
    findings.close_ended(LIFETIMES, now=at(1799))
    assert 1 == len(findings.open())
    findings.close_ended(LIFETIMES, now=at(1800))
    (found,) = findings.take_changed()
    assert (at(1800), "it stopped") == (found.closed_at, found.closed_why)
    assert () == findings.open()


def test_another_hit_keeps_a_burst_open() -> None:
    """The quiet time begins anew."""
    findings = OpenFindings([])
    findings.add(hit(), now=at(0))
    findings.add(hit(), now=at(1000))
    findings.close_ended(LIFETIMES, now=at(2000))
    assert 1 == len(findings.open())


def test_what_is_no_burst_is_held() -> None:
    """Until somebody could have looked, over a long weekend."""
    findings = OpenFindings([])
    findings.add(hit(Rule.TOKEN_SHARED), now=at(0))
    findings.close_ended(LIFETIMES, now=at(96 * 3600 - 1))
    assert 1 == len(findings.open())
    findings.close_ended(LIFETIMES, now=at(96 * 3600))
    assert ["held long enough"] == [found.closed_why for found in findings.take_changed()]


def test_a_hit_after_the_end_opens_another_finding() -> None:
    """The first stays as it was."""
    findings = OpenFindings([])
    findings.add(hit(), now=at(0))
    findings.close_ended(LIFETIMES, now=at(9999))
    findings.take_changed()
    findings.add(hit(), now=at(10_000))
    assert [at(10_000)] == [found.opened_at for found in findings.take_changed()]


def test_keys_beyond_the_room_share_a_finding() -> None:
    """A botnet cannot fill the table; those that are open are told apart still."""
    findings = OpenFindings([])
    for number in range(MAX_OPEN + 500):
        findings.add(hit(key=f"address-{number}"), now=at(0))
    findings.add(hit(key="address-0", count=9), now=at(1))
    changed = {found.key: found for found in findings.take_changed()}
    assert MAX_OPEN + 1 == len(changed)
    assert "more keys than are told apart" in changed[OTHER_KEYS].words
    assert 9 == changed["address-0"].count


def test_the_room_of_one_rule_is_not_anothers() -> None:
    """A burst hides no shared token."""
    findings = OpenFindings([])
    for number in range(MAX_OPEN + 1):
        findings.add(hit(key=f"address-{number}"), now=at(0))
    findings.add(hit(Rule.TOKEN_SHARED, key="t"), now=at(0))
    assert "t" in {found.key for found in findings.open()}


@pytest.mark.parametrize(
    ("count", "expected"), [(10, [*range(10)]), (25, [*range(5), *range(20, 25)])]
)
def test_evidence_keeps_the_first_and_the_newest(count: int, expected: list[int]) -> None:
    """Where it began, and where it is now."""
    places = [Place("gateway", n) for n in range(count)]
    assert expected == [place.position for place in bounded_evidence(places)]
    assert 1 == len(bounded_evidence([places[0]] * 50))


def test_every_rule_has_its_traits() -> None:
    """A rule that is added says how urgent it is, and when it is over."""
    assert set(Rule) == TRAITS.keys()
