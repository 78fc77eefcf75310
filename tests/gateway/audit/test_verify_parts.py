"""Sharing a check among processes: the same is found as by one, whoever checks which part."""

import pytest
from sqlalchemy import Engine

from gateway.audit import verify_parts
from gateway.audit.verify import verify_ledger
from gateway.audit.verify_faults import VerifyResult
from gateway.audit.verify_range import RangeOrder, Subject, check_range
from tests.gateway.audit.signed_ledger import ORIGIN, newest_checkpoint, run, write_ledger
from tests.gateway.ledgers import signer_of

KEYS = (signer_of(ORIGIN).verifier,)
SUBJECT = Subject(origin=ORIGIN, verifiers=KEYS)


@pytest.fixture
def ledger(sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """1,700 records: six parts and a rest, with checkpoints in, between and behind parts."""
    monkeypatch.setattr(verify_parts, "PART_RECORDS", 256)
    write_ledger(sqlite_engine, 100, 412, 488, 24, 600, unsigned=76)
    return sqlite_engine


def verify(engine: Engine, workers: int, **options: object) -> VerifyResult:
    """Check by this many processes."""
    return verify_ledger(engine, ORIGIN, verifiers=KEYS, workers=workers, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("begun", [0, 100])
def test_a_good_ledger_is_good(ledger: Engine, begun: int) -> None:
    """Everything about it is what one process finds; progress goes up to all."""
    trusted = newest_checkpoint(ledger, up_to_size=begun) if begun else None
    held = [newest_checkpoint(ledger, up_to_size=1000), newest_checkpoint(ledger)]
    seen: list[int] = []
    result = verify(
        ledger,
        2,
        trusted=trusted,
        witnessed=held,
        on_progress=lambda count, _total: seen.append(count),
    )
    assert verify(ledger, 1, trusted=trusted, witnessed=held) == result
    assert (begun, 1700, 76, 1624, None) == (
        result.begun_at,
        result.count,
        result.unsigned,
        result.witnessed_size,
        result.first_bad,
    )
    assert sorted(seen) == seen
    assert 1700 == seen[-1]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_records SET subject = NULL WHERE position = 1300",
        "DELETE FROM audit_records WHERE position IN (300, 1300)",
        "UPDATE audit_nodes SET node_hash = X'07' WHERE number = 0",
        "DELETE FROM audit_nodes WHERE number = 3",
        "UPDATE audit_checkpoints SET note = 'x' WHERE size = 1024",
    ],
)
def test_the_same_fault_is_found(ledger: Engine, statement: str) -> None:
    """By whichever process, and also where a part began at a hash that was changed."""
    run(ledger, statement)
    alone = verify(ledger, 1)
    assert alone.first_bad is not None
    assert alone == verify(ledger, 2)


def order(engine: Engine, start: int, end: int) -> RangeOrder:
    """A part."""
    return RangeOrder(
        database_url=engine.url.render_as_string(hide_password=False),
        subject=SUBJECT,
        start=start,
        end=end,
    )


def test_a_good_part_is_reported(ledger: Engine) -> None:
    """With the trees before and behind it."""
    report = check_range(order(ledger, 512, 1024))
    assert report is not None
    assert (512, 1024, 1024) == (
        report.before.size,
        report.after.size,
        report.agreed.size if report.agreed else None,
    )
    first = check_range(order(ledger, 0, 512))
    assert first is not None
    assert report.before == first.after


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_records SET subject = NULL WHERE position = 600",
        "DELETE FROM audit_records WHERE position = 600",
        "UPDATE audit_nodes SET node_hash = X'07' WHERE number = 2",
        "DELETE FROM audit_nodes WHERE number = 1",
        "DELETE FROM audit_nodes WHERE number = 2",
        "UPDATE audit_checkpoints SET note = 'x' WHERE size = 1000",
        "DROP TABLE audit_checkpoints",
    ],
)
def test_a_part_with_anything_wrong_is_not_reported(ledger: Engine, statement: str) -> None:
    """What it is, whoever goes on alone says."""
    run(ledger, statement)
    assert check_range(order(ledger, 512, 1024)) is None


def test_a_part_behind_another_tree_does_not_count(ledger: Engine) -> None:
    """Somebody wrote the whole beginning anew with its nodes: each part fits, but not the one before."""
    run(
        ledger,
        "UPDATE audit_nodes SET node_hash ="
        " (SELECT node_hash FROM audit_nodes WHERE number = 1) WHERE number = 0",
    )
    assert check_range(order(ledger, 512, 768)) is not None
    fault = verify(ledger, 2).first_bad
    assert fault is not None
    assert (0, 255) == (fault.position, fault.last)
