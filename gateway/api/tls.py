"""The TLS side of the listener: what a handshake takes and asks for, and contexts that follow their files.

Rules: TLS 1.3 only; a new set of files makes a wholly new context or none at all; connections keep the one they began
with; who may change the file of client CAs, or its folders, decides whose certificates are believed, so they must not
be others'.
"""

import asyncio
import functools
import logging
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from cryptography import x509

from gateway.api.tls_groups import server_context, warn_of_unwanted_groups
from gateway.errors import Code, OperatorError
from gateway.keyfiles import read_private_file
from gateway.metrics import GatewayMetrics
from gateway.sealing.public_files import why_changeable, why_replaceable
from gateway.settings import GatewaySettings

POLL_SECONDS = 1.0
MAX_CLIENT_CA_BYTES = 1 << 20
ALPN = ("http/1.1",)

_VERIFY = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}

log = logging.getLogger("gateway.api")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where a context comes from. client_ca_file: PEM; needed unless client_certificates is none."""

    certificate_file: Path
    key_file: Path
    client_ca_file: Path | None = None
    client_certificates: Literal["none", "optional", "required"] = "none"

    @classmethod
    def of(cls, settings: GatewaySettings) -> "TlsFiles":
        """The files that these settings name."""
        return cls(
            settings.tls_certificate_file,
            settings.tls_key_file,
            Path(settings.client_ca_file) if settings.client_ca_file else None,
            settings.client_certificates,
        )

    def all(self) -> tuple[Path, ...]:
        """Every file that is read."""
        files = (self.certificate_file, self.key_file)
        return files if self.client_ca_file is None else (*files, self.client_ca_file)


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """A server context of these files, which speaks TLS 1.3 and nothing older.

    The key must be private (0600), or a link to such a file. Raises KeyFileError if it is not, OperatorError if the
    files do not load or do not fit, or if others can change the file of client CAs or put another one in its place.
    """
    # A link is how certbot and Kubernetes exchange a key; what it leads to is what is checked and what is loaded.
    key_file = Path(os.path.realpath(files.key_file))
    read_private_file(key_file)
    context = server_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(list(ALPN))
    try:
        context.load_cert_chain(files.certificate_file, key_file)
    except (OSError, ssl.SSLError) as exc:
        message = (
            f"the TLS certificate {files.certificate_file} and key {files.key_file} "
            f"do not load: {exc}"
        )
        raise OperatorError(Code.SETTINGS_INVALID, message) from exc
    if files.client_certificates != "none":
        _ask_for_certificates(context, files)
    return context


def _ask_for_certificates(context: ssl.SSLContext, files: TlsFiles) -> None:
    if files.client_ca_file is None:
        message = (
            f"GATEWAY_CLIENT_CERTIFICATES is {files.client_certificates}, but no CA is trusted "
            "to issue them: set GATEWAY_CLIENT_CA_FILE"
        )
        raise OperatorError(Code.SETTINGS_INVALID, message)
    context.verify_mode = _VERIFY[files.client_certificates]
    # A resumed session would bring a certificate back whose CA is not trusted any more.
    context.num_tickets = 0
    try:
        context.load_verify_locations(cadata=_read_client_cas(files.client_ca_file))
    except (OSError, ValueError) as exc:  # an SSLError is an OSError
        message = f"GATEWAY_CLIENT_CA_FILE: {files.client_ca_file} does not load: {exc}"
        raise OperatorError(Code.SETTINGS_INVALID, message) from exc


def _read_client_cas(file: Path) -> str:
    with file.open("rb") as opened:
        fault = why_changeable(os.fstat(opened.fileno()), safe_mode=0o644)
        fault = fault or why_replaceable(file)
        if fault is not None:
            raise OperatorError(Code.SETTINGS_INVALID, f"GATEWAY_CLIENT_CA_FILE: {file} {fault}")
        content = opened.read(MAX_CLIENT_CA_BYTES + 1)
    if len(content) > MAX_CLIENT_CA_BYTES:
        raise ValueError(f"it is larger than {MAX_CLIENT_CA_BYTES} bytes")
    return content.decode("ascii")


class TlsContexts:
    """The context for the next connection, taken anew from its files when they change or when it is asked to."""

    def __init__(
        self, files: TlsFiles, *, metrics: GatewayMetrics, clock: Callable[[], datetime]
    ) -> None:
        """Load the files. Raises as tls_context does."""
        self._files = files
        self._metrics = metrics
        self._clock = clock
        self._asked = asyncio.Event()
        self._tried = self._seen = _signature(files)
        self.current = tls_context(files)
        warn_of_unwanted_groups(self.current)
        self._note_expiry()

    def now(self) -> datetime:
        """The time by which certificates end."""
        return self._clock()

    def must_renew(self, context: ssl.SSLContext) -> bool:
        """Whether connections made with this context should end soon: a client CA may be gone since."""
        return context is not self.current and context.verify_mode is not ssl.CERT_NONE

    def ask(self) -> None:
        """Load the files again soon, changed or not. To be called in the event loop's thread."""
        self._asked.set()

    async def watch(self) -> None:
        """Follow the files until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            is_asked = await self._is_asked()
            follow = functools.partial(self.follow, is_asked=is_asked)
            try:
                await loop.run_in_executor(None, follow)
            except Exception:
                # Whatever a file can make a library do: the next look may find a better one.
                log.exception("tls_not_followed")

    async def _is_asked(self) -> bool:
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._asked.wait()
        except TimeoutError:
            return False
        self._asked.clear()
        return True

    def follow(self, *, is_asked: bool = False) -> None:
        """Load the files if they have changed and stayed the same for one look, or if that is asked for.

        A certificate and its key are two files: between the two writes they do not fit each other.
        """
        signature = _signature(self._files)
        has_settled = signature == self._seen and signature != self._tried
        self._seen = signature
        if is_asked or has_settled:
            self._tried = signature
            self._reload()

    def _reload(self) -> None:
        try:
            context, expires_at = tls_context(self._files), _expiry(self._files.certificate_file)
        except OperatorError as exc:
            self._keep(exc.message)
            return
        if expires_at <= self._clock():
            self._keep(f"the certificate {self._files.certificate_file} has expired: renew it")
            return
        self.current = context
        self._metrics.tls_reloads.labels("loaded").inc()
        self._metrics.certificate_expiry.set(expires_at.timestamp())
        log.info("tls_reloaded expires_at=%s", expires_at.isoformat())

    def _keep(self, reason: str) -> None:
        self._metrics.tls_reloads.labels("failed").inc()
        log.warning("tls_not_reloaded the old certificate stays reason=%s", reason)

    def _note_expiry(self) -> None:
        expires_at = _expiry(self._files.certificate_file)
        self._metrics.certificate_expiry.set(expires_at.timestamp())
        if expires_at <= self._clock():
            # Not refused: a gateway that does not start helps nobody, and clients see the cause.
            log.warning("tls_certificate_expired expires_at=%s", expires_at.isoformat())


def _expiry(certificate_file: Path) -> datetime:
    try:
        leaf = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    except (OSError, ValueError) as exc:
        message = f"the TLS certificate {certificate_file} cannot be read: {exc}"
        raise OperatorError(Code.SETTINGS_INVALID, message) from exc
    return leaf.not_valid_after_utc


def _signature(files: TlsFiles) -> tuple[object, ...]:
    """What changes when a file is written, or replaced, or when a link on its way leads elsewhere."""
    return tuple(_status(file) for file in files.all())


def _status(file: Path) -> tuple[int, ...] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
