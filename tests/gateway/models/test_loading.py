"""From a sealed file to a version that answers, with the bundled detector."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.commands.db import upgrade
from gateway.commands.keys import create_all
from gateway.commands.opening import open_keks, open_trusted_signers
from gateway.dev.home import gateway_overrides, layout_of
from gateway.errors import (
    Code,
    GatewayError,
    OperatorError,
    RegistryError,
    SealError,
    SettingsError,
)
from gateway.inference.decode import ImageLimits
from gateway.inference.detect import detect_one
from gateway.inference.golden import record_golden
from gateway.inference.postprocess import Thresholds
from gateway.models import loading
from gateway.models.loading import Loader, loader_of
from gateway.models.served import ServedVersion
from gateway.sealing.refusals import MESSAGE
from gateway.settings import GatewaySettings, read_settings
from gateway.store.records import ModelVersion
from tests.gateway.sealed_versions import CONVEYOR, conveyor_facts, seal_version

pytestmark = pytest.mark.anyio

FRAME = (CONVEYOR / "frame.jpg").read_bytes()
LIMITS = ImageLimits(max_side=8192, max_pixels=1 << 24)


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the gateway runs on."""
    return "asyncio"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> GatewaySettings:
    """A home with keys, a database and the bundled detector as belt@plain and belt@golden."""
    home = tmp_path_factory.mktemp("home")
    settings = read_settings({}, **gateway_overrides(layout_of(home)), workers=2)
    create_all(home / "keys")
    upgrade(settings)
    settings.models_folder.mkdir()
    return settings


def keys_of(settings: GatewaySettings) -> Path:
    """The folder of keys."""
    return settings.trusted_signers_folder.parent


@pytest.fixture(scope="module")
def loader(settings: GatewaySettings) -> Loader:
    """The loader of these settings."""
    return loader_of(
        settings, keks=open_keks(settings), trusted_signers=open_trusted_signers(settings)
    )


@pytest.fixture(scope="module")
def plain(settings: GatewaySettings) -> ModelVersion:
    """The bundled detector, without a golden set."""
    return seal_version(settings, *conveyor_facts("belt", "plain"), keys=keys_of(settings))


@pytest.fixture(scope="module")
def golden(loader: Loader, plain: ModelVersion) -> bytes:
    """What it answers to one frame."""
    engine = loader.prove(plain).engine
    lane = engine.open_lane(engine.input_sizes[0])
    return record_golden(
        {"frame.jpg": FRAME},
        lambda image, thresholds: detect_one(lane, image, thresholds, limits=LIMITS),
    )


def seal_with(settings: GatewaySettings, version: str, golden: bytes) -> ModelVersion:
    """Seal the detector with this golden set."""
    facts, payload = conveyor_facts("belt", version)
    payload = replace(payload, golden=golden)
    return seal_version(settings, facts, payload, keys=keys_of(settings))


async def ask(served: ServedVersion) -> int:
    """How many boxes a version finds in the frame."""
    result = await served.runner.detect(FRAME, Thresholds())
    return len(result.detections)


async def test_a_loaded_version_answers(loader: Loader, plain: ModelVersion) -> None:
    """With the names and facts that were sealed."""
    served = loader.load(plain)
    assert await ask(served) > 0
    assert served.class_names == plain.class_names
    assert (served.label, served.engine_name, served.precision, served.task) == (
        "belt@plain", "openvino", "f32", "detect",
    )  # fmt: skip
    assert "openvino" in served.library_versions
    assert dict(served.header.gates) == {"parity": "passed"}
    await served.drain(timeout_seconds=5)
    assert not served.runner.is_ready


async def test_a_golden_set_that_is_reproduced_passes(
    settings: GatewaySettings, loader: Loader, golden: bytes
) -> None:
    """On the machine that made it above all."""
    served = loader.load(seal_with(settings, "good", golden))
    assert served.runner.is_ready
    await served.drain(timeout_seconds=5)


def test_a_golden_set_that_is_not_reproduced_names_its_image(
    settings: GatewaySettings, loader: Loader, plain: ModelVersion
) -> None:
    """As where a library, a processor or a precision computes something else: it does not become ready."""
    engine = loader.prove(plain).engine
    lane = engine.open_lane(engine.input_sizes[0])
    other = record_golden(
        {"bus.jpg": FRAME},
        lambda image, thresholds: replace(
            found := detect_one(lane, image, thresholds, limits=LIMITS),
            detections=replace(found.detections, boxes_xyxy=found.detections.boxes_xyxy + 3),
        ),
    )
    with pytest.raises(
        RegistryError, match=r"does not reproduce its golden set: bus\.jpg"
    ) as caught:
        loader.load(seal_with(settings, "other", other))
    assert caught.value.code is Code.GOLDEN_FAILED
    assert caught.value.reason.startswith("bus.jpg: ")


def test_golden_images_over_the_limits_are_said_to_be(
    settings: GatewaySettings, loader: Loader, golden: bytes
) -> None:
    """The setting is what is wrong, not the machine."""
    registered = seal_with(settings, "large", golden)
    strict = replace(loader, limits=ImageLimits(max_side=64, max_pixels=4096))
    with pytest.raises(RegistryError, match="GATEWAY_MAX_IMAGE_SIDE_PIXELS") as caught:
        strict.load(registered)
    assert caught.value.code is Code.GOLDEN_FAILED


