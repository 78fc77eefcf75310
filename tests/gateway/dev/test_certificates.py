"""Development certificates, tried in real TLS handshakes."""

import socket
import ssl
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from gateway.api.tls import TlsFiles, tls_context
from gateway.dev.certificates import are_current, create_certificates
from gateway.errors import KeyFileError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh set, valid now."""
    made = tmp_path_factory.mktemp("home") / "certs"
    create_certificates(made, now=datetime.now(UTC))
    return made


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> str | None:
    """The TLS version that a client and a server agree on; raises what the client raises."""
    one, other = socket.socketpair()

    def serve() -> None:
        # The client's refusal ends the server's side, too.
        with other, suppress(OSError), server.wrap_socket(other, server_side=True) as accepted:
            accepted.recv(1)

    with ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve)
        try:
            with one, client.wrap_socket(one, server_hostname=name) as connected:
                version = connected.version()
                connected.send(b"x")
                return version
        finally:
            one.close()
            served.result(20)


def trusting(ca_file: Path) -> ssl.SSLContext:
    """A client that trusts only this CA, with Python's own checks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca_file)
    return context


def server_context(folder: Path) -> ssl.SSLContext:
    """The gateway's own."""
    return tls_context(TlsFiles(folder / "server.pem", folder / "server.key"))


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_the_chain_verifies_for_loopback_names(folder: Path, name: str) -> None:
    """With the checks that a client makes by default."""
    assert shake_hands(server_context(folder), trusting(folder / "ca.pem"), name) == "TLSv1.3"


def test_strict_checks_pass_too(folder: Path) -> None:
    """Python 3.13 demands RFC 5280's extensions by default."""
    client = trusting(folder / "ca.pem")
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    assert shake_hands(server_context(folder), client, "localhost") == "TLSv1.3"


@pytest.mark.parametrize("name", ["gateway.example", "192.0.2.1", "localhost.example"])
def test_no_other_name_verifies(folder: Path, name: str) -> None:
    """A development certificate is of no use elsewhere."""
    with pytest.raises(ssl.SSLCertVerificationError, match=r"(Hostname|IP address) mismatch"):
        shake_hands(server_context(folder), trusting(folder / "ca.pem"), name)


def test_another_set_is_not_trusted(folder: Path, tmp_path: Path) -> None:
    """Every home has a CA of its own."""
    create_certificates(tmp_path, now=datetime.now(UTC))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server_context(folder), trusting(tmp_path / "ca.pem"), "localhost")


def test_a_tls_1_2_client_is_refused(folder: Path) -> None:
    """The gateway speaks TLS 1.3 and nothing older."""
    client = trusting(folder / "ca.pem")
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        shake_hands(server_context(folder), client, "localhost")


def test_the_key_is_its_owners_alone(folder: Path) -> None:
    """Mode 0600."""
    assert stat.S_IMODE((folder / "server.key").stat().st_mode) == 0o600


def test_the_cas_key_is_kept_nowhere(folder: Path) -> None:
    """Nobody can sign with it later."""
    assert {file.name for file in folder.iterdir()} == {"ca.pem", "server.pem", "server.key"}


def test_the_ca_signs_servers_only(folder: Path) -> None:
    """No further CA below it, and the server's certificate is none."""
    ca = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    server = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value == (
        x509.BasicConstraints(ca=True, path_length=0)
    )
    assert server.extensions.get_extension_for_class(x509.BasicConstraints).value == (
        x509.BasicConstraints(ca=False, path_length=None)
    )


def test_an_existing_key_is_not_overwritten(folder: Path) -> None:
    """Nor are the certificates then."""
    before = (folder / "server.pem").read_bytes()
    with pytest.raises(KeyFileError):
        create_certificates(folder, now=datetime.now(UTC))
    assert before == (folder / "server.pem").read_bytes()


@pytest.mark.parametrize(("days", "expected"), [(0, True), (75, True), (77, False), (91, False)])
def test_a_set_is_renewed_in_time(tmp_path: Path, days: int, expected: bool) -> None:
    """Valid for 90 days, current until 14 before that."""
    made = datetime(2031, 5, 6, tzinfo=UTC)
    create_certificates(tmp_path, now=made)
    assert are_current(tmp_path, now=made + timedelta(days=days)) is expected


@pytest.mark.parametrize("name", ["ca.pem", "server.pem", "server.key"])
def test_an_incomplete_set_is_not_current(tmp_path: Path, name: str) -> None:
    """Killed while making them, the next start makes them again."""
    now = datetime(2031, 5, 6, tzinfo=UTC)
    create_certificates(tmp_path, now=now)
    (tmp_path / name).unlink()
    assert not are_current(tmp_path, now=now)


@pytest.mark.parametrize("name", ["ca.pem", "server.pem", "server.key"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nMIIB"])
def test_a_file_cut_short_is_not_current(tmp_path: Path, name: str, content: bytes) -> None:
    """The same when it was killed while writing one."""
    now = datetime(2031, 5, 6, tzinfo=UTC)
    create_certificates(tmp_path, now=now)
    (tmp_path / name).write_bytes(content)
    assert not are_current(tmp_path, now=now)


@pytest.mark.parametrize("name", ["ca.pem", "server.pem", "server.key"])
def test_files_of_two_sets_are_not_current(tmp_path: Path, name: str) -> None:
    """Each would parse, and no handshake with them would end well."""
    now = datetime(2031, 5, 6, tzinfo=UTC)
    create_certificates(tmp_path, now=now)
    create_certificates(tmp_path / "other", now=now)
    (tmp_path / "other" / name).rename(tmp_path / name)
    assert not are_current(tmp_path, now=now)
