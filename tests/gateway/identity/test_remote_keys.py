"""Keys stay fresh without any request waiting, survive an issuer's bad hour, and are not believed for ever."""

import asyncio
import logging
from typing import Any

import httpx
import pytest

from gateway.errors import IdentityUnavailableError, SettingsError
from gateway.identity.key_sources import KeySource
from gateway.identity.remote_keys import RemoteKeys
from tests.gateway.identity.remote_issuer import ISSUER, URL, Bench, key_set

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops that the gateway runs on."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
async def bench(anyio_backend: object) -> Bench:
    """Nothing fetched yet."""
    return Bench()


def reason_of(keys: RemoteKeys) -> str:
    """Why there are no current keys."""
    with pytest.raises(IdentityUnavailableError) as caught:
        keys.current()
    return caught.value.reason


async def test_before_the_first_fetch_there_are_no_keys(bench: Bench) -> None:
    """Nobody is let in, and whoever asks for readiness can see it."""
    source: KeySource = bench.keys
    assert source is bench.keys
    assert "keys_missing" == reason_of(bench.keys)
    assert not bench.keys.ready.is_set()
    assert float("inf") == bench.keys.age_seconds
    await bench.keys.aclose()


async def test_the_first_fetch_makes_ready(bench: Bench) -> None:
    """At once, without waiting for an interval."""
    async with bench.running():
        assert ["k1"] == bench.key_ids
        assert bench.keys.ready.is_set()
        assert [URL] == bench.issuer.asked
        assert ["fetched"] == bench.outcomes


async def test_keys_are_fetched_again_at_four_fifths_of_the_interval(bench: Bench) -> None:
    """Give or take a tenth, so that replicas drift apart; an hour has 7 to 9 such pauses."""
    async with bench.running():
        await bench.time.advance(3600)
    assert 7 <= len(bench.time.pauses) - 1 <= 9
    assert all(432 <= pause <= 528 for pause in bench.time.pauses)
    assert len(set(bench.time.pauses)) == len(bench.time.pauses)
    assert len(bench.issuer.asked) == len(bench.time.pauses)


async def test_the_age_is_counted_from_the_question(bench: Bench) -> None:
    """The answer may be as old as that."""
    async with bench.running():
        await bench.time.advance(100)
        assert 100 == bench.keys.age_seconds
        bench.issuer.hold()
        task = asyncio.create_task(bench.keys.refresh_for_unknown_key())
        await bench.issuer.is_asked.wait()
        bench.time.now += 5
        bench.issuer.is_answering.set()
        await task
        assert 5 == bench.keys.age_seconds


@pytest.mark.parametrize(
    "down",
    [
        {"status": 500},
        {"status": 302},
        {"published": httpx.ConnectError("refused")},
        {"published": "no key set"},
        {"published": {"keys": []}},
        {"published": RuntimeError("unforeseen")},
    ],
)
async def test_an_hour_without_the_issuer_refuses_nobody(
    bench: Bench, down: dict[str, Any]
) -> None:
    """The keys of before are used all the time, and after the cap no longer; the first success mends it."""
    async with bench.running():
        for name, value in down.items():
            setattr(bench.issuer, name, value)
        for _ in range(60):
            await bench.time.advance(60)
            assert ["k1"] == bench.key_ids
        assert 3600 == bench.keys.age_seconds
        await bench.time.advance(1)
        assert "keys_stale" == reason_of(bench.keys)
        assert bench.keys.ready.is_set()
        bench.issuer.status, bench.issuer.published = 200, key_set(1)
        await bench.time.advance(60)
        assert ["k1"] == bench.key_ids
    assert {"failed"} == set(bench.outcomes[1:-1])
    # Tries at 480 s, then after 2, 4, 8, 16, 32 and then 60 seconds, each shortened by up to half.
    assert 50 <= len(bench.issuer.asked) <= 120


