"""SQL over model_versions, on both databases."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text, update
from sqlalchemy.exc import IntegrityError, OperationalError

from gateway.store.database import write_transaction
from gateway.store.queries.models import (
    find_model_version,
    find_production_version,
    find_version_before,
    insert_model_version,
    list_active_versions,
    list_model_versions,
    promote_version,
    retire_version,
    roll_back,
    set_traffic,
)
from gateway.store.records import ModelVersion, Stage, Traffic
from gateway.store.tables import model_versions

MOMENT = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)


def version(number: int, name: str = "belt") -> ModelVersion:
    """A candidate, registered number seconds after MOMENT."""
    return ModelVersion(
        name=name,
        version=str(number),
        stage=Stage.CANDIDATE,
        file_name=f"{name}-{number}.sealed",
        plaintext_sha256=f"{number:064x}",
        class_names=("bolt", "écrou"),
        input_size=(320, 416),
        registered_at=MOMENT + timedelta(seconds=number),
        task="segment",
        engine="onnxruntime",
        precision="int8",
        traffic=Traffic.NONE,
        share=0.0,
    )


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """Three versions of one name and one of another."""
    with write_transaction(engine) as connection:
        for number in (2, 1, 3):
            insert_model_version(connection, version(number))
        insert_model_version(connection, version(1, name="other"))
    return engine


def promote(engine: Engine, number: int, name: str = "belt") -> bool:
    """Promote in a transaction of its own."""
    with write_transaction(engine) as connection:
        return promote_version(connection, name, str(number), now=MOMENT)


def stages(engine: Engine, name: str = "belt") -> dict[str, str]:
    """The stage of each version of a name."""
    with engine.connect() as connection:
        return {v.version: v.stage.value for v in list_model_versions(connection, name=name)}


def test_versions_come_back_as_they_were(filled: Engine) -> None:
    """Names, sizes and times survive; oldest first."""
    with filled.connect() as connection:
        assert list_model_versions(connection, name="belt") == [version(1), version(2), version(3)]
        assert len(list_model_versions(connection)) == 4
        assert find_model_version(connection, "belt", "2") == version(2)


def test_an_unknown_version_is_not_found(filled: Engine) -> None:
    """Nor is a known one under another name."""
    with filled.connect() as connection:
        assert find_model_version(connection, "belt", "9") is None
        assert find_model_version(connection, "other", "2") is None


def test_a_version_is_registered_once(filled: Engine) -> None:
    """Whatever the code above does."""
    with pytest.raises(IntegrityError), write_transaction(filled) as connection:
        insert_model_version(connection, replace(version(1), plaintext_sha256="ff" * 32))


def test_nothing_is_in_production_until_it_is_promoted(filled: Engine) -> None:
    """A candidate is not served."""
    with filled.connect() as connection:
        assert find_production_version(connection, "belt") is None


def test_promoting_retires_the_version_before(filled: Engine) -> None:
    """Exactly one version is in production; other names keep theirs."""
    assert promote(filled, 1, name="other")
    assert promote(filled, 1)
    assert promote(filled, 3)
    assert stages(filled) == {"1": "retired", "2": "candidate", "3": "production"}
    assert stages(filled, "other") == {"1": "production"}
    with filled.connect() as connection:
        assert find_production_version(connection, "belt") == replace(
            version(3), stage=Stage.PRODUCTION
        )


def back(engine: Engine, name: str = "belt") -> str | None:
    """Roll back in a transaction of its own."""
    with write_transaction(engine) as connection:
        return roll_back(connection, name, now=MOMENT)


def test_an_earlier_version_can_be_promoted_again(filled: Engine) -> None:
    """And promoting twice changes nothing more."""
    for number in (1, 2, 1, 1):
        assert promote(filled, number)
    assert stages(filled) == {"1": "production", "2": "retired", "3": "candidate"}


@pytest.mark.parametrize(("number", "name"), [(9, "belt"), (2, "other"), (1, "absent")])
def test_an_unknown_version_changes_nothing(filled: Engine, number: int, name: str) -> None:
    """What serves goes on serving."""
    promote(filled, 1)
    assert not promote(filled, number, name)
    assert stages(filled) == {"1": "production", "2": "candidate", "3": "candidate"}


def test_two_operators_at_once_leave_one_version_in_production(filled: Engine) -> None:
    """The second waits for the first and then retires what that one promoted."""
    is_inside, may_end = threading.Event(), threading.Event()

    def promote_slowly() -> None:
        with write_transaction(filled) as connection:
            assert promote_version(connection, "belt", "2", now=MOMENT)
            is_inside.set()
            assert may_end.wait(20)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(promote_slowly)
        assert is_inside.wait(20)
        second = pool.submit(promote, filled, 3)
        assert wait([second], 0.2).done == set()
        may_end.set()
        first.result(20)
        assert second.result(20)
    assert stages(filled) == {"1": "candidate", "2": "retired", "3": "production"}


def test_rolling_back_goes_the_way_of_the_promotions_back(filled: Engine) -> None:
    """One step at a time, and no further than the first."""
    for number in (1, 2, 3):
        promote(filled, number)
    assert [back(filled), back(filled), back(filled)] == ["2", "1", None]
    assert stages(filled) == {"1": "production", "2": "retired", "3": "retired"}


def test_a_promotion_after_a_rollback_is_the_next_step(filled: Engine) -> None:
    """What was undone is not returned to."""
    for number in (1, 2):
        promote(filled, number)
    assert back(filled) == "1"
    promote(filled, 3)
    assert [back(filled), back(filled)] == ["1", None]


def test_promoting_twice_is_one_step_of_the_history(filled: Engine) -> None:
    """A repeated command does not make a rollback do nothing."""
    for number in (1, 2, 2):
        promote(filled, number)
    with filled.connect() as connection:
        assert find_version_before(connection, "belt") == "1"
    assert back(filled) == "1"


def test_histories_of_names_are_apart(filled: Engine) -> None:
    """A rollback of one leaves the other."""
    promote(filled, 1, name="other")
    promote(filled, 1)
    promote(filled, 2)
    assert back(filled, "other") is None
    assert stages(filled, "other") == {"1": "production"}


def test_a_retired_version_is_not_returned_to(filled: Engine) -> None:
    """Retiring says never again, also where two promotions of one version then stand side by side."""
    for number in (1, 2, 1, 3):
        promote(filled, number)
    with write_transaction(filled) as connection:
        retire_version(connection, "belt", "2", now=MOMENT)
    assert [back(filled), back(filled)] == ["1", None]
    assert stages(filled)["2"] == "retired"


def test_two_rollbacks_at_once_are_two_steps(filled: Engine) -> None:
    """The second sees what the first did."""
    for number in (1, 2, 3):
        promote(filled, number)
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(back, filled) for _ in range(2)]
        assert sorted(str(future.result(20)) for future in futures) == ["1", "2"]
    assert stages(filled)["1"] == "production"


def give(engine: Engine, number: int, traffic: Traffic, share: float) -> None:
    """Set traffic in a transaction of its own."""
    with write_transaction(engine) as connection:
        set_traffic(connection, "belt", str(number), traffic=traffic, share=share)


def test_versions_with_traffic_and_in_production_are_active(filled: Engine) -> None:
    """Those are what a running gateway loads."""
    promote(filled, 1)
    give(filled, 2, Traffic.SHADOW, 0.25)
    give(filled, 3, Traffic.CANARY, 0.5)
    with filled.connect() as connection:
        active = list_active_versions(connection)
    assert [(v.version, v.stage, v.traffic, v.share) for v in active] == [
        ("1", Stage.PRODUCTION, Traffic.NONE, 0.0),
        ("2", Stage.CANDIDATE, Traffic.SHADOW, 0.25),
        ("3", Stage.CANDIDATE, Traffic.CANARY, 0.5),
    ]


def test_a_promoted_version_has_no_traffic_of_its_own(filled: Engine) -> None:
    """It has all of it."""
    promote(filled, 1)
    give(filled, 2, Traffic.CANARY, 0.5)
    promote(filled, 2)
    with filled.connect() as connection:
        assert [(v.version, v.traffic, v.share) for v in list_active_versions(connection)] == [
            ("2", Traffic.NONE, 0.0)
        ]


def test_a_retired_version_that_gets_traffic_is_a_candidate_again(filled: Engine) -> None:
    """Retiring it takes the traffic away."""
    promote(filled, 1)
    promote(filled, 2)
    give(filled, 1, Traffic.SHADOW, 1.0)
    assert stages(filled)["1"] == "candidate"
    with write_transaction(filled) as connection:
        retire_version(connection, "belt", "1", now=MOMENT)
    with filled.connect() as connection:
        assert [v.version for v in list_active_versions(connection)] == ["2"]


@pytest.mark.parametrize("traffic", [Traffic.SHADOW, Traffic.CANARY])
def test_the_database_refuses_two_versions_with_one_kind_of_traffic(
    filled: Engine, traffic: Traffic
) -> None:
    """Whatever the code above does."""
    give(filled, 1, traffic, 0.5)
    with pytest.raises(IntegrityError):
        give(filled, 2, traffic, 0.5)


def test_the_database_refuses_two_versions_in_production(filled: Engine) -> None:
    """Whatever the code above does."""
    with pytest.raises(IntegrityError), write_transaction(filled) as connection:
        connection.execute(update(model_versions).values(stage="production"))


@pytest.mark.parametrize("junk", ["'x'", "'3'", "CAST(x'ff' AS TEXT)", "x'ff'"])
def test_a_version_that_cannot_be_read_hides_no_other(sqlite_engine: Engine, junk: str) -> None:
    """For who asks so; for all others it is an error."""
    bad_rows: list[int] = []
    with sqlite_engine.begin() as connection:
        for number in (1, 2):
            insert_model_version(connection, version(number))
        change = f"UPDATE model_versions SET class_names = {junk} WHERE version = '1'"
        connection.execute(text(change))
        found = list_model_versions(connection, on_bad_row=bad_rows.append)
        assert ([version(2)], 1) == (found, len(bad_rows))
        with pytest.raises((ValueError, OperationalError, TypeError)):
            list_model_versions(connection)
