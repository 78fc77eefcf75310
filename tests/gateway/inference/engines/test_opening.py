"""Engines by name: what is loaded, and what is said where it cannot be."""

import os
from dataclasses import replace

import pytest

from gateway.errors import Code, OperatorError
from gateway.inference.engine import Network
from gateway.inference.engines import opening
from gateway.inference.engines.opening import open_engine

NETWORK = Network(
    weights=b"",
    task="detect",
    class_names=("bolt",),
    input_size=(32, 32),
    is_dynamic=False,
    stride_pixels=32,
    precision="f32",
)


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is imported, with ONNX Runtime's telemetry switch at that moment; nothing is installed."""
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    seen: list[tuple[str, str]] = []

    def load(name: str) -> object:
        seen.append((name, os.environ["ORT_DISABLE_TELEMETRY"]))
        raise ModuleNotFoundError(name="the_library")

    monkeypatch.setattr(opening, "import_module", load)
    return seen


def test_onnx_runtime_is_told_to_stay_silent_before_it_is_loaded(
    imported: list[tuple[str, str]],
) -> None:
    """Whatever stood in the environment."""
    with pytest.raises(OperatorError, match="not installed"):
        open_engine("onnxruntime", NETWORK, workers=1)
    assert [("gateway.inference.engines.onnxruntime", "1")] == imported


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("openvino", "install gatewatch again"),
        ("onnxruntime", "pip install 'gatewatch[onnxruntime]'"),
        ("ultralytics", "pip install 'gatewatch[seal]'"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    imported: list[tuple[str, str]], name: str, fix: str
) -> None:
    """Only the engine that was asked for is loaded."""
    with pytest.raises(OperatorError) as caught:
        open_engine(name, NETWORK, workers=1)
    assert caught.value.code is Code.MODEL_UNSUPPORTED
    assert "whose library the_library is not installed" in caught.value.message
    assert caught.value.message.endswith(fix)
    assert 1 == len(imported)


@pytest.mark.parametrize(
    ("name", "fix"), [("openvino", "install gatewatch again"), ("onnxruntime", "pip install ")]
)
def test_a_library_that_does_not_load_is_not_said_to_be_missing(
    monkeypatch: pytest.MonkeyPatch, name: str, fix: str
) -> None:
    """Installing it as it is would change nothing; its own words are for log and ledger."""

    def load(_: str) -> object:
        raise ImportError("libtbb.so.12: cannot open\nshared object file")

    monkeypatch.setattr(opening, "import_module", load)
    with pytest.raises(OperatorError, match="is installed but does not load") as caught:
        open_engine(name, NETWORK, workers=1)
    assert fix in caught.value.message
    assert caught.value.reason == (
        f"model_unsupported: {name}: libtbb.so.12: cannot open shared object file"
    )


def test_an_unknown_engine_is_refused(imported: list[tuple[str, str]]) -> None:
    """A header may say anything that is a word; nothing is imported by it."""
    with pytest.raises(OperatorError, match="there are openvino, onnxruntime, ultralytics"):
        open_engine("os", NETWORK, workers=1)
    assert [] == imported


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_engines_for_detectors_take_no_other_task(
    imported: list[tuple[str, str]], name: str
) -> None:
    """Their heads would be read as boxes."""
    with pytest.raises(OperatorError, match="runs detectors only, not 'segment'"):
        open_engine(name, replace(NETWORK, task="segment"), workers=1)
    assert [] == imported
