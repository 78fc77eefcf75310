"""Sealing a model: reading it, encrypting and signing it, registering it."""

import os
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from sqlalchemy import Engine

from gateway.audit.events import Action
from gateway.commands.core_dumps import forbid_core_dumps
from gateway.commands.models import promote_in
from gateway.commands.opening import (
    open_kek,
    open_trusted_signers,
    opened_store,
    operator_event,
    recorded,
    utc_now,
)
from gateway.errors import Code, OperatorError, RegistryError
from gateway.inference.engine import OnnxFacts
from gateway.inference.engines.openvino import inspect_onnx
from gateway.sealing.container import ModelFacts
from gateway.sealing.files import read_sealed_model, sealed_file_name, write_sealed_model
from gateway.sealing.payload import Payload
from gateway.sealing.sealed_model import OpenedModel, open_model, read_header, seal_model
from gateway.sealing.signers import load_signer
from gateway.settings import GatewaySettings
from gateway.store.database import write_transaction
from gateway.store.queries.models import find_model_version, insert_model_version
from gateway.store.records import ModelVersion, Stage

EXPORT_IMAGE_SIZE_PIXELS = 640


@dataclass(frozen=True, slots=True)
class SealOrder:
    """What to seal, and under which name."""

    source_file: Path
    name: str
    version: str
    signer_file: Path
    image_size_pixels: int | None
    is_promoted: bool


def seal(settings: GatewaySettings, order: SealOrder, *, console: Console) -> Path:
    """Seal one model, register it as a candidate and, if asked, put it into production; the sealed file's path.

    Raises OperatorError naming the cause: an unreadable source, a key, a name that is taken.
    """
    forbid_core_dumps()
    with opened_store(settings) as store:
        event = operator_event(
            Action.MODELS_SEAL, model_name=order.name, model_version=order.version
        )
        with recorded(store, settings, event):
            path = _seal(settings, order, store, console)
        if order.is_promoted:
            promote_in(store, settings, order.name, order.version)
            console.print(f"in production: {order.name}@{order.version}")
    return path


def _seal(settings: GatewaySettings, order: SealOrder, store: Engine, console: Console) -> Path:
    signer = load_signer(order.signer_file)
    kek = open_kek(settings)
    trusted = open_trusted_signers(settings)
    if signer.signer_id not in {t.signer_id for t in trusted}:
        message = f"{order.signer_file} is not trusted: put its public key into {settings.trusted_signers_folder}"
        raise OperatorError(Code.KEY_INVALID, message)
    with console.status(f"reading {order.source_file}"):
        weights = _read_onnx(order)
        onnx = inspect_onnx(weights)
    payload = Payload(onnx.class_names, weights)
    with console.status("sealing and checking"):
        sealed = seal_model(
            _facts(onnx, order), payload, keks=[kek], signer=signer, random=os.urandom
        )
        opened = open_model(
            sealed, name=order.name, version=order.version, keks=[kek], trusted_signers=trusted
        )
    settings.models_folder.mkdir(parents=True, exist_ok=True)
    path = _write_or_resume(settings, order, sealed, opened.header.plaintext_sha256)
    # Killed here, the file exists and is not registered: sealing the same weights again under this name finds it
    # and registers it; nothing serves a file that is not registered.
    with write_transaction(store) as connection:
        if find_model_version(connection, order.name, order.version) is not None:
            message = (
                f"{order.name}@{order.version} is registered already: seal under a new version"
            )
            raise RegistryError(Code.MODEL_EXISTS, message)
        insert_model_version(connection, _registration(order, opened))
    console.print(f"sealed {order.name}@{order.version}: {path} ({len(sealed)} bytes)")
    return path


def _write_or_resume(
    settings: GatewaySettings, order: SealOrder, sealed: bytes, sha256: str
) -> Path:
    path = settings.models_folder / sealed_file_name(order.name, order.version)
    if not path.exists():
        return write_sealed_model(
            settings.models_folder, sealed, name=order.name, version=order.version
        )
    existing = read_sealed_model(
        settings.models_folder,
        name=order.name,
        version=order.version,
        max_bytes=settings.max_model_bytes,
    )
    header = read_header(existing, trusted_signers=open_trusted_signers(settings))
    # Two pairs of name and version can share a file name: a-1 in version 2, and a in version 1-2.
    if (header.name, header.version, header.plaintext_sha256) != (
        order.name,
        order.version,
        sha256,
    ):
        message = f"{path} exists with another model: seal under a new version"
        raise RegistryError(Code.MODEL_EXISTS, message)
    return path


def _read_onnx(order: SealOrder) -> bytes:
    if order.source_file.suffix == ".pt":
        from gateway.sealing.export import export_onnx

        side = order.image_size_pixels or EXPORT_IMAGE_SIZE_PIXELS
        return export_onnx(order.source_file, image_size=(side, side)).onnx
    try:
        return order.source_file.read_bytes()
    except OSError as exc:
        message = f"cannot read {order.source_file}: {exc.strerror}"
        raise OperatorError(Code.MODEL_UNSUPPORTED, message) from exc


def _facts(onnx: OnnxFacts, order: SealOrder) -> ModelFacts:
    return ModelFacts(
        name=order.name,
        version=order.version,
        task=onnx.task,
        input_size=onnx.input_size,
        precision="f32",
        engine="openvino",
        dynamic=onnx.is_dynamic,
        stride=onnx.stride_pixels,
        decode="full",
        made_with={},
        gates={},
    )


def _registration(order: SealOrder, opened: OpenedModel) -> ModelVersion:
    return ModelVersion(
        name=order.name,
        version=order.version,
        stage=Stage.CANDIDATE,
        file_name=sealed_file_name(order.name, order.version),
        plaintext_sha256=opened.header.plaintext_sha256,
        class_names=opened.payload.names,
        input_size=opened.header.input_size,
        registered_at=utc_now(),
    )
