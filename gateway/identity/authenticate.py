"""From the values of the Authorization header to a principal.

Rules: exactly one header, the Bearer scheme, one space, one token (RFC 6750 section 2.1); tokens in
the query or the body are never looked at, since those end up in logs.
"""

from collections.abc import Sequence
from datetime import datetime

from gateway.errors import AuthnError, Code
from gateway.identity.cache import TokenCache
from gateway.identity.principal import Principal
from gateway.identity.refusals import Refusal, refused
from gateway.identity.tokens import MAX_TOKEN_BYTES, Claims, TrustedIssuer, verify_token

_SCHEME = "bearer "


class Authenticator:
    """Knows the trusted issuer and remembers tokens it has verified."""

    def __init__(self, *, issuer: TrustedIssuer, cache: TokenCache) -> None:
        """Trust one issuer; the cache must be empty or hold principals of that issuer only."""
        self._issuer = issuer
        self._cache = cache

    def authenticate(self, authorization_header_values: Sequence[str], now: datetime) -> Principal:
        """Who calls, by the values of all Authorization headers of one request. now: UTC.

        Raises AuthnError with AUTHN_MISSING if there is no header, with AUTHN_INVALID for anything
        but one valid access token.
        """
        unverified_token = _unverified_token(authorization_header_values)
        principal = self._cache.get(unverified_token, now)
        if principal is None:
            claims = verify_token(unverified_token, issuer=self._issuer, now=now)
            principal = _principal(claims)
            self._cache.put(unverified_token, principal)
        return principal


def _unverified_token(authorization_header_values: Sequence[str]) -> str:
    if not authorization_header_values:
        message = "no credentials: send an access token in the header 'Authorization: Bearer ...'"
        raise AuthnError(Code.AUTHN_MISSING, message)
    if len(authorization_header_values) > 1:
        # Another program on the way may have checked the one that we would not use.
        raise refused(Refusal.CREDENTIALS_SEVERAL)
    value = authorization_header_values[0]
    if len(value) > len(_SCHEME) + MAX_TOKEN_BYTES:  # Before anything that costs time by length.
        raise refused(Refusal.TOKEN_SIZE)
    scheme, unverified_token = value[: len(_SCHEME)], value[len(_SCHEME) :]
    # Scheme names ignore case, RFC 9110 section 11.1.
    if not value.isascii() or scheme.lower() != _SCHEME:
        raise refused(Refusal.CREDENTIALS_FORM)
    return unverified_token


def _principal(claims: Claims) -> Principal:
    return Principal(
        issuer=claims.issuer,
        subject=claims.subject,
        client_id=claims.client_id,
        roles=claims.roles,
        token_id=claims.token_id,
        issued_at=claims.issued_at,
        expires_at=claims.expires_at,
    )
