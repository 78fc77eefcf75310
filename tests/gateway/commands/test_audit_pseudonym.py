"""Looking up what a name is called in the ledger."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.operators import account_name
from gateway.audit.pseudonyms import (
    configured_pseudonyms,
    create_pseudonym_key,
    stored_forms,
)
from gateway.commands.audit_pseudonym import look_up
from gateway.commands.models import promote
from gateway.errors import SettingsError
from gateway.settings import GatewaySettings

Ledger = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def hashing(settings: GatewaySettings, tmp_path: Path) -> GatewaySettings:
    """The settings of a home whose ledger has pseudonyms."""
    create_pseudonym_key(tmp_path / "pseudonym.key")
    return settings.model_copy(update={"audit_pseudonym_key_file": str(tmp_path / "pseudonym.key")})


def pseudonym_of(settings: GatewaySettings, field: str, value: str) -> str:
    """As new records have it."""
    return stored_forms(configured_pseudonyms(settings), field, value)[0]


def test_a_name_is_looked_up_and_that_is_on_record(
    hashing: GatewaySettings, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who asked and for whom, both as the ledger calls them."""
    look_up(hashing, "subject", "camera-7")
    hashed = pseudonym_of(hashing, "subject", "camera-7")
    assert f"{hashed}\n" == capsys.readouterr().out
    last = ledger()[-1]
    assert ("audit.read", "answered") == (last["action"], last["outcome"])
    assert f"lookup=pseudonym subject={hashed}" == last["detail"]
    assert pseudonym_of(hashing, "subject", account_name()) == last["subject"]
    assert "camera-7" not in json.dumps(last)


def test_operators_are_pseudonyms_too(hashing: GatewaySettings, ledger: Ledger) -> None:
    """Of every command, keys used included."""
    before = len(ledger())
    promote(hashing, name="belt", version="1")
    subjects = {body["subject"] for body in ledger()[before:]}
    assert {pseudonym_of(hashing, "subject", account_name())} == subjects


def test_a_field_that_is_no_pseudonym_is_said_so(hashing: GatewaySettings) -> None:
    """A hash of it would find nothing."""
    with pytest.raises(SettingsError, match="certificate_thumbprint stands in the ledger as it is"):
        look_up(hashing, "certificate_thumbprint", "C" * 43)


def test_without_a_key_there_is_nothing_to_look_up(settings: GatewaySettings) -> None:
    """With the setting that would name one."""
    with pytest.raises(SettingsError, match="GATEWAY_AUDIT_PSEUDONYM_KEY_FILE names no key"):
        look_up(settings, "subject", "camera-7")
