"""The door: its steps in order, what each refusal counts as, and what is given back."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine

from gateway.errors import AuthnError, AuthzError, Code, DpopNonceError, QuotaError, StepUpError
from gateway.identity.access import Access, Standing
from gateway.identity.authenticate import Authenticator
from gateway.identity.cache import ProvenTokens, TokenCache
from gateway.identity.deny_list import DenyList
from gateway.identity.dpop import DpopVerifier
from gateway.identity.issue import issue_token, jwks_of
from gateway.identity.key_sources import FixedKeys
from gateway.identity.keysets import load_keyset
from gateway.identity.policy import Permission
from gateway.identity.policy_file import read_policy
from gateway.identity.principal import Credentials
from gateway.identity.quota_limits import PrincipalLimits, QuotaPlan, parse_rate
from gateway.identity.quotas import open_quotas
from gateway.identity.suppression import Suppression
from gateway.identity.tokens import TrustedIssuer
from tests.gateway.identity.dpop_client import jwk_of, make_proof, thumbprint_of

pytestmark = pytest.mark.anyio

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
URL = "https://gateway.example"
BUSY = """
[roles.busy]
permissions = ["predict"]
requests = "5/minute"
concurrency = 2
daily_images = 3
"""


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the gateway runs on."""
    return "asyncio"


@pytest.fixture
def access(sqlite_engine: Engine) -> Access:
    """A door with small limits and one role that has its own."""
    deny_list = DenyList(
        engine=sqlite_engine, clock=lambda: NOW, max_age_seconds=60, on_change=lambda: None
    )
    deny_list.load()
    keys = FixedKeys(load_keyset(jwks_of([KEY.public_key()])))
    usual = PrincipalLimits(parse_rate("2/minute"), 1, 0)
    plan = QuotaPlan(
        address_rate=parse_rate("50/minute"),
        address_failure_rate=parse_rate("2/minute"),
        address_concurrency=2,
        principal=usual,
        store="memory",
    )
    return Access(
        authenticator=Authenticator(
            issuers={"issuer": TrustedIssuer("issuer", "gatewatch", keys, 3600)},
            cache=TokenCache(max_entries=9),
            proven=ProvenTokens(max_entries=9),
            deny_list=deny_list,
            dpop=DpopVerifier(public_url=URL, random=lambda size: b"\5" * size),
        ),
        policy=read_policy(BUSY).policy,
        quotas=open_quotas(plan, engine=sqlite_engine, on_store_failure=lambda: None),
        usual_limits=usual,
        suppression=Suppression(),
    )


def token(role: str = "client", *, key_thumbprint: str | None = None) -> str:
    """A token with one role."""
    return issue_token(
        signing_key=KEY,
        issuer="issuer",
        audience="gatewatch",
        subject=role,
        client_id="tests",
        roles=[role],
        lifetime_seconds=300,
        now=NOW,
        token_id=role,
        key_thumbprint=key_thumbprint,
    )


def shown(text: str, *proofs: str) -> Credentials:
    """A call with this value of Authorization."""
    return Credentials((text,), proofs, "POST", "/predict", "192.0.2.7")


GOOD = shown(f"Bearer {token()}")


async def call(access: Access, credentials: Credentials = GOOD) -> Standing:
    """One prediction, as the pipeline asks for it."""
    standing = Standing()
    async with access.entered(credentials, NOW):
        principal = await access.authenticate(credentials, standing, NOW)
        access.require(principal, Permission.PREDICT, "belt", None, NOW)
        async with access.spent(principal, standing, images=1):
            return standing


async def refusal(access: Access, credentials: Credentials) -> str:
    """Which limit a call meets, or the reason for which it is refused otherwise."""
    with pytest.raises((AuthnError, QuotaError)) as caught:
        await call(access, credentials)
    return caught.value.reason


async def test_a_good_call_learns_what_is_left(access: Access) -> None:
    """For the answer's head."""
    standing = await call(access)
    (status,) = standing.quotas
    assert ("principal_rate", 2, 1) == (status.limit, status.quota, status.remaining)
    assert standing.dpop_nonce is None


async def test_guesses_close_the_door_for_guesses_only(access: Access) -> None:
    """Whose token was good before still passes from the same address."""
    await call(access)
    guess = shown("Bearer guess")
    reasons = [await refusal(access, guess) for _ in range(3)]
    assert ["token_form", "token_form", "address_failures"] == reasons
    await call(access)


