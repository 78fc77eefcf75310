"""What a handshake takes, and contexts that follow their files."""

import asyncio
import base64
import contextlib
import os
import signal
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.api.client_certificates import thumbprint
from gateway.api.tls import TlsContexts, TlsFiles, tls_context
from gateway.api.tls_groups import accepts_curve
from gateway.dev.certificates import create_certificates
from gateway.errors import KeyFileError, OperatorError
from gateway.metrics import GatewayMetrics
from tests.gateway.api.client_cas import SERVER, ClientCa
from tests.gateway.api.conftest import serving

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
CLOSE = b"Connection: close\r\n"


async def _show_tls(request: Request) -> Response:
    return JSONResponse(request.scope["extensions"]["tls"]["client_cert_thumbprint"])


APP = Starlette(routes=[Route("/", _show_tls)])


def files_of(folder: Path) -> TlsFiles:
    """The files of a development set."""
    return TlsFiles(folder / "server.pem", folder / "server.key")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A development set of this test's own."""
    create_certificates(tmp_path, now=datetime.now(UTC))
    return tmp_path


class Followed:
    """Contexts of files, with what they counted."""

    def __init__(self, files: TlsFiles, *, now: datetime | None = None) -> None:
        self.metrics = GatewayMetrics(CollectorRegistry())
        self.now = now or datetime.now(UTC)
        self.contexts = TlsContexts(files, metrics=self.metrics, clock=lambda: self.now)

    def reloads(self, outcome: str) -> float:
        """How many reloads ended so."""
        labels = {"outcome": outcome}
        registry = self.metrics.registry
        return registry.get_sample_value("gateway_tls_reloads_total", labels) or 0.0


def replace(folder: Path, *names: str, now: datetime | None = None) -> None:
    """Put files of another development set in place, each in one step."""
    fresh = folder / f"fresh-{len(list(folder.iterdir()))}"
    create_certificates(fresh, now=now or datetime.now(UTC))
    for name in names:
        (fresh / name).rename(folder / name)


def test_a_key_that_others_may_read_is_refused(folder: Path) -> None:
    """Before it is loaded."""
    (folder / "server.key").chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod it to 0600"):
        tls_context(files_of(folder))


def test_a_key_behind_a_link_is_loaded(folder: Path) -> None:
    """As certbot and Kubernetes show it; a new key behind the same link is followed."""
    create_certificates(folder / "one", now=datetime.now(UTC))
    create_certificates(folder / "two", now=datetime.now(UTC))
    (folder / "now").symlink_to("one")
    (folder / "tls.pem").symlink_to("now/server.pem")
    (folder / "tls.key").symlink_to("now/server.key")
    followed = Followed(TlsFiles(folder / "tls.pem", folder / "tls.key"))
    before = followed.contexts.current
    (folder / "next").symlink_to("two")
    (folder / "next").rename(folder / "now")
    followed.contexts.follow()
    followed.contexts.follow()
    assert followed.contexts.current is not before


@pytest.mark.parametrize(
    ("target", "message"),
    [("server.key", "server.key: .*chmod it to 0600"), ("gone", "does not exist"),
     ("tls.key", "cannot be opened"), (".", "not a regular file")],
    ids=["open to others", "gone", "itself", "folder"],
)  # fmt: skip
def test_a_link_to_a_key_that_is_not_private_is_refused(
    folder: Path, target: str, message: str
) -> None:
    """What it leads to must pass every check of a key file."""
    (folder / "server.key").chmod(0o644)
    (folder / "tls.key").symlink_to(target)
    with pytest.raises(KeyFileError, match=message):
        tls_context(TlsFiles(folder / "server.pem", folder / "tls.key"))


@pytest.mark.parametrize("content", [b"", b"no certificate", None])
def test_a_certificate_that_does_not_load_is_named(folder: Path, content: bytes | None) -> None:
    """With both paths: either may be the wrong one."""
    certificate = folder / "server.pem"
    certificate.unlink()
    if content is not None:
        certificate.write_bytes(content)
    with pytest.raises(OperatorError, match=r"server\.pem and key .*server\.key do not load"):
        tls_context(files_of(folder))


def test_a_key_of_another_certificate_is_refused(folder: Path) -> None:
    """At the start, not at the first call."""
    replace(folder, "server.key")
    with pytest.raises(OperatorError, match="do not load"):
        tls_context(files_of(folder))


