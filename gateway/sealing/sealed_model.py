"""Sealing weights and opening them again: the order of the checks is the security property.

Rules: everything happens in memory; the caller says which model it wants, the file does not choose; nothing in a
header is acted on before its signature has been verified; an engine gets bytes only after every check has passed.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from types import TracebackType
from typing import Self

from gateway.sealing.chunked import SALT_BYTES, open_chunked_guarded, seal_chunked
from gateway.sealing.container import (
    PURPOSE,
    ModelFacts,
    SealedHeader,
    UnverifiedContainer,
    context_of,
    encode_container,
    encode_core,
    parse_container,
)
from gateway.sealing.guarded_memory import GuardedBuffer
from gateway.sealing.keys import DEK_BYTES, KeyProvider, RandomBytes
from gateway.sealing.payload import Payload, pack_payload, unpack_payload
from gateway.sealing.refusals import Refusal, refused
from gateway.sealing.signers import Signer, TrustedSigner
from gateway.sealing.wraps import opening_kek_id, unwrap_dek, wrap_dek


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A sealed model that passed every check; `payload` is the network in the clear and is never shown.

    payload's parts are views into guarded memory, which is overwritten by `close`: from then on they read zeros.
    kek_id: of the KEK that opened it.
    """

    header: SealedHeader
    payload: Payload
    kek_id: str
    _plaintext: GuardedBuffer = field(repr=False, compare=False)

    def close(self) -> None:
        """Overwrite the plaintext; a second call does nothing."""
        self._plaintext.close()

    def __enter__(self) -> Self:
        """The opened model, closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()


def seal_model(
    facts: ModelFacts,
    payload: Payload,
    *,
    keks: Sequence[KeyProvider],
    signer: Signer,
    random: RandomBytes,
) -> bytes:
    """The bytes of a sealed model file.

    keks: one or more, with different ids; any one of them opens the file. random: the operating system's; it yields
    data key, nonces and salt.
    Raises OperatorError if the facts do not fit a header.
    """
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
    wraps, wraps_mac = wrap_dek(dek, keks=keks, context=context, random=random)
    return encode_container(
        core,
        wraps=wraps,
        wraps_mac=wraps_mac,
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
    """The model `name` in its `version`, from the bytes of a sealed file; whoever asks for it closes it.

    Raises SealError, whose reason is one of Refusal, if anything at all is wrong with the file, or it holds
    another name or version, or none of the keys opens it, or none of the signers signed it.
    """
    # 1., 2. and 3. Form first, then the signature: until here the header is hostile text.
    container = verify_container(unverified, trusted_signers=trusted_signers)
    header = container.header
    # 4. A file put in another's place has a good signature; only the question tells them apart.
    if (header.name, header.version) != (name, version):
        raise refused(Refusal.NAME_OR_VERSION)
    # 5. The signature leaves the wraps out, so that a KEK can be changed; the data key authenticates them.
    dek = unwrap_dek(container, keks=keks)
    # 6. The context makes the body of any other header fail here.
    plaintext = open_chunked_guarded(dek, context_of(container.core), container.body)
    try:
        payload = _checked_payload(header, plaintext.view)
        return OpenedModel(header, payload, opening_kek_id(container, keks=keks), plaintext)
    except BaseException:
        plaintext.close()
        raise


def _checked_payload(header: SealedHeader, plaintext: memoryview) -> Payload:
    # 7. Only the digest ties the signer to these weights: whoever may wrap could have sealed others.
    if len(plaintext) != header.plaintext_length:
        raise refused(Refusal.PLAINTEXT_LENGTH)
    if hashlib.sha256(plaintext).hexdigest() != header.plaintext_sha256:
        raise refused(Refusal.PLAINTEXT_DIGEST)
    # 8. Only now is anything inside looked at.
    return unpack_payload(plaintext)


def read_header(unverified: bytes, *, trusted_signers: Sequence[TrustedSigner]) -> SealedHeader:
    """The signed facts of a sealed file, for listing and registering; needs no KEK and leaves the body unchecked.

    Raises SealError if the file is not well formed or no trusted signer signed its header.
    """
    return verify_container(unverified, trusted_signers=trusted_signers).header


def verify_container(
    unverified: bytes, *, trusted_signers: Sequence[TrustedSigner]
) -> UnverifiedContainer:
    """The parts of a file whose header a trusted signer signed; wraps and body are still unchecked.

    Raises SealError if the file is not well formed or no trusted signer signed its header.
    """
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
