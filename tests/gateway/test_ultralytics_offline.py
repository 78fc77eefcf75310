"""Ultralytics offline, and what happens where it or torchvision is absent or broken."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gateway.errors import Code, OperatorError
from gateway.ultralytics_offline import import_ultralytics, load_network

ROOT = Path(__file__).resolve().parents[2]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever exports without Ultralytics is told what to install."""
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    with pytest.raises(OperatorError, match=r"pip install -e '\.\[seal\]'"):
        import_ultralytics()


def test_the_heavy_libraries_are_imported_only_when_needed() -> None:
    """Importing the module costs a gateway neither torch nor Ultralytics."""
    code = "import sys, gateway.ultralytics_offline; print({'torch', 'ultralytics'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


@pytest.mark.needs_seal
@pytest.mark.usefixtures("ultralytics")
def test_ultralytics_is_imported_offline() -> None:
    """It may neither phone home nor install packages, also in a process that says nothing about it."""
    code = (
        "import gateway.ultralytics_offline as e; e.import_ultralytics();"
        "from ultralytics import utils; print(utils.ONLINE, utils.AUTOINSTALL)"
    )
    environment = {name: value for name, value in os.environ.items() if "YOLO" not in name}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "False False" == done.stdout.strip().splitlines()[-1]


@pytest.mark.needs_seal
@pytest.mark.usefixtures("ultralytics")
def test_a_broken_torchvision_is_stood_in_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A torchvision built for another torch ends no prediction: its one function comes from Ultralytics."""
    (tmp_path / "torchvision.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')\n"
    )
    code = (
        "import torch, gateway.ultralytics_offline as e; e.import_ultralytics(); import torchvision;"
        "b = torch.tensor([[0., 0, 10, 10], [0, 0, 10, 11], [20, 20, 30, 30]]);"
        "print(torchvision.ops.nms(b, torch.tensor([.5, .9, .1]), .5).tolist())"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[1, 2]"


def test_the_stand_in_is_not_needed_where_torchvision_imports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A torchvision that imports is left alone."""
    present, ultralytics = ModuleType("torchvision"), ModuleType("ultralytics")
    monkeypatch.setitem(sys.modules, "torchvision", present)
    monkeypatch.setitem(sys.modules, "ultralytics", ultralytics)
    assert ultralytics is import_ultralytics()
    assert present is sys.modules["torchvision"]


@pytest.mark.needs_seal
@pytest.mark.usefixtures("ultralytics")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not weights",
        b"PK\x03\x04 not an archive",
        {"model": "no network"},
        {"epoch": 3},
        ["a list"],
        {"model": None, "modelopt": {"quantised": True}},
    ],
)
def test_what_holds_no_network_is_refused(content: Any) -> None:
    """Bytes that are no pickle, and pickles of something else."""
    import torch

    if not isinstance(content, bytes):
        file = io.BytesIO()
        torch.save(content, file)
        content = file.getvalue()
    with pytest.raises(OperatorError, match=r"are they an Ultralytics \.pt file") as caught:
        load_network(content)
    assert caught.value.code is Code.MODEL_UNSUPPORTED


@pytest.mark.needs_seal
def test_a_cut_file_is_refused(pt_weights: Callable[[str], bytes]) -> None:
    """As a download that ended early leaves it."""
    with pytest.raises(OperatorError, match="are they an Ultralytics"):
        load_network(pt_weights("yolov8n-cls")[:-1000])


@pytest.mark.needs_seal
def test_a_network_comes_as_ultralytics_loads_it(
    pt_weights: Callable[[str], bytes], tmp_path: Path, ultralytics: Any
) -> None:
    """Same numbers, task, names, stride and training arguments; the averaged weights if there are such."""
    import torch

    content = torch.load(io.BytesIO(pt_weights("yolov8n-cls")), weights_only=False)
    # As trainers save it.
    content = {"model": None, "ema": content["model"].half(), "train_args": {"imgsz": 96}}
    file = io.BytesIO()
    torch.save(content, file)
    (tmp_path / "weights.pt").write_bytes(file.getvalue())
    theirs = ultralytics.YOLO(str(tmp_path / "weights.pt")).model
    ours = load_network(memoryview(file.getvalue()))
    assert not ours.training
    assert (theirs.task, theirs.names) == (ours.task, ours.names)
    assert 96 == ours.args["imgsz"]
    expected, actual = theirs.state_dict(), ours.state_dict()
    assert list(expected) == list(actual)
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert torch.float32 == next(ours.parameters()).dtype
