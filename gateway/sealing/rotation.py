"""Exchanging the KEKs of a sealed model without touching its body.

Rules: the data key stays, so name, facts, signature and body stay to the byte; what comes out opens with each of the
new KEKs, which is tried before it is handed out. A data key that became known needs a new sealing instead.
"""

from collections.abc import Sequence

from gateway.sealing.container import (
    MAGIC,
    MAX_HEADER_BYTES,
    context_of,
    encode_container,
    parse_container,
)
from gateway.sealing.keys import KeyProvider, RandomBytes
from gateway.sealing.refusals import Refusal, refused
from gateway.sealing.sealed_model import verify_container
from gateway.sealing.signers import TrustedSigner
from gateway.sealing.wraps import unwrap_dek, wrap_dek

# A beginning of a file that holds its whole header.
HEAD_BYTES = len(MAGIC) + 4 + MAX_HEADER_BYTES


def rewrap(
    unverified: bytes,
    *,
    keks: Sequence[KeyProvider],
    new_keks: Sequence[KeyProvider],
    trusted_signers: Sequence[TrustedSigner],
    random: RandomBytes,
) -> bytes:
    """The same sealed file, its data key wrapped for exactly the new KEKs, in their order.

    keks: those that may open it as it is. random: the operating system's; it yields nonces.
    Raises SealError if the file is refused as `open_model` would before its body, which is not looked at, or a new KEK
    does not unwrap what it wrapped.
    """
    container = verify_container(unverified, trusted_signers=trusted_signers)
    dek = unwrap_dek(container, keks=keks)
    wraps, wraps_mac = wrap_dek(
        dek, keks=new_keks, context=context_of(container.core), random=random
    )
    rewrapped = encode_container(
        container.core,
        wraps=wraps,
        wraps_mac=wraps_mac,
        signature=container.signature,
        body=container.body,
    )
    again = verify_container(rewrapped, trusted_signers=trusted_signers)
    # A token may wrap and yet not unwrap; the file would be lost with the last of the old KEKs.
    if any(unwrap_dek(again, keks=[kek]) != dek for kek in new_keks):
        raise refused(Refusal.UNWRAP)
    return rewrapped


def is_wrapped_for(
    unverified: bytes,
    new_keks: Sequence[KeyProvider],
    *,
    keks: Sequence[KeyProvider],
    trusted_signers: Sequence[TrustedSigner],
) -> bool:
    """Whether the file is wrapped for exactly these KEKs already, in whatever order.

    keks: those that may open it. Raises SealError as `rewrap` does for a file that it would refuse.
    """
    container = verify_container(unverified, trusted_signers=trusted_signers)
    unwrap_dek(container, keks=keks)
    wrapped_for = {(wrap.kek_id, wrap.algorithm) for wrap in container.wraps}
    return wrapped_for == {(kek.kek_id, kek.algorithm) for kek in new_keks}


def unverified_kek_ids(unverified_head: bytes) -> tuple[str, ...]:
    """The ids of the KEKs that a file says it is wrapped for, from its first HEAD_BYTES; needs no key.

    Raises SealError if the file is not well formed.
    """
    return tuple(wrap.kek_id for wrap in parse_container(unverified_head).wraps)
