"""Denying tokens before they end, listing what is denied, and taking it back.

Rules: each change is recorded before it is made and after; every gateway on the same database follows by itself.
"""

import json
import sys
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy import Engine

from gateway.admission import token_lifetimes
from gateway.audit.details import format_detail
from gateway.audit.events import Action
from gateway.commands.opening import opened_store, operator_event, recorded, utc_now
from gateway.commands.revocation_order import (
    OrderInvalidError,
    RevocationOrder,
    TokenNames,
    denial_of,
    read_names,
)
from gateway.errors import Code, OperatorError, SettingsError
from gateway.identity.tokens import MAX_TOKEN_BYTES
from gateway.settings import GatewaySettings
from gateway.store.database import write_transaction
from gateway.store.queries.token_denials import (
    StoredDenial,
    find_denial,
    insert_denial,
    lift_denial,
    list_denials,
)
from gateway.store.records import TokenDenial

STANDARD_INPUT = Path("-")

_UNLIMITED_COLUMNS = 10_000
_MAX_FILE_BYTES = MAX_TOKEN_BYTES + 1024  # White space around it.


@dataclass(frozen=True, slots=True)
class Restored:
    """A denial that was lifted, and the ids of those in force that say the same."""

    denial: TokenDenial
    same_ids: tuple[int, ...]


def read_token_names(file: Path) -> TokenNames:
    """What names the one token in a file, or in standard input for "-"; nothing else of it is kept.

    Raises SettingsError if the file cannot be read or holds none.
    """
    try:
        if file == STANDARD_INPUT:
            content = sys.stdin.buffer.read(_MAX_FILE_BYTES)
        else:
            with file.open("rb") as opened:
                content = opened.read(_MAX_FILE_BYTES)
        return read_names(content)
    except OSError as exc:
        message = f"--token-file: cannot read {file}: {exc.strerror}"
        raise SettingsError(Code.SETTINGS_INVALID, message) from exc
    except OrderInvalidError as exc:
        raise SettingsError(Code.SETTINGS_INVALID, f"--token-file: {exc}") from exc


def revoke(settings: GatewaySettings, order: RevocationOrder) -> StoredDenial:
    """Deny what an order says, which was checked; a record before and after names it.

    Raises AuditUnavailableError if that cannot be recorded; nothing is denied then.
    """
    lifetimes = token_lifetimes(settings)
    event = operator_event(Action.TOKENS_REVOKE)
    denial = denial_of(
        order,
        token_max_lifetime_seconds=lifetimes.get(order.issuer, max(lifetimes.values())),
        now=utc_now(),
        created_by=event.subject or "",
    )
    detail = format_detail(**_pairs_of(denial))
    event = replace(event, token_id=denial.token_id, reason=denial.why, detail=detail)
    with opened_store(settings) as store, recorded(store, settings, event) as recording:
        with write_transaction(store) as connection:
            denial_id = insert_denial(connection, denial)
        recording.add(denial=denial_id)
        return StoredDenial(denial_id, denial)


def restore(settings: GatewaySettings, denial_id: int, *, why: str) -> Restored:
    """Take a denial back; a record before and after names it.

    Raises OperatorError if there is none of this id, or it was lifted already.
    """
    with opened_store(settings) as store:
        with store.connect() as connection:
            denial = find_denial(connection, denial_id)
        pairs = {} if denial is None else _pairs_of(denial)
        event = replace(
            operator_event(Action.TOKENS_RESTORE),
            token_id=None if denial is None else denial.token_id,
            reason=why,
            detail=format_detail(denial=denial_id, **pairs),
        )
        with recorded(store, settings, event):
            if denial is None:
                raise _unfit(f"there is no denial {denial_id}: `gateway token denied` lists them")
            return _restore(store, StoredDenial(denial_id, denial))


def _restore(store: Engine, stored: StoredDenial) -> Restored:
    now = utc_now()
    with write_transaction(store) as connection:
        is_lifted = lift_denial(connection, stored.id, now=now)
        standing = list_denials(connection, now=now, is_history_included=False)
    if not is_lifted:
        raise _unfit(f"denial {stored.id} was lifted before: `gateway token denied --all` shows it")
    same = (other.id for other in standing if _names(other.denial) == _names(stored.denial))
    return Restored(stored.denial, tuple(same))


def list_denied(settings: GatewaySettings, *, is_history_included: bool, as_json: bool) -> None:
    """Print the denials in force, or also those that ended or were lifted; the oldest first."""
    now = utc_now()
    with opened_store(settings) as store, store.connect() as connection:
        stored = list_denials(connection, now=now, is_history_included=is_history_included)
    if as_json:
        print(json.dumps([as_members(one, now=now) for one in stored]))
        return
    if not stored:
        Console(stderr=True).print("no token is denied")
        return
    table = Table("id", "state", "when", "denied", "by", "why", box=None, pad_edge=False)
    for one in stored:
        denial = one.denial
        when = _short(denial.lifted_at) if denial.lifted_at is not None else until(denial)
        state = _state(denial, now).replace("_", " ")
        cells = (str(one.id), state, when, describe(denial), denial.created_by, denial.why)
        table.add_row(*map(Text, cells))
    # As wide as its words: cut to the terminal it would name no token.
    Console(width=_UNLIMITED_COLUMNS).print(table)


def describe(denial: TokenDenial) -> str:
    """Which tokens a denial refuses, in words."""
    subject = "" if denial.subject is None else f" of {denial.subject}"
    if denial.token_id is not None:
        words = f"token {denial.token_id}{subject} from {denial.issuer}"
    elif denial.subject is not None:
        words = f"all tokens{subject} from {denial.issuer}"
    else:
        words = f"all tokens of everybody from {denial.issuer}"
    if denial.issued_before is not None:
        words += f", issued before {_short(denial.issued_before)}"
    return words


def _pairs_of(denial: TokenDenial) -> dict[str, str | None]:
    # By the names of a record's fields, so that a person's name becomes a pseudonym where those are wanted.
    before, ends = denial.issued_before, denial.ends_at
    return {
        "issuer": denial.issuer,
        "subject": denial.subject,
        "token": denial.token_id,
        "issued_before": None if before is None else _short(before),
        "ends_at": None if ends is None else _short(ends),
    }


def until(denial: TokenDenial) -> str:
    """How long a denial lasts, in words."""
    return "until restored" if denial.ends_at is None else f"until {_short(denial.ends_at)}"


def as_members(stored: StoredDenial, *, now: datetime) -> dict[str, Any]:
    """A denial as JSON; times are RFC 3339 in UTC. state: in_force, ended or lifted."""
    members = {
        name: value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(stored.denial).items()
    }
    return {"id": stored.id, "state": _state(stored.denial, now), **members}


def _state(denial: TokenDenial, now: datetime) -> str:
    if denial.lifted_at is not None:
        return "lifted"
    return "ended" if denial.ends_at is not None and denial.ends_at <= now else "in_force"


def _unfit(cause_and_fix: str) -> OperatorError:
    return OperatorError(Code.SETTINGS_INVALID, cause_and_fix)


def _names(denial: TokenDenial) -> tuple[str, str | None, str | None]:
    return denial.issuer, denial.subject, denial.token_id


def _short(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
