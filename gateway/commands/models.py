"""Listing model versions, and changing which of them get requests.

Rules: a version that is to get requests is opened, compiled and asked for its golden set here first, as a gateway
would; running gateways follow the registry within about a second.
"""

import json
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy import Engine

from gateway.audit.details import format_detail
from gateway.audit.events import Action
from gateway.commands.opening import (
    Recording,
    open_keks,
    open_trusted_signers,
    opened_store,
    operator_event,
    recorded,
    utc_now,
)
from gateway.commands.process_memory import protect_process
from gateway.errors import Code, GatewayError, RegistryError
from gateway.models import changes
from gateway.models.loading import ProvedVersion, loader_of
from gateway.sealing.files import read_sealed_model
from gateway.sealing.kek_specs import KekOpener
from gateway.sealing.sealed_model import read_header
from gateway.sealing.signers import TrustedSigner
from gateway.settings import GatewaySettings
from gateway.store.queries.models import find_version_before, list_model_versions
from gateway.store.records import ModelVersion, Traffic

_UNLIMITED_COLUMNS = 10_000


def list_models(settings: GatewaySettings, *, as_json: bool) -> None:
    """Print every registered version."""
    with opened_store(settings) as store, store.connect() as connection:
        versions = list_model_versions(connection)
    if as_json:
        print(json.dumps([_registered(version) for version in versions]))
        return
    headings = ("model", "version", "stage", "traffic", "engine", "precision", "registered (UTC)")
    table = Table(*headings, box=None, pad_edge=False)
    for v in versions:
        when = v.registered_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
        cells = (v.name, v.version, v.stage, _traffic(v), v.engine, v.precision, when)
        table.add_row(*map(Text, cells))
    # As wide as its words: cut to the terminal, or to 80 columns where there is none, it would name no version.
    Console(width=_UNLIMITED_COLUMNS).print(table)


def show_model(settings: GatewaySettings, *, name: str, as_json: bool) -> None:
    """Print one model: its versions with what their sealed headers say, and where a rollback would go.

    Raises RegistryError if no version of it is registered.
    """
    signers = open_trusted_signers(settings)
    with opened_store(settings) as store, store.connect() as connection:
        versions = list_model_versions(connection, name=name)
        before = find_version_before(connection, name)
    if not versions:
        message = f"no version of {name} is registered: see `gateway models list`"
        raise RegistryError(Code.MODEL_UNKNOWN, message)
    described = [_registered(v) | _further(v) | _header(settings, signers, v) for v in versions]
    if as_json:
        print(json.dumps({"name": name, "rollback_to": before, "versions": described}))
        return
    console = Console(soft_wrap=True)
    for content in described:
        console.print(f"{name}@{content.pop('version')}", style="bold", markup=False)
        for member, value in content.items():
            console.print(f"  {member.replace('_', ' ')}: {_words(value)}", markup=False)
    console.print(f"a rollback goes to: {before or 'nothing, none was in production before'}")


def promote(settings: GatewaySettings, *, name: str, version: str) -> None:
    """Put a registered version into production and retire the one before.

    Raises RegistryError if the version is unknown or does not reproduce its golden set, SealError or OperatorError if
    it does not open or run here; nothing has changed then.
    """
    with opened_store(settings) as store:
        promote_in(store, settings, name, version)


def promote_in(
    store: Engine,
    settings: GatewaySettings,
    name: str,
    version: str,
    *,
    opener: KekOpener | None = None,
) -> None:
    """The same on an open store. opener: what this process has opened KEKs with."""
    protect_process()
    with _recorded(store, settings, Action.MODELS_PROMOTE, name, version) as recording:
        recording.used_model(_prove(settings, changes.find_version(store, name, version), opener))
        changes.promote(store, name, version, clock=utc_now)


