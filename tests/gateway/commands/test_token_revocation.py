"""Revoking, listing and restoring tokens, between two records each."""

import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from gateway.commands.opening import opened_store
from gateway.commands.revocation_order import RevocationOrder, TokenNames
from gateway.commands.token_revocation import (
    as_members,
    list_denied,
    read_token_names,
    restore,
    revoke,
)
from gateway.errors import AuditUnavailableError, OperatorError, SettingsError
from gateway.identity.issue import issue_token, load_signing_key
from gateway.settings import GatewaySettings
from gateway.store.database import write_transaction
from gateway.store.queries.token_denials import StoredDenial, list_denials, load_active
from gateway.store.records import TokenDenial

Ledger = Callable[[], list[dict[str, Any]]]
ISSUER = "https://gatewatch.localhost"
TOKEN = RevocationOrder(issuer=ISSUER, subject="camera-7", token_id="token-1", why="leaked")
SUBJECT = RevocationOrder(issuer=ISSUER, subject="camera-7", why="left")


def active(settings: GatewaySettings) -> list[TokenDenial]:
    """What gateways would read."""
    with opened_store(settings) as store, store.connect() as connection:
        return list(load_active(connection, now=datetime.now(UTC)))


def records(ledger: Ledger) -> list[tuple[Any, ...]]:
    """What the ledger says of tokens."""
    members = ("action", "outcome", "client_id", "token_id", "reason", "detail")
    return [
        tuple(body.get(member) for member in members)
        for body in ledger()
        if body["action"].startswith("tokens.")
    ]


def test_a_revoked_token_is_denied_and_on_record(settings: GatewaySettings, ledger: Ledger) -> None:
    """Who did it is the operating system's word, as everywhere."""
    stored = revoke(settings, TOKEN)
    assert [stored.denial] == active(settings)
    assert ("token-1", "camera-7", "leaked") == (
        stored.denial.token_id, stored.denial.subject, stored.denial.why,
    )  # fmt: skip
    assert stored.denial.ends_at is not None
    ends_at = stored.denial.ends_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    detail = f"issuer={ISSUER} subject=camera-7 token=token-1 ends_at={ends_at}"
    who = ("gateway-cli", "token-1", "leaked")
    assert [
        ("tokens.revoke", "admitted", *who, detail),
        ("tokens.revoke", "answered", *who, f"{detail} denial={stored.id}"),
    ] == records(ledger)
    assert {stored.denial.created_by} == {
        body["subject"] for body in ledger() if body["action"] == "tokens.revoke"
    }


def test_what_cannot_be_recorded_is_not_done(settings: GatewaySettings) -> None:
    """A change of who may call leaves a trace or is not made."""
    with opened_store(settings) as store, write_transaction(store) as connection:
        connection.execute(text("ALTER TABLE audit_records RENAME TO away"))
    with pytest.raises(AuditUnavailableError):
        revoke(settings, TOKEN)
    assert [] == active(settings)


def test_a_restored_token_passes_again_and_that_is_on_record(
    settings: GatewaySettings, ledger: Ledger
) -> None:
    """With what it was that is restored, and why."""
    stored = revoke(settings, TOKEN)
    restored = restore(settings, stored.id, why="a false alarm")
    assert (stored.denial, ()) == (restored.denial, restored.same_ids)
    assert [] == active(settings)
    *_, detail = records(ledger)[0]
    said = ("gateway-cli", "token-1", "a false alarm", f"denial={stored.id} {detail}")
    assert [
        ("tokens.restore", "admitted", *said),
        ("tokens.restore", "answered", *said),
    ] == records(ledger)[2:]


def test_restoring_names_what_still_denies_the_same(settings: GatewaySettings) -> None:
    """Whoever restores one of two would wonder why the token is still refused."""
    first, second, other = (revoke(settings, order) for order in (TOKEN, TOKEN, SUBJECT))
    assert (second.id,) == restore(settings, first.id, why="found").same_ids
    assert [second.denial, other.denial] == active(settings)


