"""A document arrives whole, from the address that was asked, within its bounds, or not at all."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from gateway.dev.certificates import create_certificates
from gateway.errors import Code, SettingsError
from gateway.identity.fetching import FetchError, FetchFault, HttpsReader, is_https_url

pytestmark = pytest.mark.anyio

URL = "https://issuer.example/jwks"
Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops that the gateway runs on."""
    return "asyncio", {"use_uvloop": request.param}


async def fault_of(handler: Handler, url: str = URL) -> FetchFault:
    """What is wrong with an answer."""
    reader = HttpsReader(transport=httpx.MockTransport(handler))
    with pytest.raises(FetchError) as caught:
        await reader.get(url)
    await reader.aclose()
    assert url in caught.value.message
    return caught.value.fault


async def test_a_document_is_read() -> None:
    """Asked for once, as JSON and not compressed."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, content=b"{}")

    reader = HttpsReader(transport=httpx.MockTransport(answer))
    assert b"{}" == await reader.get(URL)
    assert [URL] == [str(request.url) for request in asked]
    assert "identity" == asked[0].headers["accept-encoding"]
    await reader.aclose()


@pytest.mark.parametrize("status", [201, 204, 206, 304, 400, 404, 500, 503])
async def test_another_status_is_refused(status: int) -> None:
    """Only 200 says that the document is there, whole."""
    fault = await fault_of(lambda _: httpx.Response(status, content=b"{}"))
    assert FetchFault.STATUS is fault


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["https://issuer.example/other", "http://127.0.0.1/"])
async def test_a_redirect_is_not_followed(status: int, location: str) -> None:
    """One request, whatever the answer points to."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(status, headers={"Location": location}, content=b"{}")

    assert FetchFault.STATUS is await fault_of(answer)
    assert [URL] == asked


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "identity, gzip", "GZIP"])
async def test_an_encoded_answer_is_refused(encoding: str) -> None:
    """A megabyte of zeros takes a kilobyte so."""
    bomb = gzip.compress(bytes(1 << 20))
    headers = {"Content-Encoding": encoding}
    # A stream, so that the fake's own client does not decode it.
    fault = await fault_of(
        lambda _: httpx.Response(200, headers=headers, stream=httpx.ByteStream(bomb))
    )
    assert FetchFault.ENCODING is fault


async def test_the_largest_document_is_read() -> None:
    """The bound is exact."""
    reader = HttpsReader(
        transport=httpx.MockTransport(lambda _: httpx.Response(200, content=bytes(65_536)))
    )
    assert 65_536 == len(await reader.get(URL))
    await reader.aclose()
    fault = await fault_of(lambda _: httpx.Response(200, content=bytes(65_537)))
    assert FetchFault.SIZE is fault


async def test_an_endless_document_is_left_while_it_arrives() -> None:
    """What comes after the bound is not read."""
    sent: list[int] = []

    async def parts() -> AsyncIterator[bytes]:
        while True:
            sent.append(16_384)
            yield bytes(16_384)

    assert FetchFault.SIZE is await fault_of(lambda _: httpx.Response(200, content=parts()))
    assert 5 == len(sent)


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("refused"),
        httpx.RemoteProtocolError("cut"),
        httpx.InvalidURL("url"),
        OSError("network"),
        UnicodeError("host"),
    ],
)
async def test_a_failed_transport_is_told(error: Exception) -> None:
    """Whatever the libraries below raise comes out as one kind of error."""

    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    assert FetchFault.TRANSPORT is await fault_of(fail)


