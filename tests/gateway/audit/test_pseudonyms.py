"""Personal fields become keyed hashes that belong together and that only the key can look up."""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from gateway.audit.creation import create_ledger
from gateway.audit.entries import encode_event
from gateway.audit.events import MAX_CHARACTERS, Action, AuditEvent, Outcome
from gateway.audit.keys import create_ledger_key, load_ledger_signer
from gateway.audit.opened import open_audit_log
from gateway.audit.pseudonyms import (
    FIELDS,
    Pseudonyms,
    configured_pseudonyms,
    create_pseudonym_key,
    is_pseudonym,
    load_pseudonyms,
    stored_forms,
)
from gateway.errors import KeyFileError, SettingsError
from gateway.settings import GatewaySettings
from gateway.store.queries.audit import load_audit_records

KEY = bytes(range(32))
NOW = datetime(2030, 1, 1, tzinfo=UTC)
EVENT = AuditEvent(
    action=Action.PREDICT,
    outcome=Outcome.ANSWERED,
    recorded_at=NOW,
    issuer="https://idp.example",
    subject="camera-7",
    client_id="line-1",
    address="192.0.2.7",
    certificate_thumbprint="C" * 43,
    proof_key_thumbprint="P" * 43,
    detail="sha256=ab",
)


def pseudonyms(*fields: str) -> Pseudonyms:
    """With the key of these tests, of some fields or of all."""
    return Pseudonyms(key=KEY, fields=frozenset(fields or FIELDS))


def expected(field: str, value: str) -> str:
    """By the book: RFC 2104 over field, zero byte, value."""
    digest = hmac.new(KEY, f"{field}\0{value}".encode(), hashlib.sha256).digest()
    return "~" + urlsafe_b64encode(digest).decode()[:32]


def test_a_pseudonym_is_this_text() -> None:
    """Others can compute it from the key: an auditor's own tools, years later."""
    assert expected("subject", "camera-7") == pseudonyms().of("subject", "camera-7")
    assert is_pseudonym(pseudonyms().of("subject", "camera-7"))


def test_each_field_is_replaced_and_named() -> None:
    """What is stored holds none of the values, and says which are hashes."""
    event = pseudonyms().prepare(EVENT)
    for field in FIELDS:
        assert expected(field, getattr(EVENT, field)) == getattr(event, field)
    assert ",".join(FIELDS) == event.pseudonymised
    assert EVENT.issuer == event.issuer


def test_only_the_named_fields_are_replaced() -> None:
    """The operator decides which; the rest is as it was."""
    event = pseudonyms("subject").prepare(EVENT)
    subject = expected("subject", "camera-7")
    assert replace(EVENT, subject=subject, pseudonymised="subject") == event


def test_a_field_that_is_absent_is_not_named() -> None:
    """A record of nobody has no pseudonym."""
    nobody = replace(EVENT, subject=None)
    assert "address" == pseudonyms("subject", "address").prepare(nobody).pseudonymised
    assert nobody is pseudonyms("subject").prepare(nobody)


def test_equal_values_of_two_fields_do_not_show_as_equal() -> None:
    """A client id that equals a subject would otherwise tell that it does."""
    assert pseudonyms().of("subject", "x") != pseudonyms().of("client_id", "x")


def test_another_key_gives_others() -> None:
    """Without the key nobody can try names."""
    other = Pseudonyms(key=bytes(32), fields=frozenset(FIELDS))
    assert pseudonyms().of("subject", "x") != other.of("subject", "x")


def test_personal_values_of_a_detail_are_replaced_too() -> None:
    """What was searched for, or whose tokens were revoked, is a name as well."""
    event = replace(EVENT, detail="subject=camera%207 newest=20 address=192.0.2.7")
    prepared = pseudonyms("subject").prepare(event)
    hashed = expected("subject", "camera 7").replace(" ", "%20")
    assert f"subject={hashed} newest=20 address=192.0.2.7" == prepared.detail
    assert "subject,detail" == prepared.pseudonymised


def test_an_operators_account_is_a_name_and_the_program_is_none() -> None:
    """Rules tell programs apart by client id; the account is the person."""
    event = replace(EVENT, issuer="operating-system", subject="root", client_id="gateway-cli")
    prepared = pseudonyms().prepare(event)
    assert (expected("subject", "root"), "gateway-cli") == (prepared.subject, prepared.client_id)
    assert "client_id" not in (prepared.pseudonymised or "")


def test_all_names_of_fields_fit_the_record() -> None:
    """Cut, the list would name too few."""
    names = pseudonyms().prepare(replace(EVENT, detail="subject=x")).pseudonymised or ""
    assert len(names) <= MAX_CHARACTERS["pseudonymised"]


