"""Opening a ledger by the settings; what witnesses do to it is tested with them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine

from gateway.audit.beginning import begin_ledger
from gateway.audit.checkpoints import SignedCheckpoint
from gateway.audit.emergency import EmergencyFile, read_outage
from gateway.audit.events import AuditEvent
from gateway.audit.keys import create_ledger_key
from gateway.audit.opened import open_audit_log
from gateway.commands.opening import utc_now
from gateway.errors import AuditUnavailableError, KeyFileError, LedgerError
from gateway.settings import GatewaySettings, read_settings
from tests.gateway.audit.faults import Fault
from tests.gateway.ledgers import begin_ledger as begin_with_test_key

MakeEvent = Callable[..., AuditEvent]


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    """Settings with a key."""
    create_ledger_key(tmp_path / "ledger.key")
    return read_settings(
        {},
        audit_key_file=tmp_path / "ledger.key",
        audit_emergency_file=tmp_path / "emergency.audit",
    )


def test_a_ledger_is_opened_as_the_settings_say(
    sqlite_engine: Engine, settings: GatewaySettings, make_event: MakeEvent
) -> None:
    """Its checkpoints go where they are wanted."""
    begin_ledger(sqlite_engine, settings, now=utc_now())
    handed: list[SignedCheckpoint] = []
    log = open_audit_log(sqlite_engine, settings, on_checkpoint=handed.append)
    assert log.append_blocking(make_event()) == 0
    assert log.close()
    assert [(s.checkpoint.origin, s.checkpoint.size) for s in handed] == [("gateway", 1)]


def test_a_ledger_that_was_never_begun_names_the_command(
    sqlite_engine: Engine, settings: GatewaySettings
) -> None:
    """Nothing begins one by itself: an emptied database would look like a new one."""
    with pytest.raises(LedgerError, match="run `gateway audit create` once") as caught:
        open_audit_log(sqlite_engine, settings)
    assert caught.value.reason == "missing"


def test_a_ledger_of_another_key_is_not_opened(
    sqlite_engine: Engine, settings: GatewaySettings
) -> None:
    """Readers trust one key for an origin."""
    begin_with_test_key(sqlite_engine)
    with pytest.raises(LedgerError, match="was begun with another key") as caught:
        open_audit_log(sqlite_engine, settings)
    assert caught.value.reason == "another key"


def test_a_ledger_without_its_key_is_not_opened(
    sqlite_engine: Engine, settings: GatewaySettings
) -> None:
    """Nothing could be signed."""
    begin_ledger(sqlite_engine, settings, now=utc_now())
    settings.audit_key_file.unlink()
    with pytest.raises(KeyFileError):
        open_audit_log(sqlite_engine, settings)


def test_an_outage_is_remembered_and_recorded_at_the_next_start(
    sqlite_engine: Engine, settings: GatewaySettings, make_event: MakeEvent
) -> None:
    """A gateway that ends during an outage leaves it to the next."""
    begin_ledger(sqlite_engine, settings, now=utc_now())
    path = settings.audit_emergency_file
    outages = partial(EmergencyFile, path, clock=utc_now)
    log = open_audit_log(sqlite_engine, settings, outages=outages)
    fault = Fault(sqlite_engine, "insert records")
    with pytest.raises(AuditUnavailableError):
        log.append_blocking(make_event())
    assert log.close()
    remembered = read_outage(path)
    assert remembered is not None
    assert remembered.causes == ("the database failed: OSError: the disk went away",)
    fault.mend()
    log = open_audit_log(sqlite_engine, settings, outages=outages)
    assert log.append_blocking(make_event()) == 1
    assert log.close()
    assert read_outage(path) is None


def test_a_missing_file_for_outages_closes_the_door(
    sqlite_engine: Engine, settings: GatewaySettings
) -> None:
    """It could not be made when it is needed."""
    begin_ledger(sqlite_engine, settings, now=utc_now())
    settings.audit_emergency_file.unlink()
    outages = partial(EmergencyFile, settings.audit_emergency_file, clock=utc_now)
    with pytest.raises(LedgerError, match="run `gateway audit create`"):
        open_audit_log(sqlite_engine, settings, outages=outages)
