"""Loads that nobody ordered are found; those that follow an order, in any ledger and order, are not."""

from collections.abc import Sequence

import pytest

from gateway.audit.events import Action, AuditEvent, Outcome
from monitor.records import Place, Rule
from monitor.security.loads import Loads
from tests.monitor.security.ledger_events import at, command, event, seen

GRACE = 120.0
NOW = at(0).timestamp()
LATER = NOW + GRACE


def load(seconds: float, version: str, *, name: str = "belt") -> AuditEvent:
    """A gateway's record that it loaded a version."""
    return event(
        Action.MODELS_LOAD,
        Outcome.ANSWERED,
        at(seconds),
        model_name=name,
        model_version=version,
    )


def order(
    seconds: float,
    version: str | None,
    *,
    action: Action = Action.MODELS_PROMOTE,
    outcome: Outcome = Outcome.ANSWERED,
    reason: str | None = None,
) -> AuditEvent:
    """An operator's record."""
    return command(
        at(seconds),
        action,
        outcome=outcome,
        model_name="belt",
        model_version=version,
        reason=reason,
    )


def found(*events: AuditEvent, is_learning: bool = False) -> list[str]:
    """Which loads nobody ordered, after these records and the grace."""
    loads = Loads(grace_seconds=GRACE)
    for position, each in enumerate(events):
        record = seen(each, position=position)
        hits = loads.observe(record, now_seconds=NOW, is_learning=is_learning)
        assert not hits
    assert [] == loads.settle(now_seconds=LATER - 1)
    hits = loads.settle(now_seconds=LATER)
    assert all(hit.rule is Rule.LOAD_UNORDERED for hit in hits)
    assert [] == loads.settle(now_seconds=LATER + 1)
    return [hit.key for hit in hits]


def test_a_version_that_nobody_ordered_is_found() -> None:
    """Of a name that nobody ordered either, or another one of a name that somebody did."""
    assert ["belt@7"] == found(load(0, "7"))
    assert ["belt@7"] == found(order(-90_000, "1"), load(0, "7"))


def test_what_is_in_production_may_be_loaded_at_any_time() -> None:
    """Gateways restart, and new ones come."""
    day = 86_400
    assert [] == found(order(0, "1"), load(10 * day, "1"), load(20 * day, "1"))


def test_an_older_version_is_no_longer_ordered_once_it_is_replaced() -> None:
    """What whoever can write the registry would do; for an hour a gateway may be late."""
    orders = (order(0, "1"), order(10_000, "2"))
    assert [] == found(*orders, load(10_600, "1"))
    assert ["belt@1"] == found(*orders, load(20_000, "1"))


def test_a_rollback_orders_the_version_before() -> None:
    """By name, which tells the version when it is done; until then any may be loaded."""
    rollback = Action.MODELS_ROLLBACK
    begun = order(20_000, None, action=rollback, outcome=Outcome.ADMITTED)
    assert [] == found(order(0, "1"), order(10_000, "2"), begun, load(20_005, "1"))
    done = order(20_006, "1", action=rollback)
    orders = (order(0, "1"), order(10_000, "2"), begun, done)
    assert [] == found(*orders, load(90_000, "1"))
    assert ["belt@2"] == found(*orders, load(90_000, "2"))


@pytest.mark.parametrize("outcome", [Outcome.ADMITTED, Outcome.FAILED])
def test_an_order_that_only_began_explains_loads_for_an_hour(outcome: Outcome) -> None:
    """It may have been made; it is no order for ever."""
    begun = order(0, "1", outcome=outcome)
    assert [] == found(begun, load(3599, "1"))
    assert ["belt@1"] == found(begun, load(3700, "1"))


def test_a_refused_order_orders_nothing() -> None:
    """Somebody tried."""
    assert ["belt@1"] == found(order(0, "1", outcome=Outcome.REFUSED), load(1, "1"))


