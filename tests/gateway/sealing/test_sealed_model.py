"""Sealing and opening whole files: every check of the order refuses, and nothing changed ever opens."""

import hashlib
import random as seeded
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gateway.errors import Code, OperatorError, SealError
from gateway.sealing.container import (
    ModelFacts,
    Wrap,
    encode_container,
    encode_core,
    parse_container,
)
from gateway.sealing.keys import Kek, RandomBytes
from gateway.sealing.payload import Payload, pack_payload
from gateway.sealing.refusals import MESSAGE, Refusal
from gateway.sealing.sealed_model import OpenedModel, open_model, read_header, seal_model
from gateway.sealing.signers import Signer, TrustedSigner

Forge = Callable[..., bytes]
RefusalOf = Callable[..., str]
SMALL = Payload(("a",), b"weights")


def open_it(
    sealed: bytes, *, keks: list[Kek], signer: Signer, name: str = "conveyor", version: str = "1.0"
) -> OpenedModel:
    """The model in this file, asked for by its own name."""
    return open_model(
        sealed, name=name, version=version, keks=keks, trusted_signers=[signer.trusted]
    )


def test_a_sealed_model_opens_to_its_facts_and_payload(
    sealed: bytes, facts: ModelFacts, payload: Payload, kek: Kek, signer: Signer
) -> None:
    """What was sealed comes out, with what was said about it."""
    opened = open_it(sealed, keks=[kek], signer=signer)
    assert payload == opened.payload
    header = opened.header
    assert (header.name, header.version, header.task) == ("conveyor", "1.0", "detect")
    assert (header.input_size, header.precision, header.engine) == ((320, 416), "f32", "openvino")
    assert (header.dynamic, header.stride, header.decode) == (False, 32, "full")
    assert dict(header.gates) == {"parity": "passed on 4 images"}
    plaintext = pack_payload(payload)
    assert (len(plaintext), hashlib.sha256(plaintext).hexdigest()) == (
        header.plaintext_length,
        header.plaintext_sha256,
    )
    assert signer.signer_id == header.signer


def test_the_file_has_its_known_answer(sealed: bytes) -> None:
    """Fixed keys, facts and randomness give the file whose digest FORMAT.md prints."""
    known = "d17bc5518af34054b5d21c95f39b901d3c59af06902991ac8db71614ab37a995"
    assert (41116, known) == (len(sealed), hashlib.sha256(sealed).hexdigest())
    format_md = Path(__file__).resolve().parents[3] / "gateway" / "sealing" / "FORMAT.md"
    assert known in format_md.read_text(encoding="utf-8")


@pytest.mark.parametrize("length", [0, 1, 16384])
def test_a_payload_of_any_length_opens(
    facts: ModelFacts, kek: Kek, signer: Signer, counting_random: RandomBytes, length: int
) -> None:
    """Weights of no bytes and of a whole chunk open again."""
    payload = Payload(("a",), bytes(length))
    sealed = seal_model(facts, payload, keks=[kek], signer=signer, random=counting_random)
    assert payload == open_it(sealed, keks=[kek], signer=signer).payload


def test_any_one_of_its_keks_opens_the_file(
    facts: ModelFacts, kek: Kek, other_kek: Kek, signer: Signer, counting_random: RandomBytes
) -> None:
    """A file wrapped for two keys opens with either."""
    sealed = seal_model(facts, SMALL, keks=[kek, other_kek], signer=signer, random=counting_random)
    payloads = [open_it(sealed, keks=[one], signer=signer).payload for one in (kek, other_kek)]
    assert payloads == [SMALL, SMALL]


def test_the_payload_is_never_shown(sealed: bytes, kek: Kek, signer: Signer) -> None:
    """A log line with an opened model holds no weights."""
    shown = repr(open_it(sealed, keks=[kek], signer=signer))
    assert [word for word in ("weights", "golden", "memory") if word in shown] == []


def test_two_sealings_never_share_key_or_salt(facts: ModelFacts, kek: Kek, signer: Signer) -> None:
    """All randomness of a sealing is drawn anew."""
    drawn: list[int] = []

    def recording(count: int) -> bytes:
        drawn.append(count)
        return bytes([len(drawn)]) * count

    for _ in range(2):
        seal_model(facts, SMALL, keks=[kek], signer=signer, random=recording)
    assert drawn == [32, 12, 24, 32, 12, 24]


