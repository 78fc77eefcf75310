"""What the tests of commands share: a home with keys and a database, and one with the demo model in production."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gateway.commands.db import upgrade
from gateway.commands.keys import create_all, create_development_issuer
from gateway.commands.opening import opened_store
from gateway.commands.seal_order import SealOrder
from gateway.commands.sealing import seal
from gateway.dev.home import gateway_overrides, layout_of
from gateway.settings import GatewaySettings, read_settings
from gateway.store.queries.audit import load_audit_records
from tests.gateway.ledgers import begin_home

NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)


def settings_below(home: Path) -> GatewaySettings:
    """Settings that keep everything in one folder."""
    return read_settings({}, **gateway_overrides(layout_of(home)), model_name="belt", workers=1)


@pytest.fixture(scope="session")
def demo_onnx() -> Path:
    """The bundled detector."""
    return Path(__file__).resolve().parents[3] / "examples" / "conveyor" / "conveyor.onnx"


@pytest.fixture(scope="session")
def sealed_home(tmp_path_factory: pytest.TempPathFactory, demo_onnx: Path) -> Path:
    """A home where belt@1 is sealed and in production; copied, never changed."""
    home = tmp_path_factory.mktemp("sealed")
    settings = settings_below(home)
    create_all(home / "keys")
    create_development_issuer(home / "keys")
    upgrade(settings)
    begin_home(settings)
    order = SealOrder(
        source_file=demo_onnx,
        name="belt",
        version="1",
        signer_file=home / "keys" / "signer.key",
        golden_folder=demo_onnx.parent / "golden",
        is_parity_skipped=True,
        is_promoted=True,
    )
    seal(settings, order, console=Console(quiet=True))
    return home


@pytest.fixture
def home(tmp_path: Path, sealed_home: Path) -> Path:
    """A copy of sealed_home for one test."""
    return Path(shutil.copytree(sealed_home, tmp_path / "home"))


@pytest.fixture
def settings(home: Path) -> GatewaySettings:
    """The settings of home."""
    return settings_below(home)


@pytest.fixture
def order(home: Path, demo_onnx: Path) -> SealOrder:
    """An order to seal the demo model as belt@2."""
    return SealOrder(
        source_file=demo_onnx,
        name="belt",
        version="2",
        signer_file=home / "keys" / "signer.key",
        golden_folder=demo_onnx.parent / "golden",
        is_parity_skipped=True,
    )


@pytest.fixture
def ledger(settings: GatewaySettings) -> Callable[[], list[dict[str, Any]]]:
    """The bodies of all audit records so far."""

    def load() -> list[dict[str, Any]]:
        with opened_store(settings) as store, store.connect() as connection:
            records = load_audit_records(connection, "gateway", limit=1000)
        return [json.loads(record.body) for record in records]

    return load


@pytest.fixture
def in_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The process stands in home, and its environment names what lies there."""
    for name in (
        "DATABASE_URL",
        "MODELS_FOLDER",
        "KEKS",
        "TRUSTED_SIGNERS_FOLDER",
        "JWKS_FILE",
        "AUDIT_KEY_FILE",
        "AUDIT_EMERGENCY_FILE",
    ):
        field = name.lower()
        value = gateway_overrides(layout_of(home))[field]
        monkeypatch.setenv(f"GATEWAY_{name}", str(value))
    monkeypatch.setenv("GATEWAY_MODEL_NAME", "belt")
    monkeypatch.chdir(home)
    return home
