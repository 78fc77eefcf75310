"""What a connection may cost before anything is known of who made it, and why the gateway ends one.

Rules: every number is here or comes from the settings through here; Ended is a closed set, for it labels a metric.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from gateway.settings import GatewaySettings

CLOSE_GRACE_SECONDS = 1.0  # for a peer to answer our end of TLS once a deadline has passed
KERNEL_GRACE_SECONDS = (
    1.5  # more than that, for the deadlines of this process come first: they tell the peer
)


class Ended(StrEnum):
    """Why the gateway ended a connection that its peer would have kept."""

    ADDRESS_LIMIT = "address_limit"
    CONNECTION_LIMIT = "connection_limit"
    GAVE_WAY = "gave_way"
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    HANDSHAKE_FAILED = "handshake_failed"
    HEADER_TIMEOUT = "header_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    LINGER_TIMEOUT = "linger_timeout"
    LINGER_BYTES = "linger_bytes"
    WRITE_TIMEOUT = "write_timeout"
    HTTP_INVALID = "http_invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeLimits:
    """The limits of the listener.

    max_connections_per_address: IPv6 addresses count by /64. header_timeout_seconds: from the first byte, on a new
    connection from its handshake, to the last byte of a head; nothing that arrives extends it. write_timeout_seconds:
    how long what was answered may lie unread. linger_timeout_seconds, max_linger_bytes: how much of a body is thrown
    away after an answer that came before its end; a client that sends far too much still gets to read its 413.
    """

    max_connections: int = 2_048
    max_connections_per_address: int = 256
    handshake_timeout_seconds: float = 5.0
    header_timeout_seconds: float = 8.0
    idle_timeout_seconds: float = 8.0
    write_timeout_seconds: float = 8.0
    linger_timeout_seconds: float = 3.0
    max_linger_bytes: int = 256 << 20

    @classmethod
    def of(cls, settings: GatewaySettings) -> Self:
        """The limits that these settings state."""
        return cls(
            max_connections=settings.max_connections,
            max_connections_per_address=settings.max_connections_per_address,
            handshake_timeout_seconds=settings.handshake_timeout_seconds,
            header_timeout_seconds=settings.header_timeout_seconds,
            idle_timeout_seconds=settings.idle_timeout_seconds,
            write_timeout_seconds=settings.write_timeout_seconds,
        )
