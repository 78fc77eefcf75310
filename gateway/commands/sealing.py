"""Sealing a model: preparing the network, proving it, encrypting and signing it, registering it."""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from sqlalchemy import Engine

from gateway.audit.events import Action
from gateway.commands.made_with import facts_of_machine
from gateway.commands.models import promote_in
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
from gateway.commands.seal_gates import check_loss, check_parity, measure_loss
from gateway.commands.seal_order import SealOrder, check_order
from gateway.commands.seal_source import Prepared, prepare
from gateway.commands.steps import Steps
from gateway.errors import Code, DecodeError, OperatorError, RegistryError
from gateway.inference.decode import ImageLimits, decode_image
from gateway.inference.engine import Network
from gateway.inference.engines.opening import open_engine
from gateway.inference.golden import (
    SMALL_IMAGE,
    check_golden,
    choose_golden,
    record_golden,
    synthetic_images,
)
from gateway.inference.labelled import LabelledImage, read_labelled_folder
from gateway.inference.lane_pool import LanePool
from gateway.models.loading import image_limits, worker_count
from gateway.sealing.container import ModelFacts, SealedHeader
from gateway.sealing.files import read_sealed_model, sealed_file_name, write_sealed_model
from gateway.sealing.kek_specs import KekOpener, split_specs
from gateway.sealing.kek_specs import open_keks as open_keks_of
from gateway.sealing.keys import KeyProvider
from gateway.sealing.payload import Payload
from gateway.sealing.private_folder import destroy_leftovers
from gateway.sealing.sealed_model import open_model, read_header, seal_model
from gateway.sealing.signers import Signer, TrustedSigner, load_signer
from gateway.settings import GatewaySettings
from gateway.store.database import write_transaction
from gateway.store.queries.models import find_model_version, insert_model_version
from gateway.store.records import ModelVersion, Stage


@dataclass(frozen=True, slots=True)
class _Keys:
    """What seals, opened before the long part begins, so that a wrong path costs no minutes."""

    signer: Signer
    trusted: list[TrustedSigner]
    keks: Sequence[KeyProvider]


def seal(settings: GatewaySettings, order: SealOrder, *, console: Console) -> Path:
    """Seal one model, register it as a candidate and, if asked, put it into production; the sealed file's path.

    Raises OperatorError naming the cause: an unreadable source, a key, a name that is taken, a gate that failed.
    """
    protect_process()
    destroy_leftovers()
    opener = KekOpener()
    with opened_store(settings) as store:
        event = operator_event(
            Action.MODELS_SEAL, model_name=order.name, model_version=order.version
        )
        with recorded(store, settings, event) as recording:
            path = _seal(settings, order, store, console, opener, recording)
        if order.is_promoted:
            promote_in(store, settings, order.name, order.version, opener=opener)
            console.print(f"in production: {order.name}@{order.version}", markup=False)
    return path


def _seal(
    settings: GatewaySettings,
    order: SealOrder,
    store: Engine,
    console: Console,
    opener: KekOpener,
    recording: Recording,
) -> Path:
    file_name = sealed_file_name(order.name, order.version)
    _refuse_registered(store, order)
    keys = _open_keys(settings, order, opener)
    steps = Steps(console)
    golden = _images(order.golden_folder)
    calibration = _images(order.calibration_folder) or golden
    limits = image_limits(settings)
    images = list({image.path: image for image in [*golden, *calibration]}.values())
    check_order(order, images)
    _check_images(images, limits, steps)
    prepared = prepare(order, calibration, limits=limits, steps=steps)
    proved = _Proved(order, prepared, images, limits, worker_count(settings))
    gates = proved.run_gates(steps)
    with steps.step("recording the golden set"):
        payload = Payload(
            prepared.network.class_names,
            prepared.network.weights,
            proved.golden(golden or calibration),
        )
    with steps.step("encrypting, signing, opening again"):
        facts = _facts(order, prepared, gates)
        sealed = seal_model(facts, payload, keks=keys.keks, signer=keys.signer, random=os.urandom)
        open_model(
            sealed,
            name=order.name,
            version=order.version,
            keks=keys.keks,
            trusted_signers=keys.trusted,
        ).close()
        header = read_header(sealed, trusted_signers=keys.trusted)
    recording.used_keys([kek.kek_id for kek in keys.keks], "seal-model", signer=header.signer)
    recording.add(
        sha256=header.plaintext_sha256,
        signer=header.signer,
        engine=header.engine,
        precision=header.precision,
    )
    settings.models_folder.mkdir(parents=True, exist_ok=True)
    path = _write_or_resume(settings, order, sealed, header.plaintext_sha256)
    # Killed here, the file exists and is not registered: sealing the same weights again under this name finds it
    # and registers it; nothing serves a file that is not registered.
    _register(store, header, payload.names, file_name)
    console.print(
        f"sealed {order.name}@{order.version}: {path} ({len(sealed)} bytes)", markup=False
    )
    return path


