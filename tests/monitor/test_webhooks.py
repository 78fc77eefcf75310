"""Messages are signed as the specification has it, go only where they should, and no receiver can hold them up."""

import base64
import json
import socket
import threading
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dev.certificates import create_certificates
from monitor.records import AlarmState, AlarmTransition, Harm, InputError
from monitor.webhooks import (
    MAX_ANSWER_BYTES,
    MAX_BODY_BYTES,
    Message,
    Sender,
    change_message,
    load_secrets,
    parse_secrets,
    parse_webhooks,
    probe_message,
    retry_delay_seconds,
    sign,
)
from tests.monitor.webhook_receiver import SECRET, is_signed, received

NOW = datetime(2030, 1, 1, tzinfo=UTC)
MESSAGE = Message("msg_1", b'{"type":"webhook.test"}')
(HOOK,) = parse_webhooks("https://hooks.example/secret-path?token=t0ken")


def change(**members: Any) -> AlarmTransition:
    """The drift alarm rings."""
    usual: dict[str, Any] = {
        "model_name": "conveyor",
        "name": "drift",
        "slice": "source=cam3",
        "at": NOW,
        "before": AlarmState.PENDING,
        "after": AlarmState.FIRING,
        "model_version": "1",
        "features": ("noise",),
        "diagnosis": "images are noisier",
        "harm": Harm.HARMFUL,
        "details": {"pattern": "noise"},
    }
    return AlarmTransition(**usual | members)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA and a certificate for localhost."""
    folder = tmp_path_factory.mktemp("certificates")
    create_certificates(folder, now=datetime.now(UTC))
    return folder


def test_the_signature_is_that_of_the_specifications_libraries() -> None:
    """The example that its reference implementations are tested with."""
    (secret,) = parse_secrets(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    message = Message("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}')
    headers = sign([secret], message, sent_at=datetime.fromtimestamp(1_614_265_330, UTC))
    assert {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    } == headers


@given(st.binary(max_size=200), st.binary(min_size=24, max_size=64), st.datetimes())
def test_any_body_verifies_and_only_with_its_secret(
    body: bytes, secret: bytes, at: datetime
) -> None:
    """Checked by other code than what signs."""
    headers = sign([secret], Message("msg_1", body), sent_at=at.replace(tzinfo=UTC))
    assert is_signed(headers, body, secret=secret)
    assert not is_signed(headers, body + b" ", secret=secret)
    assert not is_signed(headers, body, secret=secret + b"x")


def test_while_a_secret_is_changed_both_sign() -> None:
    """The receiver has one of them."""
    lines = b"".join(b"whsec_" + base64.b64encode(bytes([n]) * 24) + b"\n" for n in (1, 2))
    headers = sign(parse_secrets(lines), MESSAGE, sent_at=NOW)
    for number in (1, 2):
        assert is_signed(headers, MESSAGE.body, secret=bytes([number]) * 24)


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"whsec_" + base64.b64encode(SECRET), SECRET),
        (b"whsec_" + base64.b64encode(SECRET) + b"\r\n", SECRET),
        (b"a" * 24 + b"\n", b"a" * 24),
        (b"\x00" * 23 + b"\n", b"\x00" * 23 + b"\n"),
        (bytes(64), bytes(64)),
    ],
)
def test_a_secret_is_read(content: bytes, secret: bytes) -> None:
    """The end of a line is none of it, unless it is bytes."""
    assert (secret,) == parse_secrets(content)


@pytest.mark.parametrize(
    "content",
    [
        b"whsec_",
        b"whsec_" + base64.b64encode(bytes(23)),
        b"whsec_" + base64.b64encode(bytes(65)),
        b"whsec_" + base64.b64encode(SECRET) + b"!",
        b"whsec_" + base64.b64encode(SECRET) + b"\nother\n",
        b"x" * 23,
        b"x" * 23 + b"\n",
        bytes(65),
    ],
)
def test_what_is_no_secret_is_refused_without_saying_it(content: bytes, tmp_path: Path) -> None:
    """A short key, a misspelt one; the message tells how to make one."""
    file = tmp_path / "webhook.secret"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(InputError, match="openssl rand") as caught:
        load_secrets(file)
    assert content.decode("latin-1").strip() not in str(caught.value) or len(content) < 10


@given(st.binary(max_size=100))
def test_any_file_is_a_secret_or_refused(content: bytes) -> None:
    """Nothing but ValueError, and no key shorter than it must be."""
    try:
        secrets = parse_secrets(content)
    except ValueError:
        return
    assert all(24 <= len(secret) <= 64 for secret in secrets)


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """As any other key file."""
    file = tmp_path / "webhook.secret"
    file.write_bytes(SECRET)
    file.chmod(0o640)
    with pytest.raises(InputError, match="chmod it to 0600"):
        load_secrets(file)
    with pytest.raises(InputError, match="does not exist"):
        load_secrets(tmp_path / "absent")


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example",
        "https://hooks.example:8443/a/b?c=d",
        "http://127.0.0.1:9000/x",
        "http://127.8.9.1/",
        "http://[::1]:9000/x",
        "http://localhost/x",
        "https://hooks.example:65535/x",
        "https://hooks_1.internal./x",
        "https://xn--bcher-kva.example/x",
    ],
)
def test_an_address_of_a_receiver(url: str) -> None:
    """HTTPS anywhere, HTTP to this host; nothing stands for it that says its path."""
    (hook,) = parse_webhooks(f" {url} ,")
    assert url == hook.url
    assert 64 == len(hook.target)
    assert url.startswith(hook.title)
    assert "/" not in hook.title.partition("://")[2]


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/x",
        "http://10.0.0.1/x",
        "http://localhost.example/x",
        "ftp://127.0.0.1/x",
        "hooks.example/x",
        "https:///x",
        "https://user:password@hooks.example/x",
        "https://hooks.example/x#y",
        "https://hooks.example/\N{SNOWMAN}",
        "https://hooks.example/\x7f",
        "https://hooks.example/" + "x" * 2048,
        "https://hooks.example:port/x",
        "https://hooks.example:0/x",
        "https://hooks.example:65536/x",
        "https://hooks.example/a b",
        "https://hooks example/x",
        "https://hooks%20example/x",
        "https://hooks..example/x",
        "https://-hooks.example/x",
        f"https://{'h' * 64}.example/x",
        "https://" + "h." * 127 + "h/x",
        "https://xn--/x",
        "https://xn--a.example/x",
        "https://[::1/x",
    ],
)
def test_what_is_no_receiver_is_refused_without_saying_it(url: str) -> None:
    """Only by its number: the address may be secret."""
    with pytest.raises(InputError, match="MONITOR_WEBHOOK_URLS, address 2: ") as caught:
        parse_webhooks(f"https://a.example/,{url}")
    assert url not in str(caught.value)


def test_an_address_stands_once() -> None:
    """Both would be one row in the database."""
    with pytest.raises(InputError, match="twice"):
        parse_webhooks("https://a.example/x, https://a.example/x")


def test_a_change_of_an_alarm_is_told_whole() -> None:
    """Every member of the body."""
    document = json.loads(change_message(7, change()).body)
    message_id = document["data"].pop("id")
    assert {
        "type": "alarm.firing",
        "timestamp": "2030-01-01T00:00:00+00:00",
        "data": {
            "model": "conveyor",
            "version": "1",
            "alarm": "drift",
            "slice": "source=cam3",
            "state": "firing",
            "before": "pending",
            "since": "2030-01-01T00:00:00+00:00",
            "features": ["noise"],
            "diagnosis": "images are noisier",
            "harm": "harmful",
            "details": {"pattern": "noise"},
        },
    } == document
    assert message_id == change_message(7, change()).id
    assert "." not in message_id


def test_each_change_has_an_id_of_its_own() -> None:
    """Also one of a database that was begun anew, with the same number."""
    ids = {change_message(7, change()).id, change_message(8, change()).id}
    ids |= {change_message(7, change(model_name="other")).id}
    assert 3 == len(ids)


@pytest.mark.parametrize(
    "members",
    [
        {"details": {"examples": ["x" * 50_000]}},
        {"features": ("feature",) * 5000},
        {"diagnosis": "\ud800" * 20_000},
    ],
)
def test_a_message_stays_small(members: dict[str, Any]) -> None:
    """What is too long is cut, and what rings is told all the same."""
    message = change_message(7, change(**members))
    assert MAX_BODY_BYTES >= len(message.body)
    assert "firing" == json.loads(message.body)["data"]["state"]


def test_a_message_is_json_whatever_the_details_hold() -> None:
    """One that cannot be made would hold up all that wait behind it."""
    message = change_message(1, change(details={"effect": float("nan"), "all": [float("inf")]}))
    assert b"NaN" not in message.body
    assert {"effect": None, "all": [None]} == json.loads(message.body)["data"]["details"]


def test_waiting_grows_up_to_half_an_hour() -> None:
    """And is drawn, so that receivers do not get everything at once."""
    assert 2.5 == retry_delay_seconds(1, chance=0.0)
    assert 7.5 == retry_delay_seconds(1, chance=1.0)
    assert 20.0 == retry_delay_seconds(3, chance=0.5)
    assert 1800.0 == retry_delay_seconds(1000, chance=0.5)


def test_a_message_arrives_signed(certificates: Path) -> None:
    """Over real TLS, verified by the CA that was named."""
    with received(certificates=certificates) as receiver:
        answer = sender(ca_file=certificates / "ca.pem").send(*hooked(receiver.url), now=NOW)
    assert (True, 200, "thanks") == (answer.is_taken, answer.status, answer.text)
    ((headers, body),) = receiver.got
    assert is_signed(headers, body)
    assert ("application/json", "gatewatch") == (headers["content-type"], headers["user-agent"])
    assert "cookie" not in headers


def test_a_receiver_of_another_ca_gets_nothing(certificates: Path) -> None:
    """The system's store does not have this one."""
    with received(certificates=certificates) as receiver:
        answer = sender().send(*hooked(receiver.url), now=NOW)
    assert not answer.is_taken
    assert "certificate verify failed" in answer.error
    assert [] == receiver.got


