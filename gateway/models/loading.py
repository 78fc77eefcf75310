"""From a registered version to one that answers: opened, compiled, proved on its golden set, warmed up.

Rules: what does not pass every step is let go and never answers; nothing here touches an event loop, and each call
takes up to seconds, so that running gateways call it in a thread.
"""

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import Code, DecodeError, RegistryError, RunnerError, SealError, SettingsError
from gateway.inference.decode import ImageLimits
from gateway.inference.engine import Engine, Network, one_line
from gateway.inference.engines.opening import open_engine
from gateway.inference.golden import check_golden
from gateway.inference.lane_pool import LanePool
from gateway.inference.runner import Runner
from gateway.models.served import ServedVersion
from gateway.sealing.container import SealedHeader
from gateway.sealing.files import read_sealed_model
from gateway.sealing.guarded_memory import return_freed_memory
from gateway.sealing.keys import KeyProvider
from gateway.sealing.sealed_model import OpenedModel, open_model
from gateway.sealing.signers import TrustedSigner
from gateway.settings import GatewaySettings
from gateway.store.records import ModelVersion

_NO_THREAD = "can't start new thread"  # how the interpreter says it, in a RuntimeError
_OUT_OF = frozenset({errno.ENOMEM, errno.EAGAIN})
_TOLD = 3  # differences in a message; all of them would be pages
_PIXELS = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class ProvedVersion:
    """A version that opens, compiles and reproduces its golden set on this machine, and has run in each of its lanes.

    class_names: by class id. kek_id: of the KEK that opened its file.
    """

    version: ModelVersion
    header: SealedHeader
    class_names: tuple[str, ...]
    engine: Engine
    pool: LanePool
    kek_id: str


@dataclass(frozen=True, slots=True)
class Loader:
    """Everything that makes a registered version run.

    further_sizes: sides in pixels that dynamic models are compiled for besides their own size. workers, queue_size,
    limits and both timeouts: of each version's own Runner, so that several versions share the same cores.
    """

    models_folder: Path
    max_model_bytes: int
    keks: Sequence[KeyProvider]
    trusted_signers: Sequence[TrustedSigner]
    further_sizes: tuple[int, ...]
    workers: int
    queue_size: int
    limits: ImageLimits
    infer_timeout_seconds: float
    request_timeout_seconds: float

    def load(self, registered: ModelVersion) -> ServedVersion:
        """The version, ready to answer; its threads run until it is closed.

        Raises RegistryError if its file is missing or not the registered one, it does not run, or it does not
        reproduce its golden set, or memory or threads ran out; SealError if the file is refused; OperatorError if the
        engine cannot take it.
        """
        with shortages_told(registered):
            return self._load(registered)

    def _load(self, registered: ModelVersion) -> ServedVersion:
        proved = self.prove(registered)
        runner = Runner(
            engine=proved.engine,
            warm_lanes=proved.pool.lanes,
            workers=self.workers,
            queue_size=self.queue_size,
            limits=self.limits,
            infer_timeout_seconds=self.infer_timeout_seconds,
            request_timeout_seconds=self.request_timeout_seconds,
        )
        _running(registered, runner.warm_up)
        return ServedVersion(
            version=registered,
            header=proved.header,
            class_names=proved.class_names,
            engine=proved.engine,
            runner=runner,
            kek_id=proved.kek_id,
        )

    def prove(self, registered: ModelVersion) -> ProvedVersion:
        """The version, checked as for serving, without threads of its own. Raises as load does."""
        with shortages_told(registered):
            return self._prove(registered)

    def _prove(self, registered: ModelVersion) -> ProvedVersion:
        with self._open(registered) as opened:
            engine = self._compile(opened)
            pool = LanePool(engine, workers=self.workers, limits=self.limits)
            _running(registered, lambda: self._reproduce(registered, opened, pool))
            _running(registered, pool.warm_up)
        # What the engine's parser left behind, freed but not yet given back, held weights too.
        return_freed_memory()
        names = opened.payload.names
        return ProvedVersion(registered, opened.header, names, engine, pool, opened.kek_id)

    def _open(self, registered: ModelVersion) -> OpenedModel:
        try:
            opened = self._opened(registered)
        except SealError as exc:
            # Which file it is tells nothing of which check failed; several versions may be loaded at a time.
            message = f"{registered.label}: {exc.message}"
            raise SealError(exc.code, message, reason=exc.reason) from exc
        if opened.header.plaintext_sha256 != registered.plaintext_sha256:
            opened.close()
            # A file sealed under the same name and version by a trusted signer is still not the one that was promoted.
            message = f"the sealed file of {registered.label} is not the registered one"
            raise RegistryError(Code.SEALED_MODEL_REFUSED, message, reason="digest_not_registered")
        return opened

    def _opened(self, registered: ModelVersion) -> OpenedModel:
        unverified = read_sealed_model(
            self.models_folder,
            name=registered.name,
            version=registered.version,
            max_bytes=self.max_model_bytes,
        )
        return open_model(
            unverified,
            name=registered.name,
            version=registered.version,
            keks=self.keks,
            trusted_signers=self.trusted_signers,
        )

    def _compile(self, opened: OpenedModel) -> Engine:
        header, network = opened.header, network_of(opened)
        sizes = [header.input_size]
        if header.dynamic:
            sizes += [(side, side) for side in self.further_sizes]
        return open_engine(header.engine, network, workers=self.workers, input_sizes=sizes)

    def _reproduce(self, registered: ModelVersion, opened: OpenedModel, pool: LanePool) -> None:
        """Answer the golden images as was answered at sealing; a model that was sealed without any proves nothing."""
        golden = opened.payload.golden
        if golden is None:
            return
        differences = check_golden(
            golden, pool.detect, precision=opened.header.precision, each=pool.map
        )
        if differences:
            message = (
                f"{registered.label} does not reproduce its golden set: {'; '.join(differences[:_TOLD])}; "
                "`gateway doctor` compares this machine with the one it was sealed on"
            )
            raise RegistryError(Code.GOLDEN_FAILED, message, reason=differences[0])


