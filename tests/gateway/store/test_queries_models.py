"""SQL over model_versions, on both databases."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from gateway.store.database import write_transaction
from gateway.store.queries.models import (
    find_model_version,
    find_production_version,
    insert_model_version,
    list_model_versions,
    promote_version,
)
from gateway.store.records import ModelVersion, Stage

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
        return promote_version(connection, name, str(number))


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


def test_going_back_is_promoting_the_version_before(filled: Engine) -> None:
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
            assert promote_version(connection, "belt", "2")
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
