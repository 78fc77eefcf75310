"""The whole application in this process: real ledger, real tokens, versions without a network."""

import json
from datetime import UTC, datetime
from typing import Any, cast

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine
from starlette.applications import Starlette

from gateway.api.edge import Edge
from gateway.api.resource_metadata import ResourceFacts
from gateway.api.routes import build_app
from gateway.audit.reader import LedgerReader
from gateway.identity.access import Access
from gateway.identity.authenticate import Authenticator
from gateway.identity.cache import ProvenTokens, TokenCache
from gateway.identity.deny_list import DenyList
from gateway.identity.dpop import DpopVerifier
from gateway.identity.issue import issue_token, jwks_of
from gateway.identity.key_sources import FixedKeys
from gateway.identity.keysets import load_keyset
from gateway.identity.policy import DEFAULT_POLICY
from gateway.identity.quota_limits import PrincipalLimits, QuotaPlan
from gateway.identity.quotas import open_quotas
from gateway.identity.suppression import Suppression
from gateway.identity.tokens import TrustedIssuer
from gateway.metrics import GatewayMetrics
from gateway.models.catalog import Catalog
from gateway.models.directory import Directory, Lineup
from gateway.models.loading import Loader
from gateway.models.names import ServedNames
from gateway.models.operations import Operations
from gateway.models.shadow import Shadows
from gateway.models.watch import RegistryWatch
from gateway.pipeline import Pipeline
from gateway.sampling.offers import Offer
from gateway.sampling.sampler import Sampler
from gateway.store.queries.audit import load_audit_records
from tests.gateway.ledgers import open_log
from tests.gateway.versions import FakeLoader, fake_version

NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)


PUBLIC_URL = "https://gateway.example"
UNLIMITED = QuotaPlan(
    address_rate=None,
    address_failure_rate=None,
    address_concurrency=99,
    principal=PrincipalLimits(None, 99, 0),
    store="memory",
)


class FakeSampler:
    """Remembers what it was offered."""

    def __init__(self) -> None:
        self.offers: list[Offer] = []

    def offer(self, offer: Offer) -> None:
        """Take it."""
        self.offers.append(offer)


class Gateway:
    """The application and what stands behind it."""

    def __init__(self, engine: Engine, plan: QuotaPlan = UNLIMITED) -> None:
        self.engine = engine
        self.production = fake_version()
        self.runner = self.production.runner
        self.sampler = FakeSampler()
        self.is_ready = True
        self.metrics = GatewayMetrics(CollectorRegistry())
        self.cache = TokenCache(max_entries=9)
        self.audit = open_log(engine)
        self.deny_list = DenyList(
            engine=engine, clock=lambda: NOW, max_age_seconds=60, on_change=self.cache.clear
        )
        self.deny_list.load()
        self.directory = Directory()
        self.directory.swap("belt", Lineup(self.production.served))
        sampler = cast("Sampler", self.sampler)
        pipeline = Pipeline(
            access=self._access(engine, plan),
            audit=self.audit,
            directory=self.directory,
            shadows=Shadows(directory=self.directory, sampler=sampler, metrics=self.metrics),
            sampler=sampler,
            metrics=self.metrics,
            clock=lambda: NOW,
        )
        self.loader = FakeLoader()
        self.watch = RegistryWatch(
            store=engine,
            loader=cast("Loader", self.loader),
            names=ServedNames("belt"),
            directory=self.directory,
            metrics=self.metrics,
            audit=self.audit,
            clock=lambda: NOW,
            drain_timeout_seconds=5,
        )
        self.edge = Edge(
            pipeline=pipeline,
            directory=self.directory,
            catalog=Catalog(store=engine, directory=self.directory, watch=self.watch),
            operations=Operations(store=engine, watch=self.watch, clock=lambda: NOW),
            ledger=LedgerReader(engine=engine, audit=self.audit, forms=lambda _name, text: (text,)),
            default_model="belt",
            version="0.1.0",
            metrics=self.metrics,
            is_ready=self._is_ready,
            max_body_bytes=1000,
            body_timeout_seconds=5,
            min_body_bytes_per_second=1,
            clock=lambda: NOW,
            started_at_seconds=0.0,
            resource=ResourceFacts(public_url=PUBLIC_URL, issuers=("https://issuer.example",)),
        )
        self.app = build_app(self.edge)

    def _access(self, engine: Engine, plan: QuotaPlan) -> Access:
        keys = FixedKeys(load_keyset(jwks_of([KEY.public_key()])))
        issuer = TrustedIssuer("issuer", "gatewatch", keys, 3600)
        return Access(
            authenticator=Authenticator(
                issuers={"issuer": issuer},
                cache=self.cache,
                proven=ProvenTokens(max_entries=9),
                deny_list=self.deny_list,
                dpop=DpopVerifier(public_url=PUBLIC_URL, random=lambda size: b"\x05" * size),
            ),
            policy=DEFAULT_POLICY,
            quotas=open_quotas(plan, engine=engine, on_store_failure=lambda: None),
            usual_limits=plan.principal,
            suppression=Suppression(),
        )

    async def _is_ready(self) -> bool:
        return self.is_ready

    def records(self) -> list[dict[str, Any]]:
        """The bodies of all audit records."""
        with self.engine.connect() as connection:
            loaded = load_audit_records(connection, "gateway", limit=100)
        return [json.loads(record.body) for record in loaded]

    def counted(self, **labels: str) -> float | None:
        """How many calls were counted under these labels."""
        return self.metrics.registry.get_sample_value("gateway_requests_total", labels)


def connected(app: Starlette) -> httpx.AsyncClient:
    """A client of an application in this process."""
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 1234))
    return httpx.AsyncClient(transport=transport, base_url="https://gateway.example")


def token_of(
    *roles: str,
    has_second_factor: bool = True,
    token_id: str = "token-1",
    subject: str = "camera-7",
    **bound: Any,
) -> str:
    """A token with these roles, of somebody who signed in with two factors a moment ago."""
    factor: dict[str, Any] = {"amr": ("mfa",), "auth_time": NOW} if has_second_factor else {}
    return issue_token(
        signing_key=KEY,
        issuer="issuer",
        audience="gatewatch",
        subject=subject,
        client_id="conveyor",
        roles=roles,
        lifetime_seconds=300,
        now=NOW,
        token_id=token_id,
        **factor,
        **bound,
    )


def bearer(*roles: str, has_second_factor: bool = True) -> dict[str, str]:
    """The header of such a token."""
    token = token_of(*roles, has_second_factor=has_second_factor)
    return {"Authorization": f"Bearer {token}"}
