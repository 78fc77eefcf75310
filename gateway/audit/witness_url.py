"""A witness that is asked over HTTPS to keep and cosign a ledger's checkpoints: C2SP tlog-witness, add-checkpoint.

Rules:
- HTTPS only, verified against the system's store or one CA file; no proxies of the environment, no cookies.
- The address that was asked must answer by itself: redirects are never followed.
- Answers are bounded in bytes while they arrive and in seconds from the first to the last; nothing is decompressed.
- Cosignatures are looked at for their form alone: whoever checks proofs has the witness's key, the gateway has not.
"""

import asyncio
import ssl
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path

import httpx
from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.checkpoints import Checkpoint, SignedCheckpoint, checkpoint_text, parse_decimal
from gateway.audit.history import LedgerHistory
from gateway.audit.merkle import LogInvalidError
from gateway.audit.notes import parse_note
from gateway.audit.places import WitnessDisagreementError, WitnessUnavailableError
from gateway.audit.witnessing import AddCheckpoint, format_add_checkpoint
from gateway.errors import Code, SettingsError

TIMEOUT_SECONDS = 2.0
# 100 cosignatures of the largest kind would be five times this; a witness has one or two.
MAX_ANSWER_BYTES = 64 * 1024
# Of the time for a whole request, once to connect and once for the TLS handshake; see gateway.identity.fetching.
_CONNECT_RATIO = 0.45
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "gatewatch"}
_SIZE_TYPE = "text/x.tlog.size"
_FIXES = {
    400: "the witness speaks another version of C2SP tlog-witness",
    403: "the witness knows this origin with another key: give it the ledger's public key",
    404: "the witness does not know this ledger: give it the ledger's public key",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a witness said; nothing of it is verified."""

    status: int
    content_type: str
    body: bytes


class WitnessUrl:
    """One witness, asked by one thread at a time; nothing stays connected between two requests."""

    name = "url"

    def __init__(
        self,
        url: str,
        *,
        history: LedgerHistory,
        ca_file: Path | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """url: the witness's submission prefix. ca_file: PEM, None for the system's store. timeout_seconds: of a whole
        request, of which a checkpoint takes two at most. transport: for tests, no TLS.

        Raises SettingsError if the URL has user info or no host, or the CA file cannot be read.
        """
        self._url = _add_checkpoint_url(url)
        self._history = history
        self._timeout_seconds = timeout_seconds
        self._context = None if transport else _verifying_context(ca_file)
        self._transport = transport
        self._held_size = 0

    def publish(self, signed: SignedCheckpoint) -> int:
        """Place.publish."""
        if signed.checkpoint.size < self._held_size:
            return self._held_size
        recorded_size = self._submit(signed, self._held_size)
        if recorded_size is not None:
            if recorded_size > signed.checkpoint.size:
                return self._ahead(signed.checkpoint, recorded_size)
            if self._submit(signed, recorded_size) is not None:
                message = f"{self._url} recorded another checkpoint meanwhile; it is asked again"
                raise WitnessUnavailableError(message)
        self._held_size = signed.checkpoint.size
        return self._held_size

    def _submit(self, signed: SignedCheckpoint, old_size: int) -> int | None:
        # None if the witness has it now, else the size that it has recorded instead of old_size.
        checkpoint = signed.checkpoint
        proof = self._proof(old_size, checkpoint.size)
        request = AddCheckpoint(old_size, tuple(proof), signed.note)
        answer = self._post(format_add_checkpoint(request))
        if answer.status == httpx.codes.OK:
            if _are_cosignatures(checkpoint, answer.body):
                return None
            message = f"{self._url} answered 200 without cosignatures: is it a witness of C2SP tlog-witness?"
            raise WitnessUnavailableError(message)
        if answer.status == httpx.codes.CONFLICT:
            return self._recorded_size(checkpoint, old_size, answer)
        if answer.status == httpx.codes.UNPROCESSABLE_ENTITY:
            message = f"{self._url} holds a checkpoint of {old_size} records that this ledger does not go on from"
            raise WitnessDisagreementError(message)
        fix = _FIXES.get(answer.status, "redirects are not followed; it is asked again")
        raise WitnessUnavailableError(f"{self._url} answered {answer.status}: {fix}")

    def _recorded_size(self, checkpoint: Checkpoint, old_size: int, answer: Answer) -> int:
        recorded_size = None
        if answer.content_type == _SIZE_TYPE:
            recorded_size = _parse_size(answer.body)
        elif old_size == checkpoint.size:
            # C2SP tlog-witness: so it refuses another root at the size that it has.
            recorded_size = old_size
        if recorded_size is None:
            raise WitnessUnavailableError(f"{self._url} answered 409 without the size that it has")
        if recorded_size == old_size:
            message = f"{self._url} holds another checkpoint of {old_size} records than this ledger"
            raise WitnessDisagreementError(message)
        return recorded_size

    def _ahead(self, checkpoint: Checkpoint, recorded_size: int) -> int:
        # Another process of this ledger may have been faster; the ledger has what it submitted, then.
        try:
            size = self._history.size()
        except SQLAlchemyError as exc:
            raise self._not_compared(exc) from exc
        except LogInvalidError as exc:
            raise WitnessDisagreementError(f"{self._url}: {exc}") from exc
        if recorded_size > size:
            message = (
                f"{self._url} holds a checkpoint of {recorded_size} records, and this ledger has {size}: "
                "it was cut or rolled back, or another gateway signs with its key"
            )
            raise WitnessDisagreementError(message)
        return max(recorded_size, checkpoint.size)

    def _proof(self, old_size: int, size: int) -> Sequence[bytes]:
        try:
            return self._history.prove(old_size=old_size, size=size)
        except LogInvalidError as exc:
            message = f"the database cannot prove to {self._url} that it goes on from {old_size} records: {exc}"
            raise WitnessDisagreementError(message) from exc
        except SQLAlchemyError as exc:
            raise self._not_compared(exc) from exc

    def _not_compared(self, exc: SQLAlchemyError) -> WitnessUnavailableError:
        return WitnessUnavailableError(
            f"nothing can be shown to {self._url}: the database failed ({type(exc).__name__})"
        )

    def _post(self, content: bytes) -> Answer:
        try:
            return _run(self._bounded(content))
        except (TimeoutError, httpx.TimeoutException) as exc:
            message = f"{self._url} did not answer within {self._timeout_seconds:g} s"
            raise WitnessUnavailableError(message) from exc
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as exc:
            # ValueError: a host name that cannot be asked for.
            raise WitnessUnavailableError(f"{self._url} cannot be asked: {exc!a}") from exc

    async def _bounded(self, content: bytes) -> Answer:
        # httpx bounds each read only; this bounds their sum, connecting and closing included.
        async with asyncio.timeout(self._timeout_seconds):
            async with (
                self._client() as client,
                client.stream(
                    "POST", self._url, content=content, headers={"Content-Type": "text/plain"}
                ) as response,
            ):
                return await _read(response)

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


async def _read(response: httpx.Response) -> Answer:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise httpx.DecodingError("a content encoding came unasked")
    content = bytearray()
    # Decodes nothing: only an identity is left.
    async for part in response.aiter_bytes():
        content += part
        if len(content) > MAX_ANSWER_BYTES:
            raise httpx.DecodingError(f"more than {MAX_ANSWER_BYTES} bytes came")
    content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return Answer(response.status_code, content_type, bytes(content))


def _run(work: Coroutine[None, None, Answer]) -> Answer:
    # A plain loop of this thread's own, whatever the process set up for its serving thread.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(work)


def _are_cosignatures(checkpoint: Checkpoint, body: bytes) -> bool:
    text = checkpoint_text(checkpoint)
    try:
        return parse_note(f"{text}\n".encode() + body).unverified_text == text
    except LogInvalidError:
        return False


def _parse_size(body: bytes) -> int | None:
    try:
        text = body.decode("ascii")
        return parse_decimal(text[:-1]) if text.endswith("\n") else None
    except (UnicodeDecodeError, LogInvalidError):
        return None


def _add_checkpoint_url(prefix: str) -> str:
    try:
        url = httpx.URL(prefix)
    except httpx.InvalidURL as exc:
        raise _refused("is no URL") from exc
    if url.scheme != "https" or not url.host or url.userinfo or url.query or url.fragment:
        raise _refused("must be https://HOST[:PORT][/PATH], without user, query and fragment")
    return f"{prefix.rstrip('/')}/add-checkpoint"


def _refused(why: str) -> SettingsError:
    return SettingsError(Code.SETTINGS_INVALID, f"GATEWAY_AUDIT_WITNESS_URL {why}")


def _verifying_context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as exc:  # ssl.SSLError is one.
        message = (
            f"GATEWAY_AUDIT_WITNESS_CA_FILE {ca_file}: cannot be read as PEM certificates "
            f"({exc.strerror}); name another"
        )
        raise SettingsError(Code.SETTINGS_INVALID, message) from exc
