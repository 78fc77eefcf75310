"""Small public documents of an identity provider, read over HTTPS and bounded in every direction.

Rules:
- HTTPS only, verified against the system's store or one CA file; no proxies of the environment, no cookies.
- The address that was asked must answer by itself with status 200: redirects are never followed.
- Bounded in bytes while they arrive, and in seconds from the first to the last: an endpoint that drips cannot hold on.
- Nothing is decompressed: a small answer could grow into a large one.
"""

import asyncio
import re
import ssl
from enum import StrEnum
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path

import httpx

from gateway.errors import Code, SettingsError

TIMEOUT_SECONDS = 2.0
MAX_DOCUMENT_BYTES = 64 * 1024
MAX_URL_CHARACTERS = 2048

# Narrower than RFC 3986: no user info, no fragment, nothing percent-encoded or international in the host.
_HTTPS_URL = re.compile(
    r"https://"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?:/[A-Za-z0-9!$%&'()*+,;=:@._~/-]*)?"
    r"(?:\?[A-Za-z0-9!$%&'()*+,;=:@._~/?-]*)?"
)
# Of the time for a whole read, once to connect and once for the TLS handshake. Together less than all of it: httpcore
# closes a connection whose handshake takes too long by its own clock, and loses it, open, if it is cancelled there.
_CONNECT_RATIO = 0.45
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "gatewatch"}


class FetchFault(StrEnum):
    """Why a document could not be had, or not be used: a closed list for the log."""

    TIMEOUT = "timeout"
    TRANSPORT = "transport"
    STATUS = "status"
    ENCODING = "encoding"
    SIZE = "size"
    FORM = "form"
    LEDGER = "ledger"


class FetchError(Exception):
    """A document could not be had; the message names address and cause."""

    def __init__(self, fault: FetchFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault
        self.message = message


class HttpsReader:
    """Reads documents with one client; nothing stays connected between two of them."""

    def __init__(
        self,
        *,
        ca_file: Path | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        max_document_bytes: int = MAX_DOCUMENT_BYTES,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """ca_file: PEM, None for the system's store. timeout_seconds: of a whole read. transport: for tests, no TLS.

        Raises SettingsError if the CA file cannot be read.
        """
        self._timeout_seconds = timeout_seconds
        self._max_document_bytes = max_document_bytes
        self._client = httpx.AsyncClient(
            transport=transport or _verifying_transport(ca_file),
            trust_env=False,
            follow_redirects=False,
            headers=_HEADERS,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            timeout=httpx.Timeout(timeout_seconds, connect=_CONNECT_RATIO * timeout_seconds),
        )

    async def get(self, url: str) -> bytes:
        """The document at an https URL.

        Raises FetchError in every other case.
        """
        if not is_https_url(url):
            raise FetchError(FetchFault.FORM, f"{url[:MAX_URL_CHARACTERS]!a} is no https URL")
        try:
            # httpx bounds each read only; this bounds their sum, connecting and closing included.
            async with asyncio.timeout(self._timeout_seconds):
                return await self._read(url)
        except (TimeoutError, httpx.TimeoutException) as exc:
            message = f"{url} did not answer within {self._timeout_seconds:g} s"
            raise FetchError(FetchFault.TIMEOUT, message) from exc
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as exc:
            # ValueError: a host name that cannot be asked for.
            raise FetchError(FetchFault.TRANSPORT, f"{url} cannot be read: {exc!a}") from exc

    async def aclose(self) -> None:
        """Close the client; get must not be called afterwards."""
        await self._client.aclose()

    async def _read(self, url: str) -> bytes:
        async with self._client.stream("GET", url) as response:
            if response.status_code != 200:
                message = (
                    f"{url} answered {response.status_code}, not 200; redirects are not followed"
                )
                raise FetchError(FetchFault.STATUS, message)
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise FetchError(FetchFault.ENCODING, f"{url} sent a content encoding unasked")
            content = bytearray()
            # Decodes nothing: only an identity is left.
            async for part in response.aiter_bytes():
                content += part
                if len(content) > self._max_document_bytes:
                    message = f"{url} sent more than {self._max_document_bytes} bytes"
                    raise FetchError(FetchFault.SIZE, message)
            return bytes(content)


def is_https_url(text: str) -> bool:
    """Whether a text is an https URL of at most 2,048 characters without user info and fragment."""
    found = _HTTPS_URL.fullmatch(text) if len(text) <= MAX_URL_CHARACTERS else None
    return found is not None and int(found["port"] or 443) <= 65_535


def _verifying_transport(ca_file: Path | None) -> httpx.AsyncHTTPTransport:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as exc:  # ssl.SSLError is one.
        message = (
            f"CA file {ca_file}: cannot be read as PEM certificates ({exc.strerror}); name another"
        )
        raise SettingsError(Code.SETTINGS_INVALID, message) from exc
    # A fetch comes once in minutes: by then a kept connection is dead, and would fail the next.
    limits = httpx.Limits(max_connections=4, max_keepalive_connections=0)
    return httpx.AsyncHTTPTransport(verify=context, trust_env=False, limits=limits)