async def test_keys_that_become_too_old_are_told_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever remembers verified tokens must forget them then, and somebody must be woken."""
    async with bench.running():
        for changes in (2, 3):
            bench.issuer.status = 500
            await bench.time.advance(3500)
            assert changes - 1 == bench.changes
            await bench.time.advance(200)
            assert changes == bench.changes
            bench.issuer.status = 200
            await bench.time.advance(60)
    assert 2 == caplog.text.count("keys_stale")


async def test_tries_after_a_failure_are_further_and_further_apart(bench: Bench) -> None:
    """Never further than a minute, never all replicas at once; after a success the schedule is the old one."""
    bench.issuer.status = 503
    async with bench.running():
        await bench.time.advance(600)
        for pause, longest in zip(
            bench.time.pauses[:8], [2, 4, 8, 16, 32, 60, 60, 60], strict=True
        ):
            assert longest / 2 <= pause <= longest
        bench.issuer.status = 200
        await bench.time.advance(61)
        assert 432 <= bench.time.pauses[-1] <= 528


async def test_a_short_interval_is_never_exceeded_by_the_pause_after_a_failure() -> None:
    """Or failing would make the keys older than succeeding."""
    bench = Bench(refresh_seconds=10.0)
    bench.issuer.status = 503
    async with bench.running():
        await bench.time.advance(600)
    assert max(bench.time.pauses) <= 8


async def test_a_thousand_unknown_keys_at_once_cost_one_fetch_in_30_seconds(bench: Bench) -> None:
    """All wait for the same one; after it the next must be half a minute away."""
    async with bench.running():
        for moment in (0.0, 0.0, 29.9):
            await bench.time.advance(moment)
            await asyncio.gather(*[bench.keys.refresh_for_unknown_key() for _ in range(1000)])
            assert 2 == len(bench.issuer.asked)
        await bench.time.advance(0.1)
        await asyncio.gather(*[bench.keys.refresh_for_unknown_key() for _ in range(1000)])
        assert 3 == len(bench.issuer.asked)


async def test_a_failed_fetch_for_an_unknown_key_counts_too(bench: Bench) -> None:
    """An issuer in trouble is not asked more often than one that is well, and nobody sees an error."""
    async with bench.running():
        bench.issuer.status = 500
        for _ in range(3):
            await asyncio.gather(*[bench.keys.refresh_for_unknown_key() for _ in range(1000)])
        assert 2 == len(bench.issuer.asked)
        assert ["fetched", "failed"] == bench.outcomes
        assert ["k1"] == bench.key_ids


async def test_a_fetch_that_goes_on_is_joined(bench: Bench) -> None:
    """The scheduled one serves a thousand callers with unknown keys, and does not use up their own."""
    async with bench.running():
        bench.issuer.published = key_set(1, 2)
        bench.issuer.hold()
        # To the very moment of the next fetch, so that nothing is used up only because time has passed.
        advance = asyncio.create_task(bench.time.advance(bench.time.pauses[0]))
        await bench.issuer.is_asked.wait()
        callers = [asyncio.create_task(bench.keys.refresh_for_unknown_key()) for _ in range(1000)]
        done, _ = await asyncio.wait(callers, timeout=0.05)
        assert not done
        bench.issuer.is_answering.set()
        await asyncio.gather(*callers)
        await advance
        assert 2 == len(bench.issuer.asked)
        assert ["k1", "k2"] == bench.key_ids
        await bench.keys.refresh_for_unknown_key()
        assert 3 == len(bench.issuer.asked)


async def test_the_schedule_joins_a_fetch_that_goes_on(bench: Bench) -> None:
    """The other way round: there is one fetch at a time."""
    async with bench.running():
        bench.issuer.hold()
        caller = asyncio.create_task(bench.keys.refresh_for_unknown_key())
        await bench.issuer.is_asked.wait()
        advance = asyncio.create_task(bench.time.advance(528))
        for _ in range(5):
            await asyncio.sleep(0)
        bench.issuer.is_answering.set()
        await caller
        await advance
        assert 2 == len(bench.issuer.asked)


async def test_a_caller_that_goes_away_leaves_the_fetch_to_the_others(bench: Bench) -> None:
    """Its connection broke; theirs did not."""
    async with bench.running():
        bench.issuer.published = key_set(2)
        bench.issuer.hold()
        callers = [asyncio.create_task(bench.keys.refresh_for_unknown_key()) for _ in range(3)]
        await bench.issuer.is_asked.wait()
        callers[0].cancel()
        await asyncio.wait(callers[:1])
        bench.issuer.is_answering.set()
        await asyncio.gather(*callers[1:])
        assert ["k2"] == bench.key_ids


async def test_a_new_key_is_found_through_the_first_token_that_names_it(bench: Bench) -> None:
    """Rotation needs no restart and no interval; a withdrawn key is gone with the next fetch."""
    async with bench.running():
        bench.issuer.published = key_set(2, 1)
        await bench.keys.refresh_for_unknown_key()
        assert ["k1", "k2"] == bench.key_ids
        bench.issuer.published = key_set(2)
        await bench.time.advance(528)
        assert ["k2"] == bench.key_ids


async def test_whoever_caches_hears_of_every_change(bench: Bench) -> None:
    """Of a new key, a withdrawn one and another under the same id; not of a set that is the same."""
    async with bench.running():
        assert 1 == bench.changes
        same_id = {"keys": [{**key_set(3)["keys"][0], "kid": "k2"}]}
        for published, changes in [
            (key_set(1), 1),
            (key_set(1, 2), 2),
            (key_set(2, 1), 2),
            (key_set(2), 3),
            (same_id, 4),
        ]:
            bench.issuer.published = published
            await bench.time.advance(30)
            await bench.keys.refresh_for_unknown_key()
            assert changes == bench.changes


async def test_a_faulty_key_is_told_once_a_change(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Not at each fetch; a leaked key louder than an unknown kind of key."""
    leaked = {"kty": "oct", "kid": "s", "k": "c2VjcmV0"}
    bench.issuer.published = {"keys": [*key_set(1)["keys"], {"kty": "AKP", "kid": "pq"}, leaked]}
    async with bench.running():
        await bench.time.advance(3600)
        assert [
            (logging.WARNING, "issuer_key_left_out"),
            (logging.ERROR, "issuer_key_leaked"),
        ] == [
            (record.levelno, record.getMessage().split()[0])
            for record in caplog.records
            if record.levelno > logging.INFO
        ]
        assert "c2VjcmV0" not in caplog.text
        bench.issuer.published = key_set(1)
        await bench.time.advance(528)
        bench.issuer.published = {"keys": [*key_set(1)["keys"], leaked]}
        await bench.time.advance(528)
        assert 2 == caplog.text.count("issuer_key_leaked")


