"""Kept images: sealed under a key of this process, bound to their request, opened by whoever holds the KEK."""

import dataclasses
from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from gateway.errors import Code, SealError
from gateway.sealing.keys import Kek, RandomBytes
from gateway.sealing.sample_keys import (
    SampleSealer,
    create_sample_key,
    open_sample_image,
    open_sample_key,
    rewrap_sample_key,
)
from gateway.store.queries.sample_keys import (
    find_sample_key,
    insert_sample_key,
    list_sample_keys,
    replace_sample_key,
)
from gateway.store.records import SealedImage, WrappedSampleKey

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def refusal_of(record: WrappedSampleKey, keks: list[Kek]) -> str:
    """Why this key is refused."""
    with pytest.raises(SealError) as caught:
        open_sample_key(record, keks=keks)
    assert Code.SAMPLE_REFUSED is caught.value.code
    return caught.value.reason


def test_a_kept_image_opens_again(kek: Kek, other_kek: Kek, counting_random: RandomBytes) -> None:
    """From the stored record and the KEK alone."""
    key, record = create_sample_key(kek=kek, now=NOW, random=counting_random)
    sealed = SampleSealer(key=key, random=counting_random).seal(b"jpeg", request_id="r-1")
    opened_key = open_sample_key(record, keks=[other_kek, kek])
    assert open_sample_image(sealed, request_id="r-1", key=opened_key) == b"jpeg"


def test_the_record_names_its_keys(kek: Kek, counting_random: RandomBytes) -> None:
    """The row says which KEK opens it; the image says which row."""
    key, record = create_sample_key(kek=kek, now=NOW, random=counting_random)
    sealed = SampleSealer(key=key, random=counting_random).seal(b"", request_id="r")
    expected = "404142434445464748494a4b4c4d4e4f"
    assert (expected, expected) == (record.key_id, sealed.key_id)
    assert (kek.kek_id, NOW, 60) == (record.kek_id, record.created_at, len(record.wrapped_key))


def test_the_data_key_is_never_shown(kek: Kek) -> None:
    """Neither the key nor its record holds it in the clear."""
    key, record = create_sample_key(kek=kek, now=NOW, random=lambda n: b"\xab" * n)
    assert "data_key" not in repr(key)
    assert b"\xab" * 32 not in record.wrapped_key


def test_every_image_has_its_own_salt(kek: Kek, counting_random: RandomBytes) -> None:
    """The same image twice gives two ciphertexts."""
    key, _ = create_sample_key(kek=kek, now=NOW, random=counting_random)
    sealer = SampleSealer(key=key, random=counting_random)
    first, second = (sealer.seal(b"x", request_id="r") for _ in range(2))
    assert first.ciphertext[:24] != second.ciphertext[:24]


@pytest.mark.parametrize(
    ("request_id", "position", "reason"),
    [("r-2", None, "body_commitment"), ("r-1", 0, "body_commitment"), ("r-1", -1, "body_chunk")],
)
def test_a_changed_or_moved_image_is_refused(
    kek: Kek, counting_random: RandomBytes, request_id: str, position: int | None, reason: str
) -> None:
    """An image belongs to one request and cannot be altered."""
    key, _ = create_sample_key(kek=kek, now=NOW, random=counting_random)
    sealed = SampleSealer(key=key, random=counting_random).seal(b"jpeg", request_id="r-1")
    ciphertext = bytearray(sealed.ciphertext)
    if position is not None:
        ciphertext[position] ^= 1
    with pytest.raises(SealError) as caught:
        open_sample_image(
            SealedImage(sealed.key_id, bytes(ciphertext)), request_id=request_id, key=key
        )
    assert (Code.SAMPLE_REFUSED, reason) == (caught.value.code, caught.value.reason)


def test_a_key_without_its_kek_is_refused(
    kek: Kek, other_kek: Kek, counting_random: RandomBytes
) -> None:
    """No KEK, or another, opens nothing."""
    _, record = create_sample_key(kek=kek, now=NOW, random=counting_random)
    assert [refusal_of(record, k) for k in ([], [other_kek])] == ["no_usable_key"] * 2


def test_a_changed_key_record_is_refused(kek: Kek, counting_random: RandomBytes) -> None:
    """The wrapped key is bound to its id, so rows cannot be exchanged."""
    _, record = create_sample_key(kek=kek, now=NOW, random=counting_random)
    renamed = dataclasses.replace(record, key_id="0" * 32)
    damaged = dataclasses.replace(record, wrapped_key=bytes(60))
    assert [refusal_of(r, [kek]) for r in (renamed, damaged)] == ["unwrap", "unwrap"]