@given(st.text())
def test_any_text_has_a_pseudonym_that_is_stored_as_it_is(value: str) -> None:
    """Subjects are an issuer's to choose, lone surrogates included."""
    prepared = pseudonyms("subject").prepare(replace(EVENT, subject=value))
    assert encode_event(prepared).subject == pseudonyms().of("subject", value)


def test_a_key_file_is_made_once_and_read(tmp_path: Path) -> None:
    """Its mode is 0600, and it is never overwritten."""
    file = tmp_path / "pseudonym.key"
    create_pseudonym_key(file, random=lambda _count: KEY)
    loaded = load_pseudonyms(file, fields="subject, address")
    assert ("subject", "address") == loaded.fields
    assert expected("subject", "x") == loaded.of("subject", "x")
    assert 0o600 == file.stat().st_mode & 0o777
    with pytest.raises(KeyFileError, match="never overwritten"):
        create_pseudonym_key(file)


@pytest.mark.parametrize("content", [b"x", b"gatewatch-kek-v1:" + b"0" * 64 + b"\n"])
def test_a_file_of_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    """A KEK in its place would leave the house in hashes."""
    file = tmp_path / "pseudonym.key"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(KeyFileError, match="no key for pseudonyms"):
        load_pseudonyms(file, fields="subject")


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """Whoever reads it can undo every pseudonym by trying names."""
    file = tmp_path / "pseudonym.key"
    create_pseudonym_key(file)
    file.chmod(0o640)
    with pytest.raises(KeyFileError, match="0640"):
        load_pseudonyms(file, fields="subject")


def test_a_field_that_is_none_of_them_is_refused(tmp_path: Path) -> None:
    """A misspelt one would stay in the clear."""
    with pytest.raises(SettingsError, match="adress"):
        load_pseudonyms(tmp_path / "none", fields="subject,adress")


def test_both_forms_of_a_value_are_looked_for() -> None:
    """Records from before a key was named have the name itself; a pseudonym that was read off a record stays one."""
    known = pseudonyms("subject")
    hashed = expected("subject", "camera-7")
    assert (hashed, "camera-7") == stored_forms(known, "subject", "camera-7")
    assert ("192.0.2.7",) == stored_forms(known, "address", "192.0.2.7")
    assert (hashed,) == stored_forms(known, "subject", hashed)
    assert ("camera-7",) == stored_forms(None, "subject", "camera-7")


def test_a_ledger_with_a_key_stores_no_name(sqlite_engine: Engine, tmp_path: Path) -> None:
    """From the settings to the row, searchable column included."""
    create_pseudonym_key(tmp_path / "pseudonym.key")
    create_ledger_key(tmp_path / "ledger.key")
    create_ledger(
        sqlite_engine, load_ledger_signer(tmp_path / "ledger.key", origin="gateway"), now=NOW
    )
    settings = GatewaySettings(
        audit_key_file=tmp_path / "ledger.key",
        audit_emergency_file=tmp_path / "emergency.audit",
        audit_pseudonym_key_file=str(tmp_path / "pseudonym.key"),
    )
    log = open_audit_log(sqlite_engine, settings)
    log.append_blocking(EVENT)
    log.close()
    with sqlite_engine.connect() as connection:
        [record] = load_audit_records(connection, "gateway", limit=2)
    for value in ("camera-7", "line-1", "192.0.2.7"):
        assert value not in record.body
    pseudonym, plain = stored_forms(configured_pseudonyms(settings), "subject", "camera-7")
    assert (pseudonym, "camera-7") == (record.subject, plain)


def test_without_a_key_names_are_stored_as_they_are() -> None:
    """Nobody who did not ask for pseudonyms needs a key to read the ledger."""
    pseudonyms = configured_pseudonyms(GatewaySettings())
    assert ("camera-7",) == stored_forms(pseudonyms, "subject", "camera-7")


def test_a_key_that_is_missing_ends_the_start(sqlite_engine: Engine, tmp_path: Path) -> None:
    """Without it, names would be stored that were promised not to be."""
    create_ledger_key(tmp_path / "ledger.key")
    create_ledger(
        sqlite_engine, load_ledger_signer(tmp_path / "ledger.key", origin="gateway"), now=NOW
    )
    settings = GatewaySettings(
        audit_key_file=tmp_path / "ledger.key",
        audit_pseudonym_key_file=str(tmp_path / "pseudonym.key"),
    )
    with pytest.raises(KeyFileError, match="does not exist"):
        open_audit_log(sqlite_engine, settings)
