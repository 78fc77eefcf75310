"""Checking ledgers: what is printed, what is recorded, and what exits with 1."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import delete, update

from gateway.audit.checkpoints import Checkpoint, sign_checkpoint
from gateway.audit.events import Action
from gateway.audit.keys import load_ledger_signer
from gateway.audit.merkle import EMPTY_ROOT
from gateway.audit.notes import NoteCosigner, NoteSigner
from gateway.commands.audit_verify import VerifyOrder, verify
from gateway.commands.opening import opened_store, operator_event
from gateway.errors import Code, LedgerError, OperatorError
from gateway.settings import GatewaySettings
from gateway.store.database import write_transaction
from gateway.store.queries.audit_trees import find_newest_checkpoint
from gateway.store.tables import audit_checkpoints, audit_records
from tests.gateway.ledgers import begin_ledger, open_log

Ledger = Callable[[], list[dict[str, Any]]]
PLAIN = VerifyOrder()
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"\x0b" * 32)


def change(settings: GatewaySettings, position: int, **values: object) -> None:
    """Change one record as somebody with access to the database would; without values, remove it."""
    at = audit_records.c.position == position
    statement = update(audit_records).where(at).values(**values) if values else None
    with opened_store(settings) as store, write_transaction(store) as connection:
        connection.execute(delete(audit_records).where(at) if statement is None else statement)


def signer_of(settings: GatewaySettings) -> NoteSigner:
    """What signs the home's ledger."""
    return load_ledger_signer(settings.audit_key_file, origin="gateway")


def newest_note(settings: GatewaySettings) -> bytes:
    """The home's newest checkpoint."""
    with opened_store(settings) as store, store.connect() as connection:
        stored = find_newest_checkpoint(connection, "gateway")
    assert stored is not None
    return stored.note.encode()


def refuse_records(settings: GatewaySettings) -> None:
    """Make the database take no more records."""
    with opened_store(settings) as store, write_transaction(store) as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER t BEFORE INSERT ON audit_records BEGIN SELECT RAISE(FAIL, 'no'); END"
        )


def checked(settings: GatewaySettings, capsys: pytest.CaptureFixture[str], **order: Any) -> Any:
    """What a check tells programs about the one ledger that it checked."""
    capsys.readouterr()
    verify(settings, VerifyOrder(**order), as_json=True)
    [found] = json.loads(capsys.readouterr().out)["ledgers"]
    return found


