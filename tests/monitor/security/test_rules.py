"""All rules together: what each counts, that each can be switched off, and that a busy benign day hits none."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.errors import Code
from monitor.hours import parse_hours
from monitor.records import Place, Rule
from monitor.security.findings import Hit
from monitor.security.rules import Rules, longest_window_seconds, unreadable, watched_rules
from monitor.security.thresholds import Thresholds
from tests.monitor.security.benign_day import (
    ZONE,
    benign_day,
    moment,
    order_of_the_day_before,
)
from tests.monitor.security.ledger_events import (
    NOTHING,
    all_seen,
    at,
    call,
    command,
    event,
    only,
    quickly_seen,
    seen,
    stranger,
)

# The defaults of the settings, with what is off by default.
EVERYTHING = Thresholds(
    address_failures=200,
    all_failures=5000,
    subject_failures=60,
    failure_window_seconds=600.0,
    token_addresses=1,
    token_certificates=1,
    token_kept_seconds=86_400.0,
    operator_denials=1,
    operator_unproven=5,
    working_hours=parse_hours("mon-sun 07:00-19:00", zone=ZONE),
    off_hours_excepted=frozenset(),
    looks_at_new_issuers=True,
    looks_at_new_keys=True,
    sample_views=100,
    audit_reads=300,
    audit_records=100_000,
    exporters=frozenset({"siem-shipper"}),
    predictions=2000,
    looks_at_loads=True,
    clock_tolerance_seconds=30.0,
    looks_at_outages=True,
    max_keys=100_000,
)


def hits(events: Sequence[AuditEvent], thresholds: Thresholds) -> list[Hit]:
    """What the records of one ledger hit."""
    rules = Rules(thresholds, known=())
    return [
        hit
        for record in all_seen(events)
        for hit in rules.observe(record, now_seconds=at(1e6).timestamp(), is_learning=False)
    ]


def test_a_busy_benign_day_hits_nothing() -> None:
    """200,000 records and more of two replicas, in the order of their times across both."""
    records = [
        quickly_seen(each, origin=origin, position=position)
        for origin, events in benign_day().items()
        for position, each in enumerate(events)
    ]
    assert 200_000 < len(records)
    records.sort(key=lambda record: record.at_seconds)
    rules = Rules(EVERYTHING, known=())
    rules.teach(seen(order_of_the_day_before()))
    end = moment(24).timestamp()
    found = [
        hit
        for record in records
        for hit in rules.observe(record, now_seconds=end, is_learning=False)
    ]
    assert [] == found
    assert [] == rules.settle(now_seconds=end + 1e6)
    assert {0} == set(rules.forgotten().values())


def test_many_predictions_of_one_principal_are_found() -> None:
    """In an hour; two records of one call count once, and other principals' by themselves."""
    thresholds = only(predictions=30)
    events = [
        call(at(100 * n), outcome=outcome)
        for n in range(30)
        for outcome in (Outcome.ADMITTED, Outcome.ANSWERED)
    ]
    assert [] == hits(events[:58], thresholds)
    assert [(Rule.PREDICTIONS_MANY, "https://login.test|camera-1", 30)] == [
        (hit.rule, hit.key, hit.count) for hit in hits(events, thresholds)
    ]
    assert [] == hits([call(at(140 * n)) for n in range(60)], thresholds)
    assert [] == hits([call(at(n), subject=f"s{n}") for n in range(60)], thresholds)
    assert [] == hits([call(at(n), outcome=Outcome.FAILED) for n in range(60)], thresholds)


def test_an_outage_of_the_ledger_is_found() -> None:
    """With its reason."""
    outage = event(Action.AUDIT_OUTAGE, Outcome.FAILED, at(0), reason="the disk was full")
    (found,) = hits([outage], only(looks_at_outages=True))
    assert (Rule.AUDIT_OUTAGE, "records could not be written: the disk was full") == (
        found.rule,
        found.words,
    )


def test_a_record_that_cannot_be_read_is_a_hit_of_its_own() -> None:
    """At its place, by the monitor's clock: its own time cannot be read."""
    found = unreadable(Place("gateway", 7), "it is torn", now_seconds=5.0)
    assert (Rule.RECORD_UNREADABLE, "gateway", 5.0) == (found.rule, found.key, found.until_seconds)
    assert "position 7 of gateway: it is torn; see `gateway audit verify`" == found.words