def test_the_context_compresses_nothing(folder: Path) -> None:
    """Lengths would tell what was compressed together."""
    assert tls_context(files_of(folder)).options & ssl.OP_NO_COMPRESSION


def test_client_certificates_need_a_ca(folder: Path) -> None:
    """The message names the setting."""
    files = TlsFiles(folder / "server.pem", folder / "server.key", None, "optional")
    with pytest.raises(OperatorError, match="set GATEWAY_CLIENT_CA_FILE"):
        tls_context(files)


def test_a_client_ca_file_in_a_folder_of_others_is_refused(folder: Path) -> None:
    """Whoever may write the folder puts another file in its place, or another link."""
    others = folder / "others"
    others.mkdir()
    ca = ClientCa(others / "clients.pem")
    (folder / "link.pem").symlink_to("others/clients.pem")
    for file in (ca.file, folder / "link.pem"):
        files = TlsFiles(folder / "server.pem", folder / "server.key", file, "required")
        others.chmod(0o755)
        tls_context(files)
        others.chmod(0o777)
        message = (
            rf"^GATEWAY_CLIENT_CA_FILE: {file} lies in {others}, where everybody can replace it"
        )
        with pytest.raises(OperatorError, match=message):
            tls_context(files)


@pytest.mark.parametrize("content", [None, b"", b"no CA", b"\xff", b"x" * (2 << 20)])
def test_a_client_ca_file_that_does_not_load_is_named(folder: Path, content: bytes | None) -> None:
    """Nobody's certificate would be believed, or anybody's."""
    file = folder / "clients.pem"
    if content is not None:
        file.write_bytes(content)
    files = TlsFiles(folder / "server.pem", folder / "server.key", file, "required")
    with pytest.raises(
        OperatorError, match=r"GATEWAY_CLIENT_CA_FILE: .*clients\.pem does not load"
    ):
        tls_context(files)


def test_a_client_ca_file_that_others_may_change_is_refused(folder: Path) -> None:
    """Whoever changes it decides who may come in."""
    ClientCa(folder / "clients.pem").file.chmod(0o666)
    files = TlsFiles(
        folder / "server.pem", folder / "server.key", folder / "clients.pem", "required"
    )
    with pytest.raises(OperatorError, match="chmod it to 0644"):
        tls_context(files)


def test_nothing_is_loaded_while_nothing_changes(folder: Path) -> None:
    """A look a second costs three calls of stat."""
    followed = Followed(files_of(folder))
    before = followed.contexts.current
    for _ in range(3):
        followed.contexts.follow()
    assert followed.contexts.current is before
    assert (followed.reloads("loaded"), followed.reloads("failed")) == (0, 0)


def test_a_new_pair_is_loaded_once_it_has_settled(folder: Path) -> None:
    """At the second look that finds it; the context is a wholly new one."""
    followed = Followed(files_of(folder))
    before = followed.contexts.current
    replace(folder, "server.pem", "server.key")
    followed.contexts.follow()
    assert followed.contexts.current is before
    followed.contexts.follow()
    assert followed.contexts.current is not before
    followed.contexts.follow()
    assert (followed.reloads("loaded"), followed.reloads("failed")) == (1, 0)


def test_half_a_pair_leaves_the_old_one(folder: Path) -> None:
    """Until the other half comes; each state is tried and counted once."""
    followed = Followed(files_of(folder))
    before = followed.contexts.current
    replace(folder, "server.pem")
    for _ in range(4):
        followed.contexts.follow()
    assert followed.contexts.current is before
    assert (followed.reloads("loaded"), followed.reloads("failed")) == (0, 1)
    replace(folder, "server.pem", "server.key")
    followed.contexts.follow()
    followed.contexts.follow()
    assert followed.contexts.current is not before
    assert followed.reloads("loaded") == 1


@pytest.mark.parametrize("name", ["server.pem", "server.key"])
def test_a_file_that_is_gone_leaves_the_old_one(folder: Path, name: str) -> None:
    """The gateway goes on with what it has."""
    followed = Followed(files_of(folder))
    before = followed.contexts.current
    (folder / name).unlink()
    followed.contexts.follow(is_asked=True)
    assert followed.contexts.current is before
    assert followed.reloads("failed") == 1