async def test_a_failure_is_told_with_its_cause(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """One line a try, with a constant event."""
    bench.issuer.status = 500
    async with bench.running():
        pass
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "keys_not_fetched issuer=https://issuer.example fault=status" in record.getMessage()
    assert "https://issuer.example/jwks answered 500" in record.getMessage()


async def test_the_address_of_the_keys_is_discovered_each_time() -> None:
    """An issuer may move its keys."""
    bench = Bench(jwks_url=None)
    bench.issuer.published = {"issuer": ISSUER, "jwks_uri": URL, **key_set(1)}
    async with bench.running():
        moved = "https://issuer.example/moved"
        bench.issuer.published = {"issuer": ISSUER, "jwks_uri": moved, **key_set(2)}
        await bench.keys.refresh_for_unknown_key()
        assert ["k2"] == bench.key_ids
    document = "https://issuer.example/.well-known/openid-configuration"
    assert [document, URL, document, moved] == bench.issuer.asked


async def test_a_document_of_another_issuer_brings_no_keys() -> None:
    """Its address of keys is not even asked."""
    bench = Bench(jwks_url=None)
    bench.issuer.published = {"issuer": "https://other.example", "jwks_uri": URL, **key_set(1)}
    async with bench.running():
        assert "keys_missing" == reason_of(bench.keys)
    assert URL not in bench.issuer.asked


async def test_cancelling_closes_the_client(bench: Bench) -> None:
    """The keys that are there stay good for the requests that still run, and nothing is fetched any more."""
    async with bench.running():
        assert 0 == bench.issuer.closings
    assert 1 == bench.issuer.closings
    assert ["k1"] == bench.key_ids
    await bench.keys.refresh_for_unknown_key()
    assert 1 == len(bench.issuer.asked)
    assert ["fetched"] == bench.outcomes


async def test_closing_ends_a_fetch_that_goes_on(bench: Bench) -> None:
    """Who waits for it is let go, not cancelled; closing twice is harmless."""
    bench.issuer.hold()
    caller = asyncio.create_task(bench.keys.refresh_for_unknown_key())
    await bench.issuer.is_asked.wait()
    await bench.keys.aclose()
    await asyncio.wait_for(caller, 10)
    await bench.keys.aclose()
    assert 1 == bench.issuer.closings
    assert "keys_missing" == reason_of(bench.keys)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"jwks_url": "http://issuer.example/jwks"}, "is no https URL"),
        ({"jwks_url": ""}, "is no https URL"),
        ({"jwks_url": "https://a@issuer.example/jwks"}, "is no https URL"),
        ({"jwks_url": None, "issuer": "http://issuer.example"}, "https URL without query"),
        ({"max_stale_seconds": 599.0}, "too old after 599 s"),
        ({"refresh_seconds": 0.0}, "too old"),
        ({"refresh_seconds": float("nan")}, "too old"),
    ],
)
async def test_a_wrong_setting_stops_the_start(changes: dict[str, Any], message: str) -> None:
    """Plain HTTP would let anybody between choose the keys."""
    with pytest.raises(SettingsError, match=message):
        Bench(**changes)


async def test_an_issuer_that_is_no_url_may_have_its_keys_named(bench: Bench) -> None:
    """Only discovery needs one."""
    named = Bench(issuer="urn:issuer")
    async with named.running():
        assert ["k1"] == named.key_ids
    await bench.keys.aclose()


async def test_keys_are_recorded_once_and_when_they_change(bench: Bench) -> None:
    """A fetch that brings the same keys is no news."""
    async with bench.running():
        await bench.time.advance(1000)
        assert [["k1"]] == bench.recorded
        bench.issuer.published = key_set(1, 2)
        await bench.time.advance(1000)
    assert [["k1"], ["k1", "k2"]] == bench.recorded


async def test_no_key_is_believed_before_it_is_on_record(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """The old ones are used meanwhile, and the new ones once the ledger takes them."""
    async with bench.running():
        bench.is_ledger_down = True
        bench.issuer.published = key_set(2)
        await bench.time.advance(1000)
        assert ["k1"] == bench.key_ids
        assert "failed" == bench.outcomes[-1]
        assert "fault=ledger" in caplog.text
        bench.is_ledger_down = False
        await bench.time.advance(1000)
        assert ["k2"] == bench.key_ids
