"""Issuing development tokens from a local signing key.

Rules: never in production: the key must carry the mark of a development home, and the issuer a name that no other
machine resolves. Whoever may read the key could sign as anybody anyway; this keeps people from building on it.
"""

import sys
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import load_pem_x509_certificate

from gateway.admission import configured_policy
from gateway.commands.keys import marker_of
from gateway.commands.opening import utc_now
from gateway.errors import Code, SettingsError
from gateway.identity.issue import is_development_issuer, issue_token, load_signing_key
from gateway.identity.wire import encode_base64url
from gateway.settings import GatewaySettings

# OpenID PAPE 1.0's name for more than one factor, and RFC 8176's for the method.
SECOND_FACTOR_ACR = "http://schemas.openid.net/pape/policies/2007/06/multi-factor"
SECOND_FACTOR_AMR = "mfa"


def issue(
    settings: GatewaySettings,
    *,
    roles: list[str],
    subject: str,
    lifetime_seconds: int,
    key_file: Path,
    has_second_factor: bool = False,
    certificate_file: Path | None = None,
    key_thumbprint: str | None = None,
) -> str:
    """A token for these roles that this gateway takes, if its JWKS holds the key.

    has_second_factor: as if its principal had just shown one. certificate_file: PEM, the client certificate that the
    token is bound to. key_thumbprint: of the DPoP key that it is bound to, RFC 7638.
    A role that gives nothing is named on standard error. Raises KeyFileError, and SettingsError outside of a
    development home or for what the gateway would refuse.
    """
    _check_development(settings, key_file)
    most = settings.token_max_lifetime_seconds
    if lifetime_seconds > most:
        raise _refused(
            f"the lifetime may be {most} seconds at most (GATEWAY_TOKEN_MAX_LIFETIME_SECONDS)"
        )
    granted = configured_policy(settings).policy.roles
    for role in roles:
        if role.partition(":")[0] not in granted:
            known = ", ".join(granted)
            print(f"gateway: the role {role!r} gives nothing; known are {known}", file=sys.stderr)
    now = utc_now()
    return issue_token(
        signing_key=load_signing_key(key_file),
        issuer=settings.issuer,
        audience=settings.audience,
        subject=subject,
        client_id="gateway-cli",
        roles=roles,
        lifetime_seconds=lifetime_seconds,
        now=now,
        token_id=str(uuid.uuid4()),
        certificate_thumbprint=None if certificate_file is None else _thumbprint(certificate_file),
        key_thumbprint=key_thumbprint,
        **(_second_factor(now) if has_second_factor else {}),
    )


def _check_development(settings: GatewaySettings, key_file: Path) -> None:
    if not is_development_issuer(settings.issuer):
        raise _refused(
            f"GATEWAY_ISSUER is {settings.issuer}, whose tokens only its identity provider signs: get one there, or "
            "set a development issuer, https://NAME.localhost"
        )
    marker = marker_of(key_file)
    if not marker.is_file():
        raise _refused(
            f"{marker} is missing, so {key_file} is not known to be a development key: `gateway dev` makes both, "
            "--key names another; in production get tokens from the identity provider of GATEWAY_ISSUER"
        )


def _second_factor(now: datetime) -> dict[str, Any]:
    return {"acr": SECOND_FACTOR_ACR, "amr": [SECOND_FACTOR_AMR], "auth_time": now}


def _thumbprint(certificate_file: Path) -> str:
    """The base64url SHA-256 of a PEM certificate in DER. Source: RFC 8705 section 3.1."""
    try:
        certificate = load_pem_x509_certificate(certificate_file.read_bytes())
    except OSError as exc:
        raise _refused(f"cannot read {certificate_file}: {exc.strerror}") from exc
    except ValueError as exc:
        raise _refused(f"{certificate_file} is no certificate in PEM; name one") from exc
    return encode_base64url(certificate.fingerprint(SHA256()))


def _refused(cause_and_fix: str) -> SettingsError:
    return SettingsError(Code.SETTINGS_INVALID, f"token: {cause_and_fix}")
