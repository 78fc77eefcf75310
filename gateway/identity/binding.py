"""Sender-constrained tokens: what an issuer bound a token to, and whether its sender has that certificate.

Rules: a binding that is not understood refuses the token, because leaving it out of account would turn a bound token
into one that any thief can use; thumbprints are compared in constant time, in their one canonical spelling.
"""

import hmac

from gateway.identity.principal import Principal
from gateway.identity.refusals import Refusal, refused
from gateway.identity.wire import MalformedError, decode_base64url

_THUMBPRINT_CHARACTERS = (
    43  # The 32 bytes of SHA-256 in base64url; no other number of bytes has as many.
)


def parse_confirmation(value: object) -> tuple[str | None, str | None]:
    """The certificate's and the key's thumbprint that the claim `cnf` binds a token to, at least one of them.

    Call it for every token that has the claim. Members beside these two are not obeyed, and harmless beside one that
    is. Raises AuthnError (CONFIRMATION) where no member is one of the two or one of them is malformed.
    Source: RFC 7800 section 3.1, RFC 8705 section 3.1, RFC 9449 section 6.1.
    """
    if not isinstance(value, dict):
        raise refused(Refusal.CONFIRMATION)
    known = {name: _thumbprint(value[name]) for name in ("x5t#S256", "jkt") if name in value}
    if not known:
        raise refused(Refusal.CONFIRMATION)
    return known.get("x5t#S256"), known.get("jkt")


def check_certificate(principal: Principal, certificate_thumbprint: str | None) -> None:
    """Return if the token is bound to no certificate, or to the one that TLS has verified on this connection.

    certificate_thumbprint: base64url SHA-256 of that certificate, None without one. Raises AuthnError (CERTIFICATE).
    Source: RFC 8705 section 3.
    """
    bound = principal.certificate_thumbprint
    if bound is not None and not is_same_thumbprint(bound, certificate_thumbprint):
        raise refused(Refusal.CERTIFICATE)


def is_same_thumbprint(bound: str, shown: str | None) -> bool:
    """Whether a thumbprint was shown and is the bound one; how long it takes tells nothing of either."""
    return shown is not None and hmac.compare_digest(bound.encode(), shown.encode())


def _thumbprint(value: object) -> str:
    if not isinstance(value, str) or len(value) != _THUMBPRINT_CHARACTERS:
        raise refused(Refusal.CONFIRMATION)
    try:
        decode_base64url(value)
    except MalformedError as exc:
        raise refused(Refusal.CONFIRMATION) from exc
    return value
