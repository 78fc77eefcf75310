"""The data key of a sealed model, wrapped once for each KEK, and the MAC that keeps the wraps together.

Rules: the signature leaves the wraps out, so that KEKs can be exchanged; the data key authenticates them instead. A
wrap's algorithm never selects how to unwrap: it is looked up together with the key, and both must be known.
"""

import hmac
from collections.abc import Sequence

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from gateway.sealing.container import PURPOSE, UnverifiedContainer, Wrap, context_of, encode_wraps
from gateway.sealing.keys import KeyProvider, RandomBytes
from gateway.sealing.refusals import Refusal, refused

_WRAPS_LABEL = PURPOSE + b" wraps"


def wrap_dek(
    dek: bytes, *, keks: Sequence[KeyProvider], context: bytes, random: RandomBytes
) -> tuple[list[Wrap], bytes]:
    """The wraps of a data key (32 bytes), in the order of the KEKs, and their MAC (32 bytes)."""
    if not keks or len({kek.kek_id for kek in keks}) != len(keks):
        raise RuntimeError("internal: sealing needs KEKs, each of them once")
    wraps = [
        Wrap(
            kek.kek_id,
            kek.algorithm,
            kek.wrap(dek, purpose=PURPOSE, context=context, random=random),
        )
        for kek in keks
    ]
    return wraps, _mac(dek, wraps)


def unwrap_dek(container: UnverifiedContainer, *, keks: Sequence[KeyProvider]) -> bytes:
    """The data key (32 bytes) of a file whose signature was verified.

    Raises SealError if none of the KEKs has a wrap, its wrap does not authenticate, or the wraps were changed.
    """
    dek = _unwrap(container, keks=keks)
    if not hmac.compare_digest(_mac(dek, container.wraps), container.wraps_mac):
        raise refused(Refusal.WRAPS_MAC)
    return dek


def opening_kek_id(container: UnverifiedContainer, *, keks: Sequence[KeyProvider]) -> str:
    """The id of the KEK that unwrap_dek uses. Raises SealError if none of them has a wrap."""
    return _fitting(container, keks=keks)[0].kek_id


def _unwrap(container: UnverifiedContainer, *, keks: Sequence[KeyProvider]) -> bytes:
    kek, wrap = _fitting(container, keks=keks)
    return kek.unwrap(wrap.wrapped, purpose=PURPOSE, context=context_of(container.core))


def _fitting(
    container: UnverifiedContainer, *, keks: Sequence[KeyProvider]
) -> tuple[KeyProvider, Wrap]:
    known = {(kek.kek_id, kek.algorithm): kek for kek in keks}
    for wrap in container.wraps:
        kek = known.get((wrap.kek_id, wrap.algorithm))
        if kek is not None:
            return kek, wrap
    raise refused(Refusal.NO_USABLE_KEY)


def _mac(dek: bytes, wraps: Sequence[Wrap]) -> bytes:
    key = HKDFExpand(algorithm=hashes.SHA512(), length=32, info=_WRAPS_LABEL).derive(dek)
    return hmac.digest(key, encode_wraps(wraps), "sha256")
