"""Tokens issued on the command line are tokens that the gateway takes."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.app import _authenticator
from gateway.commands.token import issue
from gateway.errors import AuthnError, GatewayError
from gateway.settings import GatewaySettings


def issued(settings: GatewaySettings, home: Path, *, lifetime_seconds: int = 60) -> str:
    """A client's token."""
    return issue(
        settings,
        roles=["client", "analyst:belt"],
        subject="camera-7",
        lifetime_seconds=lifetime_seconds,
        key_file=home / "keys" / "token.key",
    )


def test_an_issued_token_authenticates(settings: GatewaySettings, home: Path) -> None:
    """With the settings that it was issued under."""
    token = issued(settings, home)
    principal = _authenticator(settings).authenticate([f"Bearer {token}"], datetime.now(UTC))
    assert (principal.issuer, principal.subject, principal.client_id, principal.roles) == (
        settings.issuer, "camera-7", "gateway-cli", frozenset({"client", "analyst:belt"}),
    )  # fmt: skip


def test_an_issued_token_is_for_its_gateway_only(settings: GatewaySettings, home: Path) -> None:
    """Another audience refuses it."""
    token = issued(settings.model_copy(update={"audience": "another"}), home)
    with pytest.raises(AuthnError):
        _authenticator(settings).authenticate([f"Bearer {token}"], datetime.now(UTC))


def test_a_lifetime_that_the_gateway_refuses_is_not_issued(
    settings: GatewaySettings, home: Path
) -> None:
    """Nor silently another one."""
    token = issued(settings, home, lifetime_seconds=86_400)
    _authenticator(settings).authenticate([f"Bearer {token}"], datetime.now(UTC))
    with pytest.raises(GatewayError, match="the lifetime may be 86400 seconds at most"):
        issued(settings, home, lifetime_seconds=86_401)


def test_a_role_that_gives_nothing_is_named(
    settings: GatewaySettings, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The token is issued all the same: another gateway may know the role."""
    issued(settings, home)
    assert capsys.readouterr().err == ""
    issue(
        settings,
        roles=["client", "admin:belt"],
        subject="camera-7",
        lifetime_seconds=60,
        key_file=home / "keys" / "token.key",
    )
    assert capsys.readouterr().err == (
        "gateway: the role 'admin:belt' gives nothing; known are client, analyst, auditor, operator, metrics\n"
    )


def test_two_tokens_are_told_apart(settings: GatewaySettings, home: Path) -> None:
    """Each has an id of its own."""
    assert issued(settings, home) != issued(settings, home)


def test_a_key_that_is_missing_is_named(settings: GatewaySettings, tmp_path: Path) -> None:
    """With the path."""
    with pytest.raises(GatewayError, match="absent"):
        issued(settings, tmp_path / "absent")