def test_sealing_needs_keks_each_once(facts: ModelFacts, kek: Kek, signer: Signer) -> None:
    """A file that nobody could open, or that names a key twice, is never made."""
    for keks in ([], [kek, kek]):
        with pytest.raises(RuntimeError, match="internal: "):
            seal_model(facts, SMALL, keks=keks, signer=signer, random=bytes)


def test_sealing_refuses_facts_that_do_not_fit(kek: Kek, signer: Signer) -> None:
    """A bad name is refused before anything is encrypted."""
    facts = ModelFacts(
        name="Bad Name",
        version="1",
        task="detect",
        input_size=(32, 32),
        precision="f32",
        engine="openvino",
        dynamic=False,
        stride=32,
        decode="full",
        made_with={},
        gates={},
    )
    with pytest.raises(OperatorError, match="name must be") as caught:
        seal_model(facts, SMALL, keks=[kek], signer=signer, random=bytes)
    assert Code.MODEL_UNSUPPORTED is caught.value.code


def test_the_forged_file_opens_where_nothing_is_wrong(
    forge: Forge, core: dict[str, Any], kek: Kek, signer: Signer, payload: Payload
) -> None:
    """The forgeries below fail for what they change and for nothing else."""
    assert payload == open_it(forge(core), keks=[kek], signer=signer).payload


def test_every_refusal_has_one_code_and_one_message(
    sealed: bytes, kek: Kek, signer: Signer
) -> None:
    """A caller cannot tell a damaged header from a damaged body."""
    shown = set()
    for unverified in (b"", sealed[:100], sealed[:-1], sealed[:-1] + b"\0"):
        with pytest.raises(SealError) as caught:
            open_it(unverified, keks=[kek], signer=signer)
        shown.add((caught.value.code, str(caught.value)))
    assert {(Code.SEALED_MODEL_REFUSED, MESSAGE)} == shown


def test_what_an_earlier_release_sealed_is_said_to_be(
    sealed: bytes, kek: Kek, signer: Signer
) -> None:
    """It is no damage, and no other file would help; refused like any other magic all the same."""
    with pytest.raises(SealError, match="sealed by an earlier release") as caught:
        open_it(b"\x89SEAL1\r\n" + sealed[8:], keks=[kek], signer=signer)
    assert (caught.value.code, caught.value.reason) == (Code.SEALED_MODEL_REFUSED, "magic")


def test_an_untrusted_signer_is_refused(
    sealed: bytes, refusal_of: RefusalOf, other_signer: Signer
) -> None:
    """Only named signers count, and no list of them means none."""
    reasons = [refusal_of(sealed, trusted_signers=s) for s in ([], [other_signer.trusted])]
    assert reasons == ["signer_untrusted", "signer_untrusted"]


def test_a_trusted_name_without_its_signature_is_refused(
    forge: Forge, refusal_of: RefusalOf, core: dict[str, Any], other_signer: Signer
) -> None:
    """Naming a trusted signer is not signing."""
    core_bytes = parse_container(forge(core)).core
    foreign = other_signer.sign(b"sealed-model/v2\0" + core_bytes).hex()
    reasons = [refusal_of(forge(core, signature=s)) for s in ("00" * 64, foreign)]
    assert reasons == ["signature", "signature"]


def test_a_signature_for_another_purpose_is_refused(
    forge: Forge, refusal_of: RefusalOf, core: dict[str, Any], signer: Signer
) -> None:
    """A signature over the bare header, as another protocol might make it, does not count."""
    bare = signer.sign(parse_container(forge(core)).core).hex()
    assert refusal_of(forge(core, signature=bare)) == "signature"


def test_an_edited_version_is_refused(
    forge: Forge, refusal_of: RefusalOf, core: dict[str, Any]
) -> None:
    """Whoever holds the KEK but not the signing key cannot make an old file look new."""
    old_signature = parse_container(forge(core)).signature.hex()
    edited = forge(core | {"version": "2.0"}, signature=old_signature)
    assert refusal_of(edited, version="2.0") == "signature"


def test_a_re_signed_header_does_not_fit_the_old_body(
    sealed: bytes, refusal_of: RefusalOf, forge: Forge, core: dict[str, Any]
) -> None:
    """Even a trusted signer cannot give the weights of one version to another without sealing them again."""
    old_body = bytes(parse_container(sealed).body)
    edited = forge(core | {"version": "2.0"}, body=old_body)
    assert refusal_of(edited, version="2.0") == "body_commitment"


