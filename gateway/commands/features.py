"""Measuring a folder of images as the gateway would measure them in traffic: what a drift reference is made of."""

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from gateway.audit.details import format_detail
from gateway.audit.events import Action
from gateway.commands.opening import (
    open_keks,
    open_trusted_signers,
    opened_store,
    operator_event,
    recorded,
    utc_now,
)
from gateway.commands.process_memory import protect_process
from gateway.errors import Code, DecodeError, OperatorError
from gateway.inference.labelled import IMAGE_SUFFIXES
from gateway.inference.postprocess import Thresholds
from gateway.models.changes import find_production
from gateway.models.loading import ProvedVersion, loader_of
from gateway.sampling.measure import measure
from gateway.settings import GatewaySettings
from gateway.store.embeddings import pack_embedding


def print_features(settings: GatewaySettings, folder: Path) -> None:
    """Print one JSON line an image below the folder: features, detections, the model that made them, the embedding.

    The embedding is packed as samples have it, in base64, and null where the network has none. Images that the gateway
    would refuse are named on standard error and left out. Raises OperatorError if the folder holds no image.
    """
    protect_process()
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise OperatorError(Code.SETTINGS_INVALID, f"no image in {folder}: name a folder of images")
    console = Console(stderr=True)
    event = operator_event(
        Action.MODELS_LOAD,
        model_name=settings.model_name,
        detail=format_detail(use="features", images=len(files)),
    )
    with opened_store(settings) as store, recorded(store, settings, event) as recording:
        loader = loader_of(
            settings, keks=open_keks(settings), trusted_signers=open_trusted_signers(settings)
        )
        proved = loader.prove(find_production(store, settings.model_name))
        recording.used_model(proved)
        lines = _measure_all(proved, files, console)
        for line in track(lines, total=len(files), description="measuring", console=console):
            if line is not None:
                sys.stdout.write(line)


def _measure_all(
    proved: ProvedVersion, files: list[Path], console: Console
) -> Iterator[str | None]:
    pool = proved.pool

    def measure_one(file: Path) -> str | None:
        body = file.read_bytes()
        try:
            result = pool.detect(body, Thresholds())
        except DecodeError as exc:
            console.print(f"left out {file}: {exc.message}", markup=False)
            return None
        measured = measure(
            result.image,
            result.detections,
            encoded_bytes=len(body),
            image_shape=result.image_shape,
        )
        content: dict[str, object] = {
            "features": measured.features,
            "detections": measured.detections,
            "model_name": proved.version.name,
            "model_version": proved.version.version,
            "received_at": utc_now().isoformat(),
            "embedding": None,
        }
        try:
            content["embedding"] = None if result.embedding is None else _packed(result.embedding)
        except ValueError as exc:
            console.print(f"without embedding {file}: {exc}", markup=False)
        return json.dumps(content) + "\n"

    yield from pool.map(measure_one, files)


def _packed(embedding: NDArray[np.float32]) -> str:
    return base64.b64encode(pack_embedding(embedding)).decode("ascii")
