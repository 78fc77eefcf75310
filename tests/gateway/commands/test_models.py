"""Listing and promoting in a home of its own."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from gateway.audit.details import parse_detail
from gateway.commands.models import (
    direct_traffic,
    list_models,
    promote,
    retire,
    roll_back,
    share_text,
    show_model,
)
from gateway.commands.opening import open_keks, open_trusted_signers, opened_store
from gateway.commands.seal_order import SealOrder
from gateway.commands.sealing import seal
from gateway.errors import Code, RegistryError, SealError
from gateway.settings import GatewaySettings
from gateway.store.queries.models import find_production_version, list_model_versions
from gateway.store.records import Traffic
from tests.gateway.sealed_versions import conveyor_facts, seal_version

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
    assert [(r["action"], r["outcome"], r["model_version"]) for r in ledger()][-9:] == [
        ("models.seal", "admitted", "2"),
        ("keys.use", "answered", "2"),
        ("models.seal", "answered", "2"),
        ("models.promote", "admitted", "2"),
        ("keys.use", "answered", "2"),
        ("models.promote", "answered", "2"),
        ("models.promote", "admitted", "1"),
        ("keys.use", "answered", "1"),
        ("models.promote", "answered", "1"),
    ]


def test_what_was_sealed_and_promoted_is_named_by_its_digest(
    settings: GatewaySettings, order: SealOrder, ledger: Ledger
) -> None:
    """Which weights, signed by whom, opened by which KEK."""
    seal(settings, order, console=QUIET)
    promote(settings, name="belt", version="2")
    with opened_store(settings) as store, store.connect() as connection:
        found = find_production_version(connection, "belt")
    assert found is not None
    (kek,) = (kek.kek_id for kek in open_keks(settings))
    (signer,) = (trusted.signer_id for trusted in open_trusted_signers(settings))
    weights = f"sha256={found.plaintext_sha256} signer={signer}"
    assert [
        None,
        f"kek={kek} use=seal-model signer={signer}",
        f"{weights} engine=openvino precision=f32",
        None,
        f"kek={kek} use=open-model",
        weights,
    ] == [body["detail"] for body in ledger()][-6:]


def test_operators_are_named_in_the_ledger(ledger: Ledger) -> None:
    """By the operating system's word."""
    first = next(record for record in ledger() if record["action"].startswith("models."))
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
    """A row each, which a narrow terminal neither cuts nor breaks."""
    monkeypatch.setenv("COLUMNS", "20")
    name, version = "b" * 63, "2026.11.21+" + "v" * 52
    facts, payload = conveyor_facts(name, version)
    seal_version(settings, facts, payload, keys=settings.trusted_signers_folder.parent)
    list_models(settings, as_json=False)
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split() == [
        "model", "version", "stage", "traffic", "engine", "precision", "registered", "(UTC)",
    ]  # fmt: skip
    assert [row.split()[:5] for row in rows] == [
        ["belt", "1", "production", "openvino", "f32"],
        [name, version, "candidate", "openvino", "f32"],
    ]


@pytest.fixture
def two(settings: GatewaySettings) -> GatewaySettings:
    """Settings of a home where belt@2 is registered beside belt@1."""
    keys = settings.trusted_signers_folder.parent
    seal_version(settings, *conveyor_facts("belt", "2"), keys=keys)
    return settings


def test_a_rollback_goes_one_promotion_back(two: GatewaySettings, ledger: Ledger) -> None:
    """And is refused when there is none, which is on record."""
    promote(two, name="belt", version="2")
    assert roll_back(two, name="belt") == "1"
    assert stages(two) == {"1": "production", "2": "retired"}
    assert [(r["action"], r["outcome"], r["model_version"]) for r in ledger()][-3:] == [
        ("models.rollback", "admitted", "1"),
        ("keys.use", "answered", "1"),
        ("models.rollback", "answered", "1"),
    ]
    with pytest.raises(RegistryError, match="promote the one you want") as caught:
        roll_back(two, name="belt")
    assert caught.value.code is Code.MODEL_CONFLICT
    refused = [(r["action"], r["outcome"], r["model_name"], r["code"]) for r in ledger()][-2:]
    assert refused == [
        ("models.rollback", "admitted", "belt", None),
        ("models.rollback", "failed", "belt", "model_conflict"),
    ]


