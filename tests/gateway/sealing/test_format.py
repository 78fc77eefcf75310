"""A second reader, written from FORMAT.md with the standard library and bare AES-GCM, opens what we seal."""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.sealing.container import ModelFacts
from gateway.sealing.payload import Payload
from gateway.sealing.refusals import Refusal
from gateway.sealing.signers import Signer

FORMAT_MD = Path(__file__).resolve().parents[3] / "gateway" / "sealing" / "FORMAT.md"


def expand(hash_name: str, key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand, RFC 5869 section 2.3."""
    block, out = b"", b""
    for counter in range(1, 255):
        block = hmac.digest(key, block + info + bytes([counter]), hash_name)
        out += block
        if len(out) >= length:
            break
    return out[:length]


def canonical(value: object) -> bytes:
    """Canonical JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def open_body(key: bytes, context: bytes, body: bytes) -> bytes:
    """Chunked encryption, from the format's description."""
    salt, commitment, chunks = body[:24], body[24:56], body[56:]
    info = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0" + salt + context
    derived = expand("sha512", key, info, 76)
    assert derived[44:] == commitment
    plaintext = b""
    for number in range(len(chunks) // 16400 + 1):
        nonce = int.from_bytes(derived[32:44], "big") ^ number
        chunk = chunks[16400 * number : 16400 * (number + 1)]
        plaintext += AESGCM(derived[:32]).decrypt(nonce.to_bytes(12, "big"), chunk, None)
    return plaintext


def test_a_reader_written_from_the_format_opens_the_file(
    sealed: bytes, payload: Payload, signer: Signer, facts: ModelFacts
) -> None:
    """Every step of the document leads to the payload."""
    length = int.from_bytes(sealed[8:12], "big")
    header: dict[str, Any] = json.loads(sealed[12 : 12 + length])
    outside = {"wraps", "wraps_mac", "signature"}
    core = canonical({member: header[member] for member in header if member not in outside})
    public = signer.trusted.public_key.public_bytes_raw()
    assert header["signer"] == hashlib.sha256(public).hexdigest()
    Ed25519PublicKey.from_public_bytes(public).verify(
        bytes.fromhex(header["signature"]), b"sealed-model/v2\0" + core
    )
    context = hashlib.sha256(core).digest()
    kek = bytes(range(32))
    (wrap,) = header["wraps"]
    assert wrap["kek_id"] == expand("sha256", kek, b"gatewatch kek id v1", 8).hex()
    wrapped = bytes.fromhex(wrap["wrapped"])
    bound = b"sealed-model/v2\0" + wrap["kek_id"].encode() + b"\0" + context
    dek = AESGCM(kek).decrypt(wrapped[:12], wrapped[12:], bound)
    mac_key = expand("sha512", dek, b"sealed-model/v2 wraps", 32)
    mac = hmac.digest(mac_key, canonical(header["wraps"]), "sha256").hex()
    assert header["wraps_mac"] == mac
    plaintext = open_body(dek, context, sealed[12 + length :])
    assert header["plaintext_sha256"] == hashlib.sha256(plaintext).hexdigest()
    manifest_end = 4 + int.from_bytes(plaintext[:4], "big")
    manifest: dict[str, Any] = json.loads(plaintext[4:manifest_end])
    parts, start = {}, manifest_end
    for part in manifest["parts"]:
        parts[part["name"]] = plaintext[start : start + part["length"]]
        start += part["length"]
    assert {"weights": payload.weights, "golden": payload.golden} == parts
    assert (len(plaintext), ["bolt", "nut"]) == (start, manifest["names"])
    assert facts.name == header["name"]


def test_the_known_header_stands_in_the_document(sealed: bytes) -> None:
    """The header of the known answer is printed byte for byte."""
    length = int.from_bytes(sealed[8:12], "big")
    assert sealed[12 : 12 + length].decode() in FORMAT_MD.read_text(encoding="utf-8")


def test_every_refusal_is_documented() -> None:
    """The document names every reason that an audit record can hold."""
    text = FORMAT_MD.read_text(encoding="utf-8")
    assert [refusal.value for refusal in Refusal if f"`{refusal.value}`" not in text] == []
