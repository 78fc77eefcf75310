"""A witness over HTTPS gets each checkpoint with its proof, and what it refuses is told apart."""

import gzip
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from gateway.audit.places import WitnessDisagreementError, WitnessUnavailableError
from gateway.audit.witness_url import MAX_ANSWER_BYTES, WitnessUrl, _parse_size
from gateway.audit.witnessing import WitnessState
from gateway.dev.certificates import create_certificates
from gateway.errors import Code, SettingsError
from gateway.store.database import open_database, write_transaction
from tests.gateway.audit.witness_world import FakeWitness, GrowingLedger, copy_database

URL = "https://witness.example/submit/"
Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def ledger(sqlite_engine: Engine) -> GrowingLedger:
    """An empty ledger."""
    return GrowingLedger(sqlite_engine)


@pytest.fixture
def witness(ledger: GrowingLedger) -> FakeWitness:
    """A witness that knows it."""
    return FakeWitness(ledger.verifier)


def asking(ledger: GrowingLedger, handler: Handler | FakeWitness) -> WitnessUrl:
    """A client of this witness."""
    if isinstance(handler, FakeWitness):
        fake = handler

        def answer(request: httpx.Request) -> httpx.Response:
            assert "https://witness.example/submit/add-checkpoint" == str(request.url)
            status, content_type, body = fake.add_checkpoint(request.content)
            return httpx.Response(status, headers={"Content-Type": content_type}, content=body)

        handler = answer
    return WitnessUrl(URL, history=ledger.history, transport=httpx.MockTransport(handler))


def test_each_checkpoint_is_recorded(ledger: GrowingLedger, witness: FakeWitness) -> None:
    """The first from nothing, each later one from the one before, in one request."""
    url = asking(ledger, witness)
    for size in (3, 8, 8):
        signed = ledger.grow(size - ledger.history.size())
        assert size == url.publish(signed)
        assert WitnessState(size, signed.checkpoint.root) == witness.state
    assert 3 == witness.requests


def test_a_restarted_gateway_learns_where_the_witness_is(
    ledger: GrowingLedger, witness: FakeWitness
) -> None:
    """By the conflict that its first request meets, once."""
    asking(ledger, witness).publish(ledger.grow(300))
    signed = ledger.grow(5)
    assert 305 == asking(ledger, witness).publish(signed)
    assert 3 == witness.requests
    assert 305 == asking(ledger, witness).publish(signed)


def test_a_witness_that_lost_its_state_gets_it_again(
    ledger: GrowingLedger, witness: FakeWitness
) -> None:
    """It says 0 and is begun anew."""
    url = asking(ledger, witness)
    url.publish(ledger.grow(2))
    witness.state = None
    assert 3 == url.publish(ledger.grow(1))


def test_a_ledger_that_was_rolled_back_is_a_disagreement(
    ledger: GrowingLedger, witness: FakeWitness, tmp_path: Path
) -> None:
    """First by its size; once it has grown again, by its root."""
    ledger.grow(2)
    copy = copy_database(ledger.engine, tmp_path / "copy.db")
    asking(ledger, witness).publish(ledger.grow(3))
    older = open_database(f"sqlite:///{copy}")
    rolled_back = GrowingLedger(older)
    with pytest.raises(WitnessDisagreementError, match="5 records, and this ledger has 3"):
        asking(rolled_back, witness).publish(rolled_back.grow(1, word="other"))
    with pytest.raises(WitnessDisagreementError, match="does not go on from"):
        asking(rolled_back, witness).publish(rolled_back.grow(2, word="other"))
    with pytest.raises(WitnessDisagreementError, match="does not go on from"):
        asking(rolled_back, witness).publish(rolled_back.grow(2, word="other"))
    older.dispose()
    assert witness.state is not None
    assert 5 == witness.state.size


def test_another_root_at_the_same_size_may_be_refused_as_a_conflict(
    ledger: GrowingLedger,
) -> None:
    """C2SP tlog-witness has 409 without a size for it; some say the size."""
    signed = ledger.grow(2)

    def refuse(content_type: str) -> Handler:
        def answer(request: httpx.Request) -> httpx.Response:
            if request.content.startswith(b"old 0\n"):
                return httpx.Response(
                    409, headers={"Content-Type": "text/x.tlog.size"}, content=b"2\n"
                )
            return httpx.Response(409, headers={"Content-Type": content_type}, content=b"2\n")

        return answer

    for content_type in ("text/plain", "text/x.tlog.size"):
        with pytest.raises(WitnessDisagreementError, match="another checkpoint of 2 records"):
            asking(ledger, refuse(content_type)).publish(signed)


