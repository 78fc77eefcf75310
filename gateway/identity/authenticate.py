"""From what a request shows of its caller to a principal.

Rules: exactly one Authorization header, the Bearer or DPoP scheme, one space, one token (RFC 6750 section 2.1, RFC 9449
section 7.1); tokens in the query or the body are never looked at, since those end up in logs. A token that its issuer
bound to a certificate or a key is good with that one only, however often it was verified before. A remembered token
is still looked up in the deny list, and its binding checked, at every call.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from types import MappingProxyType

from gateway.errors import AuthnError, Code, DpopNonceError
from gateway.identity.binding import check_certificate
from gateway.identity.cache import ProvenTokens, TokenCache
from gateway.identity.deny_list import DenyList
from gateway.identity.dpop import DpopVerifier
from gateway.identity.principal import Credentials, Principal
from gateway.identity.refusals import Refusal, refused
from gateway.identity.tokens import (
    MAX_TOKEN_BYTES,
    Claims,
    TrustedIssuer,
    read_token,
    unverified_issuer,
    verify_token,
)


class Scheme(Enum):
    """How a token is sent."""

    BEARER = "bearer"
    DPOP = "dpop"


_SCHEMES: Mapping[str, Scheme] = MappingProxyType({scheme.value: scheme for scheme in Scheme})
MAX_SCHEME_BYTES = len("bearer ")


@dataclass(frozen=True, slots=True)
class Sent:
    """A token as it came."""

    scheme: Scheme
    unverified_token: str


class Authenticator:
    """Knows the trusted issuers and remembers tokens it has verified."""

    def __init__(
        self,
        *,
        issuers: Mapping[str, TrustedIssuer],
        cache: TokenCache,
        proven: ProvenTokens,
        deny_list: DenyList,
        dpop: DpopVerifier,
    ) -> None:
        """Trust issuers by their names; the cache must hold principals of these issuers only."""
        self._issuers = issuers
        self._cache = cache
        self._proven = proven
        self._deny_list = deny_list
        self._dpop = dpop

    def knows(self, credentials: Credentials, now: datetime) -> bool:
        """Whether the token passed every check when it was last used: its caller is none of those who guess."""
        try:
            sent = read_authorization(credentials)
        except AuthnError:
            return False
        return self._proven.has(sent.unverified_token, now)

    async def identify(self, credentials: Credentials, now: datetime) -> Principal:
        """Whom the token names. now: UTC. Whether its sender may use it is for prove to say.

        Raises AuthnError with AUTHN_MISSING if there is no header, with AUTHN_INVALID for anything but one valid access
        token, IdentityUnavailableError if the issuer's keys are not known.
        """
        sent = read_authorization(credentials)
        principal = self._cache.get(sent.unverified_token, now)
        if principal is None:
            principal = _principal(await self._verify(sent.unverified_token, now))
            self._cache.put(sent.unverified_token, principal)
        else:
            # Keys that are too old to be believed vouch for no remembered token either.
            self._issuers[principal.issuer].keys.current()
        return principal

    def prove(self, credentials: Credentials, principal: Principal, now: datetime) -> None:
        """Return if the token is not denied, and its sender has what it is bound to. principal: whom it names.

        Raises AuthnError (AUTHN_INVALID), DpopNonceError if the proof lacks our nonce, QuotaError if the principal's
        proofs fill the room for them, IdentityUnavailableError if the deny list is not known.
        """
        sent = read_authorization(credentials)
        try:
            self._deny_list.check(principal, now)
            check_certificate(principal, credentials.certificate_thumbprint)
            self._check_key(sent, principal, credentials, now)
        except DpopNonceError:
            raise  # What every honest caller's first proof gets, and nobody else's.
        except AuthnError:
            self._proven.remove(sent.unverified_token)
            raise
        self._proven.add(sent.unverified_token, principal.expires_at)

    def confirm(self, principal: Principal, now: datetime) -> None:
        """Return if the token has neither ended nor been denied since its call began.

        Raises AuthnError (AUTHN_INVALID), IdentityUnavailableError.
        """
        skew = timedelta(seconds=self._issuers[principal.issuer].clock_skew_seconds)
        if now >= principal.expires_at + skew:
            raise refused(Refusal.EXPIRED)
        self._deny_list.check(principal, now)

    def next_nonce(self, credentials: Credentials, now: datetime) -> str | None:
        """The nonce for the caller's next proof, if it sends proofs (RFC 9449 section 8.2)."""
        return self._dpop.next_nonce(now) if credentials.unverified_dpop else None

    async def _verify(self, unverified_token: str, now: datetime) -> Claims:
        token = read_token(unverified_token)
        issuer = self._issuers.get(unverified_issuer(token))
        if issuer is None:
            raise refused(Refusal.ISSUER)
        if token.key_id not in issuer.keys.current().keys:
            await issuer.keys.refresh_for_unknown_key()
        return verify_token(token, issuer=issuer, now=now)

    def _check_key(
        self, sent: Sent, principal: Principal, credentials: Credentials, now: datetime
    ) -> None:
        if sent.scheme is Scheme.DPOP:
            self._dpop.verify(credentials, sent.unverified_token, now, principal=principal)
        elif principal.key_thumbprint is not None:
            # A thief has the token and not the key: a bearer token would let him in (RFC 9449 section 7.1).
            raise refused(Refusal.DPOP_MISSING)


def read_authorization(credentials: Credentials) -> Sent:
    """The one token that a request carries, not verified.

    Raises AuthnError with AUTHN_MISSING if there is no header, AUTHN_INVALID for more than one or another form.
    """
    values = credentials.unverified_authorization
    if not values:
        message = "no credentials: send an access token in the header 'Authorization: Bearer ...'"
        raise AuthnError(Code.AUTHN_MISSING, message)
    if len(values) > 1:
        # Another program on the way may have checked the one that we would not use.
        raise refused(Refusal.CREDENTIALS_SEVERAL)
    value = values[0]
    if len(value) > MAX_SCHEME_BYTES + MAX_TOKEN_BYTES:
        raise refused(Refusal.TOKEN_SIZE)  # Before anything that costs time by length.
    name, space, unverified_token = value.partition(" ")
    scheme = _SCHEMES.get(name.lower())  # Names ignore case, RFC 9110 section 11.1.
    if scheme is None or not space or not value.isascii():
        raise refused(Refusal.CREDENTIALS_FORM)
    return Sent(scheme, unverified_token)


def _principal(claims: Claims) -> Principal:
    return Principal(
        issuer=claims.issuer,
        subject=claims.subject,
        client_id=claims.client_id,
        roles=claims.roles,
        token_id=claims.token_id,
        issued_at=claims.issued_at,
        expires_at=claims.expires_at,
        acr=claims.acr,
        amr=claims.amr,
        auth_time=claims.auth_time,
        certificate_thumbprint=claims.certificate_thumbprint,
        key_thumbprint=claims.key_thumbprint,
        source=claims.source,
    )
