"""A process looks at its witnesses before it writes, keeps them up to date, and says what is wrong with them."""

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, text

from gateway.audit import witness_url
from gateway.audit.checkpoints import SignedCheckpoint
from gateway.audit.creation import create_ledger
from gateway.audit.history import LedgerHistory
from gateway.audit.keys import create_ledger_key, load_ledger_signer
from gateway.audit.notes import Verifier
from gateway.audit.opened import open_audit_log
from gateway.audit.places import WitnessDisagreementError, WitnessUnavailableError
from gateway.audit.witness_file import WitnessFile, read_witness_file
from gateway.audit.witnesses import Witnesses, begin_missing_file
from gateway.audit.writer import AuditLog
from gateway.commands.opening import utc_now
from gateway.errors import AuditUnavailableError, Code, LedgerError, SettingsError
from gateway.metrics import GatewayMetrics
from gateway.settings import GatewaySettings
from gateway.store.database import open_database, write_transaction
from tests.gateway.audit.witness_world import copy_database, event


@pytest.fixture
def settings(sqlite_engine: Engine, tmp_path: Path) -> GatewaySettings:
    """A ledger that was begun, and a witness file in a folder of its own, which is not there yet."""
    (tmp_path / "witness").mkdir()
    settings = GatewaySettings(
        audit_key_file=tmp_path / "ledger.key",
        audit_witness_file=str(tmp_path / "witness" / "gateway.checkpoint"),
        audit_checkpoint_seconds=0.05,
    )
    create_ledger_key(settings.audit_key_file)
    signer = load_ledger_signer(settings.audit_key_file, origin="gateway")
    create_ledger(sqlite_engine, signer, now=utc_now())
    return settings


def witness_file(settings: GatewaySettings) -> Path:
    """Where it is."""
    return Path(settings.audit_witness_file)


def held(settings: GatewaySettings) -> int | None:
    """The size in the witness file."""
    signer = load_ledger_signer(settings.audit_key_file, origin="gateway")
    signed = read_witness_file(witness_file(settings), signer.verifier)
    return None if signed is None else signed.checkpoint.size


def command(engine: Engine, settings: GatewaySettings, count: int = 1, word: str = "a") -> None:
    """What a command does: open the ledger, append, close."""
    audit = open_audit_log(engine, settings)
    for number in range(count):
        audit.append_blocking(event(f"{word}-{number}"))
    assert audit.close()


def witness_records(engine: Engine) -> list[dict[str, Any]]:
    """What the ledger says of its witnesses."""
    query = text("SELECT body FROM audit_records WHERE action = 'audit.witness' ORDER BY position")
    with engine.connect() as connection:
        return [json.loads(body) for body in connection.execute(query).scalars()]


def _verifier(settings: GatewaySettings) -> Verifier:
    return load_ledger_signer(settings.audit_key_file, origin="gateway").verifier