def test_traffic_orders_a_version_beside_production_until_it_is_taken_away() -> None:
    """Canaries and shadows; retiring takes it away as well."""
    traffic = Action.MODELS_TRAFFIC
    canary = order(0, "2", action=traffic, reason="traffic=canary share=0.1")
    none = order(10_000, "2", action=traffic, reason="traffic=none share=0")
    retired = order(10_000, "2", action=Action.MODELS_RETIRE)
    assert [] == found(order(-10, "1"), canary, load(90_000, "1"), load(90_000, "2"))
    assert ["belt@2"] == found(canary, none, load(90_000, "2"))
    assert ["belt@2"] == found(canary, retired, load(90_000, "2"))
    assert [] == found(order(-10, "1"), canary, order(5, "3"), load(90_000, "2"))


def test_an_order_in_another_ledger_may_be_read_later() -> None:
    """Pages of ledgers do not come at the same time, and clocks differ."""
    assert [] == found(load(0, "1"), order(2, "1"))


def test_loads_that_failed_are_none() -> None:
    """Nothing serves by them."""
    failed = event(Action.MODELS_LOAD, Outcome.FAILED, at(0), model_name="belt", model_version="7")
    assert [] == found(failed)


def test_what_was_loaded_at_the_first_look_is_taken_as_ordered() -> None:
    """Its order may be older than the ledger."""
    loads = Loads(grace_seconds=GRACE)
    for seconds, is_learning in ((0, True), (90_000, False)):
        record = seen(load(seconds, "1"))
        assert [] == [*loads.observe(record, now_seconds=NOW, is_learning=is_learning)]
    assert [] == loads.settle(now_seconds=LATER)


def found_after(*learnt: AuditEvent, then: Sequence[AuditEvent]) -> list[str]:
    """Which loads nobody ordered, where these came before anybody looked."""
    loads = Loads(grace_seconds=GRACE)
    for position, each in enumerate((*learnt, *then)):
        record = seen(each, position=position)
        hits = loads.observe(record, now_seconds=NOW, is_learning=position < len(learnt))
        assert not hits
    return [hit.key for hit in loads.settle(now_seconds=LATER)]


def test_what_was_loaded_at_the_first_look_is_not_ordered_for_ever() -> None:
    """The next order says what serves; for an hour a gateway may be late."""
    orders = (order(100, "1"), order(200, "2"))
    assert ["belt@1"] == found_after(load(0, "1"), then=[*orders, load(4000, "1")])
    assert [] == found_after(load(0, "1"), then=[order(200, "2"), load(3700, "1")])
    assert ["belt@1"] == found_after(load(0, "1"), then=[order(200, "2"), load(4000, "1")])
    rollback = order(200, "0", action=Action.MODELS_ROLLBACK)
    assert ["belt@1"] == found_after(load(0, "1"), then=[rollback, load(4000, "1")])


def test_what_was_ordered_and_loaded_at_the_first_look_ends_with_its_order() -> None:
    """The order alone speaks for it."""
    orders = (order(0, "1"), load(60, "1"))
    assert ["belt@1"] == found_after(*orders, then=[order(200, "2"), load(4000, "1")])
    assert [] == found_after(*orders, then=[load(90_000, "1")])


def test_a_learnt_version_that_is_retired_is_learnt_no_more() -> None:
    """Or whose traffic is taken away."""
    retired = order(200, "1", action=Action.MODELS_RETIRE)
    assert ["belt@1"] == found_after(load(0, "1"), then=[retired, load(4000, "1")])


def test_loads_that_wait_are_bounded_and_told() -> None:
    """A thousand at a time; beyond that nobody waits for their order."""
    loads = Loads(grace_seconds=GRACE)
    hits = [
        hit
        for n in range(1003)
        for hit in loads.observe(
            seen(load(0, f"{n}"), position=n), now_seconds=NOW, is_learning=False
        )
    ]
    assert [(Place("gateway", n),) for n in range(3)] == [hit.evidence for hit in hits]
    assert 1000 == len(loads.settle(now_seconds=LATER))