@pytest.mark.parametrize("rule", sorted(set(Rule) - {Rule.RECORD_UNREADABLE}))
def test_every_rule_can_be_switched_off_alone(rule: Rule) -> None:
    """The others stay on."""
    off = {
        Rule.ADDRESS_FAILURES: {"address_failures": 0},
        Rule.ALL_FAILURES: {"all_failures": 0},
        Rule.SUBJECT_FAILURES: {"subject_failures": 0},
        Rule.TOKEN_SHARED: {"token_addresses": 0, "token_certificates": 0},
        Rule.OPERATOR_REFUSED: {"operator_denials": 0, "operator_unproven": 0},
        Rule.OPERATOR_OFF_HOURS: {"working_hours": None},
        Rule.ISSUER_NEW: {"looks_at_new_issuers": False},
        Rule.KEY_NEW: {"looks_at_new_keys": False},
        Rule.SAMPLES_VIEWED: {"sample_views": 0},
        Rule.AUDIT_READ: {"audit_reads": 0, "audit_records": 0},
        Rule.AUDIT_EXPORTED: {"exporters": frozenset()},
        Rule.PREDICTIONS_MANY: {"predictions": 0},
        Rule.LOAD_UNORDERED: {"looks_at_loads": False},
        Rule.CLOCK_JUMPED: {"clock_tolerance_seconds": 0.0},
        Rule.AUDIT_OUTAGE: {"looks_at_outages": False},
    }[rule]
    thresholds = replace(EVERYTHING, **off)  # type: ignore[arg-type]  # by name
    assert set(Rule) - {rule} == watched_rules(thresholds)
    assert rule not in {hit.rule for hit in _everything_bad(thresholds)}
    assert rule in {hit.rule for hit in _everything_bad(EVERYTHING)}


def test_with_everything_switched_off_nothing_is_found() -> None:
    """But records that cannot be read."""
    assert {Rule.RECORD_UNREADABLE} == watched_rules(NOTHING)
    assert [] == _everything_bad(NOTHING)


def test_what_the_rules_hold_reaches_as_far_back_as_the_longest_window() -> None:
    """A start reads so much again."""
    assert 3600 == longest_window_seconds(NOTHING)
    assert 7200 == longest_window_seconds(replace(NOTHING, failure_window_seconds=7200.0))
    assert 86_400 == longest_window_seconds(EVERYTHING)
    no_tokens = replace(EVERYTHING, token_addresses=0, token_certificates=0)
    assert 3600 == longest_window_seconds(no_tokens)


def test_what_is_forgotten_is_counted_by_rule() -> None:
    """For the metric."""
    rules = Rules(only(token_addresses=1, max_keys=100), known=())
    for n in range(150):
        rules.observe(seen(call(at(n), token_id=f"t{n}")), now_seconds=0.0, is_learning=False)
    assert {Rule.TOKEN_SHARED: 50} == rules.forgotten()


def test_what_is_forgotten_of_a_rule_that_counts_in_several_ways_is_one_number() -> None:
    """Denied and unproven operators; readings and the records that they brought."""
    rules = Rules(
        only(
            operator_denials=99,
            operator_unproven=99,
            audit_reads=99,
            audit_records=9999,
            max_keys=100,
        ),
        known=(),
    )
    refused: dict[str, Any] = {"action": Action.MODELS_SEAL, "outcome": Outcome.REFUSED}
    for n in range(110):
        who: dict[str, Any] = {"subject": f"s{n}"}
        for each in (
            call(at(n), code=Code.AUTHZ_DENIED, **refused, **who),
            call(at(n), code=Code.AUTHN_STEP_UP, **refused, **who),
            call(at(n), action=Action.AUDIT_READ, result_count=7, **who),
        ):
            rules.observe(seen(each), now_seconds=0.0, is_learning=False)
    assert {Rule.OPERATOR_REFUSED: 20, Rule.AUDIT_READ: 20} == rules.forgotten()


def _everything_bad(thresholds: Thresholds) -> list[Hit]:
    """One attack of each kind in one ledger."""
    night = 12 * 3600
    model = {"model_name": "belt", "model_version": "7"}
    refused: dict[str, Any] = {"outcome": Outcome.REFUSED, "code": Code.AUTHZ_DENIED}
    flood = "address_failures; 4999 more before it have no record of their own"
    events = [
        stranger(at(0), code=Code.RATE_LIMITED, reason=flood),
        *(call(at(1), action=Action.MODELS_PROMOTE, **refused) for _ in range(60)),
        call(at(2), address="198.51.100.200"),
        *(call(at(3), action=Action.SAMPLES_VIEW) for _ in range(100)),
        *(call(at(3), action=Action.AUDIT_READ) for _ in range(300)),
        command(at(4), Action.AUDIT_EXPORT),
        *(call(at(3)) for _ in range(2000)),
        call(at(5), issuer="https://new.test"),
        event(
            Action.ISSUER_KEYS, Outcome.ANSWERED, at(6), detail="issuer=https://login.test added=k"
        ),
        command(at(night), Action.KEYS_ROTATE),
        event(Action.MODELS_LOAD, Outcome.ANSWERED, at(night), **model),
        event(Action.AUDIT_OUTAGE, Outcome.FAILED, at(0)),
        call(at(0)),
    ]
    rules = Rules(thresholds, known=[("https://login.test", ""), ("https://login.test", "k0 ")])
    now = at(night).timestamp()
    found = [
        hit
        for record in all_seen(events)
        for hit in rules.observe(record, now_seconds=now, is_learning=False)
    ]
    return found + rules.settle(now_seconds=now + 1e6)
