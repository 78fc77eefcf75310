"""Ultralytics offline, and what happens where it or torchvision is absent or broken."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gateway.errors import OperatorError
from gateway.ultralytics_offline import import_ultralytics

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
