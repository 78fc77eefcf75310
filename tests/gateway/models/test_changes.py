"""Changes of the registry and their refusals, on both databases."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from gateway.errors import Code, RegistryError
from gateway.models import changes
from gateway.store.database import write_transaction
from gateway.store.queries.models import insert_model_version, list_model_versions
from gateway.store.records import Traffic
from tests.gateway.versions import registered

NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)


def clock() -> datetime:
    """Now."""
    return NOW


@pytest.fixture
def store(engine: Engine) -> Engine:
    """Three versions; the first is in production."""
    with write_transaction(engine) as connection:
        for version in ("1", "2", "3"):
            insert_model_version(connection, replace(registered(version), file_name=version))
    changes.promote(engine, "belt", "1", clock=clock)
    return engine


def picture(store: Engine) -> list[str]:
    """Each version's stage and traffic."""
    with store.connect() as connection:
        versions = list_model_versions(connection, name="belt")
    return [f"{v.version} {v.stage.value} {v.traffic.value} {v.share:g}" for v in versions]


def give(store: Engine, version: str, traffic: Traffic, share: float) -> None:
    """Direct traffic."""
    changes.direct_traffic(store, "belt", version, traffic=traffic, share=share)


def test_changes_follow_one_another(store: Engine) -> None:
    """A version's life: a shadow, a canary, production, gone back from, retired."""
    give(store, "2", Traffic.SHADOW, 0.5)
    assert picture(store)[1] == "2 candidate shadow 0.5"
    give(store, "2", Traffic.CANARY, 0.1)
    assert picture(store)[1] == "2 candidate canary 0.1"
    changes.promote(store, "belt", "2", clock=clock)
    assert picture(store)[:2] == ["1 retired none 0", "2 production none 0"]
    assert changes.find_rollback(store, "belt").label == "belt@1"
    changes.undo_promotion(store, "belt", expected="1", clock=clock)
    changes.retire(store, "belt", "2", clock=clock)
    assert picture(store) == ["1 production none 0", "2 retired none 0", "3 candidate none 0"]
    assert changes.find_production(store, "belt").label == "belt@1"


REFUSALS: dict[str, tuple[Callable[[Engine], object], Code, str]] = {
    "promote unknown": (
        lambda s: changes.promote(s, "belt", "9", clock=clock), Code.MODEL_UNKNOWN, "belt@9"),
    "nothing before": (
        lambda s: changes.find_rollback(s, "belt"), Code.MODEL_CONFLICT, "was in production before"),
    "undo without history": (
        lambda s: changes.undo_promotion(s, "belt", expected="2", clock=clock),
        Code.MODEL_CONFLICT, "was in production before"),
    "retire production": (
        lambda s: changes.retire(s, "belt", "1", clock=clock), Code.MODEL_CONFLICT, "roll back"),
    "retire unknown": (
        lambda s: changes.retire(s, "belt", "9", clock=clock), Code.MODEL_UNKNOWN, "belt@9"),
    "traffic to production": (
        lambda s: give(s, "1", Traffic.CANARY, 0.5), Code.MODEL_CONFLICT, "gets all requests"),
    "traffic to unknown": (
        lambda s: give(s, "9", Traffic.CANARY, 0.5), Code.MODEL_UNKNOWN, "belt@9"),
    "production of unknown": (
        lambda s: changes.find_production(s, "gate"), Code.MODEL_UNKNOWN, "gateway seal"),
    "find unknown": (
        lambda s: changes.find_version(s, "gate", "1"), Code.MODEL_UNKNOWN, "gate@1"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_refused_changes_nothing_and_says_why(store: Engine, name: str) -> None:
    """With a code that programs can tell apart."""
    change, code, told = REFUSALS[name]
    before = picture(store)
    with pytest.raises(RegistryError) as caught:
        change(store)
    assert (caught.value.code, told in caught.value.message) == (code, True)
    assert picture(store) == before


def test_two_versions_do_not_share_one_kind_of_traffic(store: Engine) -> None:
    """Which of them lost it would be a surprise; the other kind is free."""
    give(store, "2", Traffic.CANARY, 0.5)
    with pytest.raises(RegistryError, match="belt@2 is the canary already"):
        give(store, "3", Traffic.CANARY, 0.5)
    give(store, "3", Traffic.SHADOW, 0.5)
    give(store, "2", Traffic.CANARY, 0.7)
    assert picture(store)[1:] == ["2 candidate canary 0.7", "3 candidate shadow 0.5"]


def test_traffic_needs_something_in_production(engine: Engine) -> None:
    """There is nothing to share yet."""
    with write_transaction(engine) as connection:
        insert_model_version(connection, registered("1"))
    with pytest.raises(RegistryError, match="promote one first"):
        give(engine, "1", Traffic.SHADOW, 0.5)


def test_taking_traffic_that_is_not_there_changes_nothing(store: Engine) -> None:
    """Also of a retired version, which stays so."""
    changes.retire(store, "belt", "3", clock=clock)
    give(store, "3", Traffic.NONE, 0)
    assert picture(store)[2] == "3 retired none 0"


def test_a_rollback_that_was_overtaken_is_refused(store: Engine) -> None:
    """What was checked is not what would go into production."""
    changes.promote(store, "belt", "2", clock=clock)
    changes.promote(store, "belt", "3", clock=clock)
    with pytest.raises(RegistryError, match="has just changed"):
        changes.undo_promotion(store, "belt", expected="1", clock=clock)
    assert picture(store)[2] == "3 production none 0"


def test_many_operators_at_once_leave_one_version_in_production(store: Engine) -> None:
    """Whatever order they come in."""

    def promote(number: int) -> None:
        changes.promote(store, "belt", str(number % 3 + 1), clock=clock)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(promote, range(18)))
    assert sum("production" in line for line in picture(store)) == 1


@pytest.mark.parametrize(
    ("traffic", "share", "is_fit"),
    [
        (Traffic.CANARY, 0.0001, True), (Traffic.SHADOW, 1.0, True), (Traffic.NONE, 0.0, True),
        (Traffic.CANARY, 0.00009, False), (Traffic.CANARY, 1e-320, False), (Traffic.SHADOW, 1.01, False),
        (Traffic.SHADOW, float("nan"), False), (Traffic.NONE, 0.5, False),
    ],
)  # fmt: skip
def test_a_share_is_of_a_size_that_shows_something(
    traffic: Traffic, share: float, is_fit: bool
) -> None:
    """For commands and callers alike."""
    assert is_fit == (changes.why_share_unfit(traffic, share) is None)
