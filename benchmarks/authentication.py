"""What authentication, authorisation and quotas add to a request, in this process, at the default settings.

The door is the one that a gateway builds: issuer, deny list with a thousand entries, policy, limits. Each call takes
every step in the order of the pipeline, from the header's values to the place it holds. cached: the token was verified
before, as of every busy caller; uncached: a token that is seen for the first time, ES256. cpu_ms: processor time of an
uncached call. Prints one JSON line, milliseconds.
Example: python benchmarks/authentication.py --quick
"""

import argparse
import asyncio
import json
import statistics
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import uvloop
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.progress import track
from sqlalchemy import Engine

from gateway.admission import build_door
from gateway.commands.opening import opened_store, utc_now
from gateway.identity.access import Access, Standing
from gateway.identity.policy import Permission
from gateway.identity.principal import Credentials
from gateway.metrics import GatewayMetrics
from gateway.settings import GatewaySettings
from gateway.store.database import write_transaction
from gateway.store.queries.token_denials import insert_denial
from gateway.store.records import TokenDenial

if TYPE_CHECKING:
    from benchmarks.gateway_process import new_home
else:
    from gateway_process import new_home

DENIALS = 1_000
WARM_UP = 200

_Times = tuple[list[float], list[float]]


@dataclass(frozen=True, slots=True)
class Measured:
    """Wall and processor time of each call, milliseconds."""

    wall: Sequence[float]
    cpu: Sequence[float]


def main() -> None:
    """Run the benchmark and print its line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="300 calls: a check, not a figure")
    arguments = parser.parse_args()
    calls = 300 if arguments.quick else 20_000
    with new_home() as home, opened_store(home.settings) as store:
        key = ec.generate_private_key(ec.SECP256R1())
        settings = _trusting(home.settings, key, home.layout.state / "bench-jwks.json")
        _deny(store, settings)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            cached, uncached = runner.run(_measure(settings, store, key, calls))
    print(
        json.dumps(
            {
                "cached_p50_ms": _quantile(cached.wall, 50),
                "cached_p99_ms": _quantile(cached.wall, 99),
                "uncached_p50_ms": _quantile(uncached.wall, 50),
                "uncached_p99_ms": _quantile(uncached.wall, 99),
                "cpu_ms": round(statistics.mean(uncached.cpu), 4),
                "cached_cpu_ms": round(statistics.mean(cached.cpu), 4),
                "calls": calls,
            }
        )
    )


def _trusting(
    settings: GatewaySettings, key: ec.EllipticCurvePrivateKey, file: Path
) -> GatewaySettings:
    member: dict[str, Any] = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    file.write_text(json.dumps({"keys": [{**member, "kid": "bench", "alg": "ES256"}]}))
    file.chmod(0o644)
    # The rate is what one caller may ask; the benchmark asks as fast as it can.
    changed = {
        "jwks_file": file,
        "principal_rate": "999999999/second",
        "address_rate": "999999999/second",
    }
    return settings.model_copy(update=changed)


def _deny(store: Engine, settings: GatewaySettings) -> None:
    with write_transaction(store) as connection:
        for number in range(DENIALS):
            denial = TokenDenial(
                issuer=settings.issuer,
                subject=None,
                token_id=f"denied-{number}",
                issued_before=None,
                ends_at=utc_now() + timedelta(days=1),
                why="a benchmark",
                created_at=utc_now(),
                created_by="bench",
            )
            insert_denial(connection, denial)


async def _measure(
    settings: GatewaySettings, store: Engine, key: ec.EllipticCurvePrivateKey, calls: int
) -> tuple[Measured, Measured]:
    door = build_door(
        settings,
        public_url="https://localhost:8443",
        store=store,
        metrics=GatewayMetrics(CollectorRegistry()),
        clock=utc_now,
        record_keys=_record_nothing,
    )
    background = asyncio.create_task(door.run())
    try:
        one = _token(settings, key)
        # Interleaved, so that both see the same machine.
        cached: _Times = ([], [])
        uncached: _Times = ([], [])
        batch = 100
        for start in track(
            range(0, WARM_UP + calls, batch), description="calls", console=Console(stderr=True)
        ):
            fresh = [_token(settings, key) for _ in range(batch)]
            await _run(door.access, lambda _: one, batch, cached)
            await _run(door.access, fresh.__getitem__, batch, uncached)
            await asyncio.sleep(0)
            if start < WARM_UP:
                for times in (*cached, *uncached):
                    times.clear()
    finally:
        background.cancel()
        await door.quotas.close()
    return Measured(*cached), Measured(*uncached)


async def _record_nothing(_issuer: str, _keys: Mapping[str, str]) -> None:
    """The benchmark's issuer is a file."""


async def _run(
    access: Access,
    token_of: Callable[[int], str],
    count: int,
    into: _Times,
) -> None:
    for number in range(count):
        credentials = Credentials(
            (f"Bearer {token_of(number)}",), (), "POST", "/predict", "127.0.0.1"
        )
        wall, cpu = time.perf_counter(), time.thread_time()
        await _call(access, credentials, datetime.now(UTC))
        into[1].append((time.thread_time() - cpu) * 1e3)
        into[0].append((time.perf_counter() - wall) * 1e3)


async def _call(access: Access, credentials: Credentials, now: datetime) -> None:
    """The steps at the door, as the pipeline takes them."""
    standing = Standing()
    async with access.entered(credentials, now):
        principal = await access.authenticate(credentials, standing, now)
        access.require(principal, Permission.PREDICT, "bench", None, now)
        async with access.spent(principal, standing, images=1):
            access.confirm(principal, now)
            access.require(principal, Permission.PREDICT, "bench", "1", now)


def _token(settings: GatewaySettings, key: ec.EllipticCurvePrivateKey) -> str:
    now = int(time.time())
    claims = {
        "iss": settings.issuer,
        "aud": settings.audience,
        "sub": "camera-7",
        "client_id": "bench",
        "jti": str(uuid.uuid4()),
        "roles": ["client"],
        "iat": now,
        "exp": now + 3600,
    }
    return jwt.encode(claims, key, algorithm="ES256", headers={"typ": "at+jwt", "kid": "bench"})


def _quantile(milliseconds: Sequence[float], percent: int) -> float:
    return round(statistics.quantiles(milliseconds, n=100)[percent - 1], 4)


if __name__ == "__main__":
    main()
