"""A witness accepts what goes on from what it saw, says how the rest does not, and keeps saying so."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.checkpoints import (
    Checkpoint,
    SignedCheckpoint,
    open_checkpoint,
    sign_checkpoint,
)
from gateway.audit.merkle import LogInvalidError
from monitor.records import ABOUT_LEDGER, LEDGER_ALARM, Alarm, AlarmState
from monitor.witness import (
    Disagreement,
    DisagreementError,
    DisagreementKind,
    Evidence,
    Seen,
    StateInvalidError,
    format_seen,
    judge,
    ledger_alarm,
    parse_ledger_key,
    parse_seen,
    state_file_name,
    with_disagreement,
)
from tests.gateway.audit.sample_log import (
    ENTRIES,
    LEAVES,
    ORIGIN,
    SIGNER,
    WITNESS,
    checkpoint_of,
    consistency_proof,
    flipped,
    near,
    root,
)

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
NEW = Seen(SIGNER.verifier)


def signed(checkpoint: Checkpoint) -> SignedCheckpoint:
    """It, signed by the log."""
    note = sign_checkpoint(checkpoint, SIGNER)
    return open_checkpoint(note, origin=ORIGIN, verifiers=[SIGNER.verifier])


def evidence(size: int, *, old_size: int) -> Evidence:
    """What an honest database shows."""
    proof = consistency_proof(old_size, LEAVES[:size]) if old_size else []
    return Evidence(size, root(LEAVES[:size]), tuple(proof))


def accepted(size: int) -> Seen:
    """What is seen after a checkpoint of this size."""
    return judge(signed(checkpoint_of(size)), NEW, evidence(size, old_size=0), now=NOW)


def kind_of(checkpoint: Checkpoint, seen: Seen, shown: Evidence) -> DisagreementKind:
    """What is wrong with a checkpoint."""
    with pytest.raises(DisagreementError) as caught:
        judge(signed(checkpoint), seen, shown, now=LATER)
    return caught.value.kind


def test_every_growth_is_accepted() -> None:
    """From each size to each that is not smaller; a ledger that stands still changes nothing."""
    for old_size in range(1, 8):
        seen = accepted(old_size)
        for size in range(old_size, 8):
            shown = evidence(size, old_size=old_size)
            after = judge(signed(checkpoint_of(size)), seen, shown, now=LATER)
            assert after.newest is not None
            assert size == after.newest.checkpoint.size
            assert (NOW if size == old_size else LATER) == after.accepted_at
            assert (after is seen) is (size == old_size)


def test_a_smaller_checkpoint_is_a_roll_back() -> None:
    """However good it is by itself."""
    shown = evidence(3, old_size=3)
    assert DisagreementKind.SMALLER is kind_of(checkpoint_of(3), accepted(5), shown)


def test_another_history_is_a_fork() -> None:
    """At the same size, and at a larger one, whatever the proof."""
    other = checkpoint_of(7, entries=(*ENTRIES[:4], b"x", b"y", b"z"))
    for size, proof in ((7, []), (5, consistency_proof(5, LEAVES)), (5, [])):
        shown = Evidence(7, other.root, tuple(proof))
        assert DisagreementKind.FORKED is kind_of(other, accepted(size), shown)


def test_fewer_records_than_were_signed_are_a_cut() -> None:
    """Only the records were deleted."""
    shown = Evidence(6, b"", ())
    assert DisagreementKind.CUT is kind_of(checkpoint_of(7), accepted(5), shown)


def test_other_hashes_than_were_signed_are_a_change() -> None:
    """Even if the checkpoint itself is the one that was seen."""
    shown = Evidence(7, root(LEAVES[:6]), ())
    assert DisagreementKind.CHANGED is kind_of(checkpoint_of(7), accepted(7), shown)


def test_a_disagreement_is_kept_as_it_was_first_said() -> None:
    """One of each kind, whatever the ledger shows later."""
    seen = accepted(5)
    for words, now in (("first", NOW), ("second", LATER)):
        found = DisagreementError(DisagreementKind.SMALLER, words)
        seen = with_disagreement(seen, found, now=now)
    seen = with_disagreement(seen, DisagreementError(DisagreementKind.CUT, "cut"), now=LATER)
    after = judge(signed(checkpoint_of(7)), seen, evidence(7, old_size=5), now=LATER)
    assert ["first", "cut"] == [each.words for each in after.disagreements]


def opened(words: str = "rolled back") -> list[tuple[str, Disagreement]]:
    """One open disagreement."""
    return [("gateway", Disagreement(DisagreementKind.SMALLER, NOW, words))]


def test_the_alarm_is_raised_at_once_and_tells_why() -> None:
    """By the names that the others about ledgers have."""
    alarm, transition = ledger_alarm(opened(), None, may_clear=False, now=NOW)
    assert (ABOUT_LEDGER, LEDGER_ALARM) == (alarm.model_name, alarm.name)
    assert AlarmState.FIRING is alarm.state
    assert ("gateway",) == alarm.features
    assert "gateway: rolled back" == alarm.diagnosis
    assert transition is not None
    assert (AlarmState.UNKNOWN, AlarmState.FIRING) == (transition.before, transition.after)


def test_the_alarm_does_not_clear_by_itself() -> None:
    """Not because nothing is wrong now: whoever raised it could take its cause away."""
    raised, _ = ledger_alarm(opened(), None, may_clear=False, now=NOW)
    assert (raised, None) == ledger_alarm([], raised, may_clear=False, now=LATER)
    cleared, transition = ledger_alarm([], raised, may_clear=True, now=LATER)
    assert AlarmState.CLEAR is cleared.state
    assert transition is not None
    assert "" != transition.diagnosis


def test_an_acknowledged_alarm_stays_raised_while_something_is_wrong() -> None:
    """Since when it was, and no transition."""
    raised, _ = ledger_alarm(opened(), None, may_clear=False, now=NOW)
    assert (raised, None) == ledger_alarm(opened(), raised, may_clear=True, now=LATER)


def test_an_alarm_whose_row_was_taken_away_is_raised_again() -> None:
    """The disagreement is in the witness's own folder."""
    clear = Alarm(ABOUT_LEDGER, LEDGER_ALARM, AlarmState.CLEAR, NOW, "")
    for last in (None, clear):
        alarm, transition = ledger_alarm(opened(), last, may_clear=False, now=LATER)
        assert AlarmState.FIRING is alarm.state
        assert transition is not None


