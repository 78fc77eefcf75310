"""Tokens issued on the command line are tokens that the gateway takes, and only a development home issues any."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import load_pem_x509_certificate

from gateway.commands.token import issue
from gateway.dev.certificates import create_certificates
from gateway.errors import AuthnError, GatewayError, SettingsError
from gateway.identity.key_sources import FixedKeys
from gateway.identity.keysets import load_keyset
from gateway.identity.tokens import Claims, TrustedIssuer, read_token, verify_token
from gateway.settings import GatewaySettings


def issued(settings: GatewaySettings, home: Path, **options: Any) -> str:
    """A client's token."""
    usual: dict[str, Any] = {
        "roles": ["client", "analyst:belt"],
        "subject": "camera-7",
        "lifetime_seconds": 60,
        "key_file": home / "keys" / "token.key",
    }
    return issue(settings, **{**usual, **options})


def verified(settings: GatewaySettings, token: str) -> Claims:
    """What a gateway with these settings reads from it."""
    issuer = TrustedIssuer(
        issuer=settings.issuer,
        audience=settings.audience,
        keys=FixedKeys(load_keyset(settings.jwks_file.read_bytes())),
        max_lifetime_seconds=settings.token_max_lifetime_seconds,
    )
    return verify_token(read_token(token), issuer=issuer, now=datetime.now(UTC))


def test_an_issued_token_authenticates(settings: GatewaySettings, home: Path) -> None:
    """With the settings that it was issued under; nothing is claimed that was not asked for."""
    claims = verified(settings, issued(settings, home))
    assert (
        settings.issuer, "camera-7", "gateway-cli", frozenset({"client", "analyst:belt"}),
    ) == (claims.issuer, claims.subject, claims.client_id, claims.roles)  # fmt: skip
    assert (None, frozenset(), None, None, None) == (
        claims.acr, claims.amr, claims.auth_time, claims.certificate_thumbprint, claims.key_thumbprint,
    )  # fmt: skip


def test_a_second_factor_was_shown_just_now(settings: GatewaySettings, home: Path) -> None:
    """By both names, so that whichever a policy asks for is there."""
    claims = verified(settings, issued(settings, home, has_second_factor=True))
    assert "http://schemas.openid.net/pape/policies/2007/06/multi-factor" == claims.acr
    assert frozenset({"mfa"}) == claims.amr
    assert claims.issued_at == claims.auth_time


def test_a_token_is_bound_to_a_certificate(
    settings: GatewaySettings, home: Path, tmp_path: Path
) -> None:
    """By the SHA-256 of its DER form, whatever else the PEM file holds."""
    create_certificates(tmp_path / "certs", now=datetime.now(UTC))
    file = tmp_path / "certs" / "server.pem"
    token = issued(settings, home, certificate_file=file)
    shown = jwt.utils.base64url_decode(verified(settings, token).certificate_thumbprint or "")
    assert load_pem_x509_certificate(file.read_bytes()).fingerprint(SHA256()) == shown


def test_a_token_is_bound_to_a_key(settings: GatewaySettings, home: Path) -> None:
    """By the thumbprint that was given."""
    token = issued(settings, home, key_thumbprint="B" * 42 + "A")
    assert "B" * 42 + "A" == verified(settings, token).key_thumbprint


@pytest.mark.parametrize(
    ("content", "told"), [(None, "cannot read"), (b"no certificate", "is no certificate in PEM")]
)
def test_a_file_that_is_no_certificate_is_named(
    settings: GatewaySettings, home: Path, tmp_path: Path, content: bytes | None, told: str
) -> None:
    """An unbound token in its place would be worse than none."""
    file = tmp_path / "client.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=told):
        issued(settings, home, certificate_file=file)


def test_an_issued_token_is_for_its_gateway_only(settings: GatewaySettings, home: Path) -> None:
    """Another audience refuses it."""
    token = issued(settings.model_copy(update={"audience": "another"}), home)
    with pytest.raises(AuthnError):
        verified(settings, token)


def test_a_lifetime_that_the_gateway_refuses_is_not_issued(
    settings: GatewaySettings, home: Path
) -> None:
    """Nor silently another one."""
    claims = verified(settings, issued(settings, home, lifetime_seconds=86_400))
    assert timedelta(days=1) == claims.expires_at - claims.issued_at
    with pytest.raises(GatewayError, match="the lifetime may be 86400 seconds at most"):
        issued(settings, home, lifetime_seconds=86_401)


def test_a_role_that_gives_nothing_is_named(
    settings: GatewaySettings, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The token is issued all the same: another gateway may know the role."""
    issued(settings, home)
    assert capsys.readouterr().err == ""
    issued(settings, home, roles=["client", "admin:belt"])
    assert capsys.readouterr().err == (
        "gateway: the role 'admin:belt' gives nothing; known are client, analyst, auditor, operator, metrics\n"
    )


def test_two_tokens_are_told_apart(settings: GatewaySettings, home: Path) -> None:
    """Each has an id of its own."""
    assert issued(settings, home) != issued(settings, home)


def test_a_key_without_the_mark_of_a_development_home_signs_nothing(
    settings: GatewaySettings, home: Path
) -> None:
    """It may be anybody's; the message says what to do in development and in production."""
    (home / "keys" / "token.development").unlink()
    with pytest.raises(SettingsError, match=r"token.development is missing, .*identity provider"):
        issued(settings, home)


@pytest.mark.parametrize("issuer", ["https://issuer.example", "https://localhost.example"])
def test_nothing_is_signed_in_the_name_of_a_real_issuer(
    settings: GatewaySettings, home: Path, issuer: str
) -> None:
    """Not even with the key of a development home."""
    with pytest.raises(SettingsError, match=f"GATEWAY_ISSUER is {issuer}, whose tokens only"):
        issued(settings.model_copy(update={"issuer": issuer}), home)


def test_a_key_that_is_missing_is_named(settings: GatewaySettings, home: Path) -> None:
    """With the path."""
    (home / "keys" / "token.key").unlink()
    with pytest.raises(GatewayError, match=r"keys/token.key: it does not exist"):
        issued(settings, home)