def test_a_file_that_is_not_the_registered_one_is_refused(
    loader: Loader, plain: ModelVersion
) -> None:
    """Also if a trusted signer sealed it under the same name and version."""
    with pytest.raises(RegistryError) as caught:
        loader.load(replace(plain, plaintext_sha256="00" * 32))
    assert caught.value.reason == "digest_not_registered"


@pytest.mark.parametrize("changes", [{"engine": "abacus"}, {"precision": "f16"}])
def test_what_no_engine_takes_is_refused(
    settings: GatewaySettings, loader: Loader, changes: dict[str, str]
) -> None:
    """By its signed header."""
    facts, payload = conveyor_facts("belt", f"no-{next(iter(changes))}", **changes)
    registered = seal_version(settings, facts, payload, keys=keys_of(settings))
    with pytest.raises(OperatorError) as caught:
        loader.load(registered)
    assert caught.value.code is Code.MODEL_UNSUPPORTED


@pytest.mark.parametrize("fault", ["missing", "changed", "signers", "keks"])
def test_a_file_that_does_not_open_is_refused(
    settings: GatewaySettings, loader: Loader, fault: str, tmp_path: Path
) -> None:
    """Missing, changed, signed by somebody else, or sealed for other keys."""
    facts, payload = conveyor_facts("belt", f"fault-{fault}")
    registered = seal_version(settings, facts, payload, keys=keys_of(settings))
    file = settings.models_folder / registered.file_name
    if fault == "missing":
        file.unlink()
    if fault == "changed":
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    poor = replace(
        loader,
        keks=[] if fault == "keks" else loader.keks,
        trusted_signers=[] if fault == "signers" else loader.trusted_signers,
    )
    expected: type[GatewayError] = RegistryError if fault == "missing" else SealError
    with pytest.raises(expected) as caught:
        poor.load(registered)
    assert registered.label in caught.value.message


def test_a_refusal_names_the_version_and_keeps_the_one_message(
    settings: GatewaySettings, loader: Loader
) -> None:
    """Whoever starts a gateway has to know which file to fetch again."""
    facts, payload = conveyor_facts("belt", "named")
    registered = seal_version(settings, facts, payload, keys=keys_of(settings))
    file = settings.models_folder / registered.file_name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(SealError) as caught:
        loader.load(registered)
    assert caught.value.message == f"belt@named: {MESSAGE}"
    assert caught.value.code is Code.SEALED_MODEL_REFUSED
    assert caught.value.reason == "body_chunk"


def test_further_sizes_are_for_models_that_can_have_them(
    loader: Loader, plain: ModelVersion
) -> None:
    """A fixed one beside a dynamic one is served in its own."""
    header = loader.prove(plain).header
    further = replace(loader, further_sizes=(640,))
    sizes = further.prove(plain).engine.input_sizes
    expected = (header.input_size, (640, 640)) if header.dynamic else (header.input_size,)
    assert sizes == expected


@pytest.mark.parametrize("sizes", ["320,abc", "-320", "3.2", "0x140", "9" * 5000])
def test_sizes_that_are_no_numbers_are_refused(settings: GatewaySettings, sizes: str) -> None:
    """By the setting's name."""
    with pytest.raises(SettingsError, match="GATEWAY_IMAGE_SIZES: "):
        loader_of(settings.model_copy(update={"image_sizes": sizes}), keks=[], trusted_signers=[])


def test_further_sizes_are_read(settings: GatewaySettings) -> None:
    """Spaces and a last comma are as good."""
    changed = settings.model_copy(update={"image_sizes": " 320, 640,"})
    assert loader_of(changed, keks=[], trusted_signers=[]).further_sizes == (320, 640)


OUT = "memory ran out or a thread could not be started; free memory"


@pytest.mark.parametrize(
    ("failure", "said", "reason"),
    [
        (MemoryError(), OUT, "load_failed: MemoryError: "),
        (
            OSError(errno.ENOMEM, "Cannot allocate memory"),
            OUT,
            "load_failed: OSError: [Errno 12] Cannot allocate memory",
        ),
        (
            RuntimeError("can't start new thread"),
            OUT,
            "load_failed: RuntimeError: can't start new thread",
        ),
        (
            OSError(errno.EMFILE, "Too many open files"),
            r"the system refused what that needs \(Too many open files\)",
            "load_failed: OSError: [Errno 24] Too many open files",
        ),
    ],
)
@pytest.mark.parametrize("step", ["open_engine", "Runner"])
def test_what_the_system_does_not_give_is_a_failed_load(
    loader: Loader,
    plain: ModelVersion,
    step: str,
    failure: Exception,
    said: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that it is counted, recorded, shown and tried again later like every other."""

    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(loading, step, fail)
    with pytest.raises(RegistryError, match=f"^belt@plain could not be loaded: {said}") as caught:
        loader.load(plain)
    assert (caught.value.code, caught.value.reason) == (Code.MODEL_UNSUPPORTED, reason)


def test_a_check_without_memory_is_a_failed_one_too(
    loader: Loader, plain: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As commands make it, without a runner."""

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(loading, "open_engine", fail)
    with pytest.raises(RegistryError, match=r"^belt@plain could not be loaded: memory ran out"):
        loader.prove(plain)


def test_a_mistake_in_the_program_is_not_taken_for_a_shortage(
    loader: Loader, plain: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its traceback belongs in the log."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("dictionary changed size during iteration")

    monkeypatch.setattr(loading, "open_engine", fail)
    with pytest.raises(RuntimeError, match="dictionary changed size"):
        loader.load(plain)
