"""Used is used: nothing is forgotten early, memory is bounded, and nobody takes the room of others."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, QuotaError
from gateway.identity.replay import ReplayCache

ALICE = ("https://issuer.example", "alice")
BOB = ("https://issuer.example", "bob")
NOW = 1_893_499_200


def digest(name: object) -> bytes:
    """Some digest."""
    return hashlib.sha256(repr(name).encode()).digest()


def use(
    cache: ReplayCache,
    name: object,
    *,
    owner: tuple[str, str] = ALICE,
    last_second: int = NOW + 60,
    now: int = NOW,
) -> bool:
    """Use the digest of a name."""
    return cache.use(digest(name), owner=owner, last_second=last_second, now=now)


def fill(cache: ReplayCache, owner: tuple[str, str]) -> int:
    """Use as many digests as an owner has room for."""
    for count in range(1_000_000):
        try:
            use(cache, (owner, count), owner=owner)
        except QuotaError:
            return count
    raise AssertionError("there is no bound")


def test_a_digest_is_used_once() -> None:
    """The second time is a replay, whoever shows it."""
    cache = ReplayCache(max_entries=10)
    assert use(cache, "a")
    assert not use(cache, "a")
    assert not use(cache, "a", owner=BOB)
    assert use(cache, "b")


def test_a_digest_is_kept_through_its_last_second() -> None:
    """One second early would be a replay, one later costs memory."""
    cache = ReplayCache(max_entries=10)
    use(cache, "a", last_second=NOW + 60)
    assert not use(cache, "a", now=NOW + 60)
    assert 1 == len(cache)
    use(cache, "b", last_second=NOW + 90, now=NOW + 61)
    assert 1 == len(cache)


def test_an_older_entry_does_not_shorten_a_younger_one() -> None:
    """Entries end in any order, not in that of their use."""
    cache = ReplayCache(max_entries=10)
    use(cache, "long", last_second=NOW + 90)
    use(cache, "short", last_second=NOW + 10)
    use(cache, "other", now=NOW + 50)
    assert not use(cache, "long", now=NOW + 50)


def test_a_clock_that_goes_back_a_little_revives_nothing() -> None:
    """What is kept is kept."""
    cache = ReplayCache(max_entries=10)
    use(cache, "a", last_second=NOW + 60, now=NOW)
    assert not use(cache, "a", now=NOW - 5)


def test_one_owner_gets_half_of_the_room() -> None:
    """The rest is for whoever comes."""
    cache = ReplayCache(max_entries=100)
    assert 50 == fill(cache, ALICE)
    assert 50 == len(cache)


def test_who_has_no_room_is_told_when_there_is_some() -> None:
    """429 and not 401: the token is good and a new one would not help."""
    cache = ReplayCache(max_entries=100)
    fill(cache, ALICE)
    with pytest.raises(QuotaError, match="too many DPoP proofs") as caught:
        use(cache, "one more", now=NOW + 20)
    assert Code.RATE_LIMITED is caught.value.code
    assert "dpop_proofs" == caught.value.limit
    assert 41 == caught.value.retry_after_seconds
    assert use(cache, "one more", last_second=NOW + 99, now=NOW + 20 + 41)


def test_a_full_owner_replays_nothing() -> None:
    """No room is no reason to forget: the first digest is still known."""
    cache = ReplayCache(max_entries=100)
    fill(cache, ALICE)
    assert not use(cache, (ALICE, 0))


def test_a_greedy_owner_locks_nobody_out() -> None:
    """With one, with two and with nine of them, another still has room."""
    cache = ReplayCache(max_entries=1000)
    assert [500, 250, 125] == [fill(cache, ("i", name)) for name in ("a", "b", "c")]
    for number in range(6):
        assert fill(cache, ("i", str(number))) > 0
    assert use(cache, "honest", owner=BOB)


def test_an_owner_gets_its_room_back() -> None:
    """Ended entries do not count, and an owner without entries takes no memory."""
    cache = ReplayCache(max_entries=100)
    fill(cache, ALICE)
    use(cache, "b", owner=BOB, last_second=NOW + 200, now=NOW + 61)
    assert [BOB] == list(cache._owners)
    assert 1 == len(cache)
    assert not cache._by_last_second.keys() - {NOW + 200}
    assert 50 == fill(cache, ALICE)


def test_the_bound_holds_for_any_number_of_owners() -> None:
    """However many come, memory is bounded; then all are told to wait."""
    cache = ReplayCache(max_entries=50)
    for number in range(500):
        fill(cache, ("i", str(number)))
    assert 50 == len(cache)


def test_a_cache_without_room_takes_nothing() -> None:
    """Zero fails closed."""
    with pytest.raises(QuotaError) as caught:
        use(ReplayCache(max_entries=0), "a")
    assert 1 == caught.value.retry_after_seconds


def test_clear_forgets_everything() -> None:
    """After it the same digest is used for the first time, by an earlier clock too."""
    cache = ReplayCache(max_entries=10)
    use(cache, "a", now=NOW + 1000, last_second=NOW + 1060)
    cache.clear()
    assert 0 == len(cache)
    assert use(cache, "a", last_second=NOW + 60)
    assert use(cache, "b", last_second=NOW + 99, now=NOW + 61)
    assert 1 == len(cache)


USES = st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 30), st.integers(0, 5))


@given(st.lists(USES, max_size=60))
def test_any_sequence_agrees_with_a_list_of_all_uses(
    uses: list[tuple[int, int, int, int]],
) -> None:
    """A model that forgets nothing: what is in its time is known, and bounds hold."""
    cache = ReplayCache(max_entries=12)
    known: dict[int, int] = {}
    now = NOW
    for name, owner, lifetime, step in uses:
        now += step
        is_new = known.get(name, 0) < now
        try:
            used = use(cache, name, owner=("i", str(owner)), last_second=now + lifetime, now=now)
        except QuotaError:
            assert is_new
            continue
        assert is_new is used
        if is_new:
            known[name] = now + lifetime
        assert len(cache) == sum(last >= now for last in known.values()) <= 12
        assert sum(account.entries for account in cache._owners.values()) == len(cache)
