"""Listing model versions, and putting one into production."""

import json

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine

from gateway.audit.events import Action
from gateway.commands.opening import opened_store, operator_event, recorded, utc_now
from gateway.errors import Code, RegistryError
from gateway.settings import GatewaySettings
from gateway.store.database import write_transaction
from gateway.store.queries.models import list_model_versions, promote_version


def promote(settings: GatewaySettings, *, name: str, version: str) -> None:
    """Put a registered version into production and retire the one before; a running gateway takes it when restarted.

    Raises RegistryError if the version is unknown.
    """
    with opened_store(settings) as store:
        promote_in(store, settings, name, version)


def list_models(settings: GatewaySettings, *, as_json: bool) -> None:
    """Print every registered version."""
    with opened_store(settings) as store, store.connect() as connection:
        versions = list_model_versions(connection)
    if as_json:
        rows = [
            {"name": v.name, "version": v.version, "stage": v.stage, "sha256": v.plaintext_sha256}
            for v in versions
        ]
        print(json.dumps(rows))
        return
    table = Table("model", "version", "stage", "classes", "input", "registered", "sha256")
    for v in versions:
        size = f"{v.input_size[1]}x{v.input_size[0]}"
        when = v.registered_at.isoformat(timespec="seconds")
        classes = str(len(v.class_names))
        table.add_row(v.name, v.version, v.stage, classes, size, when, v.plaintext_sha256[:16])
    Console().print(table)


def promote_in(store: Engine, settings: GatewaySettings, name: str, version: str) -> None:
    """The same on an open store."""
    event = operator_event(Action.MODELS_PROMOTE, model_name=name, model_version=version)
    with recorded(store, settings, event):
        # One transaction: after a crash either the old version is in production or the new one, never both or none.
        with write_transaction(store) as connection:
            known = promote_version(connection, name, version, now=utc_now())
        if not known:
            message = f"no model {name}@{version} is registered: see `gateway models list`"
            raise RegistryError(Code.MODEL_UNKNOWN, message)
