"""What benchmarks share: a home in a temporary folder, a real gateway process in it, and the test data."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.audit.beginning import begin_ledger
from gateway.commands.db import upgrade
from gateway.commands.keys import create_all, create_development_issuer
from gateway.commands.opening import opened_store, utc_now
from gateway.commands.token import issue
from gateway.dev.certificates import create_certificates
from gateway.dev.home import Layout, gateway_overrides, layout_of
from gateway.dev.plan import free_port
from gateway.settings import GatewaySettings, read_settings

ROOT = Path(__file__).resolve().parents[1]
MODEL_NAME = "bench"
START_TIMEOUT_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Home:
    """Keys, certificates and a database, and the settings of a gateway on them."""

    layout: Layout
    settings: GatewaySettings

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which commands work on this home."""
        names = (*gateway_overrides(self.layout), "model_name", "port", "metrics_port")
        return {
            self.settings.variable_name(name): str(getattr(self.settings, name)) for name in names
        }

    def token(self, role: str) -> str:
        """A token for one role."""
        return issue(
            self.settings,
            roles=[role],
            subject="bench",
            lifetime_seconds=3600,
            key_file=self.layout.keys / "token.key",
            has_second_factor=role == "operator",
        )


@dataclass(frozen=True, slots=True)
class Served:
    """A gateway that answers."""

    port: int
    process_id: int


def data_folder() -> Path:
    """The folder with photographs and a COCO-trained detector; ends the program where it is absent."""
    folder = Path(os.environ.get("GATEWATCH_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        sys.exit(f"no photographs at {folder}: set GATEWATCH_TEST_DATA")
    return folder


@contextmanager
def new_home() -> Iterator[Home]:
    """A home without models, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="gatewatch-bench-") as folder:
        layout = layout_of(Path(folder))
        settings = read_settings(
            {},
            **gateway_overrides(layout),
            model_name=MODEL_NAME,
            port=0,
            metrics_port=free_port(),
        )
        create_certificates(layout.certificates, now=utc_now())
        create_all(layout.keys)
        create_development_issuer(layout.keys)
        upgrade(settings)
        layout.witness.mkdir()
        with opened_store(settings) as store:
            begin_ledger(store, settings, now=utc_now())
        yield Home(layout, settings)


@contextmanager
def running_gateway(home: Home) -> Iterator[Served]:
    """A gateway process in this home, from the moment it takes calls; ended and waited for afterwards."""
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "gateway", "serve", "--ready-descriptor", str(writer)]
    log_file = home.layout.state / "gateway.log"
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **home.environment}, pass_fds=(writer,), stderr=log
        )
    os.close(writer)
    try:
        with os.fdopen(reader) as ready:
            line = ready.readline()
        if not line:
            sys.exit(f"the gateway did not start:\n{log_file.read_text(encoding='utf-8')}")
        yield Served(int(line), process.pid)
    finally:
        process.terminate()
        process.wait(START_TIMEOUT_SECONDS)


def resident_mb(process_id: int) -> float:
    """What a process holds in memory, MiB."""
    status = Path(f"/proc/{process_id}/status").read_text(encoding="ascii")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return int(kilobytes) / 1024