def test_a_good_ledger_is_called_good(
    settings: GatewaySettings, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    """With how many records it has; the check's own record comes after."""
    count = len(ledger())
    verify(settings, PLAIN, as_json=False)
    assert capsys.readouterr().out.startswith(f"gateway: {count} records, all good; root ")


def test_the_check_is_recorded(settings: GatewaySettings, ledger: Ledger) -> None:
    """Once, after it, with what was checked."""
    count = len(ledger())
    verify(settings, PLAIN, as_json=True)
    assert [(r["action"], r["outcome"], r["detail"]) for r in ledger()][-1:] == [
        ("audit.verify", "answered", f"ledgers=gateway records={count}")
    ]
    assert count + 1 == len(ledger())


def test_programs_get_one_json_value(
    settings: GatewaySettings, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the newest checkpoint, to be kept elsewhere."""
    count = len(ledger())
    verify(settings, PLAIN, as_json=True)
    result = json.loads(capsys.readouterr().out)
    found = result["ledgers"][0]
    assert 64 == len(found.pop("root"))
    assert found.pop("checkpoint").startswith(f"gateway\n{count}\n")
    assert {
        "ledgers": [
            {
                "origin": "gateway",
                "begun_at": 0,
                "good_records": count,
                "checkpoint_size": count,
                "unsigned_records": 0,
                "witnessed_size": count,
                "signatures_checked": True,
                "first_bad": None,
            }
        ],
        "other_ledgers": [],
    } == result


@pytest.mark.parametrize(
    ("values", "kind"), [({"leaf_hash": b"\x07" * 32}, "changed"), ({}, "missing")]
)
def test_the_first_bad_record_is_located(
    settings: GatewaySettings,
    ledger: Ledger,
    capsys: pytest.CaptureFixture[str],
    values: dict[str, object],
    kind: str,
) -> None:
    """On standard output for programs, in the error for people; nothing is written on top of it."""
    before = len(ledger()) - (0 if values else 1)
    change(settings, 1, **values)
    with pytest.raises(LedgerError, match="gateway: record 1 is bad: ") as caught:
        verify(settings, PLAIN, as_json=True)
    assert Code.LEDGER_BROKEN is caught.value.code
    [found] = json.loads(capsys.readouterr().out)["ledgers"]
    assert 1 == found["good_records"]
    bad = found["first_bad"]
    assert (1, 1, kind) == (bad["position"], bad["last_position"], bad["kind"])
    assert kind == caught.value.reason
    assert before == len(ledger())


def test_a_range_is_named_where_no_single_record_can_be(settings: GatewaySettings) -> None:
    """A checkpoint that somebody took the root of leaves open which record it was."""
    note = sign_checkpoint(Checkpoint("gateway", 3, b"\7" * 32), signer_of(settings))
    with opened_store(settings) as store, write_transaction(store) as connection:
        connection.execute(delete(audit_checkpoints).where(audit_checkpoints.c.size > 0))
        connection.execute(
            audit_checkpoints.insert().values(origin="gateway", size=3, note=note.decode())
        )
    with pytest.raises(LedgerError, match="gateway: a record from 0 to 2 is bad: "):
        verify(settings, PLAIN, as_json=False)


def test_an_empty_ledger_is_not_called_good(settings: GatewaySettings, ledger: Ledger) -> None:
    """It may have been emptied; and it stays as it was found."""
    with opened_store(settings) as store, write_transaction(store) as connection:
        connection.execute(delete(audit_records))
        connection.execute(delete(audit_checkpoints).where(audit_checkpoints.c.size > 0))
    alone = settings.model_copy(update={"audit_witness_file": ""})
    with pytest.raises(LedgerError, match="gateway: no records: nothing ran yet, or"):
        verify(alone, PLAIN, as_json=False)
    assert [] == ledger()


def test_a_ledger_under_another_name_is_pointed_at(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever checks the wrong one learns which there are; hostile names are escaped."""
    other = settings.model_copy(update={"audit_origin": "elsewhere"})
    with pytest.raises(LedgerError) as caught:
        verify(other, PLAIN, as_json=False)
    assert (
        "elsewhere: no records, but there are gateway: set GATEWAY_AUDIT_ORIGIN"
        == caught.value.message
    )
    with opened_store(settings) as store, write_transaction(store) as connection:
        connection.exec_driver_sql(
            "INSERT INTO audit_ledgers VALUES (?, 'no key', '2031-05-06')", ("\x1b[2J",)
        )
    capsys.readouterr()
    verify(settings, PLAIN, as_json=False)
    assert capsys.readouterr().out.endswith("\nnot checked: \\x1b[2J\n")


def test_a_ledger_that_takes_no_record_is_checked_all_the_same(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a read-only copy is: the finding is printed, and that no record was left."""
    refuse_records(settings)
    verify(settings, PLAIN, as_json=False)
    out, err = capsys.readouterr()
    assert " records, all good" in out
    assert "gateway: the check could not be recorded in this database (the database failed" in err


def test_a_copy_is_checked_with_the_public_key_alone(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A security team has no private key; a file of keys does as well."""
    line = signer_of(settings).verifier.line()
    settings.audit_key_file.unlink()
    assert checked(settings, capsys, keys=[line])["signatures_checked"]
    file = tmp_path / "keys"
    file.write_text(f"{NoteSigner('other', OTHER_KEY).verifier.line()}\n{line}\n")
    with pytest.raises(LedgerError, match="other: no records"):
        verify(settings, VerifyOrder(keys=[str(file)]), as_json=False)
    verify(settings, VerifyOrder(keys=[line]), as_json=False)
    assert "could not be recorded in this database (key_invalid)" in capsys.readouterr().err


def test_another_key_finds_nothing_good(settings: GatewaySettings) -> None:
    """The checkpoints must be signed by the key that was named."""
    line = NoteSigner("gateway", OTHER_KEY).verifier.line()
    with pytest.raises(LedgerError, match=r"record 0 is bad: .* names another key") as caught:
        verify(settings, VerifyOrder(keys=[line]), as_json=False)
    assert "ledger_differs" == caught.value.reason


def test_without_any_key_it_is_said_what_to_do(settings: GatewaySettings) -> None:
    """A check without signatures would call a forged ledger good."""
    settings.audit_key_file.unlink()
    with pytest.raises(OperatorError, match=r"GATEWAY_AUDIT_KEY_FILE: .* with --key") as caught:
        verify(settings, PLAIN, as_json=False)
    assert Code.KEY_INVALID is caught.value.code


@pytest.mark.parametrize("text", ["nothing", "gateway+00000000+AAAA"])
def test_what_is_no_key_is_refused(settings: GatewaySettings, text: str) -> None:
    """Neither a line nor a file."""
    with pytest.raises(OperatorError, match=r"--key: .* is neither a public key"):
        verify(settings, VerifyOrder(keys=[text]), as_json=False)


def test_a_file_without_good_keys_is_refused(settings: GatewaySettings, tmp_path: Path) -> None:
    """A witness's key is none of a ledger."""
    (tmp_path / "keys").write_text(NoteCosigner("witness", OTHER_KEY).verifier.line())
    with pytest.raises(OperatorError, match="must hold public keys of ledgers, one a line"):
        verify(settings, VerifyOrder(keys=[str(tmp_path / "keys")]), as_json=False)


def test_a_check_goes_on_where_the_last_one_ended(
    settings: GatewaySettings, ledger: Ledger, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Its newest checkpoint is kept, and what was checked is not read again."""
    file = tmp_path / "checked.note"
    count = len(ledger())
    verify(settings, VerifyOrder(save_file=file), as_json=False)
    assert newest_note(settings) != file.read_bytes()
    change(settings, 1, subject="not looked at")
    found = checked(settings, capsys, from_file=file, save_file=file)
    assert (count, count + 1) == (found["begun_at"], found["good_records"])
    assert file.read_bytes().startswith(f"gateway\n{count + 1}\n".encode())
    verify(settings, VerifyOrder(from_file=file), as_json=False)
    assert f"; the first {count + 1} as checked before" in capsys.readouterr().out
    with pytest.raises(LedgerError, match="record 1 is bad"):
        verify(settings, PLAIN, as_json=False)


def test_what_was_changed_under_a_kept_checkpoint_is_found(
    settings: GatewaySettings, tmp_path: Path
) -> None:
    """Stored hashes must still lead to it; if not, the check begins at the first record."""
    file = tmp_path / "checked.note"
    verify(settings, VerifyOrder(save_file=file), as_json=False)
    change(settings, 1, leaf_hash=b"\7" * 32)
    with pytest.raises(LedgerError, match="record 1 is bad"):
        verify(settings, VerifyOrder(from_file=file), as_json=False)


def test_a_kept_checkpoint_needs_the_ledgers_signature(
    settings: GatewaySettings, tmp_path: Path
) -> None:
    """Anybody could have put the file there."""
    file = tmp_path / "checked.note"
    signer = NoteSigner("gateway", OTHER_KEY)
    file.write_bytes(sign_checkpoint(Checkpoint("gateway", 0, EMPTY_ROOT), signer))
    with pytest.raises(OperatorError, match=r"--from: .* is no checkpoint that a ledger"):
        verify(settings, VerifyOrder(from_file=file), as_json=False)


def test_a_file_with_something_else_is_not_overwritten(
    settings: GatewaySettings, tmp_path: Path
) -> None:
    """Nor is a newer checkpoint by an older one."""
    file = tmp_path / "checked.note"
    file.write_text("my notes")
    with pytest.raises(OperatorError, match=r"--save: .* holds something else"):
        verify(settings, VerifyOrder(save_file=file), as_json=False)
    assert "my notes" == file.read_text()
    newer = sign_checkpoint(Checkpoint("gateway", 1 << 40, b"\7" * 32), signer_of(settings))
    file.write_bytes(newer)
    verify(settings, VerifyOrder(save_file=file), as_json=False)
    assert newer == file.read_bytes()


def test_a_file_that_cannot_be_written_is_named(settings: GatewaySettings, tmp_path: Path) -> None:
    """With the reason."""
    with pytest.raises(OperatorError, match=r"--save: .* cannot be written: No such file"):
        verify(settings, VerifyOrder(save_file=tmp_path / "no" / "checked"), as_json=False)


@pytest.mark.parametrize("is_configured", [False, True])
def test_a_witness_shows_that_records_are_gone(
    settings: GatewaySettings, ledger: Ledger, tmp_path: Path, *, is_configured: bool
) -> None:
    """Named on the command line or configured: a ledger put back is whole by itself."""
    size = len(ledger())
    file = tmp_path / "witness.note"
    file.write_bytes(newest_note(settings))
    with opened_store(settings) as store, write_transaction(store) as connection:
        connection.execute(delete(audit_records).where(audit_records.c.position >= size - 1))
        connection.execute(delete(audit_checkpoints).where(audit_checkpoints.c.size >= size))
    order = PLAIN if is_configured else VerifyOrder(witness_files=[file])
    configured = str(file) if is_configured else ""
    changed = settings.model_copy(update={"audit_witness_file": configured})
    with pytest.raises(LedgerError, match=f"record {size - 1} is bad: .* as others have") as caught:
        verify(changed, order, as_json=False)
    assert "rolled_back" == caught.value.reason


def test_a_witness_that_agrees_is_told(
    settings: GatewaySettings, ledger: Ledger, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With the size up to which it does."""
    file = tmp_path / "witness.note"
    file.write_bytes(newest_note(settings))
    count = len(ledger())
    verify(settings, VerifyOrder(witness_files=[file]), as_json=False)
    assert capsys.readouterr().out.endswith(f"; a witness agrees up to {count}\n")


def test_a_configured_witness_that_is_not_there_is_told(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Somebody may have taken it away."""
    configured = settings.model_copy(update={"audit_witness_file": str(tmp_path / "none")})
    verify(configured, PLAIN, as_json=False)
    assert "so it bears no witness" in capsys.readouterr().err


def test_a_configured_witness_with_something_else_is_a_finding(
    settings: GatewaySettings, tmp_path: Path
) -> None:
    """Whoever rolls a ledger back may spoil what would show it."""
    (tmp_path / "witness").write_text("nothing")
    changed = settings.model_copy(update={"audit_witness_file": str(tmp_path / "witness")})
    with pytest.raises(LedgerError, match="holds no checkpoint") as caught:
        verify(changed, PLAIN, as_json=False)
    assert "witness" == caught.value.reason


def test_all_ledgers_are_checked(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with its key; where none is known, it is said that signatures were not checked."""
    with opened_store(settings) as store:
        for origin in ("line-2", "line-3"):
            log = open_log(store, origin)
            log.append_blocking(operator_event(Action.AUDIT_READ))
            assert log.close()
        line = begin_ledger(store, "line-2").verifier.line()
    verify(settings, VerifyOrder(keys=[line], is_all=True), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert [("gateway", True), ("line-2", True), ("line-3", False)] == [
        (ledger["origin"], ledger["signatures_checked"]) for ledger in found["ledgers"]
    ]
    assert [] == found["other_ledgers"]
    verify(settings, VerifyOrder(keys=[line], is_all=True), as_json=False)
    assert "line-3: 1 records, all good" in (out := capsys.readouterr().out)
    assert out.endswith("; signatures not checked: name its public key with --key\n")


def test_records_of_no_ledger_are_found(settings: GatewaySettings) -> None:
    """Somebody may have put them under a name that none can have, or taken the ledger's row away."""
    with opened_store(settings) as store, write_transaction(store) as connection:
        connection.exec_driver_sql("UPDATE audit_records SET origin = 'no name' WHERE position = 3")
    with pytest.raises(LedgerError, match="no name: record 0 is bad: no ledger can have this name"):
        verify(settings, VerifyOrder(is_all=True), as_json=False)


def test_records_of_no_ledger_are_told_of_without_being_asked(settings: GatewaySettings) -> None:
    """Beside a good ledger: a reader could take them for its own."""
    with opened_store(settings) as store:
        begin_ledger(store, "gateway.")
        log = open_log(store, "gateway.")
        log.append_blocking(operator_event(Action.AUDIT_READ))
        assert log.close()
        verify(settings, VerifyOrder(), as_json=False)
        with write_transaction(store) as connection:
            connection.exec_driver_sql("DELETE FROM audit_ledgers WHERE origin = 'gateway.'")
    with pytest.raises(LedgerError, match=r"records of gateway\., which nobody began as a ledger"):
        verify(settings, VerifyOrder(), as_json=False)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO audit_checkpoints VALUES (cast(x'ff' AS TEXT), 1, 'note')",
        "INSERT INTO audit_ledgers VALUES ('another', 'key', 'no time')",
    ],
)
def test_a_row_that_no_gateway_writes_ends_in_words(
    settings: GatewaySettings, statement: str
) -> None:
    """Whatever it is, it is told or beside the point; the verdict comes."""
    with opened_store(settings) as store, write_transaction(store) as connection:
        connection.exec_driver_sql(statement)
    with suppress(LedgerError):
        verify(settings, VerifyOrder(), as_json=False)


def test_one_file_keeps_one_ledger(settings: GatewaySettings, tmp_path: Path) -> None:
    """Where the check of several ended is not kept."""
    with opened_store(settings) as store:
        begin_ledger(store, "line-2")
    with pytest.raises(OperatorError, match="--save: one file"):
        verify(settings, VerifyOrder(is_all=True, save_file=tmp_path / "checked"), as_json=False)


def test_a_witness_of_a_ledger_without_a_key_is_refused(
    settings: GatewaySettings, tmp_path: Path
) -> None:
    """Its signature cannot be checked, and without that it says nothing."""
    file = tmp_path / "witness.note"
    signer = NoteSigner("line-2", OTHER_KEY)
    file.write_bytes(sign_checkpoint(Checkpoint("line-2", 0, EMPTY_ROOT), signer))
    with pytest.raises(OperatorError, match=r"--witness: .* is no checkpoint that a ledger"):
        verify(settings, VerifyOrder(witness_files=[file]), as_json=False)


def test_a_file_that_is_not_there_is_named(settings: GatewaySettings, tmp_path: Path) -> None:
    """A witness that was to be asked and cannot be is no agreement."""
    with pytest.raises(OperatorError, match=r"--witness: .* cannot be read: it is not there"):
        verify(settings, VerifyOrder(witness_files=[tmp_path / "none"]), as_json=False)
