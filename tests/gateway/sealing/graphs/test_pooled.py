"""The feature output: where it is taken, what it computes, and what it leaves alone."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.errors import Code, OperatorError
from gateway.sealing.graphs.pooled import add_pooled_output
from tests.gateway.sealing.graphs.conftest import CONVEYOR, Run, small_detector


def test_the_head_keeps_every_bit(
    plain_conveyor: bytes, images: list[NDArray[np.float32]], run: Run
) -> None:
    """Neither engine computes the head in another way because of the second output."""
    expected = [head.tobytes() for (head,) in run(plain_conveyor, images)]
    pooled = run(add_pooled_output(plain_conveyor), images)
    assert expected == [outputs[0].tobytes() for outputs in pooled]


def test_the_features_are_the_mean_of_what_enters_the_first_upsampling(
    onnx: Any, plain_conveyor: bytes, images: list[NDArray[np.float32]], run: Run
) -> None:
    """In the bundled detector that is the output of layer 8, the last of the backbone, of 128 channels."""
    model = onnx.load_from_string(plain_conveyor)
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("/model.8/cv2/act/Relu_output_0", 1, None)
    )
    ((_, backbone),) = run(model.SerializeToString(), images[:1])
    ((_, features),) = run(add_pooled_output(plain_conveyor), images[:1])
    assert ((1, 128), "float32") == (features.shape, str(features.dtype))
    np.testing.assert_allclose(backbone.mean(axis=(2, 3)), features, rtol=0.01, atol=0.01)


def test_the_bundled_model_has_the_output_already(onnx: Any) -> None:
    """It ships with it, because the demo runs where onnx is not installed; adding it again changes nothing."""
    content = CONVEYOR.read_bytes()
    outputs = onnx.load_from_string(content).graph.output
    assert ["output0", "features"] == [output.name for output in outputs]
    assert content == add_pooled_output(content)


def test_adding_twice_is_adding_once(plain_conveyor: bytes) -> None:
    """So a model may pass through sealing again."""
    once = add_pooled_output(plain_conveyor)
    assert once == add_pooled_output(once)


def test_the_head_comes_first_and_the_features_second(onnx: Any) -> None:
    """Engines go by index; what else there was follows in its order."""
    content = small_detector(onnx, outputs=("before", "output0", "after"))
    pooled = onnx.load_from_string(add_pooled_output(content))
    assert ["output0", "features", "before", "after"] == [o.name for o in pooled.graph.output]


def test_without_an_output_of_that_name_the_first_is_the_head(onnx: Any) -> None:
    """Other exporters name it otherwise."""
    content = small_detector(onnx, outputs=("dets", "after"))
    pooled = onnx.load_from_string(add_pooled_output(content))
    assert ["dets", "features", "after"] == [o.name for o in pooled.graph.output]


def test_dynamic_sizes_survive(onnx: Any, run: Run) -> None:
    """The same graph serves any batch and area, and the features follow the batch."""
    content = small_detector(onnx, batch="batch", side="side")
    pooled = add_pooled_output(content)
    features = onnx.load_from_string(pooled).graph.output[1]
    assert ["batch", ""] == [d.dim_param for d in features.type.tensor_type.shape.dim]
    for shape in ((1, 3, 8, 8), (2, 3, 8, 12)):
        image = np.random.default_rng(1).random(shape, dtype=np.float32)
        assert (shape[0], 4) == run(pooled, [image])[0][1].shape


def test_a_half_precision_map_gives_full_precision_features(onnx: Any) -> None:
    """The store keeps float32."""
    onnxruntime = pytest.importorskip("onnxruntime")
    content = small_detector(onnx, element_type=onnx.TensorProto.FLOAT16)
    session = onnxruntime.InferenceSession(add_pooled_output(content))
    features = session.run(["features"], {"images": np.ones((1, 3, 8, 8), np.float16)})[0]
    assert np.float32 == features.dtype


def test_an_upsampled_input_is_no_backbone(onnx: Any) -> None:
    """Preprocessing inside the graph upsamples what nothing has computed yet."""
    with pytest.raises(OperatorError, match="upsamples nothing"):
        add_pooled_output(small_detector(onnx, upsampled="images"))


def test_a_network_without_an_upsampling_is_named_with_the_fix(onnx: Any) -> None:
    """Whoever seals it may go on without the features."""
    with pytest.raises(OperatorError, match="seal it without the feature output") as caught:
        add_pooled_output(small_detector(onnx, upsampled=None))
    assert Code.MODEL_UNSUPPORTED == caught.value.code


def test_a_taken_name_is_refused(onnx: Any) -> None:
    """Two tensors of one name would be no valid model."""
    with pytest.raises(OperatorError, match="another tensor named 'features'"):
        add_pooled_output(small_detector(onnx, outputs=("features",)))
