"""Fixtures for sealed models: fixed keys, fixed randomness, and a way to forge files that fail exactly one check."""

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from gateway.errors import SealError
from gateway.sealing.chunked import seal_chunked
from gateway.sealing.container import ModelFacts
from gateway.sealing.keys import Kek, RandomBytes
from gateway.sealing.payload import Payload, pack_payload
from gateway.sealing.sealed_model import open_model, seal_model
from gateway.sealing.signers import Signer


@pytest.fixture
def kek() -> Kek:
    """The key 00 01 … 1f."""
    return Kek(key=bytes(range(32)))


@pytest.fixture
def other_kek() -> Kek:
    """Another key."""
    return Kek(key=b"\xee" * 32)


@pytest.fixture
def signer() -> Signer:
    """The signer with the seed 20 21 … 3f."""
    return Signer(private_key=Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64))))


@pytest.fixture
def other_signer() -> Signer:
    """Another signer."""
    return Signer(private_key=Ed25519PrivateKey.from_private_bytes(b"\xdd" * 32))


@pytest.fixture
def counting_random() -> RandomBytes:
    """Randomness that counts: 40 41 42 … in one running sequence."""
    position = 0x40

    def take(count: int) -> bytes:
        nonlocal position
        position += count
        return bytes(i % 256 for i in range(position - count, position))

    return take


@pytest.fixture
def dek() -> bytes:
    """The data key that `counting_random` yields first."""
    return bytes(range(0x40, 0x60))


@pytest.fixture
def facts() -> ModelFacts:
    """A small detector's facts."""
    return ModelFacts(
        name="conveyor",
        version="1.0",
        task="detect",
        input_size=(320, 416),
        precision="f32",
        engine="openvino",
        dynamic=False,
        stride=32,
        decode="full",
        made_with={"openvino": "2026.4.1", "processor": "avx2"},
        gates={"parity": "passed on 4 images"},
    )


@pytest.fixture
def payload() -> Payload:
    """Weights of three chunks, the last of them short, and a golden set of ten bytes."""
    return Payload(("bolt", "nut"), bytes(i * 7 % 251 for i in range(40000)), b"0123456789")


@pytest.fixture
def sealed(
    facts: ModelFacts, payload: Payload, kek: Kek, signer: Signer, counting_random: RandomBytes
) -> bytes:
    """A good file."""
    return seal_model(facts, payload, keks=[kek], signer=signer, random=counting_random)


@pytest.fixture
def frame() -> Callable[[bytes, bytes], bytes]:
    """Magic, length, these header bytes, this body."""

    def frame(header: bytes, body: bytes) -> bytes:
        return b"\x89SEAL2\r\n" + len(header).to_bytes(4, "big") + header + body

    return frame


@pytest.fixture
def core(sealed: bytes) -> dict[str, Any]:
    """The core members of the good file."""
    length = int.from_bytes(sealed[8:12], "big")
    members: dict[str, Any] = json.loads(sealed[12 : 12 + length])
    return {m: v for m, v in members.items() if m not in {"wraps", "wraps_mac", "signature"}}


@pytest.fixture
def forge(
    frame: Callable[[bytes, bytes], bytes], payload: Payload, kek: Kek, signer: Signer, dek: bytes
) -> Callable[..., bytes]:
    """A file with these core members in which everything else fits, but for what is overridden.

    Overrides: wraps, wraps_mac (hex), signature (hex), body, plaintext, extra (more members).
    """

    def canonical(value: object) -> bytes:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def forge(core: dict[str, Any], **over: Any) -> bytes:
        context = hashlib.sha256(canonical(core)).digest()
        wrapped = kek.wrap(
            dek, purpose=b"sealed-model/v2", context=context, random=lambda n: b"\x07" * n
        )
        own_wrap = {"kek_id": kek.kek_id, "alg": "AES-256-GCM", "wrapped": wrapped.hex()}
        wraps = over.get("wraps", [own_wrap])
        mac_key = HKDFExpand(hashes.SHA512(), 32, b"sealed-model/v2 wraps").derive(dek)
        mac = hmac.digest(mac_key, canonical(wraps), "sha256").hex()
        members = {
            **core,
            "wraps": wraps,
            "wraps_mac": over.get("wraps_mac", mac),
            "signature": over.get(
                "signature", signer.sign(b"sealed-model/v2\0" + canonical(core)).hex()
            ),
            **over.get("extra", {}),
        }
        body = seal_chunked(
            dek, context, over.get("plaintext", pack_payload(payload)), salt=b"\x08" * 24
        )
        return frame(canonical(members), over.get("body", body))

    return forge


@pytest.fixture
def refusal_of(kek: Kek, signer: Signer) -> Callable[..., str]:
    """The reason for which opening these bytes is refused; fails where they open or another error escapes."""

    def refusal_of(unverified: bytes, **over: Any) -> str:
        question: dict[str, Any] = {
            "name": "conveyor",
            "version": "1.0",
            "keks": [kek],
            "trusted_signers": [signer.trusted],
            **over,
        }
        with pytest.raises(SealError) as caught:
            open_model(unverified, **question)
        return caught.value.reason

    return refusal_of