def test_a_model_wrap_is_no_sample_key(kek: Kek, counting_random: RandomBytes) -> None:
    """A data key wrapped for a sealed model cannot be passed off as one for images."""
    wrapped = kek.wrap(bytes(32), purpose=b"sealed-model/v1", context=b"id", random=counting_random)
    record = WrappedSampleKey("id", kek.kek_id, wrapped, NOW)
    assert refusal_of(record, [kek]) == "unwrap"


def test_several_threads_may_seal(kek: Kek) -> None:
    """The sealer holds nothing that changes."""
    key, _ = create_sample_key(kek=kek, now=NOW, random=lambda n: b"\1" * n)
    sealer = SampleSealer(key=key, random=lambda n: b"\2" * n)
    sealed: dict[str, SealedImage] = {}

    def seal(request_id: str) -> None:
        sealed[request_id] = sealer.seal(request_id.encode() * 9000, request_id=request_id)

    threads = [Thread(target=seal, args=(f"r{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    opened = {r: open_sample_image(s, request_id=r, key=key) for r, s in sealed.items()}
    assert {f"r{i}": f"r{i}".encode() * 9000 for i in range(8)} == opened


def test_a_key_is_stored_and_found(engine: Engine) -> None:
    """The record comes back as it went in."""
    record = WrappedSampleKey("k1", "kek", b"\0\xff" * 30, NOW)
    with engine.begin() as connection:
        insert_sample_key(connection, record)
    with engine.begin() as connection:
        assert record == find_sample_key(connection, "k1")
        assert find_sample_key(connection, "k2") is None


def test_a_key_is_stored_once(sqlite_engine: Engine) -> None:
    """A second key of the same id would make images unreadable."""
    record = WrappedSampleKey("k1", "kek", b"x", NOW)
    with sqlite_engine.begin() as connection:
        insert_sample_key(connection, record)
    with pytest.raises(IntegrityError), sqlite_engine.begin() as connection:
        insert_sample_key(connection, record)


def test_keys_are_listed_the_oldest_first(engine: Engine) -> None:
    """Each as it was stored."""
    records = [
        WrappedSampleKey("b", "kek", b"1", NOW),
        WrappedSampleKey("a", "kek", b"2", NOW + timedelta(seconds=1)),
    ]
    with engine.begin() as connection:
        for record in reversed(records):
            insert_sample_key(connection, record)
    with engine.begin() as connection:
        assert records == list_sample_keys(connection)


def test_a_wrap_is_replaced_only_where_it_is_the_old_one(engine: Engine) -> None:
    """Two rotations at once do not undo each other."""
    old = WrappedSampleKey("k1", "kek", b"old", NOW)
    new = WrappedSampleKey("k1", "next", b"new", NOW)
    late = WrappedSampleKey("k1", "late", b"late", NOW)
    with engine.begin() as connection:
        insert_sample_key(connection, old)
        assert replace_sample_key(connection, old, new=new)
        assert not replace_sample_key(connection, old, new=late)
    with engine.begin() as connection:
        assert new == find_sample_key(connection, "k1")


def test_a_rewrapped_key_opens_the_same_images(
    kek: Kek, other_kek: Kek, counting_random: RandomBytes
) -> None:
    """Under the new KEK alone; its id and age stay."""
    key, record = create_sample_key(kek=kek, now=NOW, random=counting_random)
    new = rewrap_sample_key(record, keks=[kek], new_kek=other_kek, random=counting_random)
    assert open_sample_key(new, keks=[other_kek]).data_key == key.data_key
    assert (new.key_id, new.created_at) == (record.key_id, record.created_at)
    assert refusal_of(new, [kek]) == "no_usable_key"


def test_a_key_that_does_not_open_is_not_rewrapped(
    kek: Kek, other_kek: Kek, counting_random: RandomBytes
) -> None:
    """Without its KEK, or changed."""
    _, record = create_sample_key(kek=kek, now=NOW, random=counting_random)
    changed = dataclasses.replace(record, wrapped_key=record.wrapped_key[:-1] + b"\0")
    for keks, unverified in (([other_kek], record), ([kek], changed)):
        with pytest.raises(SealError):
            rewrap_sample_key(unverified, keks=keks, new_kek=other_kek, random=counting_random)


def test_a_new_kek_that_does_not_unwrap_is_found_at_once(
    kek: Kek, counting_random: RandomBytes
) -> None:
    """Later the images would be lost."""

    class Forgetful(Kek):
        """Unwraps to something else."""

        def unwrap(self, unverified_wrapped: bytes, *, purpose: bytes, context: bytes) -> bytes:
            """Another data key."""
            return bytes(32)

    _, record = create_sample_key(kek=kek, now=NOW, random=counting_random)
    with pytest.raises(SealError) as caught:
        rewrap_sample_key(
            record, keks=[kek], new_kek=Forgetful(key=b"\x11" * 32), random=counting_random
        )
    assert caught.value.reason == "unwrap"
