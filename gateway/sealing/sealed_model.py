"""Sealing weights and opening them again: the order of the checks is the security property.

Rules: everything happens in memory; the caller says which model it wants, the file does not choose; nothing in a
header is acted on before its signature has been verified; an engine gets bytes only after every check has passed.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, fields

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from gateway.sealing.chunked import SALT_BYTES, open_chunked, seal_chunked
from gateway.sealing.container import (
    PURPOSE,
    ModelFacts,
    SealedHeader,
    UnverifiedContainer,
    Wrap,
    context_of,
    encode_container,
    encode_core,
    encode_wraps,
    parse_container,
)
from gateway.sealing.keys import DEK_BYTES, KeyProvider, RandomBytes
from gateway.sealing.payload import Payload, pack_payload, unpack_payload
from gateway.sealing.refusals import Refusal, refused
from gateway.sealing.signers import Signer, TrustedSigner

_WRAPS_LABEL = PURPOSE + b" wraps"


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A sealed model that passed every check; `payload` is the network in the clear and is never shown."""

    header: SealedHeader
    payload: Payload


def seal_model(
    facts: ModelFacts,
    payload: Payload,
    *,
    keks: Sequence[KeyProvider],
    signer: Signer,
    random: RandomBytes,
) -> bytes:
    """The bytes of a sealed model file.

    keks: one or more, with different ids; any one of them opens the
    file. random: the operating system's; it yields data key, nonces and salt.
    Raises OperatorError if the facts do not fit a header.
    """
    if not keks or len({kek.kek_id for kek in keks}) != len(keks):
        raise RuntimeError("internal: sealing needs KEKs, each of them once")
    plaintext = pack_payload(payload)
    header = SealedHeader(
        **{fact.name: getattr(facts, fact.name) for fact in fields(ModelFacts)},
        plaintext_length=len(plaintext),
        plaintext_sha256=hashlib.sha256(plaintext).hexdigest(),
        signer=signer.signer_id,
    )
    core = encode_core(header)
    context = context_of(core)
    dek = random(DEK_BYTES)
    wraps = [_wrap(dek, kek=kek, context=context, random=random) for kek in keks]
    return encode_container(
        core,
        wraps=wraps,
        wraps_mac=_wraps_mac(dek, wraps),
        signature=signer.sign(_signed_message(core)),
        body=seal_chunked(dek, context, plaintext, salt=random(SALT_BYTES)),
    )


def open_model(
    unverified: bytes,
    *,
    name: str,
    version: str,
    keks: Sequence[KeyProvider],
    trusted_signers: Sequence[TrustedSigner],
) -> OpenedModel:
    """The model `name` in its `version`, from the bytes of a sealed file.

    Raises SealError, whose reason is one of Refusal, if anything at all is wrong with the file, or it holds
    another name or version, or none of the keys opens it, or none of the signers signed it.
    """
    # 1., 2. and 3. Form first, then the signature: until here the header is hostile text.
    container = _verify(unverified, trusted_signers)
    header = container.header
    # 4. A file put in another's place has a good signature; only the question tells them apart.
    if (header.name, header.version) != (name, version):
        raise refused(Refusal.NAME_OR_VERSION)
    context = context_of(container.core)
    # 5. The signature leaves the wraps out, so that a KEK can be changed; the data key authenticates them.
    dek = _unwrap(container.wraps, keks=keks, context=context)
    if not hmac.compare_digest(_wraps_mac(dek, container.wraps), container.wraps_mac):
        raise refused(Refusal.WRAPS_MAC)
    # 6. The context makes the body of any other header fail here.
    plaintext = open_chunked(dek, context, container.body)
    # 7. Only the digest ties the signer to these weights: whoever may wrap could have sealed others.
    if len(plaintext) != header.plaintext_length:
        raise refused(Refusal.PLAINTEXT_LENGTH)
    if hashlib.sha256(plaintext).hexdigest() != header.plaintext_sha256:
        raise refused(Refusal.PLAINTEXT_DIGEST)
    # 8. Only now is anything inside looked at.
    return OpenedModel(header, unpack_payload(plaintext))


def read_header(unverified: bytes, *, trusted_signers: Sequence[TrustedSigner]) -> SealedHeader:
    """The signed facts of a sealed file, for listing and registering; needs no KEK and leaves the body unchecked.

    Raises SealError if the file is not well formed or no trusted signer signed its header.
    """
    return _verify(unverified, trusted_signers).header


def _verify(unverified: bytes, trusted_signers: Sequence[TrustedSigner]) -> UnverifiedContainer:
    container = parse_container(unverified)
    signer = next((s for s in trusted_signers if s.signer_id == container.header.signer), None)
    if signer is None:
        raise refused(Refusal.SIGNER_UNTRUSTED)
    message = _signed_message(container.core)
    if not signer.has_signed(message, unverified_signature=container.signature):
        raise refused(Refusal.SIGNATURE)
    return container


def _signed_message(core: bytes) -> bytes:
    return PURPOSE + b"\0" + core


def _wrap(dek: bytes, *, kek: KeyProvider, context: bytes, random: RandomBytes) -> Wrap:
    wrapped = kek.wrap(dek, purpose=PURPOSE, context=context, random=random)
    return Wrap(kek.kek_id, kek.algorithm, wrapped)


def _unwrap(wraps: Sequence[Wrap], *, keks: Sequence[KeyProvider], context: bytes) -> bytes:
    # A wrap's algorithm never selects how to unwrap: it is looked up together with the key, and both must be known.
    known = {(kek.kek_id, kek.algorithm): kek for kek in keks}
    for wrap in wraps:
        kek = known.get((wrap.kek_id, wrap.algorithm))
        if kek is not None:
            return kek.unwrap(wrap.wrapped, purpose=PURPOSE, context=context)
    raise refused(Refusal.NO_USABLE_KEY)


def _wraps_mac(dek: bytes, wraps: Sequence[Wrap]) -> bytes:
    key = HKDFExpand(algorithm=hashes.SHA512(), length=32, info=_WRAPS_LABEL).derive(dek)
    return hmac.digest(key, encode_wraps(wraps), "sha256")
