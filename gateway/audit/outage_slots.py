"""An outage of the ledger, and the slots in which a file remembers it. Pure.

Rules: a slot is valid as a whole or as if it had not been written; outages that follow one another without a record
between them are one.

A slot is 4096 bytes: a SHA-256 and what it is over, which is a magic number, the sequence, the times since and until in
microseconds of UTC, the count of refused appends, and the causes, each ended by a newline; zeros fill it. The valid
slot with the largest sequence counts; one that refused nothing says that there is no outage. Zeros alone were never
written.
"""

import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from gateway.audit.entries import format_time
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.errors import Code

SLOT_BYTES = 4096
MAX_REFUSED = (1 << 63) - 1
# Three of 150 characters fit a record's reason.
MAX_CAUSES = 3
MAX_CAUSE_CHARACTERS = 150

_MAGIC = b"GWOUT-01"
_FIXED = struct.Struct(">8sQqqQH")  # Magic, sequence, since, until, refused, bytes of the causes.
_DIGEST_BYTES = 32
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which nothing could be recorded.

    since, until: UTC, of the first and the last refused append that is known. refused: appends, from 1. causes:
    distinct ones, in the order in which they came up.
    """

    since: datetime
    until: datetime
    refused: int
    causes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """What one slot says. outage: None where there is none, or no longer."""

    sequence: int
    outage: Outage | None


NEVER_WRITTEN = Slot(0, None)


def outage_of(moment: datetime, *, unverified_cause: str, refused: int) -> Outage:
    """What is known when this many appends are refused for one cause."""
    # One line, and what UTF-8 can hold: the causes stand in a file, one a line.
    cause = " ".join(unverified_cause.encode(errors="backslashreplace").decode().split())
    return Outage(moment, moment, refused, (cause[:MAX_CAUSE_CHARACTERS],))


def merged(first: Outage | None, second: Outage | None) -> Outage | None:
    """Both as one."""
    if first is None or second is None:
        return first or second
    return Outage(
        min(first.since, second.since),
        max(first.until, second.until),
        min(first.refused + second.refused, MAX_REFUSED),
        tuple(dict.fromkeys(first.causes + second.causes))[:MAX_CAUSES],
    )


def left_of(stored: Outage | None, recorded: Outage) -> Outage | None:
    """What of a stored outage is still to be recorded, once one is that was in the same place before."""
    if stored is None or stored.since > recorded.until:
        return stored
    if stored.refused <= recorded.refused:
        return None
    since, refused = min(recorded.until, stored.until), stored.refused - recorded.refused
    return Outage(since, stored.until, refused, stored.causes)


def outage_event(outage: Outage, *, recorded_at: datetime) -> AuditEvent:
    """The outage as a record says it."""
    since, until = format_time(outage.since), format_time(outage.until)
    return AuditEvent(
        action=Action.AUDIT_OUTAGE,
        outcome=Outcome.FAILED,
        recorded_at=recorded_at,
        code=Code.AUDIT_UNAVAILABLE,
        reason=f"the audit store was unavailable: {'; '.join(outage.causes)}",
        detail=f"since={since} until={until} refused={outage.refused}",
    )


def encode_slot(slot: Slot) -> bytes:
    """The bytes of a slot."""
    outage = slot.outage or Outage(_EPOCH, _EPOCH, 0, ())
    causes = "".join(f"{cause}\n" for cause in outage.causes).encode()
    since, until = ((moment - _EPOCH) // _MICROSECOND for moment in (outage.since, outage.until))
    fixed = _FIXED.pack(_MAGIC, slot.sequence, since, until, outage.refused, len(causes))
    content = (fixed + causes).ljust(SLOT_BYTES - _DIGEST_BYTES, b"\0")
    return sha256(content).digest() + content


def parse_slot(unverified_content: bytes) -> Slot | None:
    """What a slot says; None if it is torn or damaged."""
    if len(unverified_content) != SLOT_BYTES:
        return None
    if not unverified_content.strip(b"\0"):
        return NEVER_WRITTEN
    digest, content = unverified_content[:_DIGEST_BYTES], unverified_content[_DIGEST_BYTES:]
    if sha256(content).digest() != digest:
        return None
    magic, sequence, since, until, refused, length = _FIXED.unpack_from(content)
    if magic != _MAGIC:
        return None
    if refused == 0:
        return Slot(sequence, None)
    try:
        lines = content[_FIXED.size : _FIXED.size + length].decode().split("\n")
        moments = [_EPOCH + microseconds * _MICROSECOND for microseconds in (since, until)]
    except (ValueError, OverflowError):
        return None
    return Slot(sequence, Outage(moments[0], moments[1], refused, tuple(lines[:-1])))


def newest_slot(unverified_content: bytes) -> tuple[Slot, list[int]]:
    """What a file of slots says, and which of them are torn or damaged."""
    starts = range(0, len(unverified_content), SLOT_BYTES)
    parsed = [parse_slot(unverified_content[start : start + SLOT_BYTES]) for start in starts]
    newest = max((slot for slot in parsed if slot), key=lambda s: s.sequence, default=NEVER_WRITTEN)
    return newest, [number for number, slot in enumerate(parsed) if slot is None]
