"""Sealing with KEKs that can be opened only once in a process."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from gateway.commands.keys import create_one
from gateway.commands.opening import opened_store
from gateway.commands.seal_order import SealOrder
from gateway.commands.sealing import seal
from gateway.errors import KeyFileError
from gateway.settings import GatewaySettings
from gateway.store.queries.models import find_production_version
from tests.softhsm import PIN, SoftHsm

QUIET = Console(quiet=True)


def in_production(settings: GatewaySettings) -> str | None:
    """The version of belt that is."""
    with opened_store(settings) as store, store.connect() as connection:
        found = find_production_version(connection, "belt")
    return None if found is None else found.version


@pytest.fixture
def in_variable(
    settings: GatewaySettings, home: Path, monkeypatch: pytest.MonkeyPatch
) -> GatewaySettings:
    """Settings whose KEK stands in a variable."""
    monkeypatch.setenv("BELT_KEK", (home / "keys" / "kek").read_text(encoding="ascii").strip())
    return settings.model_copy(update={"keks": "env:BELT_KEK"})


@pytest.mark.parametrize("named", [(), ("env:BELT_KEK",)])
def test_a_kek_in_a_variable_seals_and_promotes(
    in_variable: GatewaySettings, order: SealOrder, named: tuple[str, ...]
) -> None:
    """It is taken once, whether the order names it too or not."""
    seal(in_variable, replace(order, is_promoted=True, kek_specs=named), console=QUIET)
    assert in_production(in_variable) == "2"


def test_what_promoting_needs_is_opened_before_the_long_part(
    settings: GatewaySettings, order: SealOrder
) -> None:
    """A variable that is missing costs no sealing."""
    away = settings.model_copy(update={"keks": "env:BELT_KEK_AWAY"})
    named = replace(order, is_promoted=True, kek_specs=(settings.keks,))
    with pytest.raises(KeyFileError, match="BELT_KEK_AWAY: the variable is not set"):
        seal(away, named, console=QUIET)
    assert not (settings.models_folder / "belt-2.sealed").exists()


def test_a_pin_in_a_variable_seals_and_promotes(
    settings: GatewaySettings,
    order: SealOrder,
    softhsm: SoftHsm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One PIN for two keys of a token."""
    uris = []
    for key in ("object=seal-a", "object=seal-b"):
        uri = softhsm.uri("gw", key=key)
        create_one(uri)
        uris.append(uri.partition("pin-source=")[0] + "pin-source=env:SEAL_PIN")
    monkeypatch.setenv("SEAL_PIN", PIN)
    with_token = settings.model_copy(update={"keks": ",".join(uris)})
    seal(with_token, replace(order, is_promoted=True), console=QUIET)
    assert in_production(with_token) == "2"
