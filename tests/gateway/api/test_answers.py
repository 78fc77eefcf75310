"""What every answer of the real application looks like on the wire, and what a listener without TLS would see."""

import asyncio
import re
from pathlib import Path

import pytest

from gateway.api.tls import TlsFiles, tls_context
from tests.gateway.api.conftest import connect, exchange, serving
from tests.gateway.api.in_process import Gateway, bearer

pytestmark = pytest.mark.anyio

HOST = b"Host: localhost\r\n"
CLOSE = b"Connection: close\r\n"
GOOD = b"Authorization: %s\r\n" % bearer("client")["Authorization"].encode()
IMAGE = b"Content-Length: 5\r\n\r\nimage"
JSON, PROBLEM, TEXT = b"application/json", b"application/problem+json", b"text/plain; charset=utf-8"
# What is sent behind the request line; the status and the media type that come back.
ANSWERS: dict[str, tuple[bytes, bytes, bytes, bytes]] = {
    "alive": (b"GET /livez", b"\r\n", b"200", TEXT),
    "ready": (b"GET /readyz", b"\r\n", b"200", TEXT),
    "document": (b"GET /openapi.json", b"\r\n", b"200", JSON),
    "metadata": (b"GET /.well-known/oauth-protected-resource", b"\r\n", b"200", JSON),
    "model": (b"GET /v1/model", GOOD + b"\r\n", b"200", JSON),
    "image": (b"POST /predict", GOOD + IMAGE, b"200", JSON),
    "stranger": (b"GET /v1/model", b"\r\n", b"401", PROBLEM),
    "stranger with an image": (b"POST /predict", IMAGE, b"401", PROBLEM),
    "no permission": (b"POST /v1/models/belt/rollback", GOOD + IMAGE, b"403", PROBLEM),
    "wrong method": (b"PUT /livez", b"\r\n", b"405", PROBLEM),
    "no path": (b"GET /nowhere", b"\r\n", b"404", PROBLEM),
    "no HTTP": (b"GET  /livez", b"\r\n", b"400", PROBLEM),
}


def fields_of(head: bytes) -> list[tuple[bytes, bytes]]:
    """Names in lower case, and values, of an answer's head."""
    lines = head.split(b"\r\n")[1:]
    return [(name.lower(), value.strip()) for name, _, value in (x.partition(b":") for x in lines)]


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_has_one_length_and_one_type_and_both_are_true(
    certificates: Path, gateway: Gateway, name: str
) -> None:
    """Whatever made it: another length would shift the border to the next answer on a kept connection."""
    line, rest, status, media_type = ANSWERS[name]
    async with serving(certificates, gateway.app) as port:
        sent = line + b" HTTP/1.1\r\n" + HOST + CLOSE + rest
        received = await exchange(certificates, port, sent)
    head, _, content = received.partition(b"\r\n\r\n")
    fields = fields_of(head)
    assert [status] == re.findall(rb"^HTTP/1\.1 ([0-9]{3}) ", head)
    assert [str(len(content)).encode()] == [v for n, v in fields if n == b"content-length"]
    assert [] == [v for n, v in fields if n == b"transfer-encoding"]
    assert [media_type] == [v for n, v in fields if n == b"content-type"]
    assert content


async def test_an_answer_without_content_does_not_shift_the_next(
    certificates: Path, gateway: Gateway
) -> None:
    """An answer to HEAD ends with its head, whatever length that states."""
    head = b"HEAD /livez HTTP/1.1\r\n" + HOST + b"\r\n"
    after = b"GET /livez HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n"
    async with serving(certificates, gateway.app) as port:
        received = await exchange(certificates, port, head + after)
    first, second, content = received.split(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 405 ")
    assert second.startswith(b"HTTP/1.1 200 ")
    assert b"ok\n" == content


async def test_plain_http_is_neither_answered_nor_led_elsewhere(
    certificates: Path, gateway: Gateway
) -> None:
    """A client that forgot TLS must fail, not be redirected: by then its token was sent in the clear."""
    async with serving(certificates, gateway.app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /v1/model HTTP/1.1\r\n" + HOST + GOOD + b"\r\n")
        async with asyncio.timeout(20):
            try:
                received = await reader.read()
            except ConnectionError:
                received = b""
        writer.close()
    assert b"HTTP/" not in received
    assert [] == gateway.records()


def test_only_suites_of_authenticated_ciphers_with_forward_secrecy_are_offered(
    certificates: Path,
) -> None:
    """Those of RFC 8446, the strongest first."""
    context = tls_context(TlsFiles(certificates / "server.pem", certificates / "server.key"))
    offered = [suite["name"] for suite in context.get_ciphers() if suite["protocol"] == "TLSv1.3"]
    assert [
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_128_GCM_SHA256",
    ] == offered


async def test_the_strongest_suite_is_agreed_on(certificates: Path, gateway: Gateway) -> None:
    """By a client that leaves the choice to the gateway."""
    async with serving(certificates, gateway.app) as port:
        _, writer = await connect(certificates, port)
        agreed = writer.get_extra_info("cipher")
        writer.close()
    assert ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256) == agreed
