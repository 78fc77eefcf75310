"""Exchanging KEKs: the body stays to the byte, the new keys open the file, and nobody else can exchange them."""

import hashlib
import json
import os
from typing import Any

import pytest

from gateway.errors import SealError
from gateway.sealing.container import parse_container
from gateway.sealing.keys import Kek
from gateway.sealing.payload import Payload
from gateway.sealing.rotation import HEAD_BYTES, is_wrapped_for, rewrap, unverified_kek_ids
from gateway.sealing.sealed_model import open_model
from gateway.sealing.signers import Signer

NEW = Kek(key=b"\x11" * 32)


class ForgetfulKek(Kek):
    """Wraps well, and unwraps to something else, as a broken token might."""

    def unwrap(self, unverified_wrapped: bytes, *, purpose: bytes, context: bytes) -> bytes:
        """Another data key."""
        return bytes(32)


def rewrapped(sealed: bytes, signer: Signer, **changes: Any) -> bytes:
    """The file after a rotation to NEW, unless told otherwise."""
    arguments: dict[str, Any] = {
        "keks": [Kek(key=bytes(range(32)))],
        "new_keks": [NEW],
        "trusted_signers": [signer.trusted],
        "random": os.urandom,
    }
    return rewrap(sealed, **{**arguments, **changes})


def reason_of(sealed: bytes, signer: Signer, **changes: Any) -> str:
    """Why a rotation is refused."""
    with pytest.raises(SealError) as caught:
        rewrapped(sealed, signer, **changes)
    return caught.value.reason


def test_nothing_but_wraps_and_their_mac_changes(sealed: bytes, signer: Signer) -> None:
    """Body, signature and every signed fact are the same bytes."""
    before, after = parse_container(sealed), parse_container(rewrapped(sealed, signer))
    assert bytes(before.body) == bytes(after.body)
    assert (before.core, before.signature) == (after.core, after.signature)
    assert before.header.plaintext_sha256 == after.header.plaintext_sha256
    assert before.wraps_mac != after.wraps_mac
    assert [(wrap.kek_id, wrap.algorithm) for wrap in after.wraps] == [(NEW.kek_id, "AES-256-GCM")]


def test_only_the_new_keks_open_it(
    sealed: bytes, signer: Signer, kek: Kek, payload: Payload
) -> None:
    """To the weights that were sealed; each of two alone."""
    after = rewrapped(sealed, signer, new_keks=[NEW, kek])
    only_new = rewrapped(after, signer)
    name, trusted = ("conveyor", "1.0"), [signer.trusted]
    for file, key in ((after, NEW), (after, kek), (only_new, NEW)):
        opened = open_model(
            file, name=name[0], version=name[1], keks=[key], trusted_signers=trusted
        )
        assert bytes(payload.weights) == bytes(opened.payload.weights)
    with pytest.raises(SealError) as caught:
        open_model(only_new, name=name[0], version=name[1], keks=[kek], trusted_signers=trusted)
    assert caught.value.reason == "no_usable_key"


def test_a_rotation_back_and_forth_changes_no_body(sealed: bytes, signer: Signer, kek: Kek) -> None:
    """However often."""
    digest = hashlib.sha256(parse_container(sealed).body).hexdigest()
    for _ in range(3):
        sealed = rewrapped(sealed, signer)
        sealed = rewrapped(sealed, signer, keks=[NEW], new_keks=[kek])
    assert digest == hashlib.sha256(parse_container(sealed).body).hexdigest()


def test_without_an_old_kek_nothing_is_exchanged(
    sealed: bytes, signer: Signer, other_kek: Kek
) -> None:
    """Whoever has none of the keys cannot add one."""
    assert reason_of(sealed, signer, keks=[other_kek]) == "no_usable_key"


def test_a_file_of_another_signer_is_refused(
    sealed: bytes, signer: Signer, other_signer: Signer
) -> None:
    """Rotation trusts nobody whom opening would not."""
    trusted = [other_signer.trusted]
    assert reason_of(sealed, signer, trusted_signers=trusted) == "signer_untrusted"


def test_changed_wraps_are_refused(sealed: bytes, signer: Signer, kek: Kek) -> None:
    """A wrap that somebody added is not carried over as if it were one of ours."""
    length = int.from_bytes(sealed[8:12], "big")
    members = json.loads(sealed[12 : 12 + length])
    members["wraps"].append({"kek_id": "ff", "alg": "AES-256-GCM", "wrapped": "00" * 60})
    header = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    changed = sealed[:8] + len(header).to_bytes(4, "big") + header + sealed[12 + length :]
    assert reason_of(changed, signer) == "wraps_mac"


def test_a_kek_that_does_not_unwrap_is_found_at_once(sealed: bytes, signer: Signer) -> None:
    """Later the file would be lost."""
    broken = ForgetfulKek(key=b"\x11" * 32)
    assert reason_of(sealed, signer, new_keks=[broken]) == "wraps_mac"


def test_a_file_says_whether_it_is_done(sealed: bytes, signer: Signer, kek: Kek) -> None:
    """In any order; one KEK more or less is not done."""
    both = rewrapped(sealed, signer, new_keks=[NEW, kek])
    for keks, expected in (([kek, NEW], True), ([NEW], False), ([kek], False)):
        found = is_wrapped_for(both, keks, keks=[kek], trusted_signers=[signer.trusted])
        assert found is expected


def test_what_cannot_be_opened_is_not_done(
    sealed: bytes, signer: Signer, other_signer: Signer, other_kek: Kek, kek: Kek
) -> None:
    """Else a damaged file would pass as finished."""
    cases = [([other_kek], signer, "no_usable_key"), ([kek], other_signer, "signer_untrusted")]
    for keks, trusted, expected in cases:
        with pytest.raises(SealError) as caught:
            is_wrapped_for(sealed, [kek], keks=keks, trusted_signers=[trusted.trusted])
        assert caught.value.reason == expected


def test_ids_are_read_without_any_key(sealed: bytes, signer: Signer, kek: Kek) -> None:
    """From the beginning of the file alone."""
    both = rewrapped(sealed, signer, new_keks=[NEW, kek])
    assert unverified_kek_ids(both[:HEAD_BYTES]) == (NEW.kek_id, kek.kek_id)
    with pytest.raises(SealError):
        unverified_kek_ids(both[:100])
