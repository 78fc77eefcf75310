"""C2SP chunked encryption against the public vectors, the known answers, and damage of every kind."""

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import SealError
from gateway.sealing.chunked import (
    COBBLESTONE_256,
    Suite,
    count_chunks,
    open_chunked,
    open_chunked_guarded,
    seal_chunked,
)
from gateway.sealing.guarded_memory import GuardedBuffer

SUITES = {128: Suite(b"AEAD_AES_128_GCM", 16), 256: COBBLESTONE_256}
KEY = bytes(range(32))
SALT = bytes(range(24))


def read_vectors(folder: Path, bits: int) -> list[dict[str, Any]]:
    """The test vectors of one suite."""
    path = folder / f"c2sp_chunked_encryption_aes_{bits}_gcm_test.json"
    groups = json.loads(path.read_text())["testGroups"]
    return [test for group in groups for test in group["tests"]]


def reason_of(key: bytes, context: bytes, unverified: bytes, suite: Suite = COBBLESTONE_256) -> str:
    """The reason of the refusal."""
    with pytest.raises(SealError) as caught:
        open_chunked(key, context, unverified, suite=suite)
    return caught.value.reason


@pytest.mark.parametrize("bits", [128, 256])
def test_there_are_35_vectors_a_suite(test_vectors: Path, bits: int) -> None:
    """The tests below see every vector: 10 valid and 25 invalid."""
    vectors = read_vectors(test_vectors, bits)
    assert (sum(v["result"] == "valid" for v in vectors), len(vectors)) == (10, 35)


@pytest.mark.parametrize("number", range(35))
@pytest.mark.parametrize("bits", [128, 256])
def test_wycheproof_vector(test_vectors: Path, bits: int, number: int) -> None:
    """A valid vector opens to its message and seals back to its ciphertext; an invalid one is refused."""
    vector = read_vectors(test_vectors, bits)[number]
    key, context = bytes.fromhex(vector["key"]), bytes.fromhex(vector["ctx"])
    ciphertext = zlib.decompress(bytes.fromhex(vector["ct"]))
    if vector["result"] == "invalid":
        reason = reason_of(key, context, ciphertext, SUITES[bits])
        assert "HeaderFailure" not in vector["flags"] or reason != "body_chunk"
        return
    message = open_chunked(key, context, ciphertext, suite=SUITES[bits])
    assert (vector["msgLength"], vector["msgSha512"]) == (
        len(message),
        hashlib.sha512(message).hexdigest(),
    )
    assert ciphertext == seal_chunked(
        key, context, message, salt=ciphertext[:24], suite=SUITES[bits]
    )


def test_the_empty_message_under_the_known_key() -> None:
    """Salt, commitment and one empty chunk, as other implementations make them."""
    expected = (
        SALT.hex()
        + "bedafdc25c8a3895baed4b7156d694bdc9e3f700bc5d64988f600c53357c4393"
        + "f7dc7f72b9b6a3f73a68a7b00a081cce"
    )
    assert expected == seal_chunked(KEY, b"", b"", salt=SALT).hex()


@pytest.mark.parametrize(
    ("length", "context", "sealed_length", "sha256"),
    [
        (16384, b"", 16472, "d8d980c0347d1704cdb6ed048c45ccb0ce7225957ae2bab4d6789ee8fdc6aa31"),
        (
            16385,
            b"name@1",
            16473,
            "025f23ede3122429e8477a900efb9f60edfeefb6a0d2cbcb9c8126be8e127b4e",
        ),
    ],
)
def test_known_ciphertexts(length: int, context: bytes, sealed_length: int, sha256: str) -> None:
    """Messages at a chunk's edge give the known ciphertexts."""
    ciphertext = seal_chunked(KEY, context, b"a" * length, salt=SALT)
    assert (sealed_length, sha256) == (len(ciphertext), hashlib.sha256(ciphertext).hexdigest())


def test_the_commitment_depends_on_the_context() -> None:
    """Another context gives another known commitment."""
    expected = "97a27b715c813acef534e8bfa949b7e719239d4fb8e4b2198c1918a31c7f2de2"
    assert expected == seal_chunked(KEY, b"name@1", b"", salt=SALT)[24:56].hex()


@pytest.mark.parametrize("length", [0, 1, 16383, 16384, 16385, 32768, 50000])
def test_a_message_of_any_length_opens_again(length: int) -> None:
    """Opening undoes sealing around every chunk's edge."""
    message = bytes(i % 256 for i in range(length))
    assert message == open_chunked(KEY, b"c", seal_chunked(KEY, b"c", message, salt=SALT))


@given(st.binary(max_size=40000), st.binary(max_size=50))
def test_guarded_memory_holds_the_same_plaintext(message: bytes, context: bytes) -> None:
    """Both ways of opening give what was sealed, under a key in a bytearray too."""
    ciphertext = seal_chunked(KEY, context, message, salt=SALT)
    with open_chunked_guarded(bytearray(KEY), context, memoryview(ciphertext)) as plaintext:
        assert message == bytes(plaintext.view) == open_chunked(KEY, context, ciphertext)


