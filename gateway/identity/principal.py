"""The principal: who calls, as the rest of the gateway sees it."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller; issuer and subject together name it.

    roles: as the token gives them, known or not. token_id: the token's `jti`. expires_at: UTC.
    """

    issuer: str
    subject: str
    client_id: str
    roles: frozenset[str]
    token_id: str
    expires_at: datetime