def test_a_receiver_that_drips_cannot_hold_on() -> None:
    """The time is for the whole request, not for each byte."""
    with received() as receiver:
        receiver.drip = True
        before = time.monotonic()
        answer = sender(timeout_seconds=0.4).send(*hooked(receiver.url), now=NOW)
        assert 5.0 > time.monotonic() - before
    assert "no answer within 0.4 s" == answer.error


def test_a_receiver_that_is_not_there_is_told_without_its_path() -> None:
    """Its port is closed."""
    with received() as receiver:
        pass
    answer = sender().send(*hooked(receiver.url), now=NOW)
    assert (False, None) == (answer.is_taken, answer.status)
    assert "cannot be reached (ConnectError" in answer.error
    assert "t0ken" not in answer.error
    assert "secret-path" not in answer.error


def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would read every alarm."""
    with received() as proxy, received() as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert sender().send(*hooked(receiver.url), now=NOW).is_taken
    assert ([], 1) == (proxy.got, len(receiver.got))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    """One request; the words say what to do."""
    asked: list[str] = []

    def lead_away(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return said(status, {"Location": "https://hooks.example/other"})

    answer = sender(transport=httpx.MockTransport(lead_away)).send(HOOK, MESSAGE, now=NOW)
    assert (
        f"answered {status}, which is not followed: set the address that it leads to"
        == answer.error
    )
    assert [HOOK.url] == asked


@pytest.mark.parametrize(
    ("status", "headers", "taken", "retry_after", "is_gone"),
    [
        (200, {}, True, 0.0, False),
        (299, {}, True, 0.0, False),
        (404, {}, False, 0.0, False),
        (410, {}, False, 0.0, True),
        (429, {"Retry-After": "120"}, False, 120.0, False),
        (503, {"Retry-After": "9" * 400}, False, 1800.0, False),
        (503, {"Retry-After": "-5"}, False, 0.0, False),
        (503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, False, 0.0, False),
    ],
)
def test_only_success_is_success(
    status: int, headers: dict[str, str], taken: bool, retry_after: float, is_gone: bool
) -> None:
    """What a receiver asks for is heard within bounds."""
    transport = httpx.MockTransport(lambda _: said(status, headers))
    answer = sender(transport=transport).send(HOOK, MESSAGE, now=NOW)
    assert (taken, retry_after, is_gone) == (
        answer.is_taken,
        answer.retry_after_seconds,
        answer.is_gone,
    )


def test_an_endless_answer_is_left_while_it_arrives() -> None:
    """What comes after the bound is not read, and nothing is unpacked."""
    sent: list[int] = []

    async def parts() -> AsyncIterator[bytes]:
        while True:
            sent.append(1024)
            yield bytes(1024)

    headers = {"Content-Encoding": "gzip"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, content=parts()))
    answer = sender(transport=transport).send(HOOK, MESSAGE, now=NOW)
    assert answer.is_taken
    assert MAX_ANSWER_BYTES == len(answer.text)
    assert 5 >= len(sent)


def test_a_ca_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """At the start, not with the first alarm."""
    with pytest.raises(InputError, match="MONITOR_WEBHOOK_CA_FILE"):
        sender(ca_file=tmp_path / "absent.pem")


def test_a_test_message_says_nothing_of_any_alarm() -> None:
    """Its type tells receivers apart what it is."""
    document = json.loads(probe_message("msg_x", now=NOW).body)
    assert ("webhook.test", {"id": "msg_x"}) == (document["type"], document["data"])


def sender(**members: Any) -> Sender:
    """One that signs with the test's secret."""
    return Sender([SECRET], **{"timeout_seconds": 5.0} | members)


def hooked(url: str) -> tuple[Any, Message]:
    """A receiver and what it gets."""
    (hook,) = parse_webhooks(url)
    return hook, MESSAGE


def said(status: int, headers: dict[str, str]) -> httpx.Response:
    """An answer whose content is still to be read, as one from the network."""
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(b""))


def test_a_name_that_is_looked_up_for_ever_ends_with_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The system's resolver cannot be stopped; neither it nor what it says later is waited for."""
    is_over, is_answered = threading.Event(), threading.Event()

    def look_up(*_arguments: object) -> list[object]:
        is_over.wait(30)
        is_answered.set()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    began = time.monotonic()
    answer = Sender([SECRET], timeout_seconds=0.2).send(HOOK, MESSAGE, now=NOW)
    assert 5.0 > time.monotonic() - began
    assert "no answer within 0.2 s" == answer.error
    is_over.set()
    assert is_answered.wait(10)


def test_a_name_that_nobody_has_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told as what cannot be reached, without the path."""

    def look_up(*_arguments: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    answer = Sender([SECRET], timeout_seconds=5.0).send(HOOK, MESSAGE, now=NOW)
    assert "cannot be reached (ConnectError" in answer.error
    assert "secret-path" not in answer.error
