"""The address of the keys comes from a document of the very issuer that is configured."""

import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, SettingsError
from gateway.identity.discovery import discover_jwks_uri, document_urls, read_jwks_uri
from gateway.identity.fetching import FetchError, FetchFault, HttpsReader, is_https_url
from gateway.identity.wire import MalformedError

ISSUER = "https://issuer.example"
KEYS = "https://keys.example/jwks"
OPENID = "https://issuer.example/.well-known/openid-configuration"
OAUTH = "https://issuer.example/.well-known/oauth-authorization-server"


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the gateway runs on."""
    return "asyncio"


def document(**changes: Any) -> bytes:
    """A discovery document; a change to None drops the member."""
    members = {"issuer": ISSUER, "jwks_uri": KEYS, "token_endpoint": "https://a/b", **changes}
    return json.dumps({k: v for k, v in members.items() if v is not None}).encode()


async def discovered(answers: Mapping[str, bytes], asked: list[str] | None = None) -> str:
    """What is discovered where these documents are published, and nothing else."""

    def answer(request: httpx.Request) -> httpx.Response:
        url = str(request.url)
        if asked is not None:
            asked.append(url)
        return httpx.Response(200 if url in answers else 404, content=answers.get(url, b""))

    reader = HttpsReader(transport=httpx.MockTransport(answer))
    try:
        return await discover_jwks_uri(reader, issuer=ISSUER)
    finally:
        await reader.aclose()


@pytest.mark.parametrize(
    ("issuer", "openid", "oauth"),
    [
        (ISSUER, OPENID, OAUTH),
        (ISSUER + "/", OPENID, OAUTH),
        (
            "https://issuer.example:8443/realms/x",
            "https://issuer.example:8443/realms/x/.well-known/openid-configuration",
            "https://issuer.example:8443/.well-known/oauth-authorization-server/realms/x",
        ),
        (
            "https://issuer.example/realms/x/",
            "https://issuer.example/realms/x/.well-known/openid-configuration",
            "https://issuer.example/.well-known/oauth-authorization-server/realms/x",
        ),
    ],
)
def test_the_addresses_of_the_documents(issuer: str, openid: str, oauth: str) -> None:
    """OpenID Connect appends to the path, RFC 8414 inserts before it; both drop one closing slash."""
    assert (openid, oauth) == document_urls(issuer)


@pytest.mark.parametrize(
    "issuer",
    [
        "",
        "issuer",
        "http://issuer.example",
        "https://issuer.example?tenant=x",
        "https://issuer.example/#x",
        "https://a@issuer.example",
        "urn:issuer",
    ],
)
def test_an_issuer_without_documents_is_refused(issuer: str) -> None:
    """Before anything is asked; the message names the way out."""
    with pytest.raises(SettingsError, match="name the address of its key set") as caught:
        document_urls(issuer)
    assert Code.SETTINGS_INVALID is caught.value.code


def test_the_address_of_the_keys_is_read() -> None:
    """It may be on another host: the issuer says so over its own TLS."""
    assert KEYS == read_jwks_uri(document(), issuer=ISSUER)


@pytest.mark.parametrize(
    "issuer",
    [
        None,
        "",
        "https://issuer.example/",
        "https://Issuer.example",
        "https://issuer.example:443",
        "https://other.example",
        [ISSUER],
        1,
    ],
)
def test_a_document_of_another_issuer_is_refused(issuer: object) -> None:
    """Compared character by character, as the tokens' `iss` is (RFC 8414 section 3.3)."""
    with pytest.raises(MalformedError, match="'issuer' is not the configured one"):
        read_jwks_uri(document(issuer=issuer), issuer=ISSUER)


@pytest.mark.parametrize(
    "jwks_uri", [None, "", "http://keys.example/jwks", "/jwks", "file:///jwks", [KEYS], 1]
)
def test_keys_elsewhere_than_at_an_https_url_are_refused(jwks_uri: object) -> None:
    """The document must not lead to a place where anybody could change the keys."""
    with pytest.raises(MalformedError, match="'jwks_uri' is no https URL"):
        read_jwks_uri(document(jwks_uri=jwks_uri), issuer=ISSUER)


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"[]", b"\xef\xbb\xbf{}", document()[:-1] + b',"jwks_uri":"https://a"}'],
)
def test_what_is_no_strict_json_is_refused(content: bytes) -> None:
    """A member that occurs twice would be read differently by others."""
    with pytest.raises(MalformedError):
        read_jwks_uri(content, issuer=ISSUER)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from([ISSUER, KEYS]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(["issuer", "jwks_uri", "other"]), JSON))
def test_any_document_is_read_or_refused(members: dict[str, Any]) -> None:
    """What is read is of this issuer, and an https URL."""
    try:
        jwks_uri = read_jwks_uri(json.dumps(members).encode(), issuer=ISSUER)
    except MalformedError:
        return
    assert ISSUER == members["issuer"]
    assert is_https_url(jwks_uri)


@given(st.binary())
def test_any_bytes_are_refused(content: bytes) -> None:
    """Nothing but MalformedError is raised."""
    with pytest.raises(MalformedError):
        read_jwks_uri(content, issuer=ISSUER)


@given(st.text() | st.text(alphabet="/:?#@.a%[]").map("https://".__add__))
def test_any_issuer_has_documents_on_its_own_host_or_none(issuer: str) -> None:
    """No issuer makes the gateway ask anything but https URLs."""
    try:
        urls = document_urls(issuer)
    except SettingsError:
        return
    assert all(is_https_url(url) for url in urls)
    assert {httpx.URL(issuer).host} == {httpx.URL(url).host for url in urls}


@pytest.mark.anyio
async def test_openid_connect_is_asked_first() -> None:
    """Its document suffices."""
    asked: list[str] = []
    assert KEYS == await discovered({OPENID: document()}, asked)
    assert [OPENID] == asked


@pytest.mark.anyio
@pytest.mark.parametrize("first", [b"<html>", document(issuer="https://other.example")])
async def test_the_document_of_rfc_8414_is_the_second_choice(first: bytes) -> None:
    """Some answer any path with a page for people; each document is checked by itself."""
    assert KEYS == await discovered({OPENID: first, OAUTH: document()})
    assert KEYS == await discovered({OAUTH: document()})


@pytest.mark.anyio
async def test_the_faults_of_both_are_told() -> None:
    """An issuer that does not fit anywhere is no issuer."""
    with pytest.raises(FetchError) as caught:
        await discovered({OAUTH: document(issuer="https://other.example")})
    assert FetchFault.STATUS is caught.value.fault
    assert f"{OPENID} answered 404" in caught.value.message
    assert f"{OAUTH}: its 'issuer' is not the configured one" in caught.value.message


@pytest.mark.anyio
async def test_a_wrong_issuer_is_told_as_a_matter_of_form() -> None:
    """Both documents are there, and both are another's."""
    wrong = document(issuer="https://other.example")
    with pytest.raises(FetchError) as caught:
        await discovered({OPENID: wrong, OAUTH: wrong})
    assert FetchFault.FORM is caught.value.fault