def test_an_expired_certificate_does_not_replace_a_good_one(folder: Path) -> None:
    """It would lock every client out."""
    followed = Followed(files_of(folder))
    before = followed.contexts.current
    replace(folder, "server.pem", "server.key", now=datetime.now(UTC) - timedelta(days=800))
    followed.contexts.follow(is_asked=True)
    assert followed.contexts.current is before
    assert followed.reloads("failed") == 1


def test_an_expired_certificate_is_said_at_the_start(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """But it does not keep the gateway from starting: clients see the cause."""
    Followed(files_of(folder), now=datetime.now(UTC) + timedelta(days=800))
    assert "tls_certificate_expired" in caplog.text


def test_a_link_that_leads_elsewhere_is_followed(folder: Path) -> None:
    """As Kubernetes replaces what a volume shows: the folder behind a link is another one."""
    create_certificates(folder / "one", now=datetime.now(UTC))
    create_certificates(folder / "two", now=datetime.now(UTC))
    (folder / "now").symlink_to("one")
    (folder / "tls.pem").symlink_to("now/server.pem")
    followed = Followed(TlsFiles(folder / "tls.pem", folder / "now" / "server.key"))
    before = followed.contexts.current
    (folder / "next").symlink_to("two")
    (folder / "next").rename(folder / "now")
    followed.contexts.follow()
    followed.contexts.follow()
    assert followed.contexts.current is not before


def test_the_expiry_of_the_served_certificate_is_shown(folder: Path) -> None:
    """From the start, and after a reload."""
    followed = Followed(files_of(folder))
    registry = followed.metrics.registry
    name = "gateway_tls_certificate_expiry_timestamp_seconds"
    leaf = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
    assert registry.get_sample_value(name) == leaf.not_valid_after_utc.timestamp()
    replace(folder, "server.pem", "server.key", now=datetime.now(UTC) - timedelta(days=9))
    followed.contexts.follow(is_asked=True)
    assert registry.get_sample_value(name) == pytest.approx(
        (leaf.not_valid_after_utc - timedelta(days=9)).timestamp(), abs=60
    )


def test_only_connections_that_may_show_certificates_are_renewed(folder: Path) -> None:
    """A client CA may be gone; without them an old context is as good as a new one."""
    ClientCa(folder / "clients.pem")
    asking = TlsFiles(
        folder / "server.pem", folder / "server.key", folder / "clients.pem", "optional"
    )
    for files, must_renew in ((files_of(folder), False), (asking, True)):
        followed = Followed(files)
        before = followed.contexts.current
        assert not followed.contexts.must_renew(before)
        followed.contexts.follow(is_asked=True)
        assert followed.contexts.must_renew(before) is must_renew


class Client:
    """A client with or without a certificate."""

    def __init__(self, folder: Path, port: int, certificate: Path | None = None) -> None:
        self.context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        self.port = port
        if certificate is not None:
            self.context.load_cert_chain(certificate)

    async def ask(self, sent: bytes) -> bytes:
        """What comes back until the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.context)
        writer.write(sent)
        received = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        return received


def asking(folder: Path, how: str, ca: ClientCa) -> TlsFiles:
    """Files of a server that asks for certificates."""
    return TlsFiles(folder / "server.pem", folder / "server.key", ca.file, how)  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_a_verified_certificate_reaches_the_application(
    folder: Path, certificates: Path
) -> None:
    """As sender-constrained tokens name it (RFC 8705 section 3.1)."""
    ca = ClientCa(folder / "clients.pem")
    issued = ca.issue(folder / "camera.pem")
    async with serving(certificates, APP, files=asking(folder, "optional", ca)) as port:
        received = await Client(folder, port, folder / "camera.pem").ask(GET + CLOSE + b"\r\n")
    digest = issued.fingerprint(hashes.SHA256())
    assert received.endswith(f'"{thumbprint_of(digest)}"'.encode())


def thumbprint_of(digest: bytes) -> str:
    """A digest as JOSE spells it, made without the code under test."""
    return base64.urlsafe_b64encode(digest).decode().removesuffix("=")


def test_a_thumbprint_is_that_of_the_standard() -> None:
    """The SHA-256 of nothing, in base64url without padding."""
    assert thumbprint(b"") == "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"


@pytest.mark.anyio
@pytest.mark.parametrize("field", [b"", b"X-Client-Cert: MIIB\r\nX-SSL-Client-Verify: SUCCESS\r\n"])
async def test_without_a_certificate_there_is_no_thumbprint(
    folder: Path, certificates: Path, field: bytes
) -> None:
    """Whatever a header says."""
    ca = ClientCa(folder / "clients.pem")
    async with serving(certificates, APP, files=asking(folder, "optional", ca)) as port:
        received = await Client(folder, port).ask(GET + field + CLOSE + b"\r\n")
    assert received.endswith(b"\r\n\r\nnull")


@pytest.mark.anyio
async def test_a_certificate_that_nobody_asked_for_is_none(
    folder: Path, certificates: Path
) -> None:
    """It was not verified."""
    ca = ClientCa(folder / "clients.pem")
    ca.issue(folder / "camera.pem")
    async with serving(certificates, APP) as port:
        client = Client(certificates, port, folder / "camera.pem")
        received = await client.ask(GET + CLOSE + b"\r\n")
    assert received.endswith(b"\r\n\r\nnull")


async def _is_refused(client: Client) -> bool:
    try:
        return await client.ask(GET + CLOSE + b"\r\n") == b""
    except (ssl.SSLError, ConnectionError):
        return True


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["optional", "required"])
async def test_a_certificate_of_another_ca_is_refused(
    folder: Path, certificates: Path, how: str
) -> None:
    """Also where none would have been good enough, and one for servers too."""
    ca, other = ClientCa(folder / "clients.pem"), ClientCa(folder / "others.pem")
    other.issue(folder / "stranger.pem")
    ca.issue(folder / "server-only.pem", purpose=SERVER)
    async with serving(certificates, APP, files=asking(folder, how, ca)) as port:
        assert await _is_refused(Client(folder, port, folder / "stranger.pem"))
        assert await _is_refused(Client(folder, port, folder / "server-only.pem"))


@pytest.mark.anyio
async def test_a_required_certificate_must_be_shown(folder: Path, certificates: Path) -> None:
    """No call is made without it."""
    ca = ClientCa(folder / "clients.pem")
    async with serving(certificates, APP, files=asking(folder, "required", ca)) as port:
        assert await _is_refused(Client(folder, port))


@pytest.mark.parametrize(("how", "has_ticket"), [("none", True), ("optional", False)])
def test_a_session_with_a_certificate_is_never_resumed(
    folder: Path, how: str, *, has_ticket: bool
) -> None:
    """It would outlive the removal of the CA that made the certificate good."""
    server = tls_context(asking(folder, how, ClientCa(folder / "clients.pem")))
    client = shaken_hands(server, ssl.create_default_context(cafile=str(folder / "ca.pem")))
    assert client.session is not None
    assert client.session.has_ticket is has_ticket


@pytest.mark.anyio
async def test_a_hangup_signal_takes_the_certificate_anew(folder: Path, certificates: Path) -> None:
    """For new connections; one that is open goes on with the old one, and nobody is refused."""
    metrics = GatewayMetrics(CollectorRegistry())
    async with serving(certificates, APP, files=files_of(folder), metrics=metrics) as port:
        before = Client(folder, port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=before.context)
        create_certificates(folder / "new", now=datetime.now(UTC))
        for name in ("server.pem", "server.key"):
            (folder / "new" / name).rename(folder / name)
        os.kill(os.getpid(), signal.SIGHUP)
        after = Client(folder / "new", port)
        async with asyncio.timeout(20):
            while await _is_refused(after):
                pass
            writer.write(GET + b"\r\n")
            assert (await reader.readuntil(b"null")).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()
        assert await _is_refused(before)
    assert metrics.registry.get_sample_value("gateway_tls_reloads_total", {"outcome": "loaded"})


@pytest.mark.anyio
async def test_no_call_is_dropped_while_certificates_change(
    folder: Path, certificates: Path
) -> None:
    """Over connections that are kept and over new ones, with files replaced and signals in between."""
    ca_of_all = ClientCa(folder / "everybody.pem")
    context = ssl.create_default_context(cafile=str(ca_of_all.file))
    renew(ca_of_all, folder)
    is_over = asyncio.Event()
    answered = asyncio.Queue[bytes]()

    async def ask_on(*, is_kept: bool) -> None:
        while not is_over.is_set():
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname="localhost"
            )
            for _ in range(50 if is_kept else 1):
                writer.write(GET + b"\r\n")
                answered.put_nowait(await reader.readuntil(b"null"))
            writer.close()

    metrics = GatewayMetrics(CollectorRegistry())
    async with (
        serving(certificates, APP, files=files_of(folder), metrics=metrics) as port,
        asyncio.timeout(60),
        asyncio.TaskGroup() as clients,
    ):
        for number in range(4):
            clients.create_task(ask_on(is_kept=number % 2 == 0))
        for _ in range(10):
            renew(ca_of_all, folder)
            os.kill(os.getpid(), signal.SIGHUP)
            for _ in range(20):
                assert (await answered.get()).startswith(b"HTTP/1.1 200 OK\r\n")
        is_over.set()
    loaded = metrics.registry.get_sample_value("gateway_tls_reloads_total", {"outcome": "loaded"})
    assert loaded is not None
    assert loaded >= 5


def renew(ca: ClientCa, folder: Path) -> None:
    """A new server certificate of the same authority."""
    both = folder / "both.pem"
    ca.issue(both, purpose=SERVER, names=("localhost",))
    both.chmod(0o600)
    (folder / "next.pem").write_bytes(both.read_bytes())
    (folder / "next.pem").rename(folder / "server.pem")
    both.rename(folder / "server.key")


@pytest.mark.anyio
async def test_a_kept_connection_ends_in_order_once_a_client_ca_may_be_gone(
    folder: Path, certificates: Path
) -> None:
    """After its next answer, which says so: no call is lost, and no certificate stays good for ever."""
    ca = ClientCa(folder / "clients.pem")
    ca.issue(folder / "camera.pem")
    async with serving(certificates, APP, files=asking(folder, "required", ca)) as port:
        client = Client(folder, port, folder / "camera.pem")
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client.context)
        writer.write(GET + b"\r\n")
        assert b"connection: close" not in await reader.readuntil(b"\r\n\r\n")
        ClientCa(ca.file)  # another one of the same name
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(20):
            while not await _is_refused(client):
                pass
            writer.write(GET + b"\r\n")
            received = await reader.read()
        assert b"HTTP/1.1 200 OK\r\n" in received
        assert b"connection: close\r\n" in received
        writer.close()


@pytest.mark.anyio
async def test_a_client_certificate_ends_on_an_open_connection(
    folder: Path, certificates: Path
) -> None:
    """It was good at the handshake; its second call brings no thumbprint, and ends the connection in order."""
    ca = ClientCa(folder / "clients.pem")
    issued = ca.issue(folder / "camera.pem")
    now = issued.not_valid_after_utc
    files = asking(folder, "required", ca)
    async with serving(certificates, APP, files=files, clock=lambda: now) as port:
        client = Client(folder, port, folder / "camera.pem")
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client.context)
        writer.write(GET + b"\r\n")
        assert b"connection: close" not in await reader.readuntil(b"\r\n\r\n")
        thumbprint_json = f'"{thumbprint_of(issued.fingerprint(hashes.SHA256()))}"'.encode()
        assert await reader.readexactly(len(thumbprint_json)) == thumbprint_json
        now += timedelta(seconds=1)
        writer.write(GET + b"\r\n")
        received = await asyncio.wait_for(reader.read(), 20)
        writer.close()
    assert b"connection: close\r\n" in received
    assert received.endswith(b"\r\n\r\nnull")


def shaken_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """The client's side after a handshake in memory, tickets included."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (ours, theirs, ours, theirs):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    with contextlib.suppress(ssl.SSLWantReadError):
        ours.read(1)
    return ours


@pytest.mark.parametrize("curve", ["X25519", "prime256v1", "secp384r1"])
def test_modern_groups_are_taken(folder: Path, curve: str) -> None:
    """Those that Mozilla's modern configuration names."""
    assert accepts_curve(tls_context(files_of(folder)), curve)


@pytest.mark.parametrize("curve", ["secp521r1", "X448"])
def test_other_groups_are_refused(folder: Path, curve: str) -> None:
    """Proved by a handshake, as the gateway does when it starts."""
    assert not accepts_curve(tls_context(files_of(folder)), curve)


def test_a_client_of_tls_1_2_is_refused(folder: Path) -> None:
    """Nothing older than 1.3."""
    client = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shaken_hands(tls_context(files_of(folder)), client)


def test_http_1_1_is_what_is_agreed_on(folder: Path) -> None:
    """A client that would speak HTTP/2 first is told."""
    client = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    client.set_alpn_protocols(["h2", "http/1.1"])
    shaken = shaken_hands(tls_context(files_of(folder)), client)
    assert (shaken.version(), shaken.selected_alpn_protocol()) == ("TLSv1.3", "http/1.1")