async def test_a_timeout_of_the_library_is_told_as_one() -> None:
    """Its own limits are of the same length, so either may come first."""

    def fail(_: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("slow")

    assert FetchFault.TIMEOUT is await fault_of(fail)


async def test_no_cookie_is_kept() -> None:
    """What an issuer sets does not come back to it, and does not pile up."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, headers={"Set-Cookie": "a=b"}, content=b"{}")

    reader = HttpsReader(transport=httpx.MockTransport(answer))
    await reader.get(URL)
    await reader.get(URL)
    assert "cookie" not in asked[1].headers
    await reader.aclose()


@pytest.mark.parametrize(
    "url",
    [
        "https://a",
        "https://a.example/",
        "https://my_idp:8443/realms/x/certs?p=1&q=%20",
        "https://127.0.0.1:1/",
        "https://[::1]:65535/jwks",
        "https://a.example?x",
        "https://a.example/" + "a" * 2030,
    ],
)
def test_an_https_url(url: str) -> None:
    """With host, port, path and query."""
    assert is_https_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://a.example/",
        "HTTPS://a.example/",
        "https:/a.example/",
        "https:///jwks",
        "//a.example/",
        "file:///etc/passwd",
        "https://a@b.example/",
        "https://a:b@c.example/",
        "https://a.example/#x",
        "https://a.example\\@b.example/",
        "https://a.example/ x",
        "https://a.example/\n",
        "https://a.example/\x00",
        "https://ä.example/",
        "https://%61.example/",
        "https://a.example:0/",
        "https://a.example:65536/",
        "https://a.example:/",
        "https://-a.example/",
        "https://a.example/" + "a" * 2031,
    ],
)
async def test_what_is_no_https_url_is_not_asked(url: str) -> None:
    """Plain HTTP would let anybody between choose the keys; the rest reads differently to different programs."""
    assert not is_https_url(url)
    reader = HttpsReader(transport=httpx.MockTransport(lambda _: httpx.Response(200)))
    with pytest.raises(FetchError) as caught:
        await reader.get(url)
    assert FetchFault.FORM is caught.value.fault
    await reader.aclose()


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_an_unusable_ca_file_stops_the_start(tmp_path: Path, content: bytes | None) -> None:
    """Missing, empty or something else."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match="cannot be read as PEM") as caught:
        HttpsReader(ca_file=file)
    assert Code.SETTINGS_INVALID is caught.value.code


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A folder with a CA and a server's certificate for the loopback."""
    create_certificates(tmp_path / "certs", now=datetime.now(UTC))
    return tmp_path / "certs"


@asynccontextmanager
async def serving(certificates: Path, answer: bytes, *, pause: bool) -> AsyncIterator[str]:
    """The URL of a TLS server that sends an answer, at once or a byte every 50 ms for ever."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            while pause:
                await asyncio.sleep(0.05)
                writer.write(b" ")
                await writer.drain()
        except OSError:
            pass  # The reader has gone.
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks"


WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
DRIPPED = b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n{"
DRIPPED_HEAD = b"HTTP/1.1 200 OK\r\nA:"


async def test_a_server_of_the_ca_is_believed(
    certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over real TLS, and past whatever proxy the environment names."""
    for name in ("HTTPS_PROXY", "ALL_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    reader = HttpsReader(ca_file=certificates / "ca.pem", timeout_seconds=30)
    async with serving(certificates, WHOLE, pause=False) as url:
        assert b"{}" == await reader.get(url)
        assert b"{}" == await reader.get(url)
    await reader.aclose()


async def test_a_server_of_another_ca_is_not_believed(certificates: Path) -> None:
    """The system's store does not know the development CA."""
    reader = HttpsReader(timeout_seconds=30)
    async with serving(certificates, WHOLE, pause=False) as url:
        with pytest.raises(FetchError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            await reader.get(url)
    assert FetchFault.TRANSPORT is caught.value.fault
    await reader.aclose()


@pytest.mark.parametrize("answer", [DRIPPED, DRIPPED_HEAD])
async def test_an_endpoint_that_drips_is_left(certificates: Path, answer: bytes) -> None:
    """Each read succeeds long before its own limit; only their sum has one."""
    reader = HttpsReader(ca_file=certificates / "ca.pem", timeout_seconds=0.3)
    async with serving(certificates, answer, pause=True) as url:
        with pytest.raises(FetchError) as caught:
            await reader.get(url)
    assert FetchFault.TIMEOUT is caught.value.fault
    await reader.aclose()


async def test_a_server_that_shakes_no_hand_is_left() -> None:
    """A listener that never answers the first TLS message sees the connection end: else each fetch would leave one."""
    left = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        left.set()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    reader = HttpsReader(timeout_seconds=0.2)
    async with server:
        with pytest.raises(FetchError) as caught:
            await reader.get(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        await asyncio.wait_for(left.wait(), 10)
    assert FetchFault.TIMEOUT is caught.value.fault
    await reader.aclose()
