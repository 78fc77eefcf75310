"""Small networks of every task, as `.pt` files would hold them."""

import functools
import io
from collections.abc import Callable
from typing import Any

import pytest

PtWeights = Callable[[str], bytes]


@pytest.fixture(scope="session")
def pt_weights(ultralytics: Any) -> PtWeights:
    """The bytes of a `.pt` with seeded random weights for an architecture, such as yolo11n-seg; made once each.

    Untrained networks say much the same of any image, so their statistics are set on noise and their scores are
    spread: they find many boxes, and others in other images.
    """

    @functools.cache
    def make(architecture: str) -> bytes:
        import torch
        from torch import nn

        def noise() -> Any:
            coarse = torch.rand(4, 3, 16, 16)
            return nn.functional.interpolate(coarse, (128, 128), mode="bicubic").clamp(0, 1)

        torch.manual_seed(7)
        network: Any = ultralytics.YOLO(f"{architecture}.yaml").model
        with torch.no_grad():
            for part in network.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.momentum = None
            network.train()
            for _ in range(2):
                network(noise())
            network.eval()
            head = network.model[-1]
            if network.task == "classify":
                head.linear.weight *= 8
            for branch in (*getattr(head, "cv3", ()), *(getattr(head, "one2one_cv3", None) or ())):
                # Each class's logits low on average, so that some confidences are high and none is all but 1.
                seen: list[Any] = []
                layer = branch[-1]
                handle = layer.register_forward_hook(lambda _m, _i, out, to=seen: to.append(out))
                network(noise())
                handle.remove()
                for logits in seen[:1]:
                    scale = 1.5 / logits.std((0, 2, 3))
                    middle = -1 if len(scale) == 1 else -4
                    layer.weight *= scale[:, None, None, None]
                    layer.bias.copy_(middle - scale * (logits.mean((0, 2, 3)) - layer.bias))
        file = io.BytesIO()
        torch.save({"model": network, "train_args": {"imgsz": 128}}, file)
        return file.getvalue()

    return make
