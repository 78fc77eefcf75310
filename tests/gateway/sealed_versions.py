"""Sealed and registered versions of the bundled detector, without the gates that sealing for people has."""

import os
from dataclasses import replace
from pathlib import Path

from gateway.commands.opening import open_keks, opened_store, utc_now
from gateway.inference.engines.openvino import inspect_onnx
from gateway.sealing.container import ModelFacts
from gateway.sealing.files import sealed_file_name, write_sealed_model
from gateway.sealing.payload import Payload
from gateway.sealing.sealed_model import read_header, seal_model
from gateway.sealing.signers import load_signer, load_trusted_signer
from gateway.settings import GatewaySettings
from gateway.store.database import write_transaction
from gateway.store.queries.models import insert_model_version
from gateway.store.records import ModelVersion, Stage

CONVEYOR = Path(__file__).resolve().parents[2] / "examples" / "conveyor"


def conveyor_facts(name: str, version: str, **changes: object) -> tuple[ModelFacts, Payload]:
    """What the bundled detector's header and payload are; changes: of the facts."""
    onnx = (CONVEYOR / "conveyor.onnx").read_bytes()
    found = inspect_onnx(onnx)
    facts = ModelFacts(
        name=name,
        version=version,
        task=found.task,
        input_size=found.input_size,
        precision="f32",
        engine="openvino",
        dynamic=found.is_dynamic,
        stride=found.stride_pixels,
        decode="full",
        made_with={"openvino": "2026"},
        gates={"parity": "passed"},
    )
    return replace(facts, **changes), Payload(found.class_names, onnx)  # type: ignore[arg-type]


def seal_version(
    settings: GatewaySettings, facts: ModelFacts, payload: Payload, *, keys: Path
) -> ModelVersion:
    """Seal and register a candidate; keys: the folder with the signer."""
    sealed = seal_model(
        facts,
        payload,
        keks=open_keks(settings),
        signer=load_signer(keys / "signer.key"),
        random=os.urandom,
    )
    write_sealed_model(settings.models_folder, sealed, name=facts.name, version=facts.version)
    signers = [load_trusted_signer(file) for file in (keys / "signers").glob("*.pem")]
    header = read_header(sealed, trusted_signers=signers)
    registered = ModelVersion(
        name=facts.name,
        version=facts.version,
        stage=Stage.CANDIDATE,
        file_name=sealed_file_name(facts.name, facts.version),
        plaintext_sha256=header.plaintext_sha256,
        class_names=payload.names,
        input_size=facts.input_size,
        registered_at=utc_now(),
        task=facts.task,
        engine=facts.engine,
        precision=facts.precision,
    )
    with opened_store(settings) as store, write_transaction(store) as connection:
        insert_model_version(connection, registered)
    return registered
