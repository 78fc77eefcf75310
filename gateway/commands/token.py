"""Issuing development tokens from a local signing key."""

import uuid
from pathlib import Path

from gateway.commands.opening import utc_now
from gateway.identity.issue import issue_token, load_signing_key
from gateway.settings import GatewaySettings


def issue(
    settings: GatewaySettings,
    *,
    roles: list[str],
    subject: str,
    lifetime_seconds: int,
    key_file: Path,
) -> str:
    """A token for these roles that this gateway takes, if its JWKS holds the key. Raises KeyFileError."""
    return issue_token(
        signing_key=load_signing_key(key_file),
        issuer=settings.issuer,
        audience=settings.audience,
        subject=subject,
        client_id="gateway-cli",
        roles=roles,
        lifetime_seconds=min(lifetime_seconds, settings.token_max_lifetime_seconds),
        now=utc_now(),
        token_id=str(uuid.uuid4()),
    )
