"""Issuing development tokens from a local signing key."""

import sys
import uuid
from pathlib import Path

from gateway.commands.opening import utc_now
from gateway.errors import Code, SettingsError
from gateway.identity.issue import issue_token, load_signing_key
from gateway.identity.policy import DEFAULT_GRANTS
from gateway.settings import GatewaySettings


def issue(
    settings: GatewaySettings,
    *,
    roles: list[str],
    subject: str,
    lifetime_seconds: int,
    key_file: Path,
) -> str:
    """A token for these roles that this gateway takes, if its JWKS holds the key.

    A role that gives nothing is named on standard error. Raises KeyFileError, and SettingsError for a lifetime that
    the gateway would refuse.
    """
    most = settings.token_max_lifetime_seconds
    if lifetime_seconds > most:
        message = f"token: the lifetime may be {most} seconds at most (GATEWAY_TOKEN_MAX_LIFETIME_SECONDS)"
        raise SettingsError(Code.SETTINGS_INVALID, message)
    for role in roles:
        if role.partition(":")[0] not in DEFAULT_GRANTS:
            known = ", ".join(DEFAULT_GRANTS)
            print(f"gateway: the role {role!r} gives nothing; known are {known}", file=sys.stderr)
    return issue_token(
        signing_key=load_signing_key(key_file),
        issuer=settings.issuer,
        audience=settings.audience,
        subject=subject,
        client_id="gateway-cli",
        roles=roles,
        lifetime_seconds=lifetime_seconds,
        now=utc_now(),
        token_id=str(uuid.uuid4()),
    )
