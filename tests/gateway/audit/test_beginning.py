"""Making what a ledger needs: whatever is missing, as often as it is asked for."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from gateway.audit.beginning import begin_ledger
from gateway.audit.creation import verifier_of_ledger
from gateway.audit.emergency import read_outage
from gateway.audit.keys import create_ledger_key
from gateway.commands.opening import utc_now
from gateway.errors import KeyFileError, LedgerError
from gateway.settings import GatewaySettings, read_settings
from tests.gateway.ledgers import begin_ledger as begin_with_test_key
from tests.gateway.ledgers import signed_sizes


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    """Settings with a key."""
    create_ledger_key(tmp_path / "ledger.key")
    return read_settings(
        {},
        audit_key_file=tmp_path / "ledger.key",
        audit_emergency_file=tmp_path / "emergency.audit",
    )


def test_ledger_and_file_are_made(sqlite_engine: Engine, settings: GatewaySettings) -> None:
    """Signed by the key of the settings."""
    begun = begin_ledger(sqlite_engine, settings, now=utc_now())
    assert (begun.adopted, begun.is_file_new) == (0, True)
    assert verifier_of_ledger(sqlite_engine, "gateway") == begun.signer.verifier.line()
    assert read_outage(settings.audit_emergency_file) is None


def test_what_is_there_is_kept(sqlite_engine: Engine, settings: GatewaySettings) -> None:
    """Operators run it again after a crash."""
    begin_ledger(sqlite_engine, settings, now=utc_now())
    begun = begin_ledger(sqlite_engine, settings, now=utc_now())
    assert (begun.adopted, begun.is_file_new) == (None, False)
    settings.audit_emergency_file.unlink()
    begun = begin_ledger(sqlite_engine, settings, now=utc_now())
    assert (begun.adopted, begun.is_file_new) == (None, True)
    assert signed_sizes(sqlite_engine) == [0]


def test_without_its_key_nothing_is_made(sqlite_engine: Engine, settings: GatewaySettings) -> None:
    """The message names it."""
    settings.audit_key_file.unlink()
    with pytest.raises(KeyFileError, match=r"there is no key .* `gateway keys create "):
        begin_ledger(sqlite_engine, settings, now=utc_now())
    assert not settings.audit_emergency_file.exists()
    assert verifier_of_ledger(sqlite_engine, "gateway") is None


def test_without_a_place_for_the_file_no_ledger_is_begun(
    sqlite_engine: Engine, settings: GatewaySettings, tmp_path: Path
) -> None:
    """A ledger that cannot be opened would only puzzle."""
    elsewhere = settings.model_copy(update={"audit_emergency_file": tmp_path / "absent" / "file"})
    with pytest.raises(LedgerError, match="it cannot be created: "):
        begin_ledger(sqlite_engine, elsewhere, now=utc_now())
    assert verifier_of_ledger(sqlite_engine, "gateway") is None


def test_a_ledger_of_another_key_is_told(sqlite_engine: Engine, settings: GatewaySettings) -> None:
    """It is not this one that was begun before."""
    begin_with_test_key(sqlite_engine)
    with pytest.raises(LedgerError, match="was begun with another key"):
        begin_ledger(sqlite_engine, settings, now=utc_now())