async def test_unknown_routes_count_as_guesses(access: Access) -> None:
    """A scanner is told to slow down."""
    for _ in range(2):
        async with access.entered(GOOD, NOW):
            await access.note_unknown_route(GOOD)
    with pytest.raises(QuotaError):
        async with access.entered(GOOD, NOW):
            pass


async def test_a_dead_token_is_a_guess_however_good_it_was(access: Access) -> None:
    """A thief cannot fill the ledger with a token that was revoked, or that is bound to what he has not."""
    bound = shown(f"Bearer {token(key_thumbprint=thumbprint_of(jwk_of(KEY)))}")
    reasons = [await refusal(access, bound) for _ in range(3)]
    assert ["dpop_missing", "dpop_missing", "address_failures"] == reasons


async def test_asking_for_a_nonce_is_no_guess_and_not_free(access: Access) -> None:
    """Every honest client's first proof lacks it, RFC 9449 section 8; it counts as a call of the principal."""
    bound = token("busy", key_thumbprint=thumbprint_of(jwk_of(KEY)))
    nonce = ""
    for _ in range(4):
        proof = make_proof(KEY, "POST", f"{URL}/predict", bound, None, NOW)
        with pytest.raises(DpopNonceError) as caught:
            await call(access, shown(f"DPoP {bound}", proof))
        nonce = caught.value.nonce
    proof = make_proof(KEY, "POST", f"{URL}/predict", bound, nonce, NOW)
    assert (await call(access, shown(f"DPoP {bound}", proof))).dpop_nonce
    proof = make_proof(KEY, "POST", f"{URL}/predict", bound, None, NOW)
    assert "principal_rate" == await refusal(access, shown(f"DPoP {bound}", proof))


async def test_a_roles_limits_take_the_place_of_the_usual(access: Access) -> None:
    """Its rate, its budget."""
    busy = shown(f"Bearer {token('busy')}")
    standings = [await call(access, busy) for _ in range(3)]
    assert [("principal_rate", 5), ("daily_images", 3)] == [
        (status.limit, status.quota) for status in standings[0].quotas
    ]
    assert [2, 1, 0] == [standing.quotas[1].remaining for standing in standings]
    assert "daily_images" == await refusal(access, busy)


async def test_places_are_given_back(access: Access) -> None:
    """Of an address two at the same time, of a principal one, however the calls end."""

    async def hold(inside: Callable[[], object]) -> None:
        standing = Standing()
        async with access.entered(GOOD, NOW):
            principal = await access.authenticate(GOOD, standing, NOW)
            async with access.spent(principal, standing, images=0):
                inside()
                with pytest.raises(QuotaError, match="this principal"):
                    await call(access)
                async with access.entered(GOOD, NOW):
                    with pytest.raises(QuotaError, match="this network address"):
                        await call(access)
                raise LookupError

    entered: list[bool] = []
    with pytest.raises(LookupError):
        await hold(lambda: entered.append(True))
    assert [True] == entered
    await call(access)


async def test_what_a_role_does_not_allow_is_no_guess(access: Access) -> None:
    """Nor is a second factor that is missing."""
    operator = shown(f"Bearer {token('operator')}")
    for _ in range(3):
        async with access.entered(operator, NOW):
            principal = await access.authenticate(operator, Standing(), NOW)
            with pytest.raises(AuthzError):
                access.require(principal, Permission.PREDICT, "belt", None, NOW)
            with pytest.raises(StepUpError):
                access.require(principal, Permission.MODELS_WRITE, "belt", None, NOW)


async def test_of_an_addresss_flood_one_refusal_a_minute_is_recorded(access: Access) -> None:
    """The next record says how many had none; everything else has its own."""
    error = QuotaError(Code.RATE_LIMITED, "m", limit="address_failures", retry_after_seconds=1)
    later = NOW + timedelta(seconds=61)
    address = "192.0.2.7"
    assert (True, 0) == access.is_recorded(error, address, NOW)
    assert (False, 0) == access.is_recorded(error, address, NOW)
    assert (False, 0) == access.is_recorded(error, address, NOW)
    assert (True, 2) == access.is_recorded(error, address, later)
    principals = QuotaError(Code.RATE_LIMITED, "m", limit="principal_rate", retry_after_seconds=1)
    assert [(True, 0)] * 2 == [access.is_recorded(principals, address, NOW) for _ in range(2)]
