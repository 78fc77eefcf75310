"""What is registered, what of it is loaded here, and what could not be: one picture for those who may see it."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.errors import Code, RequestError, ServiceError
from gateway.models.directory import Directory
from gateway.models.served import ServedVersion
from gateway.models.watch import LoadFailure, RegistryWatch
from gateway.store.queries.models import list_model_versions
from gateway.store.records import ModelVersion


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One registered version. served: if it is loaded here. failure: if it should be and could not be."""

    version: ModelVersion
    served: ServedVersion | None
    failure: LoadFailure | None


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model's versions, oldest first. is_served: whether requests for it are answered here."""

    name: str
    is_served: bool
    versions: tuple[VersionStatus, ...]


class Catalog:
    """Reads the registry and compares it with what one gateway has loaded."""

    def __init__(self, *, store: Engine, directory: Directory, watch: RegistryWatch) -> None:
        self._store = store
        self._directory = directory
        self._watch = watch

    async def read(self) -> list[ModelStatus]:
        """Every registered model, by name. Raises ServiceError if the registry cannot be read."""
        by_name: dict[str, list[ModelVersion]] = defaultdict(list)
        for version in await self._load(None):
            by_name[version.name].append(version)
        return [self._status(name, versions) for name, versions in sorted(by_name.items())]

    async def find(self, name: str) -> ModelStatus:
        """One model. Raises RequestError with MODEL_UNKNOWN if it has no version, ServiceError."""
        versions = await self._load(name)
        if not versions:
            message = f"no version of {name} is registered: GET /v1/models lists what is"
            raise RequestError(Code.MODEL_UNKNOWN, message)
        return self._status(name, versions)

    async def _load(self, name: str | None) -> list[ModelVersion]:
        def read() -> list[ModelVersion]:
            with self._store.connect() as connection:
                return [*list_model_versions(connection, name=name)]

        try:
            return await asyncio.to_thread(read)
        except SQLAlchemyError as exc:
            message = "the registry does not answer: try again"
            raise ServiceError(Code.NOT_READY, message, reason="registry_failed") from exc

    def _status(self, name: str, versions: list[ModelVersion]) -> ModelStatus:
        lineup = self._directory.find(name)
        loaded = {served.label: served for served in (lineup.versions() if lineup else ())}
        failures = self._watch.failures
        statuses = [
            VersionStatus(
                version, loaded.get(version.label), failures.get((version.name, version.version))
            )
            for version in versions
        ]
        return ModelStatus(name, lineup is not None, tuple(statuses))
