"""When the writer signs: soon after a record, when asked, after many records, at the end; never in their way."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from gateway.audit import writer
from gateway.audit.checkpoints import SignedCheckpoint
from gateway.audit.events import AuditEvent
from gateway.audit.writer import AuditLog
from gateway.errors import AuditUnavailableError
from tests.gateway.audit.conftest import ORIGIN
from tests.gateway.audit.faults import Fault, Gate
from tests.gateway.audit.test_writer_faults import fill
from tests.gateway.ledgers import open_log, signed_sizes

MakeEvent = Callable[..., AuditEvent]
CheckLedger = Callable[[], list[str]]


class Handed:
    """Takes checkpoints, and says when one came."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.came = threading.Event()

    def __call__(self, signed: SignedCheckpoint) -> None:
        self.sizes.append(signed.checkpoint.size)
        self.came.set()


def test_a_record_is_signed_soon_after_it(
    engine: Engine, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """Without further records, and handed on."""
    handed = Handed()
    log = open_log(engine, ORIGIN, checkpoint_seconds=0.05, on_checkpoint=handed)
    log.append_blocking(make_event())
    assert handed.came.wait(20)
    assert signed_sizes(engine, ORIGIN) == [0, 1]
    assert (log.signed_size, log.size) == (1, 1)
    assert log.close()
    assert len(check_ledger()) == 1


def test_nothing_is_signed_while_nothing_is_written(engine: Engine) -> None:
    """A gateway that nobody calls leaves no trail of checkpoints, also at its end."""
    handed = Handed()
    log = open_log(engine, ORIGIN, checkpoint_seconds=0.01, on_checkpoint=handed)
    assert not handed.came.wait(0.2)
    assert log.close()
    assert signed_sizes(engine, ORIGIN) == [0]


def test_a_checkpoint_that_is_asked_for_covers_every_record(
    engine: Engine, audit_log: AuditLog, make_event: MakeEvent
) -> None:
    """Asked for again, it is the same one."""
    fill(audit_log, make_event, 3)
    first = audit_log.checkpoint_blocking()
    assert first.checkpoint.size == 3
    assert asyncio.run(audit_log.checkpoint()) == first
    assert signed_sizes(engine, ORIGIN) == [0, 3]


def test_a_checkpoint_covers_what_others_wrote(
    engine: Engine, audit_log: AuditLog, make_event: MakeEvent
) -> None:
    """Also where this process wrote nothing yet."""
    other = open_log(engine, ORIGIN, checkpoint_seconds=60)
    fill(other, make_event, 2)
    assert audit_log.checkpoint_blocking().checkpoint.size == 2
    assert other.close()
    assert signed_sizes(engine, ORIGIN) == [0, 2]


def test_what_is_not_signed_yet_is_signed_at_the_end(
    engine: Engine, audit_log: AuditLog, make_event: MakeEvent
) -> None:
    """So that a ledger at rest is covered whole."""
    fill(audit_log, make_event, 3)
    assert audit_log.close()
    assert signed_sizes(engine, ORIGIN) == [0, 3]


def test_many_records_are_signed_at_once(
    engine: Engine, make_event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not more than ten thousand are durable and unsigned, whatever the time."""
    assert writer._CHECKPOINT_RECORDS == 10_000
    monkeypatch.setattr(writer, "_CHECKPOINT_RECORDS", 5)
    handed = Handed()
    log = open_log(engine, ORIGIN, checkpoint_seconds=60, on_checkpoint=handed)
    fill(log, make_event, 12)
    assert handed.came.wait(20)
    assert log.close()
    assert handed.sizes[-1] == 12


def test_a_checkpoint_is_durable_before_it_is_handed_on(
    engine: Engine, make_event: MakeEvent
) -> None:
    """A witness never has what the ledger may lose."""
    stored: list[list[int]] = []
    log = open_log(
        engine,
        ORIGIN,
        checkpoint_seconds=60,
        on_checkpoint=lambda _signed: stored.append(signed_sizes(engine, ORIGIN)),
    )
    log.append_blocking(make_event())
    log.checkpoint_blocking()
    assert log.close()
    assert stored[0] == [0, 1]


def test_whoever_takes_checkpoints_cannot_end_the_writer(
    engine: Engine, make_event: MakeEvent, caplog: pytest.LogCaptureFixture
) -> None:
    """Its faults are logged; records and checkpoints go on."""

    def fail(_signed: SignedCheckpoint) -> None:
        raise ZeroDivisionError

    log = open_log(engine, ORIGIN, checkpoint_seconds=60, on_checkpoint=fail)
    log.append_blocking(make_event())
    assert log.checkpoint_blocking().checkpoint.size == 1
    assert log.append_blocking(make_event()) == 1
    assert log.checkpoint_blocking().checkpoint.size == 2
    assert log.close()
    assert "audit_checkpoint_not_handed_on" in caplog.text


def test_who_gave_up_on_a_checkpoint_does_not_end_the_writer(
    engine: Engine, make_event: MakeEvent
) -> None:
    """Neither on a loop nor blocking; what is signed then is signed."""
    log = open_log(engine, ORIGIN, checkpoint_seconds=60, timeout_seconds=0.05)
    gate = Gate(engine)
    asks = (
        log.checkpoint_blocking,
        log.checkpoint_blocking,
        lambda: asyncio.run(log.checkpoint()),
    )
    for ask in asks:
        with pytest.raises(AuditUnavailableError) as caught:
            ask()
        assert caught.value.reason == "the database took too long"
    # Nobody who is gone is signed for: the first was taken up already, the others wait.
    assert [True, True] == [wanted.cancelled() for wanted in log._wanted]
    gate.opened.set()
    log._timeout_seconds = 20
    assert log.append_blocking(make_event()) == 0
    assert log.checkpoint_blocking().checkpoint.size == 1
    assert log.close()


def test_who_waits_for_a_checkpoint_at_the_end_gets_it(
    engine: Engine, audit_log: AuditLog, make_event: MakeEvent
) -> None:
    """Closing waits for the writer, and the writer for nobody."""
    audit_log.append_blocking(make_event())
    gate = Gate(engine)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(audit_log.checkpoint_blocking)
        assert gate.reached.wait(20)
        second = pool.submit(audit_log.checkpoint_blocking)
        while not audit_log._wanted:
            pass
        assert not audit_log.close(timeout_seconds=0.01)
        gate.opened.set()
        assert [first.result(20).checkpoint.size, second.result(20).checkpoint.size] == [1, 1]
    assert audit_log.close()


def test_a_failed_signature_is_not_tried_with_every_record(
    engine: Engine, make_event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failure the time counts, and not how many records there are."""
    monkeypatch.setattr(writer, "_CHECKPOINT_RECORDS", 1)
    log = open_log(engine, ORIGIN, checkpoint_seconds=60)
    fault = Fault(engine, "insert checkpoint")
    for number in range(4):
        log.append_blocking(make_event(number))
    assert fault.struck == 1
    fault.mend()
    assert log.checkpoint_blocking().checkpoint.size == 4
    assert log.close()


def test_a_bug_in_signing_refuses_and_the_thread_lives(
    audit_log: AuditLog, make_event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no fault of the ledger."""

    def fail(*_: object) -> SignedCheckpoint:
        raise ZeroDivisionError

    audit_log.append_blocking(make_event())
    monkeypatch.setattr(audit_log._signer, "sign", fail)
    with pytest.raises(AuditUnavailableError) as caught:
        audit_log.checkpoint_blocking()
    monkeypatch.undo()
    assert caught.value.reason == "internal: signing failed"
    assert not audit_log.is_broken
    assert audit_log.checkpoint_blocking().checkpoint.size == 1
