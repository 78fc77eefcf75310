"""The principal and what it showed: who calls, as the rest of the gateway sees it."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller; issuer and subject together name it.

    roles: as the issuer's mapping gives them, known or not. token_id: the token's `jti`. issued_at, expires_at: UTC.
    acr, amr, auth_time: how and when the caller proved who it is, as the issuer says (RFC 9068 section 2.2.1).
    certificate_thumbprint, key_thumbprint: what the token is bound to (RFC 8705 `x5t#S256`, RFC 9449 `jkt`),
    43 characters of base64url; None where it is not bound.
    source: the claim that names a camera, as its issuer signed it and of any form; None without one.
    """

    issuer: str
    subject: str
    client_id: str
    roles: frozenset[str]
    token_id: str
    issued_at: datetime
    expires_at: datetime
    acr: str | None = None
    amr: frozenset[str] = frozenset()
    auth_time: datetime | None = None
    certificate_thumbprint: str | None = None
    key_thumbprint: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request shows of its caller; everything but the certificate is unverified.

    unverified_authorization, unverified_dpop: all values of these header fields. method, path: of the request line,
    path without query and as it was sent. address: the peer's. certificate_thumbprint: base64url SHA-256 of the client
    certificate that TLS has verified, None without one.
    """

    unverified_authorization: tuple[str, ...]
    unverified_dpop: tuple[str, ...]
    method: str
    path: str
    address: str
    certificate_thumbprint: str | None = None
