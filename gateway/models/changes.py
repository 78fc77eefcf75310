"""Changes of the registry, each one transaction with its own refusals; commands and running gateways make the same.

Rules: a change that is refused changes nothing and says why; after a crash a change is whole or was never made, so a
name has exactly one version in production at any time.
"""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection, Engine

from gateway.errors import Code, RegistryError
from gateway.store.database import write_transaction
from gateway.store.queries.models import (
    find_model_version,
    find_production_version,
    find_version_before,
    lock_versions,
    promote_version,
    retire_version,
    roll_back,
    set_traffic,
)
from gateway.store.records import ModelVersion, Stage, Traffic

Clock = Callable[[], datetime]

# Less is a slip of the pen: a version that answers one request of a billion proves nothing.
MIN_SHARE = 0.0001
SHARE_RULE = f"the share must be a number from {MIN_SHARE} to 1"


def find_version(store: Engine, name: str, version: str) -> ModelVersion:
    """One registered version. Raises RegistryError if it is unknown."""
    with store.connect() as connection:
        found = find_model_version(connection, name, version)
    if found is None:
        raise _unknown(name, version)
    return found


def find_production(store: Engine, name: str) -> ModelVersion:
    """The version of a name that is in production. Raises RegistryError if there is none."""
    with store.connect() as connection:
        found = find_production_version(connection, name)
    if found is None:
        message = (
            f"no version of {name!r} is in production: "
            "seal one (`gateway seal`) and promote it (`gateway models promote`)"
        )
        raise RegistryError(Code.MODEL_UNKNOWN, message)
    return found


def find_rollback(store: Engine, name: str) -> ModelVersion:
    """The version that a rollback would put into production. Raises RegistryError if there is none."""
    with store.connect() as connection:
        target = find_version_before(connection, name)
    if target is None:
        raise _nothing_before(name)
    return find_version(store, name, target)


def promote(store: Engine, name: str, version: str, *, clock: Clock) -> None:
    """Put a version into production and retire the one before. Raises RegistryError if it is unknown."""
    # Killed before the commit, the old version is in production; after it, the new one.
    with write_transaction(store) as connection:
        if not promote_version(connection, name, version, now=clock()):
            raise _unknown(name, version)


def undo_promotion(store: Engine, name: str, *, expected: str, clock: Clock) -> None:
    """Put the version before the one in production back.

    Raises RegistryError if there is none, or it is no longer the expected one, which the caller has checked.
    """
    with write_transaction(store) as connection:
        lock_versions(connection, name)
        target = find_version_before(connection, name)
        if target is None:
            raise _nothing_before(name)
        if target != expected:
            raise _conflict(f"what is in production of {name} has just changed: look, then repeat")
        roll_back(connection, name, now=clock())


def retire(store: Engine, name: str, version: str, *, clock: Clock) -> None:
    """Take a version out of use for good, until it is promoted or given traffic again; rollbacks pass it by.

    Raises RegistryError if it is unknown or in production.
    """
    with write_transaction(store) as connection:
        found = _locked(connection, name, version)[version]
        if found.stage is Stage.PRODUCTION:
            raise _conflict(
                f"{found.label} is in production: promote another version or roll back first"
            )
        retire_version(connection, name, version, now=clock())


def why_share_unfit(traffic: Traffic, share: float) -> str | None:
    """Why a share of the requests does not fit the traffic, or None."""
    if traffic is Traffic.NONE:
        return None if share == 0 else "leave the share out to take the traffic away"
    # Written so that NaN does not pass.
    return None if MIN_SHARE <= share <= 1 else SHARE_RULE


def direct_traffic(
    store: Engine, name: str, version: str, *, traffic: Traffic, share: float
) -> None:
    """Give a version its share of the requests, which fits as `why_share_unfit` says, or none at all.

    Raises RegistryError if it is unknown or in production, nothing of its name is, or another version has that traffic.
    """
    with write_transaction(store) as connection:
        versions = _locked(connection, name, version)
        if traffic is Traffic.NONE and versions[version].traffic is Traffic.NONE:
            return
        _check_traffic(versions, versions[version], traffic)
        set_traffic(connection, name, version, traffic=traffic, share=share)


def _check_traffic(
    versions: dict[str, ModelVersion], found: ModelVersion, traffic: Traffic
) -> None:
    if found.stage is Stage.PRODUCTION:
        raise _conflict(f"{found.label} is in production and gets all requests: promote another")
    if all(other.stage is not Stage.PRODUCTION for other in versions.values()):
        raise _conflict(f"no version of {found.name} is in production: promote one first")
    for other in versions.values():
        if traffic is not Traffic.NONE and other.traffic is traffic and other != found:
            raise _conflict(f"{other.label} is the {traffic.value} already: take its traffic first")


def _locked(connection: Connection, name: str, version: str) -> dict[str, ModelVersion]:
    versions = lock_versions(connection, name)
    if version not in versions:
        raise _unknown(name, version)
    return versions


def _unknown(name: str, version: str) -> RegistryError:
    message = f"no model {name}@{version} is registered: see `gateway models list`"
    return RegistryError(Code.MODEL_UNKNOWN, message)


def _nothing_before(name: str) -> RegistryError:
    return _conflict(
        f"no version of {name} was in production before this one: promote the one you want"
    )


def _conflict(message: str) -> RegistryError:
    return RegistryError(Code.MODEL_CONFLICT, message)
