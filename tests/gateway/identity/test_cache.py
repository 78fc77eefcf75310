"""The cache of verified tokens is bounded, forgets in time and holds no token."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from gateway.identity.cache import TokenCache
from gateway.identity.principal import Principal

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
PRINCIPAL = Principal(
    issuer="https://issuer.example",
    subject="camera-7",
    client_id="conveyor",
    roles=frozenset({"client"}),
    token_id="token-1",
    issued_at=NOW,
    expires_at=NOW + timedelta(seconds=300),
)


@pytest.fixture
def cache() -> TokenCache:
    """A cache of two entries."""
    return TokenCache(max_entries=2)


def test_what_was_put_is_found(cache: TokenCache) -> None:
    """A verified token gives its principal again."""
    cache.put("a.b.c", PRINCIPAL)
    assert cache.get("a.b.c", NOW) == PRINCIPAL


def test_another_token_is_not_found(cache: TokenCache) -> None:
    """One changed character is another token."""
    cache.put("a.b.c", PRINCIPAL)
    assert cache.get("a.b.d", NOW) is None


def test_an_entry_ends_at_exp(cache: TokenCache) -> None:
    """Found until the second before, gone for good at exp."""
    cache.put("a.b.c", PRINCIPAL)
    assert cache.get("a.b.c", NOW + timedelta(seconds=299)) == PRINCIPAL
    assert cache.get("a.b.c", NOW + timedelta(seconds=300)) is None
    assert len(cache) == 0


def test_the_least_recently_used_leaves_first(cache: TokenCache) -> None:
    """A look-up counts as use."""
    first, second = PRINCIPAL, dataclasses.replace(PRINCIPAL, subject="camera-8")
    cache.put("1", first)
    cache.put("2", second)
    cache.get("1", NOW)
    cache.put("3", PRINCIPAL)
    assert len(cache) == 2
    assert cache.get("1", NOW) == first
    assert cache.get("2", NOW) is None


def test_clear_forgets_everything(cache: TokenCache) -> None:
    """After a change of trust every token is verified again."""
    cache.put("a.b.c", PRINCIPAL)
    cache.clear()
    assert cache.get("a.b.c", NOW) is None


def test_a_cache_of_no_entries_keeps_nothing() -> None:
    """Zero turns it off."""
    cache = TokenCache(max_entries=0)
    cache.put("a.b.c", PRINCIPAL)
    assert cache.get("a.b.c", NOW) is None


def test_the_token_itself_is_not_held(cache: TokenCache) -> None:
    """Whoever reads the memory of the cache finds a hash and nothing to send."""
    cache.put("secret-token", PRINCIPAL)
    assert "secret-token" not in repr(vars(cache))
    assert b"secret-token" not in next(iter(cache._entries))
