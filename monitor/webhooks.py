"""Messages about alarms over HTTP, signed as the Standard Webhooks specification has it.

Rules:
- HTTPS, verified against the system's store or one CA file; plain HTTP to this host alone; no proxies of the
  environment, no cookies.
- The address that was called must answer by itself: redirects are never followed.
- Answers are bounded in bytes while they arrive; a whole request in seconds, looking up the name included; nothing is
  decompressed.
- Neither the secret nor more of an address than its host is ever in a text of ours: paths are often secret.

Source: github.com/standard-webhooks, spec/standard-webhooks.md 1.0.0.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
import re
import ssl
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any

import httpx

from gateway.errors import GatewayError
from gateway.keyfiles import read_private_file
from monitor.lookups import Loop
from monitor.records import AlarmTransition, InputError
from monitor.texts import finite

MAX_URL_CHARACTERS = 2048
MAX_PORT = 65_535
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64
# The specification's advice: receivers did not ask for more.
MAX_BODY_BYTES = 20_000
MAX_ANSWER_BYTES = 4096
# Of what a receiver answered, for `monitor webhook test`.
MAX_SHOWN_CHARACTERS = 200
# A message that was not taken for so long is given up.
GIVE_UP_AFTER = timedelta(hours=24)
_FIRST_RETRY_SECONDS = 5.0
_LAST_RETRY_SECONDS = 1800.0
# Of the time for a whole request, once to connect and once for the TLS handshake; see gateway.identity.fetching.
_CONNECT_RATIO = 0.45
_PREFIX = b"whsec_"
_HEADERS = {
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": "gatewatch",
}
_GONE = 410
_MAX_HOST_CHARACTERS = 253
# RFC 1123 2.1, with the underscore that names inside companies have.
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


@dataclass(frozen=True, slots=True)
class Webhook:
    """Who is told. target: what stands for it in the database, where its address does not; title: for people."""

    url: str
    target: str
    title: str


@dataclass(frozen=True, slots=True)
class Message:
    """What is told. id: the same whenever it is sent again, and without a full stop."""

    id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """How a receiver took a message.

    status: None where it did not answer. error: in words; empty if it took it. retry_after_seconds: what it asked for.
    is_gone: whether it says that it never will. text: what it said, not verified.
    """

    status: int | None
    error: str = ""
    retry_after_seconds: float = 0.0
    is_gone: bool = False
    text: str = ""

    @property
    def is_taken(self) -> bool:
        """Whether the message need not be sent again."""
        return not self.error


def parse_webhooks(text: str) -> tuple[Webhook, ...]:
    """The receivers that MONITOR_WEBHOOK_URLS names. Raises InputError if one cannot be one."""
    urls = [url.strip() for url in text.split(",") if url.strip()]
    webhooks = tuple(
        _webhook(url, f"MONITOR_WEBHOOK_URLS, address {number}")
        for number, url in enumerate(urls, start=1)
    )
    if len({webhook.target for webhook in webhooks}) != len(webhooks):
        raise InputError("MONITOR_WEBHOOK_URLS has an address twice: leave one out")
    return webhooks


def load_secrets(path: Path) -> tuple[bytes, ...]:
    """The keys in a secret file. Raises InputError if it is missing, others may read it, or it holds none."""
    try:
        return parse_secrets(read_private_file(path))
    except GatewayError as exc:
        raise InputError(f"MONITOR_WEBHOOK_SECRET_FILE: {exc.message}") from exc
    except ValueError as exc:
        raise InputError(
            f"MONITOR_WEBHOOK_SECRET_FILE {path}: {exc}; make one with "
            "`(umask 077; echo whsec_$(openssl rand -base64 32) > FILE)`"
        ) from exc


def parse_secrets(content: bytes) -> tuple[bytes, ...]:
    """Lines of `whsec_` and base64, of which each signs while receivers change to the first; or one key in raw bytes.

    Each key has MIN_SECRET_BYTES to MAX_SECRET_BYTES bytes. Of a key that is text its line end is none of it. Raises
    ValueError, whose words say nothing of the content.
    """
    if content.startswith(_PREFIX):
        return tuple(_decoded(line) for line in content.splitlines() if line)
    is_text = content.isascii() and content.decode("ascii", "replace").rstrip("\r\n").isprintable()
    return (_of_fit_length(content.rstrip(b"\r\n") if is_text else content),)


def sign(secrets: Sequence[bytes], message: Message, *, sent_at: datetime) -> dict[str, str]:
    """The headers that show whom a message is from. sent_at: of this try."""
    timestamp = str(int(sent_at.timestamp()))
    signed = f"{message.id}.{timestamp}.".encode() + message.body
    signatures = [hmac.digest(secret, signed, "sha256") for secret in secrets]
    return {
        "webhook-id": message.id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{base64.b64encode(s).decode()}" for s in signatures),
    }


def change_message(number: int, change: AlarmTransition) -> Message:
    """The message on one change of an alarm. number: its id in the database."""
    # Of all that makes it this change: ids of rows alone begin anew with another database.
    unique = f"{number}|{change.at.isoformat()}|{change.model_name}|{change.name}|{change.slice}"
    message_id = f"msg_{hashlib.sha256(unique.encode()).hexdigest()[:32]}"
    data = {
        "id": message_id,
        "model": change.model_name,
        "version": change.model_version,
        "alarm": change.name,
        "slice": change.slice,
        "state": change.after.value,
        "before": change.before.value,
        "since": change.at.isoformat(),
        "features": list(change.features),
        "diagnosis": change.diagnosis,
        "harm": change.harm.value,
        "details": dict(change.details),
    }
    return Message(message_id, _bounded_body(f"alarm.{change.after.value}", change.at, data))


def probe_message(message_id: str, *, now: datetime) -> Message:
    """A message that says nothing but that it arrives."""
    return Message(message_id, _body("webhook.test", now, {"id": message_id}))


def retry_delay_seconds(attempts: int, *, chance: float) -> float:
    """How long to wait after so many tries that failed. attempts: >= 1. chance: 0..1, drawn anew for each."""
    delay = _FIRST_RETRY_SECONDS * 2.0 ** min(attempts - 1, 30)
    return min(delay, _LAST_RETRY_SECONDS) * (0.5 + chance)


class Sender:
    """Sends messages, one at a time; nothing stays connected between two."""

    def __init__(
        self,
        secrets: Sequence[bytes],
        *,
        timeout_seconds: float,
        ca_file: Path | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """timeout_seconds: of a whole request. ca_file: PEM, None for the system's store. transport: for tests.

        Raises InputError if the CA file cannot be read.
        """
        self._secrets = tuple(secrets)
        self._timeout_seconds = timeout_seconds
        self._context = None if transport else _verifying_context(ca_file)
        self._transport = transport

    def send(self, webhook: Webhook, message: Message, *, now: datetime) -> Answer:
        """Send a message as of now; never raises for what a receiver or the network does."""
        headers = sign(self._secrets, message, sent_at=now)
        try:
            return _run(self._bounded(webhook.url, message.body, headers))
        except (TimeoutError, httpx.TimeoutException):
            return Answer(None, f"no answer within {self._timeout_seconds:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as exc:
            # ValueError: a host name that cannot be asked for.
            return Answer(None, _why_unreached(exc))

    async def _bounded(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        # httpx bounds each read only; this bounds their sum, connecting and closing included.
        async with asyncio.timeout(self._timeout_seconds):
            async with (
                self._client() as client,
                client.stream("POST", url, content=body, headers=headers) as response,
            ):
                return _answer(response, await _beginning(response))

    def _client(self) -> httpx.AsyncClient:
        transport = self._transport
        if transport is None and self._context is not None:
            transport = httpx.AsyncHTTPTransport(verify=self._context, trust_env=False)
        return httpx.AsyncClient(
            transport=transport,
            trust_env=False,
            follow_redirects=False,
            headers=_HEADERS,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            timeout=httpx.Timeout(
                self._timeout_seconds, connect=_CONNECT_RATIO * self._timeout_seconds
            ),
        )


async def _beginning(response: httpx.Response) -> bytes:
    content = bytearray()
    # Raw: what is compressed is not unpacked, and the rest stays unread.
    async for part in response.aiter_raw():
        content += part
        if len(content) >= MAX_ANSWER_BYTES:
            break
    return bytes(content[:MAX_ANSWER_BYTES])


def _answer(response: httpx.Response, content: bytes) -> Answer:
    status = response.status_code
    text = content.decode("utf-8", "replace")
    if response.is_success:
        return Answer(status, text=text)
    error = f"answered {status}"
    if response.is_redirect:
        error += ", which is not followed: set the address that it leads to"
    retry_after = response.headers.get("retry-after", "")
    seconds = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
    return Answer(
        status,
        error,
        retry_after_seconds=min(seconds, _LAST_RETRY_SECONDS),
        is_gone=status == _GONE,
        text=text,
    )


def _why_unreached(exc: Exception) -> str:
    # Only of what happens before a path is sent; other texts may hold it.
    detail = f": {str(exc)[:MAX_SHOWN_CHARACTERS]}" if isinstance(exc, httpx.ConnectError) else ""
    return f"cannot be reached ({type(exc).__name__}{detail})"


def _run(work: Coroutine[None, None, Answer]) -> Answer:
    # A plain loop of this thread's own, whatever the process set up elsewhere.
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(work)


def _webhook(text: str, where: str) -> Webhook:
    is_plain = text.isascii() and text.isprintable() and " " not in text
    if len(text) > MAX_URL_CHARACTERS or not is_plain:
        raise InputError(
            f"{where}: an address has at most {MAX_URL_CHARACTERS} printable ASCII characters, none a space"
        )
    try:
        url = httpx.URL(text)
        host = url.host
    except (
        httpx.InvalidURL,
        ValueError,
    ) as exc:  # ValueError: a host that is no international name.
        raise InputError(f"{where}: it is no URL") from exc
    if not host or url.userinfo or url.fragment:
        raise InputError(f"{where}: write https://HOST[:PORT]/PATH, without user and fragment")
    if not _is_host(url.raw_host.decode("ascii")):
        raise InputError(f"{where}: its host is neither a name nor an address: mend it")
    if url.port == 0 or (url.port or 1) > MAX_PORT:
        raise InputError(f"{where}: its port is none of 1 to {MAX_PORT}: mend it")
    if url.scheme != "https" and not (url.scheme == "http" and _is_this_host(host)):
        raise InputError(
            f"{where}: it must begin with https://, or http:// for this host (127.0.0.1, ::1, localhost)"
        )
    target = hashlib.sha256(text.encode("ascii")).hexdigest()
    return Webhook(text, target, f"{url.scheme}://{url.netloc.decode('ascii')}")


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        labels = host.removesuffix(".").split(".")
        return len(host) <= _MAX_HOST_CHARACTERS and all(map(_LABEL.fullmatch, labels))
    return True


def _is_this_host(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _decoded(line: bytes) -> bytes:
    if not line.startswith(_PREFIX):
        raise ValueError("each line begins with whsec_")
    try:
        return _of_fit_length(base64.b64decode(line[len(_PREFIX) :], validate=True))
    except binascii.Error as exc:
        raise ValueError("what follows whsec_ is not base64") from exc


def _of_fit_length(secret: bytes) -> bytes:
    if not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        raise ValueError(f"a secret has {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes")
    return secret


def _bounded_body(kind: str, at: datetime, data: dict[str, Any]) -> bytes:
    body = _body(kind, at, data)
    if len(body) <= MAX_BODY_BYTES:
        return body
    body = _body(kind, at, data | {"details": {"left_out": True}})
    if len(body) <= MAX_BODY_BYTES:
        return body
    short = {"details": {"left_out": True}, "features": data["features"][:20]}
    return _body(kind, at, data | short | {"diagnosis": data["diagnosis"][:1000]})


def _body(kind: str, at: datetime, data: Mapping[str, Any]) -> bytes:
    document = {"type": kind, "timestamp": at.isoformat(), "data": data}
    # Whatever the details held: a message that cannot be made would hold up all that wait behind it.
    text = json.dumps(finite(document), separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def _verifying_context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as exc:  # ssl.SSLError is one.
        raise InputError(
            f"MONITOR_WEBHOOK_CA_FILE {ca_file}: cannot be read as PEM certificates ({exc.strerror}); name another"
        ) from exc