def network_of(opened: OpenedModel) -> Network:
    """What an engine needs to know of an opened model; its weights are zeros once that is closed."""
    header = opened.header
    return Network(
        weights=opened.payload.weights,
        task=header.task,
        class_names=opened.payload.names,
        input_size=header.input_size,
        is_dynamic=header.dynamic,
        stride_pixels=header.stride,
        precision=header.precision,
        is_decode_reduced=header.decode == "reduced",
    )


@contextmanager
def shortages_told(registered: ModelVersion) -> Iterator[None]:
    """Turn what is raised where the system gives no memory, thread or file into a RegistryError that names the version.

    A mistake in the program stays what it is.
    """
    try:
        yield
    except (MemoryError, OSError, RuntimeError) as exc:
        if isinstance(exc, RuntimeError) and _NO_THREAD not in str(exc):
            raise
        message = f"{registered.label} could not be loaded: {_shortage(exc)}"
        reason = f"load_failed: {type(exc).__name__}: {one_line(str(exc))}"
        raise RegistryError(Code.MODEL_UNSUPPORTED, message, reason=reason) from exc


def _shortage(exc: MemoryError | OSError | RuntimeError) -> str:
    if isinstance(exc, OSError) and exc.errno not in _OUT_OF:
        words = exc.strerror or "it does not say why"
        return f"the system refused what that needs ({words}); log and ledger have the cause"
    return (
        "memory ran out or a thread could not be started; "
        "free memory, raise the process's limits or retire a version"
    )


def _running(registered: ModelVersion, step: Callable[[], None]) -> None:
    try:
        step()
    except RunnerError as exc:
        message = f"{registered.label} does not run on this machine: {exc.message}"
        raise RegistryError(Code.MODEL_UNSUPPORTED, message, reason=exc.reason) from exc
    except DecodeError as exc:
        message = (
            f"{registered.label} has golden images that the limits for images refuse: {exc.message}; "
            "raise GATEWAY_MAX_IMAGE_SIDE_PIXELS and GATEWAY_MAX_IMAGE_PIXELS"
        )
        raise RegistryError(Code.GOLDEN_FAILED, message, reason=exc.reason) from exc


def loader_of(
    settings: GatewaySettings,
    *,
    keks: Sequence[KeyProvider],
    trusted_signers: Sequence[TrustedSigner],
) -> Loader:
    """The loader that the settings describe. Raises SettingsError."""
    return Loader(
        models_folder=settings.models_folder,
        max_model_bytes=settings.max_model_bytes,
        keks=keks,
        trusted_signers=trusted_signers,
        further_sizes=_further_sizes(settings.image_sizes),
        workers=worker_count(settings),
        queue_size=settings.queue_size,
        limits=image_limits(settings),
        infer_timeout_seconds=settings.infer_timeout_seconds,
        request_timeout_seconds=settings.request_timeout_seconds,
    )


def worker_count(settings: GatewaySettings) -> int:
    """How many images of a version run at a time: what is set, else one a core this process may use."""
    return settings.workers or len(os.sched_getaffinity(0))


def image_limits(settings: GatewaySettings) -> ImageLimits:
    """What an image may measure."""
    return ImageLimits(
        max_side=settings.max_image_side_pixels, max_pixels=settings.max_image_pixels
    )


def _further_sizes(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    for part in parts:
        if not _PIXELS.fullmatch(part):
            message = f"GATEWAY_IMAGE_SIZES: {part!r} is not a number of pixels"
            raise SettingsError(Code.SETTINGS_INVALID, message)
    return tuple(map(int, parts))
