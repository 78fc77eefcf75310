"""Much that one principal looks at or exports is found; what services and honest clients do is not."""

from collections.abc import Sequence

from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.errors import Code
from monitor.records import Rule
from monitor.security.findings import Hit
from monitor.security.rules import Rules
from monitor.security.thresholds import Thresholds
from tests.monitor.security.ledger_events import all_seen, at, call, command, only


def hits(events: Sequence[AuditEvent], thresholds: Thresholds) -> list[Hit]:
    """What the records of one ledger hit."""
    rules = Rules(thresholds, known=())
    return [
        hit
        for record in all_seen(events)
        for hit in rules.observe(record, now_seconds=at(1e6).timestamp(), is_learning=False)
    ]


def viewed(count: int, *, seconds: float = 1, **members: str) -> list[AuditEvent]:
    """Views of samples by command, two records each."""
    return [
        command(at(seconds * n), Action.SAMPLES_VIEW, outcome=outcome, **members)
        for n in range(count)
        for outcome in (Outcome.ADMITTED, Outcome.ANSWERED)
    ]


def test_many_views_of_samples_in_an_hour_are_found() -> None:
    """By whom, at the threshold and not below it; slowly they are not."""
    thresholds = only(sample_views=50)
    assert [] == hits(viewed(49), thresholds)
    assert [(Rule.SAMPLES_VIEWED, "operating-system|gatewatch", 50)] == [
        (hit.rule, hit.key, hit.count) for hit in hits(viewed(50), thresholds)
    ]
    assert [] == hits(viewed(80, seconds=90), thresholds)
    by_two = [*viewed(40, subject="a"), *viewed(40, subject="b")]
    assert [] == hits(by_two, thresholds)


def test_views_that_were_refused_are_no_views() -> None:
    """Another rule tells of them."""
    refused = [
        call(at(n), action=Action.SAMPLES_VIEW, outcome=Outcome.REFUSED, code=Code.AUTHZ_DENIED)
        for n in range(80)
    ]
    assert [] == hits(refused, only(sample_views=50))


def test_many_readings_of_the_ledger_in_an_hour_are_found() -> None:
    """However little each brings."""
    events = [call(at(10 * n), action=Action.AUDIT_READ, result_count=0) for n in range(50)]
    thresholds = only(audit_reads=50)
    assert [] == hits(events[:49], thresholds)
    assert [Rule.AUDIT_READ] == [hit.rule for hit in hits(events, thresholds)]


def test_many_records_read_in_an_hour_are_found() -> None:
    """In a few large pages, or one export that ended or broke off."""
    thresholds = only(audit_records=10_000)
    pages = [call(at(n), action=Action.AUDIT_READ, result_count=1000) for n in range(10)]
    assert [] == hits(pages[:9], thresholds)
    (found,) = hits(pages, thresholds)
    assert "10000 records of the ledger read within 60 minutes" == found.words
    for outcome in (Outcome.ANSWERED, Outcome.FAILED):
        export = command(at(0), Action.AUDIT_EXPORT, result_count=10_000, outcome=outcome)
        assert [10_000] == [hit.count for hit in hits([export], thresholds)]


def test_proofs_are_no_readings() -> None:
    """A client may ask for one with every answer."""
    events = [call(at(n), action=Action.AUDIT_PROVE) for n in range(500)]
    assert [] == hits(events, only(audit_reads=50, audit_records=50))


def test_who_ships_the_ledger_may_export_and_nobody_else() -> None:
    """Told when it begins: a process that is killed records no end."""
    thresholds = only(audit_reads=1, audit_records=1, exporters=frozenset({"siem"}))
    by_it = command(at(0), Action.AUDIT_EXPORT, subject="siem", result_count=1_000_000)
    assert [] == hits([by_it], thresholds)
    begun = command(at(0), Action.AUDIT_EXPORT, outcome=Outcome.ADMITTED)
    assert [(Rule.AUDIT_EXPORTED, "operating-system|gatewatch")] == [
        (hit.rule, hit.key) for hit in hits([begun], thresholds)
    ]


def test_who_ships_the_ledger_reads_it_like_everybody() -> None:
    """It has no need to look."""
    thresholds = only(audit_records=1000, exporters=frozenset({"siem"}))
    read = call(at(0), action=Action.AUDIT_READ, subject="siem", result_count=1000)
    assert 1 == len(hits([read], thresholds))


def test_where_no_exporter_is_named_anybody_may_export_a_little() -> None:
    """The volume alone counts."""
    export = command(at(0), Action.AUDIT_EXPORT, result_count=999)
    assert [] == hits([export], only(audit_records=1000))
