"""Kept images at rest: sealed under a data key of this process, which is stored wrapped under a KEK.

Rules: one fresh data key a process start, so no two processes share one; each image is bound to its request id;
the wrapped key must be durable in the store before the first image under it is, else that image can never be opened.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from gateway.errors import Code, SealError
from gateway.sealing.chunked import SALT_BYTES, open_chunked, seal_chunked
from gateway.sealing.keys import DEK_BYTES, KeyProvider, RandomBytes
from gateway.sealing.refusals import Refusal
from gateway.store.records import SealedImage, WrappedSampleKey

_KEY_PURPOSE = b"sample-key/v1"
_IMAGE_PURPOSE = b"sample-image/v1"
_KEY_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class SampleKey:
    """A data key for kept images (32 bytes), and the name under which its wrap is stored."""

    key_id: str
    data_key: bytes = field(repr=False)


class SampleSealer:
    """Encrypts the images that this process keeps; safe to use from several threads."""

    def __init__(self, *, key: SampleKey, random: RandomBytes) -> None:
        """Take the key of this process start and the operating system's randomness, for salts."""
        self._key = key
        self._random = random

    def seal(self, image: bytes, *, request_id: str) -> SealedImage:
        """The encoded image as received, sealed and bound to its request."""
        ciphertext = seal_chunked(
            self._key.data_key, _image_context(request_id), image, salt=self._random(SALT_BYTES)
        )
        return SealedImage(key_id=self._key.key_id, ciphertext=ciphertext)


def create_sample_key(
    *, kek: KeyProvider, now: datetime, random: RandomBytes
) -> tuple[SampleKey, WrappedSampleKey]:
    """A fresh data key, and the record of it that must be stored before it is used."""
    key = SampleKey(key_id=random(_KEY_ID_BYTES).hex(), data_key=random(DEK_BYTES))
    wrapped = kek.wrap(
        key.data_key, purpose=_KEY_PURPOSE, context=_key_context(key.key_id), random=random
    )
    return key, WrappedSampleKey(
        key_id=key.key_id, kek_id=kek.kek_id, wrapped_key=wrapped, created_at=now
    )


def open_sample_key(record: WrappedSampleKey, *, keks: Sequence[KeyProvider]) -> SampleKey:
    """The data key of a stored record. Raises SealError if none of the KEKs opens it, or it was changed."""
    kek = next((kek for kek in keks if kek.kek_id == record.kek_id), None)
    if kek is None:
        raise _refused(Refusal.NO_USABLE_KEY)
    try:
        data_key = kek.unwrap(
            record.wrapped_key, purpose=_KEY_PURPOSE, context=_key_context(record.key_id)
        )
    except SealError as exc:
        raise _refused(Refusal(exc.reason)) from exc
    return SampleKey(key_id=record.key_id, data_key=data_key)


def rewrap_sample_key(
    record: WrappedSampleKey,
    *,
    keks: Sequence[KeyProvider],
    new_kek: KeyProvider,
    random: RandomBytes,
) -> WrappedSampleKey:
    """The same data key, wrapped under another KEK. Raises SealError if none of the KEKs opens it as it is."""
    data_key = open_sample_key(record, keks=keks).data_key
    context = _key_context(record.key_id)
    wrapped = new_kek.wrap(data_key, purpose=_KEY_PURPOSE, context=context, random=random)
    rewrapped = replace(record, kek_id=new_kek.kek_id, wrapped_key=wrapped)
    # A token may wrap and yet not unwrap; the images would be lost with the old KEK.
    if open_sample_key(rewrapped, keks=[new_kek]).data_key != data_key:
        raise _refused(Refusal.UNWRAP)
    return rewrapped


def open_sample_image(sealed: SealedImage, *, request_id: str, key: SampleKey) -> bytes:
    """The encoded image as it was received with this request.

    Raises SealError if the image was changed, or belongs to another request or another key.
    """
    try:
        return open_chunked(key.data_key, _image_context(request_id), sealed.ciphertext)
    except SealError as exc:
        raise _refused(Refusal(exc.reason)) from exc


def _key_context(key_id: str) -> bytes:
    return key_id.encode("utf-8")


def _image_context(request_id: str) -> bytes:
    return _IMAGE_PURPOSE + b"\0" + request_id.encode("utf-8")


def _refused(refusal: Refusal) -> SealError:
    message = (
        "the kept image is refused: it is damaged or changed, belongs to another request, or its key is absent; "
        "name the KEK that wraps its sample key"
    )
    return SealError(Code.SAMPLE_REFUSED, message, reason=refusal.value)
