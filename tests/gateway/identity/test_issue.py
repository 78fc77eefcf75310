"""Tokens and keys of one's own fit the gateway that is told of them."""

import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, KeyFileError, SettingsError
from gateway.identity.issue import (
    create_signing_key,
    is_development_issuer,
    issue_token,
    jwks_of,
    load_signing_key,
    thumbprint,
)
from gateway.identity.key_sources import FixedKeys
from gateway.identity.keysets import load_keyset
from gateway.identity.tokens import TrustedIssuer, read_token, verify_token

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
REQUEST: dict[str, Any] = {
    "signing_key": KEY,
    "issuer": "https://issuer.example",
    "audience": "gatewatch",
    "subject": "camera-7",
    "client_id": "conveyor",
    "roles": ["client"],
    "lifetime_seconds": 300,
    "now": NOW,
    "token_id": "token-1",
}


def test_a_token_has_the_profile_of_an_access_token() -> None:
    """Header and claims as RFC 9068 section 2 wants them."""
    token = issue_token(**REQUEST)
    assert jwt.get_unverified_header(token) == {
        "alg": "EdDSA",
        "typ": "at+jwt",
        "kid": thumbprint(KEY.public_key()),
    }
    assert jwt.decode(token, options={"verify_signature": False}) == {
        "iss": "https://issuer.example",
        "aud": "gatewatch",
        "sub": "camera-7",
        "client_id": "conveyor",
        "jti": "token-1",
        "roles": ["client"],
        "iat": 1893499200,
        "exp": 1893499500,
    }


CERTIFICATE, PROOF_KEY = "A" * 43, "B" * 42 + "A"


def test_a_token_says_how_its_principal_proved_itself_and_what_it_is_bound_to() -> None:
    """In the claims of RFC 9068 section 2.2.1, RFC 8705 section 3.1 and RFC 9449 section 6.1."""
    token = issue_token(
        **REQUEST,
        acr="urn:example:strong",
        amr=["mfa", "otp"],
        auth_time=NOW,
        certificate_thumbprint=CERTIFICATE,
        key_thumbprint=PROOF_KEY,
    )
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims.items() >= {
        "acr": "urn:example:strong",
        "amr": ["mfa", "otp"],
        "auth_time": 1893499200,
        "cnf": {"x5t#S256": CERTIFICATE, "jkt": PROOF_KEY},
    }.items()  # fmt: skip


PRINTABLE = st.text(min_size=1, max_size=50).filter(str.isprintable)


@given(PRINTABLE, PRINTABLE, st.lists(PRINTABLE, max_size=3), st.integers(1, 3600))
def test_what_is_issued_is_accepted(
    subject: str, token_id: str, roles: list[str], lifetime_seconds: int
) -> None:
    """Issuing and verifying are inverse."""
    issuer = TrustedIssuer(
        issuer="https://issuer.example",
        audience="gatewatch",
        keys=FixedKeys(load_keyset(jwks_of([KEY.public_key()]))),
        max_lifetime_seconds=3600,
    )
    changes = {"subject": subject, "token_id": token_id, "roles": roles}
    token = issue_token(**{**REQUEST, **changes, "lifetime_seconds": lifetime_seconds})
    claims = verify_token(read_token(token), issuer=issuer, now=NOW)
    assert (claims.subject, claims.token_id) == (subject, token_id)
    assert claims.roles == frozenset(roles)
    assert (claims.expires_at - claims.issued_at).total_seconds() == lifetime_seconds


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": ""},
        {"audience": ""},
        {"subject": ""},
        {"subject": "a\nb"},
        {"client_id": "c" * 257},
        {"token_id": ""},
        {"roles": [""]},
        {"roles": ["r" * 129]},
        {"roles": ["client"] * 65},
        {"lifetime_seconds": 0},
        {"lifetime_seconds": -5},
        {"acr": ""},
        {"acr": "a\nb"},
        {"amr": [""]},
        {"amr": ["otp"] * 33},
        {"certificate_thumbprint": ""},
        {"certificate_thumbprint": "A" * 42},
        {"certificate_thumbprint": "A" * 42 + "="},
        {"key_thumbprint": "A" * 42 + "B"},
        {"key_thumbprint": "sha-256"},
    ],
)
def test_a_token_that_would_be_refused_is_not_issued(changes: dict[str, Any]) -> None:
    """The mistake is named here and not by a silent 401 later."""
    with pytest.raises(SettingsError, match="token: "):
        issue_token(**{**REQUEST, **changes})


