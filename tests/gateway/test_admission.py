"""The door from the settings: who is trusted by which file, and what ends the start."""

import hashlib
import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from gateway.admission import Door, build_door, quota_plan, token_lifetimes
from gateway.errors import OperatorError, SettingsError
from gateway.identity.issue import jwks_of
from gateway.identity.keysets import load_keyset
from gateway.metrics import GatewayMetrics
from gateway.settings import GatewaySettings, read_settings
from gateway.store.database import write_transaction

NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)


@pytest.fixture
def jwks_file(tmp_path: Path) -> Path:
    """A key set that nobody else may change."""
    return written(tmp_path / "jwks.json", jwks_of([KEY.public_key()]).decode())


def written(file: Path, text: str) -> Path:
    """A file of mode 0644."""
    file.write_text(text, encoding="utf-8")
    file.chmod(0o644)
    return file


def policy_of(folder: Path, jwks_file: Path) -> Path:
    """A policy with two issuers: one by a file, one that is discovered."""
    text = f"""
[[issuers]]
issuer = "https://one.example"
audience = "gatewatch"
jwks_file = {json.dumps(str(jwks_file))}
allowed_roles = ["client"]

[[issuers]]
issuer = "https://two.example"
audience = "gatewatch"
discover = true
max_lifetime_seconds = 86400
allowed_roles = ["operator"]
"""
    return written(folder / "policy.toml", text)


def built(engine: Engine, **variables: str) -> Door:
    """The door of these settings."""
    return built_with(engine, GatewayMetrics(CollectorRegistry()), **variables)


def built_with(engine: Engine, metrics: GatewayMetrics, **variables: str) -> Door:
    """The same with metrics to look at."""
    return build_door(
        settings_of(**variables),
        public_url="https://gateway.example",
        store=engine,
        metrics=metrics,
        clock=lambda: NOW,
        record_keys=record_nothing,
    )


async def record_nothing(_issuer: str, _keys: Mapping[str, str]) -> None:
    """There is no ledger here."""


def settings_of(**variables: str) -> GatewaySettings:
    """Settings by variables without their prefix."""
    return read_settings({f"GATEWAY_{name}": value for name, value in variables.items()})


def test_the_settings_name_one_issuer(sqlite_engine: Engine, jwks_file: Path) -> None:
    """Without a policy file."""
    door = built(sqlite_engine, ISSUER="https://one.example", JWKS_FILE=str(jwks_file))
    assert ("https://one.example",) == door.issuers
    assert door.is_ready()


