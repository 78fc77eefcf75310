"""The certificate that a caller proved to hold, as sender-constrained tokens name it.

Rules: only what this process itself has verified in a handshake counts; a header never does.
"""

import base64
import hashlib
import ssl

TLS_1_3 = 0x0304  # RFC 8446 section 4.1.2, as ASGI's TLS extension states versions


def verified_thumbprint(connection: ssl.SSLObject | ssl.SSLSocket | None) -> str | None:
    """The base64url SHA-256 of the caller's certificate (RFC 8705 section 3.1); None if none was verified."""
    if connection is None or connection.context.verify_mode is ssl.CERT_NONE:
        return None
    certificate = connection.getpeercert(binary_form=True)
    return None if certificate is None else thumbprint(certificate)


def thumbprint(certificate: bytes) -> str:
    """What `cnf.x5t#S256` of a token says of this certificate, which is DER."""
    return base64.urlsafe_b64encode(hashlib.sha256(certificate).digest()).rstrip(b"=").decode()