@pytest.mark.parametrize(
    "question", [{"name": "other"}, {"version": "1.1"}, {"name": "conveyor-1.0"}, {"version": ""}]
)
def test_a_file_asked_for_under_another_name_is_refused(
    sealed: bytes, refusal_of: RefusalOf, question: dict[str, str]
) -> None:
    """The caller asks for a model; the file does not choose."""
    assert refusal_of(sealed, **question) == "name_or_version"


def test_the_signature_is_checked_before_the_name(
    sealed: bytes, refusal_of: RefusalOf, other_signer: Signer
) -> None:
    """The name in an unsigned file is not even looked at."""
    reason = refusal_of(sealed, name="other", trusted_signers=[other_signer.trusted])
    assert reason == "signer_untrusted"


def test_a_file_wrapped_for_other_keys_is_refused(
    sealed: bytes, refusal_of: RefusalOf, other_kek: Kek
) -> None:
    """Without one of its KEKs a file stays shut."""
    assert [refusal_of(sealed, keks=k) for k in ([], [other_kek])] == ["no_usable_key"] * 2


def test_a_wrap_cannot_choose_how_it_is_unwrapped(
    forge: Forge, refusal_of: RefusalOf, core: dict[str, Any], kek: Kek
) -> None:
    """A wrap that names another algorithm is not for this key."""
    wrap = {"kek_id": kek.kek_id, "alg": "none", "wrapped": "00" * 60}
    assert refusal_of(forge(core, wraps=[wrap])) == "no_usable_key"


@pytest.mark.parametrize("length", [1, 59, 60, 61])
def test_a_wrap_that_does_not_authenticate_is_refused(
    forge: Forge, refusal_of: RefusalOf, core: dict[str, Any], kek: Kek, length: int
) -> None:
    """A wrap of zeros, of any length, opens nothing."""
    wrap = {"kek_id": kek.kek_id, "alg": "AES-256-GCM", "wrapped": "00" * length}
    assert refusal_of(forge(core, wraps=[wrap])) == "unwrap"


def test_the_wraps_of_another_file_are_refused(
    forge: Forge, refusal_of: RefusalOf, core: dict[str, Any]
) -> None:
    """A wrap is bound to its header, even where data key and KEK are the same."""
    other = parse_container(forge(core | {"version": "2.0"})).wraps[0]
    wrap = {"kek_id": other.kek_id, "alg": other.algorithm, "wrapped": other.wrapped.hex()}
    assert refusal_of(forge(core, wraps=[wrap])) == "unwrap"


@pytest.mark.parametrize("change", ["alter", "remove", "add", "reorder"])
def test_a_change_to_somebody_elses_wrap_is_refused(
    facts: ModelFacts,
    kek: Kek,
    other_kek: Kek,
    signer: Signer,
    counting_random: RandomBytes,
    refusal_of: RefusalOf,
    change: str,
) -> None:
    """A reader notices damage to wraps that it has no key for."""
    sealed = seal_model(facts, SMALL, keks=[kek, other_kek], signer=signer, random=counting_random)
    parts = parse_container(sealed)
    own, theirs = parts.wraps
    wraps = {
        "alter": [own, Wrap(theirs.kek_id, theirs.algorithm, b"\0" * 60)],
        "remove": [own],
        "add": [own, theirs, Wrap("mallory", "AES-256-GCM", b"\0" * 60)],
        "reorder": [theirs, own],
    }[change]
    changed = encode_container(
        parts.core,
        wraps=wraps,
        wraps_mac=parts.wraps_mac,
        signature=parts.signature,
        body=bytes(parts.body),
    )
    assert refusal_of(changed) == "wraps_mac"


def test_a_wraps_mac_of_zeros_is_refused(
    forge: Forge, refusal_of: RefusalOf, core: dict[str, Any]
) -> None:
    """The code must be the one that only holders of the data key can make."""
    assert refusal_of(forge(core, wraps_mac="0" * 64)) == "wraps_mac"


def test_the_body_of_another_file_is_refused(
    facts: ModelFacts, sealed: bytes, kek: Kek, signer: Signer, refusal_of: RefusalOf
) -> None:
    """Header and body of two files sealed by the same people do not fit together."""
    other = seal_model(facts, SMALL, keks=[kek], signer=signer, random=lambda n: b"\x33" * n)
    body_bytes = len(parse_container(sealed).body)
    changed = sealed[:-body_bytes] + bytes(parse_container(other).body)
    assert refusal_of(changed) == "body_commitment"