def test_a_denial_that_is_not_there_cannot_be_restored(
    settings: GatewaySettings, ledger: Ledger
) -> None:
    """Unknown, or lifted before; the attempt is on record."""
    with pytest.raises(OperatorError, match="there is no denial 7"):
        restore(settings, 7, why="found")
    assert ["admitted", "failed"] == [outcome for _, outcome, *_ in records(ledger)]
    stored = revoke(settings, SUBJECT)
    restore(settings, stored.id, why="found")
    with pytest.raises(OperatorError, match=f"denial {stored.id} was lifted before"):
        restore(settings, stored.id, why="found")


def test_the_list_shows_what_is_in_force_or_everything(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """With ids to restore by, states and times."""
    lifted = revoke(settings, TOKEN)
    restore(settings, lifted.id, why="found")
    standing = revoke(settings, SUBJECT)
    list_denied(settings, is_history_included=False, as_json=True)
    (shown,) = json.loads(capsys.readouterr().out)
    assert (standing.id, "in_force", "camera-7", None) == (
        shown["id"], shown["state"], shown["subject"], shown["ends_at"],
    )  # fmt: skip
    assert standing.denial.created_at == datetime.fromisoformat(shown["created_at"])
    list_denied(settings, is_history_included=True, as_json=True)
    states = [one["state"] for one in json.loads(capsys.readouterr().out)]
    assert ["lifted", "in_force"] == states
    list_denied(settings, is_history_included=True, as_json=False)
    out = capsys.readouterr().out
    assert f"token token-1 of camera-7 from {ISSUER}" in out
    assert "until restored" in out


def test_a_denial_that_ended_says_so() -> None:
    """From the moment of its end."""
    now = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    denial = TokenDenial(
        issuer=ISSUER,
        subject=None,
        token_id="token-1",
        issued_before=None,
        ends_at=now,
        why="leaked",
        created_at=now,
        created_by="root",
    )
    stored = StoredDenial(1, denial)
    assert "ended" == as_members(stored, now=now)["state"]
    assert "in_force" == as_members(stored, now=now - timedelta(microseconds=1))["state"]


@pytest.fixture
def token(home: Path) -> str:
    """A token that leaked."""
    return issue_token(
        signing_key=load_signing_key(home / "keys" / "token.key"),
        issuer=ISSUER,
        audience="gatewatch",
        subject="camera-7",
        client_id="belt",
        roles=["client"],
        lifetime_seconds=60,
        now=datetime.now(UTC),
        token_id="token-1",
    )


def test_a_tokens_names_come_from_a_file_or_standard_input(
    token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever does not leave it in the shell's history."""
    file = tmp_path / "leaked.jwt"
    file.write_text(token)
    found = read_token_names(file)
    assert TokenNames(ISSUER, "camera-7", "token-1", found.ends_at) == found
    assert found.ends_at is not None
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(token.encode())))
    assert found == read_token_names(Path("-"))


def test_a_file_that_holds_no_token_is_refused(tmp_path: Path) -> None:
    """However large it is; what it holds is not shown."""
    file = tmp_path / "leaked.jwt"
    with pytest.raises(SettingsError, match="--token-file: cannot read"):
        read_token_names(file)
    file.write_bytes(b"secret " * 100_000)
    with pytest.raises(SettingsError, match="--token-file: this is no access token") as caught:
        read_token_names(file)
    assert "secret" not in str(caught.value)


def test_the_token_itself_is_stored_nowhere(
    settings: GatewaySettings, token: str, tmp_path: Path, ledger: Ledger
) -> None:
    """Neither in the deny list nor in the ledger, not even its signature."""
    file = tmp_path / "leaked.jwt"
    file.write_text(token)
    names = read_token_names(file)
    revoke(
        settings,
        RevocationOrder(
            issuer=names.issuer, subject=names.subject, token_id=names.token_id, why="leaked"
        ),
    )
    with opened_store(settings) as store, store.connect() as connection:
        listed = list_denials(connection, now=datetime.now(UTC), is_history_included=True)
    for part in token.split("."):
        assert part not in repr(listed)
        assert part not in json.dumps(ledger())