def test_the_policy_names_several(
    sqlite_engine: Engine, tmp_path: Path, jwks_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And while the keys of one are not known, or too old to be believed, the gateway is not ready."""
    door = built(sqlite_engine, POLICY_FILE=str(policy_of(tmp_path, jwks_file)))
    assert ("https://one.example", "https://two.example") == door.issuers
    assert not door.is_ready()
    (remote,) = door.remote_keys
    keyset = load_keyset(jwks_of([KEY.public_key()]))
    monkeypatch.setattr(type(remote), "current", lambda _keys: keyset)
    assert door.is_ready()


def test_keys_that_were_never_fetched_are_infinitely_old(
    sqlite_engine: Engine, tmp_path: Path, jwks_file: Path
) -> None:
    """So that an alert on their age rings."""
    metrics = GatewayMetrics(CollectorRegistry())
    built_with(sqlite_engine, metrics, POLICY_FILE=str(policy_of(tmp_path, jwks_file)))
    age = metrics.registry.get_sample_value(
        "gateway_jwks_age_seconds", {"issuer": "https://two.example"}
    )
    assert float("inf") == age


@pytest.mark.parametrize(
    ("name", "value"), [("ISSUER", "https://x.example"), ("AUDIENCE", "x"), ("JWKS_FILE", "x.json")]
)
def test_issuers_in_two_places_are_refused(
    sqlite_engine: Engine, tmp_path: Path, jwks_file: Path, name: str, value: str
) -> None:
    """Which of the two is meant, nobody can tell."""
    policy = str(policy_of(tmp_path, jwks_file))
    with pytest.raises(SettingsError, match=f"so do GATEWAY_{name}: keep one of the two"):
        built(sqlite_engine, POLICY_FILE=policy, **{name: value})


def test_a_policy_without_issuers_leaves_that_of_the_settings(
    sqlite_engine: Engine, tmp_path: Path, jwks_file: Path
) -> None:
    """It may be about roles alone."""
    policy = written(tmp_path / "policy.toml", '[roles.viewer]\npermissions = ["models.read"]\n')
    door = built(sqlite_engine, POLICY_FILE=str(policy), JWKS_FILE=str(jwks_file))
    assert ("https://gatewatch.localhost",) == door.issuers


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_policy_that_others_may_change_is_refused(
    sqlite_engine: Engine, tmp_path: Path, jwks_file: Path, mode: int
) -> None:
    """They would decide who may do what."""
    policy = policy_of(tmp_path, jwks_file)
    policy.chmod(mode)
    with pytest.raises(SettingsError, match=r"GATEWAY_POLICY_FILE: .* can be changed by others"):
        built(sqlite_engine, POLICY_FILE=str(policy))


def test_a_policy_in_a_folder_of_everybody_is_refused(
    sqlite_engine: Engine, tmp_path: Path, jwks_file: Path
) -> None:
    """Replacing it needs no right to change it."""
    folder = tmp_path / "open"
    folder.mkdir()
    policy = policy_of(folder, jwks_file)
    folder.chmod(0o777)
    with pytest.raises(SettingsError, match=r"GATEWAY_POLICY_FILE: .* where everybody can replace"):
        built(sqlite_engine, POLICY_FILE=str(policy))


@pytest.mark.parametrize("content", [b"\xff", b"[roles", b"[[issuers]]\nissuer = 1\n"])
def test_a_bad_policy_ends_the_start(sqlite_engine: Engine, tmp_path: Path, content: bytes) -> None:
    """By its setting's name."""
    policy = written(tmp_path / "policy.toml", "")
    policy.write_bytes(content)
    with pytest.raises(SettingsError, match="GATEWAY_POLICY_FILE"):
        built(sqlite_engine, POLICY_FILE=str(policy))


def test_a_missing_policy_or_key_set_says_what_to_do(sqlite_engine: Engine, tmp_path: Path) -> None:
    """Cause and fix."""
    with pytest.raises(
        SettingsError, match=r"GATEWAY_POLICY_FILE: cannot read .*docs/policy\.toml"
    ):
        built(sqlite_engine, POLICY_FILE=str(tmp_path / "absent"))
    with pytest.raises(SettingsError, match=r"GATEWAY_JWKS_FILE: cannot read .*identity provider"):
        built(sqlite_engine, JWKS_FILE=str(tmp_path / "absent"))


def test_without_its_deny_list_the_gateway_does_not_start(
    sqlite_engine: Engine, jwks_file: Path
) -> None:
    """Fail closed."""
    with write_transaction(sqlite_engine) as connection:
        connection.exec_driver_sql("DROP TABLE token_denials")
    with pytest.raises(OperatorError, match="the deny list of tokens cannot be read"):
        built(sqlite_engine, JWKS_FILE=str(jwks_file))


@pytest.mark.parametrize(
    ("host", "issuer", "is_warned"),
    [
        ("0.0.0.0", "https://gatewatch.localhost", True),
        ("192.0.2.1", "https://gatewatch.localhost", True),
        ("127.0.0.1", "https://gatewatch.localhost", False),
        ("::1", "https://gatewatch.localhost", False),
        ("0.0.0.0", "https://issuer.example", False),
    ],
)
def test_a_development_issuer_in_the_open_is_warned_of(
    sqlite_engine: Engine,
    jwks_file: Path,
    caplog: pytest.LogCaptureFixture,
    host: str,
    issuer: str,
    is_warned: bool,
) -> None:
    """Whoever reads the development home could call as anybody."""
    with caplog.at_level(logging.WARNING):
        built(sqlite_engine, HOST=host, ISSUER=issuer, JWKS_FILE=str(jwks_file))
    warned = [r for r in caplog.records if "DEVELOPMENT_ISSUER_EXPOSED" in r.message]
    assert int(is_warned) == len(warned)


@pytest.mark.parametrize(
    ("host", "public_url", "is_warned"),
    [
        ("0.0.0.0", "", True),
        ("::", "", True),
        ("0.0.0.0", "https://x.example", False),
        ("::1", "", False),
    ],
)
def test_a_gateway_that_listens_everywhere_is_asked_where_it_is(
    sqlite_engine: Engine,
    jwks_file: Path,
    caplog: pytest.LogCaptureFixture,
    host: str,
    public_url: str,
    is_warned: bool,
) -> None:
    """No caller signs a proof for 0.0.0.0."""
    with caplog.at_level(logging.WARNING):
        built(sqlite_engine, HOST=host, PUBLIC_URL=public_url, JWKS_FILE=str(jwks_file))
    assert is_warned == ("public_url_missing" in caplog.text)


def test_a_weak_policy_is_warned_of(
    sqlite_engine: Engine, tmp_path: Path, jwks_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Turning the second factor off is allowed, not silent."""
    policy = written(tmp_path / "policy.toml", '[second_factor]\n"models.write" = false\n')
    with caplog.at_level(logging.WARNING):
        built(sqlite_engine, POLICY_FILE=str(policy), JWKS_FILE=str(jwks_file))
    assert "models.write needs no second factor" in caplog.text


def test_each_issuers_tokens_live_as_long_as_its_configuration_says(
    tmp_path: Path, jwks_file: Path
) -> None:
    """A denial must outlast them, whichever setting says how long that is."""
    settings = settings_of(
        POLICY_FILE=str(policy_of(tmp_path, jwks_file)), TOKEN_MAX_LIFETIME_SECONDS="600"
    )
    assert {"https://one.example": 600, "https://two.example": 86400} == token_lifetimes(settings)
    assert {"https://gatewatch.localhost": 600} == token_lifetimes(
        settings_of(TOKEN_MAX_LIFETIME_SECONDS="600")
    )


def test_the_plan_of_the_limits_is_that_of_the_settings() -> None:
    """Each under its own name; an empty rate is no limit."""
    plan = quota_plan(
        settings_of(
            ADDRESS_RATE="",
            ADDRESS_FAILURE_RATE="5/minute",
            ADDRESS_CONCURRENCY="6",
            PRINCIPAL_RATE="7/hour",
            PRINCIPAL_CONCURRENCY="8",
            DAILY_IMAGES="9",
            QUOTA_STORE="database",
        )
    )
    assert plan.address_rate is None
    assert (5, 6, 8, 9, "database") == (
        plan.address_failure_rate.amount if plan.address_failure_rate else 0,
        plan.address_concurrency,
        plan.principal.concurrency,
        plan.principal.daily_images,
        plan.store,
    )
    assert plan.principal.rate is not None
    assert (7, 3600) == (plan.principal.rate.amount, plan.principal.rate.get_expiry())


def test_keys_in_files_are_told_for_the_ledger(sqlite_engine: Engine, jwks_file: Path) -> None:
    """By id and digest; those that are fetched come later."""
    door = built(sqlite_engine, POLICY_FILE=str(policy_of(jwks_file.parent, jwks_file)))
    keys = load_keyset(jwks_file.read_bytes())
    assert {"https://one.example": keys.digests()} == door.file_keys


def test_the_policy_that_holds_is_told_by_its_digest(
    sqlite_engine: Engine, jwks_file: Path
) -> None:
    """Of the file's bytes, so that it can be compared with the file."""
    file = policy_of(jwks_file.parent, jwks_file)
    door = built(sqlite_engine, POLICY_FILE=str(file))
    assert hashlib.sha256(file.read_bytes()).hexdigest() == door.policy_sha256
    assert built(sqlite_engine, JWKS_FILE=str(jwks_file)).policy_sha256 is None
