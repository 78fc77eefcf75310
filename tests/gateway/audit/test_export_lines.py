"""One record as one line."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.entries import encode_event
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.export_lines import (
    LINE_BEGINNINGS,
    ExportFormat,
    Leaf,
    checked_leaf,
    line_writer,
)
from gateway.audit.merkle import LogInvalidError, hash_leaf

TIME = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)


def leaf_of(subject: str = "alice", origin: str = "gw-1", position: int = 7) -> Leaf:
    """A record."""
    event = AuditEvent(
        action=Action.PREDICT, outcome=Outcome.ANSWERED, recorded_at=TIME, subject=subject
    )
    entry = encode_event(event)
    return Leaf(origin, position, entry.body, entry.leaf_hash)


def line_of(leaf: Leaf, export_format: ExportFormat) -> str:
    """Its line."""
    return line_writer(export_format, product_version="9.9")(leaf)


@given(st.text(max_size=20))
def test_a_json_line_is_the_place_and_the_body(subject: str) -> None:
    """Without the first three members it is the body again, which has the leaf hash."""
    leaf = leaf_of(subject, origin='g"w\\')
    members = json.loads(line_of(leaf, ExportFormat.JSONL))
    place = [members.pop(name) for name in ("origin", "position", "leaf_hash")]
    assert ['g"w\\', 7, leaf.leaf_hash.hex()] == place
    body = json.dumps(members, sort_keys=True, separators=(",", ":"))
    assert leaf.leaf_hash == hash_leaf(body.encode())


@given(st.text(max_size=20), st.sampled_from(ExportFormat))
def test_a_line_is_one_line_of_ascii(subject: str, export_format: ExportFormat) -> None:
    """Whatever a caller is called."""
    line = line_of(leaf_of(subject), export_format)
    assert line.isascii()
    assert line.encode().startswith(LINE_BEGINNINGS)
    assert line.isprintable()


def test_an_ocsf_line_is_an_event() -> None:
    """Of this gateway's version."""
    event = json.loads(line_of(leaf_of(), ExportFormat.OCSF))
    assert ("gw-1/7", "9.9") == (event["metadata"]["uid"], event["metadata"]["product"]["version"])


def test_a_good_record_passes() -> None:
    """As it was."""
    leaf = leaf_of()
    found = checked_leaf(origin="gw-1", position=7, body=leaf.body, leaf_hash=leaf.leaf_hash)
    assert leaf == found


@pytest.mark.parametrize(
    ("body", "leaf_hash", "why"),
    [
        (None, b"\x0a" * 32, "wrong types"),
        (leaf_of().body, "0a" * 32, "wrong types"),
        (leaf_of().body.encode(), leaf_of().leaf_hash, "wrong types"),
        (leaf_of().body, b"\x0a" * 32, "another hash"),
        (leaf_of().body.replace("alice", "mallory"), leaf_of().leaf_hash, "another hash"),
        ("{}", hash_leaf(b"{}"), "no release wrote"),
        (leaf_of().body + "\n", hash_leaf(leaf_of().body.encode() + b"\n"), "no release wrote"),
    ],
)
def test_a_changed_record_does_not_pass(body: object, leaf_hash: object, why: str) -> None:
    """Nor one that the gateway could not have written, which might break a reader's lines."""
    with pytest.raises(LogInvalidError, match=why):
        checked_leaf(origin="gw-1", position=7, body=body, leaf_hash=leaf_hash)
