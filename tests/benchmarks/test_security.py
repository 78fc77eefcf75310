"""The benchmark of the rules on suspicious behaviour says whether a benign day hit anything."""

import pytest
from sqlalchemy import Engine

from benchmarks.security import count_findings
from monitor.jobs import security
from tests.monitor.jobs.security_world import World, add, add_ledgers
from tests.monitor.security.ledger_events import at, call


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_findings_of_every_batch_are_counted(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in the first batch of a look, nothing in its last."""
    monkeypatch.setattr(security, "BATCH_RECORDS", 10)
    add_ledgers(engine, {"gateway": [call(at(-60))]})
    world = World(engine)
    world.look()
    shared = [call(at(0), address="198.51.100.9"), *(call(at(n), token_id="b") for n in range(50))]
    add(engine, shared, first=1)
    assert 0 == len(world.look().kept.findings)
    assert 1 == count_findings(world.settings)
