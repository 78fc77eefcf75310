"""Where an OAuth client learns which authorization servers this gateway believes, and how to present a token.

Rules: everything comes from the configuration, nothing from the request; it is public, and says nothing of keys,
roles or models. Pure.
Source: RFC 9728 sections 2 and 3.
"""

import json
from dataclasses import dataclass
from functools import cache

RESOURCE_METADATA_PATH = "/.well-known/oauth-protected-resource"
RESOURCE_NAME = "Gatewatch"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceFacts:
    """What clients may know of this resource server before they have a token.

    public_url: the origin where callers reach it, https://HOST[:PORT] without a path. issuers: whose tokens it takes.
    has_client_certificates: whether TLS takes client certificates, so that tokens can be bound to them (RFC 8705).
    dpop_algorithms: of the proofs that bind tokens to keys (RFC 9449), such as ES256; empty if none is taken.
    """

    public_url: str
    issuers: tuple[str, ...]
    has_client_certificates: bool = False
    dpop_algorithms: tuple[str, ...] = ()


def resource_metadata_url(facts: ResourceFacts) -> str:
    """Where the metadata is; challenges name it (RFC 9728 section 5.1)."""
    return facts.public_url + RESOURCE_METADATA_PATH


@cache
def resource_metadata(facts: ResourceFacts) -> bytes:
    """The metadata as JSON; made once for the facts.

    No scopes are named because roles, which tokens carry, are not scopes; a member without a value is left out
    (RFC 9728 section 3.2).
    """
    content: dict[str, object] = {
        "resource": facts.public_url,
        "resource_name": RESOURCE_NAME,
        "authorization_servers": facts.issuers,
        # A token in a query or a form would end up in logs (RFC 6750 section 5.3).
        "bearer_methods_supported": ["header"],
        "tls_client_certificate_bound_access_tokens": facts.has_client_certificates,
        "dpop_signing_alg_values_supported": facts.dpop_algorithms,
    }
    # RFC 9728 section 3.2 forbids empty arrays.
    return json.dumps({name: value for name, value in content.items() if value != ()}).encode()
