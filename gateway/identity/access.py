"""The door: everything that is asked of a caller before its call is made, in one order.

1. its address: how many calls at a time, how often, how often refused lately, 2. who it is, 3. what its roles allow,
4. whether it proved itself strongly and lately enough for that, 5. how many calls at a time and how often as this
principal, and how many images today. Each refusal is an error of its own kind; nothing is remembered of a call that was
refused but that it was.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from gateway.errors import AuthnError, DpopNonceError, GatewayError, QuotaError
from gateway.identity.authenticate import Authenticator
from gateway.identity.policy import Permission, Policy, limits_of, require
from gateway.identity.principal import Credentials, Principal
from gateway.identity.quota_limits import LimitName, PrincipalLimits, QuotaStatus, parse_rate
from gateway.identity.quotas import Quotas
from gateway.identity.step_up import require_second_factor
from gateway.identity.suppression import Suppression

_BEFORE_AUTHENTICATION = frozenset(
    {LimitName.ADDRESS_RATE, LimitName.ADDRESS_FAILURES, LimitName.ADDRESS_CONCURRENCY}
)


@dataclass(slots=True)
class Standing:
    """What an answer tells its caller of itself; each step of the call fills in what it learnt.

    audit_record: ledger and position of the call's last record; None for whoever is not known.
    """

    quotas: tuple[QuotaStatus, ...] = ()
    dpop_nonce: str | None = None
    audit_record: tuple[str, int] | None = None


class Access:
    """The door of one process; only its event loop may use it."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        policy: Policy,
        quotas: Quotas,
        usual_limits: PrincipalLimits,
        suppression: Suppression,
    ) -> None:
        """usual_limits: of principals whose roles have none of their own."""
        self._authenticator = authenticator
        self._policy = policy
        self._quotas = quotas
        self._usual_limits = usual_limits
        self._suppression = suppression

    @asynccontextmanager
    async def entered(self, credentials: Credentials, now: datetime) -> AsyncIterator[None]:
        """Hold a place of the caller's address for the length of a call. Raises QuotaError."""
        with self._quotas.address_slot(credentials.address):
            await self._quotas.admit_address(
                credentials.address, is_known=self._authenticator.knows(credentials, now)
            )
            yield

    async def authenticate(
        self, credentials: Credentials, standing: Standing, now: datetime
    ) -> Principal:
        """Who calls. Raises as Authenticator.identify and prove do; refused credentials count against the address."""
        try:
            principal = await self._authenticator.identify(credentials, now)
            await self._prove(credentials, principal, now)
        except DpopNonceError:
            raise
        except AuthnError:
            await self._quotas.note_failure(credentials.address)
            raise
        standing.dpop_nonce = self._authenticator.next_nonce(credentials, now)
        return principal

    async def _prove(self, credentials: Credentials, principal: Principal, now: datetime) -> None:
        try:
            self._authenticator.prove(credentials, principal, now)
        except DpopNonceError:
            # The first step of every honest caller (RFC 9449 section 8) is no guess. It counts as a call of the
            # principal, which is known by now, or asking for nonces would be the one thing without a limit.
            await self._quotas.spend(principal, self._limits(principal))
            raise

    def confirm(self, principal: Principal, now: datetime) -> None:
        """Return if the caller is still let in, now that the rest of its call is there. Raises as authenticate does."""
        self._authenticator.confirm(principal, now)

    def require(
        self,
        principal: Principal,
        permission: Permission,
        model: str | None,
        version: str | None,
        now: datetime,
    ) -> None:
        """Return if the principal may do this now.

        version None: not known yet, asked again when it is. Raises AuthzError, StepUpError.
        """
        require(principal, permission, model, version, policy=self._policy)
        factor = self._policy.second_factors.get(permission)
        if factor is not None:
            require_second_factor(factor, principal, now)

    @asynccontextmanager
    async def spent(
        self, principal: Principal, standing: Standing, *, images: int
    ) -> AsyncIterator[None]:
        """Hold a place of the principal for the length of a call, and count it.

        Raises QuotaError, IdentityUnavailableError if a budget cannot be read.
        """
        limits = self._limits(principal)
        with self._quotas.principal_slot(principal, limits):
            standing.quotas = await self._quotas.spend(principal, limits, images=images)
            yield

    async def note_unknown_route(self, credentials: Credentials) -> None:
        """Count a call that no route takes as one that guesses."""
        await self._quotas.note_failure(credentials.address)

    def is_recorded(self, error: GatewayError, address: str, now: datetime) -> tuple[bool, int]:
        """Whether a refusal gets a record of its own, and how many before it got none.

        Everything does but what an address causes after it was told to slow down, or a stranger could fill the ledger:
        of that one a minute.
        """
        if isinstance(error, QuotaError) and error.limit in _BEFORE_AUTHENTICATION:
            return self._suppression.should_record(address, now.timestamp())
        return True, 0

    def _limits(self, principal: Principal) -> PrincipalLimits:
        """The most generous that the principal's roles name, and the usual ones where they name none."""
        roles, usual = limits_of(self._policy, principal), self._usual_limits
        return PrincipalLimits(
            rate=usual.rate if roles.requests is None else parse_rate(roles.requests),
            concurrency=usual.concurrency if roles.concurrency is None else roles.concurrency,
            daily_images=usual.daily_images if roles.daily_images is None else roles.daily_images,
        )
