"""A second output for drift watching: the backbone's last feature map, averaged over its area.

Rules: the backbone's end is found by the graph's shape, never by names; the head's numbers keep every bit. For that
last rule a convolution that copies its input stands before the mean: OpenVINO keeps what follows the last convolution
in f32 when asked for bfloat16, and a bare mean would make it keep the backbone's own last convolution so as well.
"""

from typing import Any

import numpy as np

from gateway.sealing.graphs.reading import (
    FLOAT,
    TensorType,
    import_onnx,
    read_model,
    tensor_types,
    unusable,
    write_model,
)

HEAD_NAME = "output0"
FEATURES_NAME = "features"

_UPSAMPLINGS = {"Resize", "Upsample"}


def add_pooled_output(content: bytes) -> bytes:
    """The detector with its head as output 0 and `features` as output 1.

    content: an ONNX model. features: float32 (batch, C), the mean over height and width of the tensor that enters
    the first upsampling, which in Ultralytics' detectors is the last one of the backbone. The head is the output
    named `output0`, else the first. A model that has the output already comes back unchanged.
    Raises OperatorError with MODEL_UNSUPPORTED if nothing is upsampled, or the bytes are no valid ONNX model.
    """
    model = read_model(content)
    outputs = list(model.graph.output)
    if len(outputs) > 1 and outputs[1].name == FEATURES_NAME:
        return content
    head = next((output for output in outputs if output.name == HEAD_NAME), outputs[0])
    source = _backbone_end(model.graph)
    _refuse_taken_names(model.graph)
    element_type, channels = _map_type(tensor_types(model), source)
    _append_pooling(model.graph, source, element_type, channels)
    features = _features_info(model.graph, channels)
    others = [output for output in outputs if output is not head]
    del model.graph.output[:]
    model.graph.output.extend([head, features, *others])
    return write_model(model)


def _backbone_end(graph: Any) -> str:
    """The tensor that enters the first upsampling of something computed; an upsampled input is preprocessing."""
    computed: set[str] = set()
    for node in graph.node:
        if node.op_type in _UPSAMPLINGS and node.input[0] in computed:
            return str(node.input[0])
        computed.update(node.output)
    raise unusable(
        "it upsamples nothing, so the end of its backbone is unknown: seal it without the feature output, "
        "or export a YOLO detector"
    )


def _refuse_taken_names(graph: Any) -> None:
    taken = {name for node in graph.node for name in node.output}
    taken.update(info.name for info in (*graph.input, *graph.initializer))
    if any(name == FEATURES_NAME or name.startswith(f"{FEATURES_NAME}/") for name in taken):
        raise unusable(f"it has another tensor named {FEATURES_NAME!r}: rename that one")


def _map_type(types: dict[str, TensorType], source: str) -> tuple[int, int]:
    """Element type and channels of the map."""
    element_type, dimensions = types.get(source, (0, ()))
    if len(dimensions) != 4 or dimensions[1] is None:
        raise unusable(
            "what it upsamples is no map of a fixed number of channels: seal it without the feature output"
        )
    return element_type, dimensions[1]


def _append_pooling(graph: Any, source: str, element_type: int, channels: int) -> None:
    """Copy, GlobalAveragePool, Flatten: every opset has these in one form; ReduceMean changed its own in 18."""
    onnx = import_onnx()
    copied, mean, ones = (f"{FEATURES_NAME}/{what}" for what in ("map", "mean", "ones"))
    make = onnx.helper.make_node
    nodes = [
        make(
            "Conv", [source, ones], [copied], "features/copy", kernel_shape=[1, 1], group=channels
        ),
        make("GlobalAveragePool", [copied], [mean], "features/pool"),
        make("Flatten", [mean], [FEATURES_NAME], "features/flatten", axis=1),
    ]
    if element_type != FLOAT:
        nodes[0].input[0] = f"{FEATURES_NAME}/floats"
        nodes.insert(0, make("Cast", [source], [nodes[0].input[0]], "features/cast", to=FLOAT))
    graph.node.extend(nodes)
    weights = np.ones((channels, 1, 1, 1), np.float32)
    graph.initializer.append(onnx.numpy_helper.from_array(weights, ones))


def _features_info(graph: Any, channels: int) -> Any:
    """The output's declaration, with the batch as the model's input declares it."""
    info = import_onnx().helper.make_tensor_value_info(FEATURES_NAME, FLOAT, [None, channels])
    info.type.tensor_type.shape.dim[0].CopyFrom(graph.input[0].type.tensor_type.shape.dim[0])
    return info