class _Proved:
    """The network and its reference, running, for the gates and the golden set."""

    def __init__(
        self,
        order: SealOrder,
        prepared: Prepared,
        images: Sequence[LabelledImage],
        limits: ImageLimits,
        workers: int,
    ) -> None:
        self._order = order
        self._prepared = prepared
        self._images = images

        def pool(network: Network) -> LanePool:
            engine = open_engine(prepared.engine, network, workers=workers)
            return LanePool(engine, workers=workers, limits=limits)

        self._sealed = pool(prepared.network)
        self._is_exact = (
            prepared.network.precision == "f32" and not prepared.network.is_decode_reduced
        )
        self._reference = self._sealed if self._is_exact else pool(prepared.reference)

    def run_gates(self, steps: Steps) -> dict[str, str]:
        """What each gate said. Raises OperatorError with GATE_FAILED."""
        gates = {"parity": self._parity(steps)}
        if not self._is_exact:
            gates["accuracy"] = self._accuracy(steps)
        for gate, said in gates.items():
            steps.say(f"{gate}: {said}")
        return gates

    def golden(self, images: Sequence[LabelledImage]) -> bytes:
        """Images with what the network finds in them, found twice."""
        network = self._prepared.network
        drawn = synthetic_images(network.input_size)
        # Photographs as wide as the network's input would not show a wrong resize: one drawn image is smaller.
        mixed = {**choose_golden(_read_all(images), 3), SMALL_IMAGE: drawn[SMALL_IMAGE]}
        chosen = mixed if images else drawn
        content = record_golden(chosen, self._sealed.detect, precision=network.precision)
        differences = check_golden(content, self._sealed.detect, precision=network.precision)
        if differences:
            raise OperatorError(
                Code.GATE_FAILED,
                f"the network does not answer twice the same: {differences[0]}; seal it in f32",
            )
        return content

    def _parity(self, steps: Steps) -> str:
        if self._order.is_parity_skipped:
            return "not run: --skip-parity"
        if importlib.util.find_spec("ultralytics") is None:
            return "not run: Ultralytics (the seal extra) is not installed"
        from gateway.sealing.oracle import UltralyticsOracle

        with steps.step("loading the weights in Ultralytics"):
            oracle = UltralyticsOracle(
                self._prepared.source,
                is_pickle=self._prepared.is_pickle,
                image_size=self._prepared.network.input_size,
                head=self._order.head,
            )
        images = _read_all(self._images) or synthetic_images(self._prepared.network.input_size)
        return check_parity(oracle.predict, self._reference, images, steps=steps)

    def _accuracy(self, steps: Steps) -> str:
        labelled = [image for image in self._images if image.labels is not None]
        if not labelled:
            return "not run: no labelled images; accepted by --accept-loss"
        loss = measure_loss(self._reference, self._sealed, labelled, steps=steps)
        return check_loss(loss, is_accepted=self._order.is_loss_accepted)


def _open_keys(settings: GatewaySettings, order: SealOrder, opener: KekOpener) -> _Keys:
    signer = load_signer(order.signer_file)
    keks = open_keks_of(order.kek_specs or split_specs(settings.keks), opener=opener)
    if order.is_promoted:
        # Promoting opens the file as a gateway will, with the configured KEKs.
        open_keks(settings, opener=opener)
    trusted = open_trusted_signers(settings)
    if signer.signer_id not in {t.signer_id for t in trusted}:
        message = f"{order.signer_file} is not trusted: put its public key into {settings.trusted_signers_folder}"
        raise OperatorError(Code.KEY_INVALID, message)
    return _Keys(signer, trusted, keks)


def _images(folder: Path | None) -> list[LabelledImage]:
    return [] if folder is None else read_labelled_folder(folder)


def _check_images(images: Sequence[LabelledImage], limits: ImageLimits, steps: Steps) -> None:
    """Raise OperatorError with DATASET_INVALID naming the first image that the gateway would not take."""
    for image in steps.each("looking at the images", images, total=len(images)):
        try:
            decode_image(image.read(), limits)
        except DecodeError as exc:
            message = f"{image.path}: {exc.message}; mend it or take it away"
            raise OperatorError(Code.DATASET_INVALID, message, reason=exc.reason) from exc


def _read_all(images: Sequence[LabelledImage]) -> Mapping[str, bytes]:
    return {image.name: image.read() for image in images}


def _facts(order: SealOrder, prepared: Prepared, gates: Mapping[str, str]) -> ModelFacts:
    network = prepared.network
    return ModelFacts(
        name=order.name,
        version=order.version,
        task=network.task,
        input_size=network.input_size,
        precision=network.precision,
        engine=prepared.engine,
        dynamic=network.is_dynamic,
        stride=network.stride_pixels,
        decode="reduced" if network.is_decode_reduced else "full",
        made_with=facts_of_machine(engine=prepared.engine),
        gates=gates,
    )


def _refuse_registered(store: Engine, order: SealOrder) -> None:
    with store.connect() as connection:
        if find_model_version(connection, order.name, order.version) is not None:
            raise _registered_already(order.name, order.version)


def _registered_already(name: str, version: str) -> RegistryError:
    return RegistryError(
        Code.MODEL_EXISTS,
        f"{name}@{version} is registered already: seal under a new version",
    )


def _register(store: Engine, header: SealedHeader, names: tuple[str, ...], file_name: str) -> None:
    version = ModelVersion(
        name=header.name,
        version=header.version,
        stage=Stage.CANDIDATE,
        file_name=file_name,
        plaintext_sha256=header.plaintext_sha256,
        class_names=names,
        input_size=header.input_size,
        registered_at=utc_now(),
        task=header.task,
        engine=header.engine,
        precision=header.precision,
    )
    with write_transaction(store) as connection:
        if find_model_version(connection, header.name, header.version) is not None:
            raise _registered_already(header.name, header.version)
        insert_model_version(connection, version)


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
        message = (
            f"{path} exists with another model: seal under a new version, or, if a sealing of this one was "
            "interrupted, remove the file"
        )
        raise RegistryError(Code.MODEL_EXISTS, message)
    return path
