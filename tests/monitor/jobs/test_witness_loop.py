"""What a look of the witness found is shown to people and programs."""

import json
from datetime import UTC, datetime

import pytest

from monitor.jobs.witness import Looked
from monitor.jobs.witness_loop import print_looked
from monitor.records import ABOUT_LEDGER, LEDGER_ALARM, Alarm, AlarmState
from monitor.witness import Disagreement, DisagreementKind, Seen
from tests.gateway.audit.sample_log import SIGNER, WITNESS

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
ALARM = Alarm(ABOUT_LEDGER, LEDGER_ALARM, AlarmState.FIRING, NOW, "")
FOUND = Disagreement(DisagreementKind.CUT, NOW, "its end was cut off")
LOOKED = [Looked(SIGNER.name, Seen(SIGNER.verifier), (FOUND,)), Looked("other", None)]


def test_people_read_what_is_wrong_and_since_when(capsys: pytest.CaptureFixture[str]) -> None:
    """And the key that proofs are checked with."""
    print_looked(LOOKED, ALARM, as_json=False, witness=WITNESS.verifier)
    assert [
        SIGNER.name,
        "  cut since 2030-01-01 12:00:00 UTC: its end was cut off",
        "other",
        f"cosigned as {WITNESS.verifier.line()}",
        "alarm ledger: firing since 2030-01-01 12:00:00 UTC",
    ] == capsys.readouterr().out.splitlines()


def test_programs_get_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    """With everything in it."""
    print_looked(LOOKED, ALARM, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert ("firing", None) == (document["alarm"], document["witness"])
    assert [SIGNER.name, "other"] == [each["ledger"] for each in document["ledgers"]]
    assert [{"kind": "cut", "since": NOW.isoformat(), "words": "its end was cut off"}] == document[
        "ledgers"
    ][0]["disagreements"]
