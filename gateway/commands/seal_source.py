"""From a source file to the network that is sealed: read, export, pool, quantise, obfuscate.

Rules: the libraries for this are the `seal` extra and are imported where they are used; a .pt is unpickled here and
only here, by somebody who trusts it; what a step cannot do it says, and nothing is left out silently.
"""

import hashlib
import importlib.util
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway.commands.seal_order import DEFAULT_IMAGE_SIZE_PIXELS, SealOrder
from gateway.commands.steps import Steps
from gateway.errors import Code, OperatorError
from gateway.inference.decode import ImageLimits, decode_image
from gateway.inference.engine import Network, OnnxFacts
from gateway.inference.engines.openvino import inspect_onnx
from gateway.inference.labelled import LabelledImage
from gateway.inference.onnx_scan import check_self_contained
from gateway.inference.preprocess import Canvas
from gateway.sealing.payload import check_class_names
from gateway.sealing.weights_pt import WeightsFacts, read_pt_facts

_DETECT = "detect"
_ZIP = b"PK\x03\x04"  # what torch.save writes


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is sealed, what it is measured against, and the source as Ultralytics reads it.

    reference: the same weights in f32, every pixel decoded; the network itself where that is what is sealed.
    """

    network: Network
    reference: Network
    engine: str
    source: bytes
    is_pickle: bool


def prepare(
    order: SealOrder, calibration: Sequence[LabelledImage], *, limits: ImageLimits, steps: Steps
) -> Prepared:
    """The network to seal.

    Raises OperatorError naming the cause: an unreadable source, an unfit combination, a missing extra.
    """
    with steps.step(f"reading {order.source_file}"):
        source = _read(order.source_file)
    is_pickle = order.is_pickle
    if is_pickle:
        stated = _facts_of_pickle(source, order, steps)
        if order.engine == "ultralytics" or stated.task != _DETECT:
            return _as_it_came(source, stated, order)
    elif source.startswith(_ZIP):
        raise _unsupported(f"{order.source_file} looks like a .pt: give it that name")
    else:
        check_self_contained(source)
    onnx = _exported(order, steps) if is_pickle else source
    facts = inspect_onnx(onnx)
    _check_task(order, facts.task)
    check_class_names(facts.class_names)
    if order.engine == "ultralytics":
        raise _unsupported("the ultralytics engine runs a .pt: seal that instead of the ONNX file")
    reference = _network(_with_feature(onnx, steps), facts)
    network = replace(
        reference,
        weights=_final_weights(reference, order, calibration, limits=limits, steps=steps),
        precision=order.precision,
        is_decode_reduced=order.is_decode_reduced,
    )
    return Prepared(network, reference, order.engine or "openvino", source, is_pickle)


def _facts_of_pickle(source: bytes, order: SealOrder, steps: Steps) -> WeightsFacts:
    with steps.step("loading the weights"):
        stated = read_pt_facts(source)
    _check_task(order, stated.task)
    return stated


def _check_task(order: SealOrder, task: str) -> None:
    if order.task is not None and order.task != task:
        raise _unsupported(
            f"{order.source_file} is a network for {task}, not {order.task}: leave --task out"
        )


def _as_it_came(source: bytes, stated: WeightsFacts, order: SealOrder) -> Prepared:
    if order.precision != "f32" or order.is_obfuscated or order.is_decode_reduced:
        raise _unsupported(
            "a .pt for the ultralytics engine is sealed as it came: "
            "leave --precision, --obfuscate and --reduced-decode out"
        )
    if order.engine not in (None, "ultralytics"):
        raise _unsupported(f"the engine {order.engine} runs detectors only: leave --engine out")
    check_class_names(stated.names)
    side = order.image_size_pixels or stated.input_size[0]
    network = Network(
        weights=source,
        task=stated.task,
        class_names=stated.names,
        input_size=(side, side),
        is_dynamic=False,
        stride_pixels=stated.stride,
        precision="f32",
    )
    return Prepared(network, network, "ultralytics", source, is_pickle=True)


def _exported(order: SealOrder, steps: Steps) -> bytes:
    from gateway.sealing.export import export_onnx

    side = order.image_size_pixels or DEFAULT_IMAGE_SIZE_PIXELS
    with steps.step(f"exporting to ONNX at {side}x{side} pixels"):
        return export_onnx(order.source_file, image_size=(side, side), head=order.head).onnx


def _with_feature(onnx: bytes, steps: Steps) -> bytes:
    if importlib.util.find_spec("onnx") is None:
        steps.say(
            "the network is sealed without the pooled feature unless it has one: "
            "adding it needs the seal extra (onnx)"
        )
        return onnx
    from gateway.sealing.graphs.pooled import add_pooled_output

    with steps.step("adding the pooled feature"):
        try:
            return add_pooled_output(onnx)
        except OperatorError as exc:
            steps.say(f"the network is sealed without the pooled feature: {exc.message}")
            return onnx


def _network(onnx: bytes, facts: OnnxFacts) -> Network:
    return Network(
        weights=onnx,
        task=facts.task,
        class_names=facts.class_names,
        input_size=facts.input_size,
        is_dynamic=facts.is_dynamic,
        stride_pixels=facts.stride_pixels,
        precision="f32",
    )


def _final_weights(
    reference: Network,
    order: SealOrder,
    calibration: Sequence[LabelledImage],
    *,
    limits: ImageLimits,
    steps: Steps,
) -> bytes:
    onnx = bytes(reference.weights)
    if order.precision == "int8":
        onnx = _quantised(onnx, reference.input_size, calibration, limits=limits, steps=steps)
    if order.is_obfuscated:
        from gateway.sealing.graphs.obfuscate import obfuscate

        # Seeded by the weights, which nobody has who has the sealed file only: the same order gives the same file, so
        # that a sealing that was interrupted can be repeated.
        seed = hashlib.sha256(f"{order.name}@{order.version}\0".encode() + onnx).digest()
        with steps.step("obfuscating"):
            onnx = obfuscate(onnx, rng=random.Random(seed))
    return onnx


def _quantised(
    onnx: bytes,
    size: tuple[int, int],
    calibration: Sequence[LabelledImage],
    *,
    limits: ImageLimits,
    steps: Steps,
) -> bytes:
    from gateway.sealing.quantise import quantise_int8

    with steps.step(f"quantising on {len(calibration)} images"):
        return quantise_int8(onnx, samples=_canvases(calibration, size, limits))


def _canvases(
    images: Sequence[LabelledImage],
    size: tuple[int, int],
    limits: ImageLimits,
) -> Iterator[NDArray[np.uint8]]:
    canvas = Canvas(size)
    for image in images:
        decoded = decode_image(image.read(), limits)
        canvas.place(decoded, image_shape=(decoded.shape[0], decoded.shape[1]))
        yield canvas.pixels.copy()


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as exc:
        raise _unsupported(f"cannot read {file}: {exc.strerror}") from exc


def _unsupported(what: str) -> OperatorError:
    return OperatorError(Code.MODEL_UNSUPPORTED, what)
