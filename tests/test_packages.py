"""What is installed and imported: the wheel carries what it needs, and heavy libraries stay where they belong."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def modules_after(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after a statement."""
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


def test_the_gateway_loads_no_analysis() -> None:
    """A serving process has neither Evidently nor pandas nor torch in memory."""
    heavy = {"evidently", "pandas", "torch", "ultralytics", "monitor"}
    assert set() == heavy & modules_after("import gateway.__main__, gateway.commands.serve")


def test_the_monitor_loads_no_model_and_no_keys() -> None:
    """The monitor needs neither engine nor tokens nor the sealing code."""
    heavy = {"openvino", "cv2", "torch", "ultralytics", "jwt", "evidently", "pandas"}
    assert set() == heavy & modules_after("import monitor.__main__")


def test_alembic_is_not_shadowed() -> None:
    """With an __init__.py the migrations' folder would hide the library."""
    assert not (ROOT / "alembic" / "__init__.py").exists()


@pytest.mark.system
def test_the_wheel_carries_migrations_and_demo(tmp_path: Path) -> None:
    """What the commands look for beside the packages in a checkout lies inside them in a wheel."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for needed in (
        "gateway/__main__.py",
        "monitor/__main__.py",
        "gateway/sealing/FORMAT.md",
        "gateway/_migrations/env.py",
        "gateway/_migrations/versions/0001_create_the_first_tables.py",
        "gateway/_grafana/prometheus.yml",
        "gateway/_conveyor/conveyor.onnx",
        "gateway/_conveyor/reference.jsonl",
        "gateway/_conveyor/frame.jpg",
    ):
        assert needed in names
    assert [] == [name for name in names if name.endswith((".pem", ".key", ".jwt", ".db"))]


def test_the_installer_says_what_is_missing(tmp_path: Path) -> None:
    """No Python, a wrong Python, a Python without venv: each names the fix."""
    script = tmp_path / "scripts" / "install.sh"
    script.parent.mkdir()
    script.write_bytes((ROOT / "scripts" / "install.sh").read_bytes())
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    fakes = {
        "missing": None,
        "too old": "#!/bin/sh\ncase $* in *version_info*) exit 1;; -V) echo Python 3.9.2;; esac\n",
        "no venv": "#!/bin/sh\ncase $* in *ensurepip*) exit 1;; esac\n",
    }
    expected = {
        "missing": "install Python 3.11",
        "too old": "Python 3.9.2",
        "no venv": "python3-venv",
    }
    for name, content in fakes.items():
        python = tmp_path / name.replace(" ", "_")
        if content is not None:
            python.write_text(content, encoding="ascii")
            python.chmod(0o755)
        done = subprocess.run(
            ["sh", str(script), "reports"],
            env={"PATH": "/usr/bin:/bin", "PYTHON": str(python)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert 1 == done.returncode
        assert expected[name] in done.stderr