def test_traffic_is_given_and_taken(two: GatewaySettings, ledger: Ledger) -> None:
    """What was asked for is on record; retiring takes it as well."""
    direct_traffic(two, name="belt", version="2", traffic=Traffic.CANARY, share=0.05)
    assert stages(two) == {"1": "production", "2": "candidate"}
    retire(two, name="belt", version="2")
    assert stages(two) == {"1": "production", "2": "retired"}
    asked = [(r["action"], r["outcome"], parse_detail(r["detail"])) for r in ledger()][-5:]
    weights = asked[-1][2]
    assert {"sha256"} == set(weights)
    canary = {"traffic": ("canary",), "share": ("0.05",)}
    (action, outcome, given) = asked[2]
    assert ("models.traffic", "admitted", canary) == asked[0]
    assert ("models.traffic", "answered") == (action, outcome)
    assert {**canary, **weights} == {name: given[name] for name in (*canary, "sha256")}
    assert [("models.retire", "admitted", {}), ("models.retire", "answered", weights)] == asked[3:]


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0001, "0.01%"), (0.05, "5%"), (1 / 3, "33.3333%"), (0.999999, "99.9999%")],
)
def test_a_share_is_shown_with_the_digits_that_it_has(share: float, text: str) -> None:
    """A small one is not nothing, and a large one not everything."""
    assert text == share_text(share)


def test_a_version_that_does_not_open_gets_no_requests(
    two: GatewaySettings, ledger: Ledger
) -> None:
    """Neither all nor some of them: it is tried here before the registry changes."""
    file = two.models_folder / "belt-2.sealed"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(SealError):
        promote(two, name="belt", version="2")
    with pytest.raises(SealError):
        direct_traffic(two, name="belt", version="2", traffic=Traffic.SHADOW, share=1.0)
    assert stages(two) == {"1": "production", "2": "candidate"}
    assert [(r["action"], r["outcome"], r["code"]) for r in ledger()][-1:] == [
        ("models.traffic", "failed", "sealed_model_refused")
    ]


def test_what_is_in_production_is_not_retired(two: GatewaySettings) -> None:
    """There would be nothing left to answer."""
    with pytest.raises(RegistryError, match="is in production"):
        retire(two, name="belt", version="1")


def test_a_model_is_shown_to_programs(
    two: GatewaySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what its sealed headers say, or why they say nothing, and where a rollback goes."""
    promote(two, name="belt", version="2")
    (two.models_folder / "belt-1.sealed").unlink()
    capsys.readouterr()
    show_model(two, name="belt", as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["name"], shown["rollback_to"]) == ("belt", "1")
    one, second = shown["versions"]
    assert "cannot be read" in one["file_fault"]
    assert (second["stage"], second["gates"], second["decode"]) == (
        "production", {"parity": "passed"}, "full",
    )  # fmt: skip
    assert second["made_with"] == {"openvino": "2026"}
    assert second["classes"] == len(conveyor_facts("belt", "2")[1].names)


def test_a_model_is_shown_to_people(
    two: GatewaySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Line by line."""
    show_model(two, name="belt", as_json=False)
    out = capsys.readouterr().out
    assert "belt@2" in out
    assert "  gates: parity passed" in out
    assert "a rollback goes to: nothing, none was in production before" in out


def test_a_model_that_is_not_there_is_not_shown(settings: GatewaySettings) -> None:
    """Its name is told."""
    with pytest.raises(RegistryError, match="no version of gate is registered"):
        show_model(settings, name="gate", as_json=False)
