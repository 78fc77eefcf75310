"""One record as one line of an export. Pure.

Rules: a line is ASCII JSON without line breaks; a body is looked at before it is taken for what the ledger wrote.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from gateway.audit.entries import is_canonical
from gateway.audit.merkle import LogInvalidError, hash_leaf
from gateway.audit.ocsf import ocsf_event

# How the lines of each format begin.
LINE_BEGINNINGS = (b'{"activity_id":', b'{"origin":')

# What is encoded is made here, so it has no circles.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode


class ExportFormat(StrEnum):
    """What a line is: an event of the OCSF, or the record itself with its place."""

    OCSF = "ocsf"
    JSONL = "jsonl"


@dataclass(frozen=True, slots=True)
class Leaf:
    """A record: only what is hashed, its hash and its place."""

    origin: str
    position: int
    body: str
    leaf_hash: bytes


# Raises ValueError for a body that it cannot read.
LineWriter = Callable[[Leaf], str]


def checked_leaf(*, origin: str, position: int, body: object, leaf_hash: object) -> Leaf:
    """The record of stored values of any type. Raises LogInvalidError telling what is wrong with it."""
    if not isinstance(body, str) or not isinstance(leaf_hash, bytes):
        raise LogInvalidError("has values of wrong types")
    if not is_canonical(body):
        raise LogInvalidError("has a body that no release wrote")
    if hash_leaf(body.encode("ascii")) != leaf_hash:
        raise LogInvalidError("has another hash than its body")
    return Leaf(origin, position, body, leaf_hash)


def line_writer(export_format: ExportFormat, *, product_version: str) -> LineWriter:
    """What writes a record as a line, without the line's end. product_version: of this gateway."""
    if export_format is ExportFormat.JSONL:
        return _json_line

    def write(leaf: Leaf) -> str:
        event = ocsf_event(
            json.loads(leaf.body),
            origin=leaf.origin,
            position=leaf.position,
            leaf_hash=leaf.leaf_hash,
            product_version=product_version,
        )
        return _encode(event)

    return write


def _json_line(leaf: Leaf) -> str:
    # The body stands in the line as it was hashed, and none of its members has a name of these three: without them
    # the line is the body again.
    place = f'"origin":{_encode(leaf.origin)},"position":{leaf.position}'
    return f'{{{place},"leaf_hash":"{leaf.leaf_hash.hex()}",{leaf.body[1:]}'