def roll_back(settings: GatewaySettings, *, name: str) -> str:
    """Put the version before the one in production back; which that is. Raises as promote does."""
    protect_process()
    with opened_store(settings) as store:
        target = _rollback_target(store, settings, name)
        with _recorded(store, settings, Action.MODELS_ROLLBACK, name, target) as recording:
            recording.used_model(_prove(settings, changes.find_version(store, name, target)))
            changes.undo_promotion(store, name, expected=target, clock=utc_now)
    return target


def _rollback_target(store: Engine, settings: GatewaySettings, name: str) -> str:
    try:
        return changes.find_rollback(store, name).version
    except RegistryError:
        with _recorded(store, settings, Action.MODELS_ROLLBACK, name, None):
            raise


def retire(settings: GatewaySettings, *, name: str, version: str) -> None:
    """Take a version out of use. Raises RegistryError if it is unknown or in production."""
    with (
        opened_store(settings) as store,
        _recorded(store, settings, Action.MODELS_RETIRE, name, version) as recording,
    ):
        recording.add(sha256=changes.find_version(store, name, version).plaintext_sha256)
        changes.retire(store, name, version, clock=utc_now)


def direct_traffic(
    settings: GatewaySettings, *, name: str, version: str, traffic: Traffic, share: float
) -> None:
    """Give a version that is not in production its share of the requests, which the caller has checked, or none.

    Raises as promote does, and RegistryError if another version has that traffic.
    """
    protect_process()
    detail = format_detail(traffic=traffic.value, share=share)
    with (
        opened_store(settings) as store,
        _recorded(
            store, settings, Action.MODELS_TRAFFIC, name, version, detail=detail
        ) as recording,
    ):
        found = changes.find_version(store, name, version)
        if traffic is not Traffic.NONE:
            recording.used_model(_prove(settings, found))
        changes.direct_traffic(store, name, version, traffic=traffic, share=share)


def _recorded(
    store: Engine,
    settings: GatewaySettings,
    action: Action,
    name: str,
    version: str | None,
    *,
    detail: str | None = None,
) -> AbstractContextManager[Recording]:
    event = operator_event(action, model_name=name, model_version=version, detail=detail)
    return recorded(store, settings, event)


def _prove(
    settings: GatewaySettings, version: ModelVersion, opener: KekOpener | None = None
) -> ProvedVersion:
    loader = loader_of(
        settings,
        keks=open_keks(settings, opener=opener),
        trusted_signers=open_trusted_signers(settings),
    )
    return loader.prove(version)


def _registered(version: ModelVersion) -> dict[str, Any]:
    return {
        "name": version.name,
        "version": version.version,
        "stage": version.stage,
        "traffic": version.traffic,
        "share": version.share,
        "task": version.task,
        "engine": version.engine,
        "precision": version.precision,
        "sha256": version.plaintext_sha256,
    }


def _further(version: ModelVersion) -> dict[str, Any]:
    when = version.registered_at.isoformat(timespec="seconds")
    return {"classes": len(version.class_names), "registered": when}


def _header(
    settings: GatewaySettings, signers: list[TrustedSigner], version: ModelVersion
) -> dict[str, Any]:
    try:
        sealed = read_sealed_model(
            settings.models_folder,
            name=version.name,
            version=version.version,
            max_bytes=settings.max_model_bytes,
        )
        header = asdict(read_header(sealed, trusted_signers=signers))
    except GatewayError as exc:
        return {"file_fault": f"{exc.message} [{exc.code}]"}
    wanted = ("input_size", "dynamic", "stride", "decode", "gates", "made_with", "signer")
    return {member: header[member] for member in wanted}


def _traffic(version: ModelVersion) -> str:
    if version.traffic is Traffic.NONE:
        return ""
    return f"{version.traffic.value} {share_text(version.share)}"


def share_text(share: float) -> str:
    """A share of the requests, 0..1, in per cent; a small one keeps its digits."""
    return f"{100 * share:.6g}%"


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {said}" for name, said in value.items()) or "none"
    return str(value)
