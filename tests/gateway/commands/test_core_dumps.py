"""Core dumps: a process that opens weights leaves none, whatever its limits were."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from gateway.commands import features, models, serve
from gateway.commands.seal_order import SealOrder
from gateway.settings import GatewaySettings

_SHOW = """
import ctypes, resource
from gateway.commands.core_dumps import forbid_core_dumps
forbid_core_dumps()
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_process_cannot_be_dumped() -> None:
    """Both limits are zero, and PR_GET_DUMPABLE (3) says no; in a process of its own, for it cannot be undone."""
    done = subprocess.run(
        [sys.executable, "-c", _SHOW], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "(0, 0) 0\n"


class StoppedError(Exception):
    """Ends a command right after its first step."""


def _stop() -> None:
    raise StoppedError


@pytest.mark.parametrize("command", ["serve", "seal", "features"])
def test_commands_that_hold_weights_forbid_dumps_first(
    settings: GatewaySettings,
    order: SealOrder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    """Before they read a key."""
    for module in (serve, models, features):
        monkeypatch.setattr(module, "forbid_core_dumps", _stop)
    run: dict[str, Callable[[], object]] = {
        "serve": lambda: serve.serve(settings, ready_descriptor=None),
        "seal": lambda: models.seal(settings, order, console=Console(quiet=True)),
        "features": lambda: features.print_features(settings, tmp_path),
    }
    with pytest.raises(StoppedError):
        run[command]()
