"""New issuers and keys are found; what is known, and what is first, is not."""

from collections.abc import Iterable

from gateway.audit.details import format_detail
from gateway.audit.events import Action, AuditEvent, Outcome
from monitor.records import Rule
from monitor.security.findings import Hit
from monitor.security.issuers import Issuers
from tests.monitor.security.ledger_events import all_seen, at, call, command, event

A, B = "https://a.test", "https://b.test"


def keys(seconds: float, issuer: str, **pairs: list[str]) -> AuditEvent:
    """A record of an issuer's keys."""
    detail = format_detail(issuer=issuer, **pairs)
    return event(Action.ISSUER_KEYS, Outcome.ANSWERED, at(seconds), detail=detail)


def hits(issuers: Issuers, *events: AuditEvent, is_learning: bool = False) -> list[Hit]:
    """What the records hit."""
    return [
        hit
        for record in all_seen(events)
        for hit in issuers.observe(record, is_learning=is_learning)
    ]


def made(known: Iterable[tuple[str, str]] = ()) -> Issuers:
    """Looking at both."""
    return Issuers(known, looks_at_issuers=True, looks_at_keys=True)


KNOWN = ((A, ""), (A, "k1 d1"))


def test_a_token_of_an_issuer_never_seen_is_found_once() -> None:
    """Whoever added it to the policy."""
    issuers = made(KNOWN)
    (found,) = hits(issuers, call(at(0), issuer=A), call(at(1), issuer=B), call(at(2), issuer=B))
    assert (Rule.ISSUER_NEW, B) == (found.rule, found.key)
    assert [(B, "")] == issuers.take_learnt()


def test_an_issuer_is_found_by_its_keys_before_its_first_token() -> None:
    """With one finding: its keys are new with it."""
    issuers = made(KNOWN)
    found = hits(issuers, keys(0, B, added=["x"], digests=["y"]), call(at(5), issuer=B))
    assert [Rule.ISSUER_NEW] == [hit.rule for hit in found]
    assert [(B, ""), (B, "x y")] == issuers.take_learnt()


def test_a_key_that_an_issuer_did_not_have_is_found_once() -> None:
    """Replicas record it each."""
    issuers = made(KNOWN)
    found = hits(
        issuers,
        keys(0, A, added=["k2"], digests=["d2"]),
        keys(1, A, added=["k2"], digests=["d2"]),
    )
    assert [(Rule.KEY_NEW, f"{A}|k2")] == [(hit.rule, hit.key) for hit in found]
    assert "k2 d2" in found[0].words


def test_another_key_under_a_known_id_is_found() -> None:
    """The id alone proves nothing."""
    change = keys(0, A, removed=["k1"], added=["k1"], digests=["other"])
    assert [Rule.KEY_NEW] == [hit.rule for hit in hits(made(KNOWN), change)]


def test_a_key_that_goes_and_comes_back_is_known() -> None:
    """Issuers that answer now with one set and now with another."""
    events = [keys(0, A, removed=["k1"]), keys(1, A, added=["k1"], digests=["d1"])]
    assert [] == hits(made(KNOWN), *events)


def test_the_first_start_teaches() -> None:
    """Every issuer and all of its keys, in however many records; a minute later the time of learning is over."""
    issuers = made()
    first = [
        keys(0, A, added=["k1"], digests=["d1"]),
        keys(1, A, added=["k2"], digests=["d2"]),
        keys(2, B, added=["x"], digests=["y"]),
        call(at(3), issuer=B),
    ]
    assert [] == hits(issuers, *first)
    assert [(A, ""), (A, "k1 d1"), (A, "k2 d2"), (B, ""), (B, "x y")] == issuers.take_learnt()
    later = [keys(100, A, added=["k3"], digests=["d3"]), call(at(101), issuer="https://c.test")]
    assert [Rule.KEY_NEW, Rule.ISSUER_NEW] == [hit.rule for hit in hits(issuers, *later)]


def test_the_first_keys_of_an_issuer_known_by_its_tokens_teach() -> None:
    """Releases before recorded no keys."""
    issuers = made([(A, "")])
    assert [] == hits(issuers, keys(0, A, added=["k1"], digests=["d1"]))


def test_what_was_there_at_the_first_look_teaches() -> None:
    """A ledger of before the monitor."""
    issuers = made(KNOWN)
    events = [call(at(0), issuer=B), keys(1, A, added=["k2"], digests=["d2"])]
    assert [] == hits(issuers, *events, is_learning=True)
    assert [] == hits(issuers, *events)


def test_accounts_of_the_host_are_no_issuers() -> None:
    """Nor does a command's token id make one."""
    events = [
        command(at(0), Action.MODELS_SEAL),
        command(at(1), Action.TOKENS_REVOKE),
    ]
    assert [] == hits(made(KNOWN), *events)


def test_each_rule_can_be_switched_off_and_learns_all_the_same() -> None:
    """It may be switched on later."""
    issuers = Issuers(KNOWN, looks_at_issuers=False, looks_at_keys=False)
    assert [] == hits(issuers, call(at(0), issuer=B), keys(1, A, added=["k2"], digests=["d2"]))
    assert [(B, ""), (A, "k2 d2")] == issuers.take_learnt()
    assert [] == issuers.take_learnt()


def test_a_key_id_that_no_table_takes_is_stored_by_its_digest() -> None:
    """Whoever makes an issuer's keys chooses their ids."""
    issuers = made(KNOWN)
    names = ["x" * 300, "☃"]
    assert 2 == len(hits(issuers, keys(0, A, added=names, digests=["d", "e"])))
    stored = [key for _, key in issuers.take_learnt()]
    assert ["sha256:", "sha256:"] == [key[:7] for key in stored]
    assert [71, 71] == [len(key) for key in stored]


def test_a_record_that_names_nothing_is_nothing() -> None:
    """A later release may write others."""
    assert [] == hits(
        made(KNOWN),
        event(Action.ISSUER_KEYS, Outcome.ANSWERED, at(0)),
        event(Action.ISSUER_KEYS, Outcome.ANSWERED, at(1), detail="added=k9"),
    )
