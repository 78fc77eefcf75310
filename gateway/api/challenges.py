"""WWW-Authenticate challenges: what a caller lacks, in words that its OAuth client understands.

Rules: every value is a quoted-string whose quotes are escaped; what cannot stand in a header is a mistake in the
program or its configuration and raises, because half a challenge would be read as another one.
Source: RFC 9110 sections 5.6.4 and 11.3, RFC 6750 section 3, RFC 9470 section 3, RFC 9449 sections 7.1 and 9,
RFC 9728 section 5.1.
"""

from collections.abc import Iterable
from enum import StrEnum

REALM = "gatewatch"


class Scheme(StrEnum):
    """How a token is presented; the schemes that challenges can name."""

    BEARER = "Bearer"
    DPOP = "DPoP"


class ChallengeError(StrEnum):
    """The `error` of a challenge; a closed list, each from the RFC that names it."""

    INVALID_REQUEST = "invalid_request"  # RFC 6750 section 3.1
    INVALID_TOKEN = "invalid_token"  # noqa: S105  RFC 6750 section 3.1
    INSUFFICIENT_SCOPE = "insufficient_scope"  # RFC 6750 section 3.1
    INSUFFICIENT_USER_AUTHENTICATION = "insufficient_user_authentication"  # RFC 9470 section 3
    INVALID_DPOP_PROOF = "invalid_dpop_proof"  # RFC 9449 section 7.1
    USE_DPOP_NONCE = "use_dpop_nonce"  # RFC 9449 section 9


def challenge(
    scheme: Scheme,
    error: ChallengeError | None = None,
    *,
    description: str = "",
    resource_metadata_url: str = "",
    acr_values: tuple[str, ...] = (),
    max_age_seconds: int | None = None,
    algorithms: tuple[str, ...] = (),
) -> str:
    """One challenge, as a WWW-Authenticate field carries it.

    error: None where the caller sent no credentials at all (RFC 6750 section 3.1). description: for a developer.
    acr_values: what would do, the preferred first. max_age_seconds: how old an authentication may be, >= 0.
    algorithms: those a proof may be signed by. What is empty or None is left out. Raises ValueError for a value that
    is not printable ASCII, and for one of a list that has a blank, which would be read as two.
    """
    values = {
        "realm": REALM,
        "error": error.value if error is not None else "",
        "error_description": description,
        "acr_values": _joined(acr_values),
        "max_age": "" if max_age_seconds is None else str(max_age_seconds),
        "algs": _joined(algorithms),
        "resource_metadata": resource_metadata_url,
    }
    parameters = [f"{name}={quoted_string(value)}" for name, value in values.items() if value]
    return f"{scheme.value} {', '.join(parameters)}"


def quoted_string(text: str) -> str:
    """The text in quotes, with those inside it escaped. Raises ValueError unless it is printable ASCII.

    Source: RFC 9110 section 5.6.4; obs-text is left out, since every reader takes it for another encoding.
    """
    if not (text.isascii() and text.isprintable()):
        # A line break would begin a header of somebody else's choice.
        raise ValueError(f"{text!r} cannot stand in a header")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _joined(values: Iterable[str]) -> str:
    values = tuple(values)
    for value in values:
        if not value or " " in value:
            raise ValueError(f"{value!r} cannot stand in a list that blanks separate")
    return " ".join(values)