def test_nothing_stays_of_a_message_whose_end_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chunks before the damage were decrypted; they are overwritten and unmapped."""
    made: list[GuardedBuffer] = []
    looked: list[memoryview] = []

    def remember(length: int) -> GuardedBuffer:
        made.append(GuardedBuffer(length))
        looked.append(made[-1].view[:])
        return made[-1]

    monkeypatch.setattr("gateway.sealing.chunked.GuardedBuffer", remember)
    ciphertext = bytearray(seal_chunked(KEY, b"", b"a" * 40000, salt=SALT))
    ciphertext[-1] ^= 1
    assert reason_of(KEY, b"", bytes(ciphertext)) == "body_chunk"
    assert bytes(40000) == bytes(looked[0])
    with pytest.raises(ValueError, match="closed"):
        _ = made[0].view


@pytest.mark.parametrize("length", [0, 71])
def test_less_than_an_empty_message_is_refused(length: int) -> None:
    """72 bytes is the shortest ciphertext."""
    assert reason_of(KEY, b"", bytes(length)) == "body_size"


@pytest.mark.parametrize("cut", [1, 15, 16, 17, 400, 16400, 16401])
def test_a_cut_message_is_refused(cut: int) -> None:
    """No truncation passes, at a chunk's edge neither."""
    ciphertext = seal_chunked(KEY, b"", bytes(16384 + 100), salt=SALT)
    assert reason_of(KEY, b"", ciphertext[:-cut]) in {"body_size", "body_chunk"}


def test_a_cut_at_the_last_chunk_is_refused_by_its_length() -> None:
    """A file that ends with a full chunk has lost its end."""
    ciphertext = seal_chunked(KEY, b"", bytes(16384), salt=SALT)
    assert reason_of(KEY, b"", ciphertext[:-16]) == "body_size"


def test_trailing_bytes_are_refused() -> None:
    """Nothing can be appended."""
    ciphertext = seal_chunked(KEY, b"", b"abc", salt=SALT)
    assert reason_of(KEY, b"", ciphertext + b"\0") == "body_chunk"


def test_exchanged_chunks_are_refused() -> None:
    """Chunks cannot change places."""
    ciphertext = seal_chunked(KEY, b"", bytes(32768), salt=SALT)
    first, second = ciphertext[56 : 56 + 16400], ciphertext[56 + 16400 : 56 + 32800]
    changed = ciphertext[:56] + second + first + ciphertext[56 + 32800 :]
    assert reason_of(KEY, b"", changed) == "body_chunk"


@pytest.mark.parametrize(
    ("key", "context", "position"),
    [(b"\1" * 32, b"c", None), (KEY, b"d", None), (KEY, b"c", 0), (KEY, b"c", 24), (KEY, b"c", 55)],
)
def test_key_context_salt_and_commitment_are_committed(
    key: bytes, context: bytes, position: int | None
) -> None:
    """A wrong key or context and a changed salt or commitment are refused before any decryption."""
    ciphertext = bytearray(seal_chunked(KEY, b"c", b"message", salt=SALT))
    if position is not None:
        ciphertext[position] ^= 1
    assert reason_of(key, context, bytes(ciphertext)) == "body_commitment"


def test_the_commitment_is_compared_before_the_chunks() -> None:
    """With a forged commitment not even a damaged chunk is looked at."""
    ciphertext = bytearray(seal_chunked(KEY, b"", b"message", salt=SALT))
    ciphertext[24] ^= 1
    ciphertext[-1] ^= 1
    assert reason_of(KEY, b"", bytes(ciphertext)) == "body_commitment"


@pytest.mark.parametrize("length", [16, 24, 31, 33, 0])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    """The key's length never chooses the algorithm."""
    ciphertext = seal_chunked(KEY, b"", b"", salt=SALT)
    assert reason_of(KEY[:length] + b"\0" * (length - 32), b"", ciphertext) == "body_key_length"


@pytest.mark.parametrize(("key", "salt"), [(KEY[:16], SALT), (KEY, SALT[:12]), (KEY, SALT + b"0")])
def test_sealing_refuses_a_wrong_key_or_salt_length(key: bytes, salt: bytes) -> None:
    """A short key or salt is our own mistake and seals nothing."""
    with pytest.raises(RuntimeError, match="internal: "):
        seal_chunked(key, b"", b"", salt=salt)


def test_the_largest_message_is_below_4_pib() -> None:
    """2^38 - 1 chunks are the most."""
    largest = 56 + 16400 * (2**38 - 2) + 16
    assert count_chunks(largest) == 2**38 - 1
    with pytest.raises(SealError):
        count_chunks(largest + 16400)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(unverified: bytes) -> None:
    """Nothing opens that was not sealed, and only SealError escapes."""
    assert reason_of(KEY, b"", unverified) in {"body_size", "body_commitment"}
