"""Listing and promoting in a home of its own."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from gateway.commands.models import list_models, promote
from gateway.commands.opening import opened_store
from gateway.commands.seal_order import SealOrder
from gateway.commands.sealing import seal
from gateway.errors import Code, RegistryError
from gateway.settings import GatewaySettings
from gateway.store.queries.models import find_production_version, list_model_versions

QUIET = Console(quiet=True)
Ledger = Callable[[], list[dict[str, Any]]]


def stages(settings: GatewaySettings) -> dict[str, str]:
    """The stage of each version of belt."""
    with opened_store(settings) as store, store.connect() as connection:
        found = list_model_versions(connection, name="belt")
    return {version.version: version.stage.value for version in found}


def test_promotion_goes_forth_and_back(
    settings: GatewaySettings, order: SealOrder, ledger: Ledger
) -> None:
    """Every step is on record with its version."""
    seal(settings, order, console=QUIET)
    promote(settings, name="belt", version="2")
    promote(settings, name="belt", version="1")
    assert stages(settings) == {"1": "production", "2": "retired"}
    assert [(r["action"], r["outcome"], r["model_version"]) for r in ledger()][-6:] == [
        ("models.seal", "admitted", "2"),
        ("models.seal", "answered", "2"),
        ("models.promote", "admitted", "2"),
        ("models.promote", "answered", "2"),
        ("models.promote", "admitted", "1"),
        ("models.promote", "answered", "1"),
    ]


def test_operators_are_named_in_the_ledger(ledger: Ledger) -> None:
    """By the operating system's word."""
    first = ledger()[0]
    assert (first["issuer"], first["client_id"]) == ("operating-system", "gateway-cli")
    assert first["subject"]


def test_an_unknown_version_is_not_promoted(settings: GatewaySettings, ledger: Ledger) -> None:
    """The attempt and its failure are on record, and what serves goes on serving."""
    with pytest.raises(RegistryError, match="no model belt@9 is registered") as caught:
        promote(settings, name="belt", version="9")
    assert caught.value.code is Code.MODEL_UNKNOWN
    assert [(r["outcome"], r["code"]) for r in ledger()][-2:] == [
        ("admitted", None),
        ("failed", "model_unknown"),
    ]
    assert stages(settings) == {"1": "production"}


def test_versions_are_listed_for_programs(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """One JSON value."""
    list_models(settings, as_json=True)
    (listed,) = json.loads(capsys.readouterr().out)
    with opened_store(settings) as store, store.connect() as connection:
        found = find_production_version(connection, "belt")
    assert found is not None
    assert listed == {
        "name": "belt", "version": "1", "stage": "production", "traffic": "none", "share": 0.0,
        "task": "detect", "engine": "openvino", "precision": "f32",
        "sha256": found.plaintext_sha256,
    }  # fmt: skip


def test_versions_are_listed_for_people(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row each."""
    monkeypatch.setenv("COLUMNS", "200")
    list_models(settings, as_json=False)
    out = capsys.readouterr().out
    assert all(word in out for word in ("belt", "production", "320x320"))
