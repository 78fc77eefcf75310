"""What is recorded of the machine that seals."""

from importlib.metadata import version
from pathlib import Path

from gateway.commands.made_with import facts_of_machine


def facts(tmp_path: Path, cpuinfo: str) -> dict[str, str]:
    """The facts of a machine with this /proc/cpuinfo."""
    file = tmp_path / "cpuinfo"
    file.write_text(cpuinfo, encoding="ascii")
    return facts_of_machine(engine="openvino", cpuinfo=file)


def test_versions_are_those_that_are_installed(tmp_path: Path) -> None:
    """By the names that headers use."""
    found = facts(tmp_path, "")
    assert version("openvino") == found["openvino"]
    assert version("opencv-python-headless") == found["opencv"]
    assert "openvino" == found["engine"]


def test_processor_features_are_those_that_engines_choose_by(tmp_path: Path) -> None:
    """In a fixed order, whatever the kernel's."""
    found = facts(tmp_path, "model name\t: x\nflags\t\t: sse avx512f vmx avx2\nflags\t\t: none\n")
    assert "avx2 avx512f" == found["processor"]


def test_an_arm_processor_is_read(tmp_path: Path) -> None:
    """There the line has another name."""
    assert "asimd bf16" == facts(tmp_path, "Features\t: fp asimd bf16\n")["processor"]


def test_an_unreadable_processor_is_unknown(tmp_path: Path) -> None:
    """Not every system has the file."""
    assert "unknown" == facts_of_machine(engine="x", cpuinfo=tmp_path / "absent")["processor"]