@pytest.mark.parametrize(
    ("cut", "reason"), [(1, "body_chunk"), (32, "body_chunk"), (40416, "header_length")]
)
def test_a_cut_file_is_refused(sealed: bytes, refusal_of: RefusalOf, cut: int, reason: str) -> None:
    """No end can be missing."""
    assert refusal_of(sealed[:-cut]) == reason


def test_no_truncation_or_extension_opens(sealed: bytes, refusal_of: RefusalOf) -> None:
    """Every cut in the header, many in the body, and appended bytes are refused."""
    cuts = [*range(1400), *range(1400, len(sealed), 97)]
    assert [refusal_of(sealed[:cut]) for cut in cuts].count("") == 0
    assert [refusal_of(sealed + bytes(n)) for n in (1, 16, 16400)] == ["body_chunk"] * 3


def test_a_lying_plaintext_length_is_refused(
    forge: Forge, refusal_of: RefusalOf, core: dict[str, Any]
) -> None:
    """The signed length must be the payload's."""
    assert refusal_of(forge(core | {"plaintext_length": 40009})) == "plaintext_length"


def test_other_weights_under_a_signed_header_are_refused(
    forge: Forge, refusal_of: RefusalOf, core: dict[str, Any], payload: Payload
) -> None:
    """Whoever knows the data key but not the signing key cannot exchange the weights."""
    assert refusal_of(forge(core, plaintext=pack_payload(payload)[::-1])) == "plaintext_digest"


def test_a_signed_plaintext_that_is_no_payload_is_refused(
    forge: Forge, refusal_of: RefusalOf, core: dict[str, Any]
) -> None:
    """Even a trusted signer's file is read strictly inside."""
    plaintext = b"\0\0\0\2{}weights"
    told = {
        "plaintext_length": len(plaintext),
        "plaintext_sha256": hashlib.sha256(plaintext).hexdigest(),
    }
    assert refusal_of(forge(core | told, plaintext=plaintext)) == "payload"


def test_no_flipped_bit_opens(sealed: bytes, refusal_of: RefusalOf) -> None:
    """Every bit before the body and 600 bits of the body, flipped one by one, are all refused."""
    body_start = len(sealed) - len(parse_container(sealed).body)
    generator = seeded.Random(7)
    body_bits = generator.sample(range(body_start * 8, len(sealed) * 8), 600)
    refused = 0
    for bit in (*range(body_start * 8), *body_bits):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        refused += bool(refusal_of(bytes(changed)))
    assert body_start * 8 + 600 == refused


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_edited_file_opens_and_none_crashes(
    sealed: bytes, refusal_of: RefusalOf, data: st.DataObject
) -> None:
    """Whatever is cut out, put in, repeated or moved: one refusal, with a reason of the closed set."""
    changed = sealed
    for _ in range(data.draw(st.integers(1, 3))):
        # Half of the edits in the header, which is a fiftieth of the file.
        limit = data.draw(st.sampled_from([1000, len(changed)]))
        start = data.draw(st.integers(0, limit))
        end = min(start + data.draw(st.integers(0, 64)), len(changed))
        piece = data.draw(st.binary(max_size=64) | st.just(changed[start:end] * 2))
        changed = changed[:start] + piece + changed[end:]
    assume(changed != sealed)
    assert refusal_of(changed) in set(Refusal)


def test_the_header_reads_without_a_kek(sealed: bytes, signer: Signer) -> None:
    """Listing needs the signer's public key and nothing secret."""
    header = read_header(sealed, trusted_signers=[signer.trusted])
    assert (header.name, header.version) == ("conveyor", "1.0")


def test_an_unsigned_header_does_not_read(sealed: bytes, other_signer: Signer) -> None:
    """Facts that no trusted signer vouches for are not listed."""
    for trusted in ([], [other_signer.trusted]):
        with pytest.raises(SealError):
            read_header(sealed, trusted_signers=trusted)


def test_a_signer_is_found_among_several(
    sealed: bytes, signer: Signer, other_signer: Signer, kek: Kek
) -> None:
    """The signature is checked with the key that the header names."""
    trusted: list[TrustedSigner] = [other_signer.trusted, signer.trusted]
    opened = open_model(sealed, name="conveyor", version="1.0", keks=[kek], trusted_signers=trusted)
    assert signer.signer_id == opened.header.signer


def test_a_core_made_from_parsed_facts_is_the_signed_one(sealed: bytes) -> None:
    """Header and core say the same: nothing is signed that the facts do not show."""
    parts = parse_container(sealed)
    assert parts.core == encode_core(parts.header)
