"""Which keys of each issuer the ledger knows, and what it must hear of when they change.

Rules: a key is its id and a digest of the public key, so that another key under a known id shows; the ledger itself
says what was known, so a start tells only what is new since the last one.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from itertools import zip_longest

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.details import format_detail, parse_detail
from gateway.audit.events import MAX_CHARACTERS, Action, AuditEvent, Outcome
from gateway.audit.past import load_newest_details
from gateway.audit.waiting import unavailable
from gateway.audit.writer import AuditLog

# Issuers replace a handful of keys in a year; a set has 128 at most.
MAX_RECORDS = 20_000

KnownKeys = Mapping[str, str]


class IssuerKeyRecords:
    """Tells the ledger of every change of an issuer's keys; one a process, on one event loop."""

    def __init__(self, *, engine: Engine, audit: AuditLog, clock: Callable[[], datetime]) -> None:
        """Nothing is read yet; engine: the database of the ledger."""
        self._engine = engine
        self._audit = audit
        self._clock = clock
        self._known: dict[str, dict[str, str]] | None = None
        self._lock = asyncio.Lock()

    async def record(self, issuer: str, keys: KnownKeys) -> None:
        """Return once the ledger knows that these are the issuer's keys: by key id, a digest of each.

        Raises AuditUnavailableError if it cannot be written or read.
        """
        async with self._lock:
            known = await self._load()
            for detail in change_details(issuer, known.get(issuer, {}), keys):
                await self._audit.append(self._event(detail))
            known[issuer] = dict(keys)

    async def record_start(
        self, *, issuers: Collection[str], file_keys: Mapping[str, KnownKeys]
    ) -> None:
        """The same at a start, for keys that lie in files, and for issuers that are no longer trusted."""
        async with self._lock:
            known = set(await self._load())
        for issuer in sorted(known - set(issuers)):
            await self.record(issuer, {})
        for issuer, keys in file_keys.items():
            await self.record(issuer, keys)

    async def _load(self) -> dict[str, dict[str, str]]:
        if self._known is None:
            try:
                self._known = await asyncio.to_thread(self._read)
            except (SQLAlchemyError, ValueError) as exc:
                cause = f"the ledger cannot be read: {type(exc).__name__}"
                raise unavailable(cause) from exc
        return self._known

    def _read(self) -> dict[str, dict[str, str]]:
        with self._engine.connect() as connection:
            return load_known_keys(connection, self._audit.origin)

    def _event(self, detail: str) -> AuditEvent:
        return AuditEvent(
            action=Action.ISSUER_KEYS,
            outcome=Outcome.ANSWERED,
            recorded_at=self._clock(),
            detail=detail,
        )


def load_known_keys(connection: Connection, origin: str) -> dict[str, dict[str, str]]:
    """Of each issuer, the keys that this ledger knows: key id to digest. Raises SQLAlchemyError."""
    details = load_newest_details(connection, origin, Action.ISSUER_KEYS, limit=MAX_RECORDS)
    return replay(reversed(details))


def replay(details: Iterable[str]) -> dict[str, dict[str, str]]:
    """What is known after these details, the oldest first."""
    known: dict[str, dict[str, str]] = {}
    for detail in details:
        pairs = parse_detail(detail)
        for issuer in pairs.get("issuer", ()):
            keys = known.setdefault(issuer, {})
            for key_id in pairs.get("removed", ()):
                keys.pop(key_id, None)
            added = zip_longest(pairs.get("added", ()), pairs.get("digests", ()), fillvalue="")
            keys.update(added)
    return known


def change_details(issuer: str, before: KnownKeys, after: KnownKeys) -> list[str]:
    """The details of the records of one change, in order; none if nothing changed.

    A key that was replaced under its id is both removed and added. Several records where one has not the room.
    """
    changes = [("removed", key) for key in sorted(before) if after.get(key) != before[key]]
    changes += [("added", key) for key in sorted(after) if before.get(key) != after[key]]
    details: list[str] = []
    taken: list[tuple[str, str]] = []
    for change in changes:
        if taken and len(_detail(issuer, [*taken, change], after)) > MAX_CHARACTERS["detail"]:
            details.append(_detail(issuer, taken, after))
            taken = []
        taken.append(change)
    return [*details, _detail(issuer, taken, after)] if taken else []


def _detail(issuer: str, changes: Iterable[tuple[str, str]], after: KnownKeys) -> str:
    by_kind: dict[str, list[str]] = {"removed": [], "added": []}
    for kind, key_id in changes:
        by_kind[kind].append(key_id)
    added = by_kind["added"]
    detail = format_detail(
        issuer=issuer,
        removed=by_kind["removed"],
        added=added,
        digests=[after[key_id] for key_id in added],
    )
    return detail or ""
