"""Which key exchange groups a handshake may use, and what is said if that cannot be limited."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.api import tls_groups
from gateway.api.tls import TlsFiles, tls_context
from gateway.api.tls_groups import accepts_curve, wanted_groups, warn_of_unwanted_groups


@pytest.fixture
def context(certificates: Path) -> ssl.SSLContext:
    """A context with its certificate."""
    return tls_context(TlsFiles(certificates / "server.pem", certificates / "server.key"))


@pytest.mark.parametrize(
    ("version", "groups"),
    [
        ((3, 0, 19, 0, 0), "X25519:P-256:P-384"),
        ((3, 4, 0, 0, 0), "X25519:P-256:P-384"),
        ((3, 5, 0, 0, 0), "?X25519MLKEM768:X25519:P-256:P-384"),
        ((4, 0, 0, 0, 0), "?X25519MLKEM768:X25519:P-256:P-384"),
    ],
)
def test_the_hybrid_group_comes_first_where_it_exists(
    version: tuple[int, ...], groups: str
) -> None:
    """What is recorded today must not be readable by the computers of tomorrow."""
    assert wanted_groups(version) == groups


def test_a_limited_context_is_not_warned_of(
    context: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """The usual case."""
    warn_of_unwanted_groups(context)
    assert caplog.text == ""


def test_a_context_that_takes_another_group_is_warned_of(
    context: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever was configured, the handshake tells."""
    context.set_ecdh_curve("secp521r1")
    warn_of_unwanted_groups(context)
    assert "tls_groups_not_limited accepted=secp521r1 fix=set OPENSSL_CONF" in caplog.text


def test_a_curve_that_openssl_does_not_know_is_not_accepted(context: ssl.SSLContext) -> None:
    """It cannot be offered either."""
    assert not accepts_curve(context, "no such curve")


@pytest.fixture
def unlimited(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process whose OpenSSL cannot be configured."""

    def absent() -> object:
        raise OSError("no such library")

    monkeypatch.setattr(tls_groups, "_openssl", absent)
    tls_groups._limit_process.cache_clear()
    yield
    tls_groups._limit_process.cache_clear()


@pytest.mark.usefixtures("unlimited")
def test_a_process_that_cannot_be_limited_starts(certificates: Path) -> None:
    """The groups left over are not weak enough to serve nobody."""
    files = TlsFiles(certificates / "server.pem", certificates / "server.key")
    assert tls_context(files).minimum_version is ssl.TLSVersion.TLSv1_3
