"""The certificate that a caller proved to hold, as sender-constrained tokens name it.

Rules: only what this process itself has verified in a handshake counts; a header never does; a certificate counts until
its own end, however long its connection lasts.
"""

import base64
import hashlib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime

TLS_1_3 = 0x0304  # RFC 8446 section 4.1.2, as ASGI's TLS extension states versions


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """A certificate that was verified. thumbprint: base64url SHA-256 (RFC 8705 section 3.1); ends_at: its notAfter."""

    thumbprint: str
    ends_at: datetime

    def is_over(self, now: datetime) -> bool:
        """Whether it has ended; RFC 5280 section 4.1.2.5 counts the second of notAfter in."""
        return now > self.ends_at


def verified_certificate(
    connection: ssl.SSLObject | ssl.SSLSocket | None,
) -> ClientCertificate | None:
    """The caller's certificate; None if none was verified."""
    if connection is None or connection.context.verify_mode is ssl.CERT_NONE:
        return None
    certificate = connection.getpeercert(binary_form=True)
    fields = connection.getpeercert()
    if certificate is None or not fields:
        return None
    ends_at = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(fields["notAfter"])), UTC)
    return ClientCertificate(thumbprint=thumbprint(certificate), ends_at=ends_at)


def thumbprint(certificate: bytes) -> str:
    """What `cnf.x5t#S256` of a token says of this certificate, which is DER."""
    return base64.urlsafe_b64encode(hashlib.sha256(certificate).digest()).rstrip(b"=").decode()
