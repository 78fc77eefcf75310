"""Looking closer at what does not fit, to name the record and what was done to it. Reads, changes nothing."""

from sqlalchemy import Engine

from gateway.audit.merkle import STORED_HEIGHT, hash_leaf
from gateway.audit.verify_faults import Fault, FaultKind
from gateway.audit.verify_locate import Leaves, locate
from gateway.audit.verify_tree import Disagreement
from gateway.store.queries.audit_verify import (
    find_other_with_leaf,
    read_nodes,
    read_records,
    read_times,
)

# A record that changed places with one further behind is only said to be changed.
_SEARCHED_BEHIND = 4096
# Checkpoints are a second apart, so more lie between two only where somebody took some away.
_MAX_SEARCHED = 1 << 18


def explain_disagreement(engine: Engine, origin: str, found: Disagreement, *, end: int) -> Fault:
    """The record, or the first that can be it, which makes the tree another than the signed one."""
    start = found.agreed.size
    times: list[object] = []
    leaf_hashes: list[bytes] = []
    blocks: dict[int, object] = {}
    if found.size - start <= _MAX_SEARCHED:
        last = min(found.size + _SEARCHED_BEHIND, end)
        with engine.connect() as connection:
            for time, leaf_hash in read_times(connection, origin, start, last):
                times.append(time)
                leaf_hashes.append(leaf_hash)
            first_block, end_block = start >> STORED_HEIGHT, found.size >> STORED_HEIGHT
            blocks = dict(read_nodes(connection, origin, 1, first_block, end_block))
    return locate(found, Leaves(times, leaf_hashes), stored_blocks=blocks)


def explain_record(engine: Engine, origin: str, fault: Fault) -> Fault:
    """The fault of one record, or that it changed places with another whose body and leaf hash fit crosswise."""
    if fault.kind is not FaultKind.CHANGED:
        return fault
    position = fault.position
    with engine.connect() as connection:
        rows = next(read_records(connection, origin, position, position + 1), [])
        if not rows:
            return fault
        _, body, leaf_hash, *_ = rows[0]
        computed = hash_leaf(body.encode())
        other = find_other_with_leaf(connection, origin, computed, position=position)
    if other is None or not _hashes_to(other[1], leaf_hash):
        return fault
    why = f"it and record {other[0]} changed places"
    return Fault(position, FaultKind.REORDERED, why, position)


def _hashes_to(body: object, leaf_hash: bytes) -> bool:
    try:
        return isinstance(body, str) and hash_leaf(body.encode()) == leaf_hash
    except UnicodeEncodeError:
        return False
