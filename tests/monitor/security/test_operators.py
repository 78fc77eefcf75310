"""Operator work: refused, and at night."""

from collections.abc import Sequence

import pytest

from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.errors import Code
from monitor.hours import parse_hours
from monitor.records import Rule
from monitor.security.findings import Hit
from monitor.security.operators import OPERATOR_ACTIONS
from monitor.security.rules import Rules
from monitor.security.thresholds import Thresholds
from tests.monitor.security.ledger_events import all_seen, at, call, command, only, stranger

HOURS = parse_hours("mon-fri 07:00-19:00", zone="UTC")
AT_NIGHT = 12 * 3600  # Midnight.


def hits(events: Sequence[AuditEvent], thresholds: Thresholds) -> list[Hit]:
    """What the records of one ledger hit."""
    rules = Rules(thresholds, known=())
    return [
        hit
        for record in all_seen(events)
        for hit in rules.observe(record, now_seconds=at(1e6).timestamp(), is_learning=False)
    ]


def refused(seconds: float, code: Code, action: Action = Action.MODELS_PROMOTE) -> AuditEvent:
    """A principal that is refused an operator's action."""
    return call(at(seconds), action=action, outcome=Outcome.REFUSED, code=code)


def test_who_is_denied_an_operators_action_is_found_at_once() -> None:
    """By the first try, whoever it is."""
    found = hits([refused(0, Code.AUTHZ_DENIED)], only(operator_denials=1))
    assert [(Rule.OPERATOR_REFUSED, "https://login.test|camera-1", 1)] == [
        (hit.rule, hit.key, hit.count) for hit in found
    ]


def test_being_denied_what_everybody_may_ask_for_is_no_operators_action() -> None:
    """A role for another model, say."""
    event = refused(0, Code.AUTHZ_DENIED, Action.PREDICT)
    assert [] == hits([event], only(operator_denials=1, operator_unproven=1))


def test_the_second_factor_may_be_missing_some_times() -> None:
    """Every honest operator is asked for it now and then; a thief cannot give it."""
    events = [refused(60 * n, Code.AUTHN_STEP_UP) for n in range(5)]
    thresholds = only(operator_denials=1, operator_unproven=5)
    assert [] == hits(events[:4], thresholds)
    assert 1 == len(hits(events, thresholds))
    assert [] == hits([refused(1000 * n, Code.AUTHN_STEP_UP) for n in range(9)], thresholds)


def test_strangers_at_an_operators_route_are_found_by_their_address() -> None:
    """Nobody is known yet."""
    events = [stranger(at(n), action=Action.MODELS_PROMOTE) for n in range(5)]
    thresholds = only(operator_unproven=5)
    assert [] == hits(events[:4], thresholds)
    assert ["198.51.100.7"] == [hit.key for hit in hits(events, thresholds)]


@pytest.mark.parametrize("code", [Code.MODEL_CONFLICT, Code.RATE_LIMITED, Code.BODY_INVALID])
def test_other_refusals_are_no_attempt_to_be_an_operator(code: Code) -> None:
    """Mistakes of operators."""
    events = [refused(n, code) for n in range(9)]
    assert [] == hits(events, only(operator_denials=1, operator_unproven=1))


@pytest.mark.parametrize("action", sorted(OPERATOR_ACTIONS))
def test_operator_work_outside_the_hours_is_found(action: Action) -> None:
    """Each kind of it, with the local time."""
    (found,) = hits([command(at(AT_NIGHT), action)], only(working_hours=HOURS))
    assert (Rule.OPERATOR_OFF_HOURS, "operating-system|gatewatch") == (found.rule, found.key)
    assert f"{action} at Tue 2030-04-02 00:00 UTC" == found.words


@pytest.mark.parametrize("outcome", [Outcome.ADMITTED, Outcome.FAILED, Outcome.ANSWERED])
def test_operator_work_that_began_counts_however_it_ended(outcome: Outcome) -> None:
    """A crash in between leaves only the first record."""
    event = command(at(AT_NIGHT), Action.MODELS_PROMOTE, outcome=outcome)
    assert 1 == len(hits([event], only(working_hours=HOURS)))


@pytest.mark.parametrize(
    "action",
    [
        Action.PREDICT,
        Action.MODELS_READ,
        Action.GATEWAY_START,
        Action.KEYS_USE,
        Action.AUDIT_EXPORT,
        Action.AUDIT_VERIFY,
    ],
)
def test_what_runs_by_itself_at_night_is_no_operator_work(action: Action) -> None:
    """Services export, gateways restart."""
    assert [] == hits([command(at(AT_NIGHT), action)], only(working_hours=HOURS))


def test_operator_work_in_the_hours_is_no_finding() -> None:
    """At noon of a Monday."""
    events = [command(at(0), action) for action in OPERATOR_ACTIONS]
    assert [] == hits(events, only(working_hours=HOURS))


def test_excepted_subjects_may_work_at_any_time() -> None:
    """Automation; nobody else with it."""
    thresholds = only(working_hours=HOURS, off_hours_excepted=frozenset({"deployer"}))
    by_it = command(at(AT_NIGHT), Action.MODELS_PROMOTE, subject="deployer")
    by_another = command(at(AT_NIGHT), Action.MODELS_PROMOTE, subject="deployer-2")
    assert [] == hits([by_it], thresholds)
    assert 1 == len(hits([by_another], thresholds))


def test_without_hours_nothing_is_off_them() -> None:
    """The rule is off by default."""
    assert [] == hits([command(at(AT_NIGHT), Action.MODELS_PROMOTE)], only())