@pytest.mark.parametrize(
    ("issuer", "expected"),
    [
        ("https://gatewatch.localhost", True),
        ("https://GATEWATCH.LocalHost:8443/tenant?a#b", True),
        ("http://localhost:8080/realms/dev", True),
        ("https://a.b.localhost.", True),
        ("gatewatch.localhost", True),
        ("https://issuer.example", False),
        ("https://localhost.example", False),
        ("https://notlocalhost", False),
        ("https://issuer.example/a.localhost", False),
        ("https://issuer.example/#.localhost", False),
        ("https://a.localhost@issuer.example", False),
        ("https://issuer.example\\.localhost", False),
        ("https://127.0.0.1", False),
        ("https://[::1", False),
        ("urn:example:issuer", False),
        ("", False),
    ],
)
def test_a_development_issuer_has_a_host_that_no_other_machine_finds(
    issuer: str, expected: bool
) -> None:
    """RFC 6761 section 6.3: localhost and everything below it, wherever else the word may stand."""
    assert expected is is_development_issuer(issuer)


@given(st.text(max_size=40))
def test_no_issuer_breaks_the_question(text: str) -> None:
    """What is no URL is no development issuer."""
    assert is_development_issuer(text) in (True, False)


def test_the_thumbprint_of_the_published_example() -> None:
    """RFC 8037 appendix A.3."""
    x = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    expected = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert expected == thumbprint(Ed25519PublicKey.from_public_bytes(x))


def test_a_key_set_holds_public_members_only() -> None:
    """What is published can verify and not sign."""
    document = json.loads(jwks_of([KEY.public_key()]))
    (key,) = document["keys"]
    assert set(key) == {"kty", "crv", "x", "alg", "use", "kid"}
    assert key["kid"] == thumbprint(KEY.public_key())


def test_a_key_set_of_several_keys_loads() -> None:
    """Old and new key stand side by side while keys are changed."""
    other = Ed25519PrivateKey.from_private_bytes(b"\x08" * 32)
    keyset = load_keyset(jwks_of([KEY.public_key(), other.public_key()]))
    assert set(keyset.keys) == {thumbprint(KEY.public_key()), thumbprint(other.public_key())}


def test_a_created_key_is_loaded_again(tmp_path: Path) -> None:
    """The file holds the very key, closed to others."""
    created = create_signing_key(tmp_path / "key.pem")
    loaded = load_signing_key(tmp_path / "key.pem")
    assert created.private_bytes_raw() == loaded.private_bytes_raw()
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    assert (tmp_path / "key.pem").read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")


def test_two_created_keys_differ(tmp_path: Path) -> None:
    """Each key is new."""
    first, second = (create_signing_key(tmp_path / name) for name in ("a", "b"))
    assert first.private_bytes_raw() != second.private_bytes_raw()


def test_an_existing_key_is_not_overwritten(tmp_path: Path) -> None:
    """Tokens in use would lose their issuer."""
    create_signing_key(tmp_path / "key.pem")
    before = (tmp_path / "key.pem").read_bytes()
    with pytest.raises(KeyFileError, match="never overwritten"):
        create_signing_key(tmp_path / "key.pem")
    assert before == (tmp_path / "key.pem").read_bytes()


def test_a_key_open_to_others_is_not_loaded(tmp_path: Path) -> None:
    """Whoever could read it could sign tokens."""
    create_signing_key(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod it to 0600"):
        load_signing_key(tmp_path / "key.pem")


EC_KEY = ec.derive_private_key(77, ec.SECP256R1())


@pytest.mark.parametrize(
    "content",
    [
        b"no key",
        EC_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pw")),
        KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())[:60],
    ],
    ids=["text", "another kind", "encrypted", "cut short"],
)
def test_another_file_is_not_loaded(tmp_path: Path, content: bytes) -> None:
    """The message names the path and the fix."""
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="not an unencrypted Ed25519 key") as caught:
        load_signing_key(path)
    assert caught.value.code is Code.KEY_INVALID
