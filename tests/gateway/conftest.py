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

        torch.manual_seed(7)
        network: Any = ultralytics.YOLO(f"{architecture}.yaml").model
        with torch.no_grad():
            for part in network.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.momentum = None
            network.train()
            for _ in range(2):
                coarse = torch.rand(4, 3, 16, 16)
                network(nn.functional.interpolate(coarse, (128, 128), mode="bicubic").clamp(0, 1))
            network.eval()
            head = network.model[-1]
            scores = (
                [head.linear]
                if network.task == "classify"
                else [
                    branch[-1]
                    for name in ("cv3", "one2one_cv3")
                    for branch in getattr(head, name, None) or ()
                ]
            )
            for layer in scores:
                layer.weight *= 8
                if network.task != "classify":
                    layer.bias.fill_(-6)
        file = io.BytesIO()
        torch.save({"model": network, "train_args": {"imgsz": 128}}, file)
        return file.getvalue()

    return make