def _until(is_so: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + 20.0
    while not is_so():
        assert time.monotonic() < ends_at
        time.sleep(0.01)


@pytest.fixture
def older(sqlite_engine: Engine, settings: GatewaySettings, tmp_path: Path) -> Iterator[Engine]:
    """A copy of the database from before the last five records, which the witness file has seen."""
    command(sqlite_engine, settings)
    copy = copy_database(sqlite_engine, tmp_path / "older.db")
    command(sqlite_engine, settings, 5)
    engine = open_database(f"sqlite:///{copy}")
    yield engine
    engine.dispose()


class Serving:
    """What the gateway does, until close()."""

    def __init__(self, engine: Engine, settings: GatewaySettings) -> None:
        self.metrics = GatewayMetrics(CollectorRegistry())
        self.witnesses = Witnesses(settings, engine, metrics=self.metrics)
        self.audit: AuditLog = open_audit_log(engine, settings, on_checkpoint=self.witnesses.offer)
        self.witnesses.start(self.audit)

    def close(self) -> None:
        """In the order of the composition root."""
        assert self.audit.close()
        self.witnesses.close()

    def metric(self, name: str, **labels: str) -> float | None:
        """One sample."""
        return self.metrics.registry.get_sample_value(name, labels)


def test_a_command_leaves_its_checkpoint_in_the_file(
    sqlite_engine: Engine, settings: GatewaySettings
) -> None:
    """The first one begins the file, and the ledger says so."""
    command(sqlite_engine, settings, 3)
    assert 4 == held(settings)
    command(sqlite_engine, settings, 2)
    assert 6 == held(settings)
    (record,) = witness_records(sqlite_engine)
    assert "answered" == record["outcome"]
    assert f"place=file file={witness_file(settings)}" == record["detail"]


def test_a_file_that_was_removed_is_on_record_and_begun_anew(
    sqlite_engine: Engine, settings: GatewaySettings, caplog: pytest.LogCaptureFixture
) -> None:
    """The ledger remembers that there was one, and nobody is refused for it."""
    command(sqlite_engine, settings)
    witness_file(settings).unlink()
    with caplog.at_level(logging.ERROR):
        command(sqlite_engine, settings)
    assert 4 == held(settings)
    record = witness_records(sqlite_engine)[-1]
    assert ("failed", "ledger_broken") == (record["outcome"], record["code"])
    assert "is gone: it was kept before" in record["reason"]
    assert "audit_witness_disagreement" in caplog.text


def test_a_file_of_another_name_is_a_beginning(
    sqlite_engine: Engine, settings: GatewaySettings, tmp_path: Path
) -> None:
    """Moving to another volume is legitimate."""
    command(sqlite_engine, settings)
    moved = settings.model_copy(update={"audit_witness_file": str(tmp_path / "moved")})
    command(sqlite_engine, moved)
    assert ["answered", "answered"] == [r["outcome"] for r in witness_records(sqlite_engine)]


def test_two_that_begin_it_at_once_are_no_loss(
    sqlite_engine: Engine, settings: GatewaySettings
) -> None:
    """The second has seen that it is missing, and finds it begun and on record."""
    audit = open_audit_log(sqlite_engine, settings)
    history = LedgerHistory(sqlite_engine, _verifier(settings))
    file = WitnessFile(witness_file(settings), history=history)
    begin_missing_file(audit, history, file, now=utc_now())
    assert audit.close()
    assert ["answered"] == [record["outcome"] for record in witness_records(sqlite_engine)]


def test_without_a_witness_nothing_is_written(
    sqlite_engine: Engine, settings: GatewaySettings
) -> None:
    """As delivered."""
    command(sqlite_engine, settings.model_copy(update={"audit_witness_file": ""}))
    assert not witness_file(settings).exists()
    assert [] == witness_records(sqlite_engine)


def test_a_ledger_that_was_rolled_back_is_not_opened(
    older: Engine, settings: GatewaySettings
) -> None:
    """The message says what is wrong and what to do, and the older copy gets no record on top."""
    before = LedgerHistory(older, _verifier(settings)).size()
    with pytest.raises(LedgerError) as caught:
        command(older, settings)
    assert Code.LEDGER_BROKEN is caught.value.code
    assert "it has 2 records, and 7 were signed" in caught.value.message
    assert str(witness_file(settings)) in caught.value.message
    assert "restore the database" in caught.value.message
    assert before == LedgerHistory(older, _verifier(settings)).size()


def test_a_ledger_that_was_rolled_back_and_has_grown_again_is_not_opened(
    older: Engine, settings: GatewaySettings
) -> None:
    """Somebody ran it without its witness; the sizes alone would not show it."""
    command(older, settings.model_copy(update={"audit_witness_file": ""}), 9, word="b")
    with pytest.raises(LedgerError, match="does not go on from what the witness file"):
        command(older, settings)


def test_a_ledger_that_was_cut_is_not_opened(
    sqlite_engine: Engine, settings: GatewaySettings
) -> None:
    """Records and checkpoints, all the way to a size that was signed before."""
    command(sqlite_engine, settings, 2)
    command(sqlite_engine, settings, 2)
    with write_transaction(sqlite_engine) as connection:
        connection.execute(text("DELETE FROM audit_records WHERE position >= 3"))
        connection.execute(text("DELETE FROM audit_checkpoints WHERE size > 3"))
    with pytest.raises(LedgerError, match="it has 3 records, and 5 were signed"):
        command(sqlite_engine, settings)


def test_the_same_cut_is_not_seen_without_a_witness(
    sqlite_engine: Engine, settings: GatewaySettings
) -> None:
    """Which is what a witness is for."""
    alone = settings.model_copy(update={"audit_witness_file": ""})
    command(sqlite_engine, alone, 3)
    command(sqlite_engine, alone, 2)
    with write_transaction(sqlite_engine) as connection:
        connection.execute(text("DELETE FROM audit_records WHERE position >= 3"))
        connection.execute(text("DELETE FROM audit_checkpoints WHERE size > 3"))
    command(sqlite_engine, alone)


def test_a_file_that_is_no_checkpoint_of_this_ledger_refuses_and_is_kept(
    sqlite_engine: Engine, settings: GatewaySettings
) -> None:
    """Two gateways that were given the same file would undo each other."""
    witness_file(settings).write_text("something else\n", encoding="ascii")
    with pytest.raises(LedgerError, match="move this one away"):
        command(sqlite_engine, settings)
    assert "something else\n" == witness_file(settings).read_text(encoding="ascii")


def test_a_file_that_cannot_be_read_refuses_with_the_settings_name(
    sqlite_engine: Engine, settings: GatewaySettings
) -> None:
    """A volume that is not mounted is not a first start."""
    shutil.rmtree(witness_file(settings).parent)
    with pytest.raises(SettingsError, match=r"GATEWAY_AUDIT_WITNESS_FILE: .*mount"):
        command(sqlite_engine, settings)


def test_a_database_that_fails_is_told_by_what_cannot_be_written(
    sqlite_engine: Engine, settings: GatewaySettings
) -> None:
    """Opening goes on; nothing is recorded, signed or said against the ledger."""
    command(sqlite_engine, settings)
    before = witness_file(settings).read_bytes()
    with write_transaction(sqlite_engine) as connection:
        connection.execute(text("ALTER TABLE audit_records RENAME TO away"))
    with pytest.raises(AuditUnavailableError):
        command(sqlite_engine, settings)
    assert before == witness_file(settings).read_bytes()
    witness_file(settings).unlink()
    with pytest.raises(AuditUnavailableError):
        command(sqlite_engine, settings)


def test_what_could_not_be_compared_at_first_is_before_anything_is_signed(
    older: Engine, settings: GatewaySettings
) -> None:
    """The database failed for a moment at the start; the older copy gets no second history all the same."""
    with write_transaction(older) as connection:
        connection.execute(text("ALTER TABLE audit_records RENAME TO away"))
    audit = open_audit_log(older, settings)
    with write_transaction(older) as connection:
        connection.execute(text("ALTER TABLE away RENAME TO audit_records"))
    before = LedgerHistory(older, _verifier(settings)).newest()
    with pytest.raises(AuditUnavailableError) as caught:
        audit.checkpoint_blocking()
    assert "and 7 were signed" in caught.value.reason
    assert audit.is_broken
    assert before == LedgerHistory(older, _verifier(settings)).newest()
    audit.close()


def test_a_gateway_keeps_the_file_up_to_date(
    sqlite_engine: Engine, settings: GatewaySettings
) -> None:
    """The last checkpoint, of its end, included; and the metrics say so."""
    serving = Serving(sqlite_engine, settings)
    serving.audit.append_blocking(event("a"))
    serving.close()
    assert 2 == held(settings)
    assert 2.0 == serving.metric("gateway_audit_checkpoint_size")
    assert 2.0 == serving.metric("gateway_audit_witness_size", place="file")
    assert 0.0 == serving.metric("gateway_audit_witness_lag_seconds", place="file")
    assert 0.0 == serving.metric("gateway_audit_unsigned_records")
    assert 0.0 == serving.metric("gateway_audit_witness_failures_total", place="file")
    assert (serving.metric("gateway_audit_checkpoint_timestamp_seconds") or 0.0) > 0.0


def test_a_file_that_is_removed_while_serving_is_on_record(
    sqlite_engine: Engine, settings: GatewaySettings
) -> None:
    """And in the metrics; the calls go on."""
    serving = Serving(sqlite_engine, settings)
    serving.audit.append_blocking(event("a"))
    first = serving.audit.checkpoint_blocking()
    _until(lambda: held(settings) == first.checkpoint.size)
    witness_file(settings).unlink()
    serving.audit.append_blocking(event("b"))
    name = "gateway_audit_witness_disagreements_total"
    _until(lambda: serving.metric(name, place="file") == 1.0)
    _until(lambda: len(witness_records(sqlite_engine)) == 2)
    serving.close()
    assert "failed" == witness_records(sqlite_engine)[-1]["outcome"]
    assert serving.audit.size == held(settings)


def test_a_disagreement_while_serving_is_recorded_once(
    sqlite_engine: Engine, settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is met; each time is counted."""
    url = FakeUrl()
    monkeypatch.setattr(witness_url, "WitnessUrl", lambda *_args, **_options: url)
    both = settings.model_copy(update={"audit_witness_url": "https://witness.example"})
    serving = Serving(sqlite_engine, both)
    url.error = WitnessDisagreementError("the witness has 9 records, and this ledger has 3")
    serving.audit.append_blocking(event("a"))
    _until(lambda: url.asked >= 3)
    serving.close()
    reasons = [record["reason"] for record in witness_records(sqlite_engine)[1:]]
    assert [str(url.error)] == reasons
    assert (serving.metric("gateway_audit_witness_disagreements_total", place="url") or 0) >= 2


def test_a_witness_that_disagrees_keeps_the_gateway_closed(
    sqlite_engine: Engine, settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked before anything is written."""
    url = FakeUrl(WitnessDisagreementError("it holds 9 records, and this ledger has 0"))
    monkeypatch.setattr(witness_url, "WitnessUrl", lambda *_args, **_options: url)
    both = settings.model_copy(update={"audit_witness_url": "https://witness.example"})
    with pytest.raises(LedgerError, match="it holds 9 records"):
        Serving(sqlite_engine, both)
    assert 0 == LedgerHistory(sqlite_engine, _verifier(settings)).size()


def test_a_witness_that_is_away_does_not(
    sqlite_engine: Engine, settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, counted, and asked again."""
    url = FakeUrl(WitnessUnavailableError("away"))
    monkeypatch.setattr(witness_url, "WitnessUrl", lambda *_args, **_options: url)
    both = settings.model_copy(update={"audit_witness_url": "https://witness.example"})
    serving = Serving(sqlite_engine, both)
    serving.audit.append_blocking(event("a"))
    serving.close()
    assert (serving.metric("gateway_audit_witness_failures_total", place="url") or 0) >= 1
    assert (serving.metric("gateway_audit_witness_lag_seconds", place="url") or 0) > 0
    assert 0.0 == serving.metric("gateway_audit_witness_lag_seconds", place="file")


class FakeUrl:
    """A witness over HTTPS that fails as told."""

    name = "url"

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked = 0

    def publish(self, signed: SignedCheckpoint) -> int:
        """Place.publish."""
        self.asked += 1
        if self.error is not None:
            raise self.error
        return signed.checkpoint.size
