"""What OAuth clients learn before they have a token: each member of RFC 9728 section 2 that is said, and no other."""

import json
from dataclasses import replace

import httpx
import pytest

from gateway.api.resource_metadata import (
    ResourceFacts,
    resource_metadata,
    resource_metadata_url,
)
from gateway.api.routes import build_app
from tests.gateway.api.in_process import Gateway, connected

FACTS = ResourceFacts(
    public_url="https://belt.example:8443",
    issuers=("https://id.example/realms/belt", "https://id2.example"),
    has_client_certificates=True,
    dpop_algorithms=("ES256", "EdDSA"),
)


def test_the_whole_of_it() -> None:
    """Every member there can be; scopes are not among them, for roles are none."""
    assert {
        "resource": "https://belt.example:8443",
        "resource_name": "Gatewatch",
        "authorization_servers": ["https://id.example/realms/belt", "https://id2.example"],
        "bearer_methods_supported": ["header"],
        "tls_client_certificate_bound_access_tokens": True,
        "dpop_signing_alg_values_supported": ["ES256", "EdDSA"],
    } == json.loads(resource_metadata(FACTS))


def test_what_is_not_taken_is_not_said() -> None:
    """No empty arrays, which RFC 9728 section 3.2 forbids; certificates are plainly denied."""
    bare = ResourceFacts(public_url="https://belt.example", issuers=())
    assert {
        "resource": "https://belt.example",
        "resource_name": "Gatewatch",
        "bearer_methods_supported": ["header"],
        "tls_client_certificate_bound_access_tokens": False,
    } == json.loads(resource_metadata(bare))


def test_it_is_made_once() -> None:
    """The route is open to everybody, so that an answer may cost nothing."""
    assert resource_metadata(FACTS) is resource_metadata(replace(FACTS))


def test_its_address_is_where_rfc_9728_puts_it() -> None:
    """Section 3.1: the well-known path at the resource's origin."""
    url = "https://belt.example:8443/.well-known/oauth-protected-resource"
    assert url == resource_metadata_url(FACTS)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_it_is_served_to_everybody_and_never_from_a_host_header(gateway: Gateway) -> None:
    """Section 3.3: a client compares `resource` with what it asked, so it must be ours and no caller's to choose."""
    async with connected(build_app(replace(gateway.edge, resource=FACTS))) as client:
        answer: httpx.Response = await client.get(
            "/.well-known/oauth-protected-resource", headers={"Host": "evil.example"}
        )
    assert (200, "application/json") == (answer.status_code, answer.headers["content-type"])
    assert "https://belt.example:8443" == answer.json()["resource"]
    assert b"evil" not in answer.content
    assert [] == gateway.records()