def test_a_faster_process_of_the_same_ledger_is_no_disagreement(
    ledger: GrowingLedger, witness: FakeWitness
) -> None:
    """The witness is ahead of this checkpoint, and the database has all of that."""
    earlier, later = ledger.grow(2), ledger.grow(2)
    asking(ledger, witness).publish(later)
    assert 4 == asking(ledger, witness).publish(earlier)


def test_a_ledger_that_cannot_prove_itself_is_a_disagreement(
    ledger: GrowingLedger, witness: FakeWitness
) -> None:
    """Somebody took a hash away that is needed for it."""
    asking(ledger, witness).publish(ledger.grow(3))
    signed = ledger.grow(3)
    with write_transaction(ledger.engine) as connection:
        connection.execute(text("DELETE FROM audit_records WHERE position = 1"))
    with pytest.raises(WitnessDisagreementError, match="cannot prove"):
        asking(ledger, witness).publish(signed)


def test_a_database_that_fails_is_tried_again(ledger: GrowingLedger, witness: FakeWitness) -> None:
    """Nothing is said against the ledger."""
    asking(ledger, witness).publish(ledger.grow(3))
    signed = ledger.grow(3)
    with write_transaction(ledger.engine) as connection:
        connection.execute(text("ALTER TABLE audit_records RENAME TO away"))
    with pytest.raises(WitnessUnavailableError, match="the database failed"):
        asking(ledger, witness).publish(signed)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "another version"),
        (403, "public key"),
        (404, "public key"),
        (500, "500"),
        (301, "red"),
    ],
)
def test_other_answers_are_tried_again(ledger: GrowingLedger, status: int, said: str) -> None:
    """Each with what mends it; a redirect is one of them, and not followed."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(status, headers={"Location": "https://other.example/"})

    with pytest.raises(WitnessUnavailableError, match=said):
        asking(ledger, answer).publish(ledger.grow(1))
    assert 1 == len(asked)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("text/plain", b"0\n"), ("text/x.tlog.size", b"7"), ("text/x.tlog.size", b"\n"), ("", b"7\n")],
)
def test_a_conflict_without_a_size_is_no_conflict(
    ledger: GrowingLedger, content_type: str, body: bytes
) -> None:
    """It tells nothing, against the ledger or for it."""
    headers = {"Content-Type": content_type}
    url = asking(ledger, lambda _: httpx.Response(409, headers=headers, content=body))
    with pytest.raises(WitnessUnavailableError, match="without the size"):
        url.publish(ledger.grow(1))


@pytest.mark.parametrize("body", [b"", b"\n", b"ok\n", b"\xff\n", "\u2014 name AAAA".encode()])
def test_an_answer_without_cosignatures_is_none(ledger: GrowingLedger, body: bytes) -> None:
    """A web server that answers 200 to everything keeps no checkpoints."""
    url = asking(ledger, lambda _: httpx.Response(200, content=body))
    with pytest.raises(WitnessUnavailableError, match="without cosignatures"):
        url.publish(ledger.grow(1))


def test_a_conflict_that_repeats_is_tried_later(ledger: GrowingLedger) -> None:
    """Each request meets another size: two gateways race, or the witness makes fun."""
    sizes = iter((b"1\n", b"2\n"))
    headers = {"Content-Type": "text/x.tlog.size"}
    url = asking(ledger, lambda _: httpx.Response(409, headers=headers, content=next(sizes)))
    with pytest.raises(WitnessUnavailableError, match="recorded another checkpoint"):
        url.publish(ledger.grow(3))


def test_an_endless_answer_is_left_while_it_arrives(ledger: GrowingLedger) -> None:
    """What comes after the bound is not read."""
    sent: list[int] = []

    async def parts() -> AsyncIterator[bytes]:
        while True:
            sent.append(MAX_ANSWER_BYTES // 4)
            yield bytes(MAX_ANSWER_BYTES // 4)

    url = asking(ledger, lambda _: httpx.Response(200, content=parts()))
    with pytest.raises(WitnessUnavailableError, match="more than"):
        url.publish(ledger.grow(1))
    assert 5 == len(sent)


def test_a_compressed_answer_is_refused(ledger: GrowingLedger) -> None:
    """A small one could grow into a large one."""
    bomb = gzip.compress(bytes(1 << 20))
    headers = {"Content-Encoding": "gzip"}
    url = asking(
        ledger, lambda _: httpx.Response(200, headers=headers, stream=httpx.ByteStream(bomb))
    )
    with pytest.raises(WitnessUnavailableError, match="encoding"):
        url.publish(ledger.grow(1))


@pytest.mark.parametrize(
    "error", [httpx.ConnectError("refused"), OSError("network"), UnicodeError("host")]
)
def test_what_fails_on_the_way_is_tried_again(ledger: GrowingLedger, error: Exception) -> None:
    """Whatever layer it comes from."""

    def fail(_request: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(WitnessUnavailableError, match="cannot be asked"):
        asking(ledger, fail).publish(ledger.grow(1))


@pytest.mark.parametrize(
    "url",
    [
        "http://witness.example",
        "https://",
        "https://me:pin@witness.example",
        "https://w.example/?a",
    ],
)
def test_other_urls_are_refused(ledger: GrowingLedger, url: str) -> None:
    """HTTPS, a host, and nothing that would be sent as a credential."""
    with pytest.raises(SettingsError) as caught:
        WitnessUrl(url, history=ledger.history)
    assert Code.SETTINGS_INVALID is caught.value.code
    assert "pin" not in caught.value.message


def test_a_ca_file_that_is_none_is_refused(ledger: GrowingLedger, tmp_path: Path) -> None:
    """By name."""
    (tmp_path / "ca.pem").write_text("no certificate", encoding="ascii")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(SettingsError, match=name):
            WitnessUrl(URL, history=ledger.history, ca_file=tmp_path / name)


@given(st.binary(max_size=24))
def test_a_size_is_ascii_digits_and_a_newline_or_none(body: bytes) -> None:
    """Never an exception, never another reading."""
    size = _parse_size(body)
    assert size is None or b"%d\n" % size == body


@contextmanager
def served(witness: FakeWitness, folder: Path, *, drip: bool = False) -> Iterator[str]:
    """The witness over real TLS on loopback; with drip its answers come a byte at a time, without end."""

    class Requests(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, content_type, content = witness.add_checkpoint(body)
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(1000 if drip else len(content)))
            self.end_headers()
            while drip and not stop.wait(0.05):
                self.wfile.write(b"-")
                self.wfile.flush()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  (the interface)
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that does not believe the certificate, or left, is what a test wants."""

    stop = threading.Event()
    server = Server(("127.0.0.1", 0), Requests)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}"
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA and a certificate for localhost."""
    folder = tmp_path_factory.mktemp("certificates")
    create_certificates(folder, now=datetime.now(UTC))
    return folder


def test_a_witness_is_asked_over_tls(
    ledger: GrowingLedger, witness: FakeWitness, certificates: Path
) -> None:
    """Twice with the CA file of its CA."""
    with served(witness, certificates) as address:
        url = WitnessUrl(address, history=ledger.history, ca_file=certificates / "ca.pem")
        assert 2 == url.publish(ledger.grow(2))
        assert 4 == url.publish(ledger.grow(2))


def test_a_witness_of_another_ca_is_not_believed(
    ledger: GrowingLedger, witness: FakeWitness, certificates: Path
) -> None:
    """The system's store does not have this one; nothing is sent."""
    with served(witness, certificates) as address:
        url = WitnessUrl(address, history=ledger.history)
        with pytest.raises(WitnessUnavailableError, match="certificate"):
            url.publish(ledger.grow(1))
    assert 0 == witness.requests


def test_a_witness_that_drips_cannot_hold_on(
    ledger: GrowingLedger, witness: FakeWitness, certificates: Path
) -> None:
    """The time is for the whole answer, not for each byte."""
    with served(witness, certificates, drip=True) as address:
        url = WitnessUrl(
            address,
            history=ledger.history,
            ca_file=certificates / "ca.pem",
            timeout_seconds=0.5,
        )
        signed = ledger.grow(1)
        before = time.monotonic()
        with pytest.raises(WitnessUnavailableError, match=r"within 0\.5 s"):
            url.publish(signed)
        assert 5.0 > time.monotonic() - before


def test_a_witness_that_is_not_there_is_tried_again(
    ledger: GrowingLedger, witness: FakeWitness, certificates: Path
) -> None:
    """Its port is closed."""
    with served(witness, certificates) as address:
        pass
    url = WitnessUrl(address, history=ledger.history, ca_file=certificates / "ca.pem")
    with pytest.raises(WitnessUnavailableError, match="cannot be asked"):
        url.publish(ledger.grow(1))