def test_nothing_wrong_is_clear() -> None:
    """From the first look on; said once."""
    clear, transition = ledger_alarm([], None, may_clear=False, now=NOW)
    assert AlarmState.CLEAR is clear.state
    assert transition is not None
    assert (clear, None) == ledger_alarm([], clear, may_clear=False, now=LATER)


def full() -> Seen:
    """Something of everything."""
    found = DisagreementError(DisagreementKind.CUT, 'it says "é"\n')
    return with_disagreement(accepted(7), found, now=LATER)


@pytest.mark.parametrize("seen", [NEW, accepted(0), accepted(7), full()])
def test_what_is_kept_is_read_as_it_was(seen: Seen) -> None:
    """Byte for byte."""
    assert seen == parse_seen(format_seen(seen))


@given(near(format_seen(full())))
def test_a_damaged_file_is_refused_or_the_same(content: bytes) -> None:
    """Never another reading, never another exception."""
    try:
        seen = parse_seen(content)
    except StateInvalidError:
        return
    assert content == format_seen(seen)


def test_a_checkpoint_of_which_one_bit_is_wrong_is_refused() -> None:
    """Whoever writes the file cannot make up a checkpoint either."""
    note = accepted(7).newest
    assert note is not None
    for changed in flipped(note.note)[::5]:
        seen = replace(accepted(7), newest=replace(note, note=changed))
        try:
            content = format_seen(seen)
        except UnicodeDecodeError:
            continue
        with pytest.raises(StateInvalidError):
            parse_seen(content)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"null", b"[" * 50_000])
def test_what_is_no_state_is_refused(content: bytes) -> None:
    """Whatever JSON it is."""
    with pytest.raises(StateInvalidError):
        parse_seen(content)


def test_the_key_of_a_witness_is_none_of_a_ledger() -> None:
    """They are told apart by their kind."""
    assert SIGNER.verifier == parse_ledger_key(SIGNER.verifier.line())
    with pytest.raises(LogInvalidError):
        parse_ledger_key(WITNESS.verifier.line())


@given(st.text(max_size=200), st.text(max_size=200))
def test_file_names_are_safe_and_different(first: str, second: str) -> None:
    """Whatever somebody called a ledger."""
    names = {state_file_name(origin) for origin in (first, second)}
    assert len({first, second}) == len(names)
    for name in names:
        assert len(name) <= 100
        assert name.isascii()
        assert "/" not in name
        assert name.endswith(".json")


def test_file_names_can_be_read() -> None:
    """By whoever looks into the folder."""
    assert state_file_name("site/gateway-1").startswith("site_gateway-1-")
