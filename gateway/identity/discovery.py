"""Where an issuer publishes its keys, told by the document that it publishes under its own address.

Rules:
- Only `issuer` and `jwks_uri` are read; no other member of the document changes anything here.
- The document's issuer is the configured one, character by character, or the document is another's (mix-up attack).
- Found by OpenID Connect Discovery first, then by RFC 8414; the first document that fits is taken.
"""

from urllib.parse import urlsplit

from gateway.errors import Code, SettingsError
from gateway.identity.fetching import FetchError, FetchFault, HttpsReader, is_https_url
from gateway.identity.wire import MalformedError, parse_json_object


def document_urls(issuer: str) -> tuple[str, str]:
    """The addresses of an issuer's documents, to be tried in this order.

    Raises SettingsError unless the issuer is an https URL without query and fragment. Source: OpenID Connect
    Discovery 1.0 section 4 (behind the issuer's path), RFC 8414 section 3.1 (before it).
    """
    if not is_https_url(issuer) or "?" in issuer:
        message = (
            f"issuer {issuer!a}: keys can be discovered for an https URL without query and fragment only; "
            "correct it, or name the address of its key set"
        )
        raise SettingsError(Code.SETTINGS_INVALID, message)
    parts = urlsplit(issuer)
    origin, path = f"https://{parts.netloc}", parts.path.removesuffix("/")
    return (
        f"{origin}{path}/.well-known/openid-configuration",
        f"{origin}/.well-known/oauth-authorization-server{path}",
    )


def read_jwks_uri(content: bytes, *, issuer: str) -> str:
    """The `jwks_uri` of a discovery document.

    Raises MalformedError unless it is strict JSON of this issuer and names an https URL. Source: OpenID Connect
    Discovery 1.0 sections 3 and 4.3, RFC 8414 sections 2 and 3.3.
    """
    document = parse_json_object(content)
    if document.get("issuer") != issuer:
        raise MalformedError("its 'issuer' is not the configured one")
    jwks_uri = document.get("jwks_uri")
    if not isinstance(jwks_uri, str) or not is_https_url(jwks_uri):
        raise MalformedError("its 'jwks_uri' is no https URL")
    return jwks_uri


async def discover_jwks_uri(reader: HttpsReader, *, issuer: str) -> str:
    """The address of an issuer's key set.

    Raises SettingsError as document_urls does, FetchError if no document of the issuer can be had.
    """
    faults: list[FetchError] = []
    for url in document_urls(issuer):
        try:
            return read_jwks_uri(await reader.get(url), issuer=issuer)
        except FetchError as exc:
            faults.append(exc)
        except MalformedError as exc:
            faults.append(FetchError(FetchFault.FORM, f"{url}: {exc}"))
    # The first is the likelier one to be meant.
    raise FetchError(faults[0].fault, "; ".join(fault.message for fault in faults))
