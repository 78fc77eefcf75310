"""Ids of requests."""

import uuid

from gateway.api.request_ids import new_request_id

# RFC 9562 appendix A.6: the example of version 7.
MILLISECONDS = 0x017F22E279B0
RANDOM = (0xCC3 << 62 | 0x18C4DC0C0C07398F) << 6


def test_an_id_is_that_of_the_standard() -> None:
    """Time, version, variant and random bits each in their place."""
    found = new_request_id(
        now_ns=lambda: MILLISECONDS * 1_000_000,
        random_bytes=lambda count: RANDOM.to_bytes(count, "big"),
    )
    assert "017f22e2-79b0-7cc3-98c4-dc0c0c07398f" == found


def test_ids_sort_by_time() -> None:
    """So that an index grows at its end."""
    moments = iter(range(MILLISECONDS, MILLISECONDS + 50))
    ids = [new_request_id(now_ns=lambda: next(moments) * 1_000_000) for _ in range(50)]
    assert sorted(ids) == ids


def test_ids_of_one_moment_differ() -> None:
    """They are 74 random bits apart."""
    ids = {new_request_id(now_ns=lambda: MILLISECONDS * 1_000_000) for _ in range(1000)}
    assert 1000 == len(ids)
    assert {7} == {uuid.UUID(one).version for one in ids}
