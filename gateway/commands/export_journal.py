"""What the ledger says about an export of itself.

Rules: nothing goes out before the first record is durable; what went out since the record before is in the next one,
with its count and digest, so that a file can be told to be what was exported.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from hashlib import sha256

from sqlalchemy import Engine

from gateway.audit.details import format_detail
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.export import Page
from gateway.audit.export_lines import ExportFormat
from gateway.commands.export_output import ReaderGoneError
from gateway.commands.opening import code_and_reason, operator_event, record_once
from gateway.errors import AuditUnavailableError, Code, GatewayError
from gateway.sealing.termination import signals_deferred
from gateway.settings import GatewaySettings

TELL_SECONDS = 24 * 3600
TELL_RECORDS = 1_000_000


class ExportJournal:
    """The records of one export. monotonic: seconds."""

    def __init__(
        self,
        engine: Engine,
        settings: GatewaySettings,
        export_format: ExportFormat,
        *,
        monotonic: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._format = export_format
        self._monotonic = monotonic
        self._start_over()

    def begin(self, detail: str | None) -> None:
        """Record that it begins. Raises AuditUnavailableError: then it must not."""
        self._append(replace(operator_event(Action.AUDIT_EXPORT), detail=detail))

    def add(self, page: Page) -> None:
        """Count a page that went out."""
        first, _ = self._ranges.get(page.origin, (page.first_position, 0))
        self._ranges[page.origin] = (first, page.last.position)
        self._count += page.count
        self._digest.update(page.content)

    def tell_if_due(self) -> None:
        """Record what went out, if that is a million records, or if it is anything after a day.

        Raises AuditUnavailableError: then it is tried again by the next call.
        """
        is_long = self._monotonic() - self._told_at >= TELL_SECONDS
        if self._count >= TELL_RECORDS or (self._count and is_long):
            self._append(replace(self._event(), outcome=Outcome.ANSWERED))
            self._start_over()

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Record how the block ended; that its reader went away is quiet.

        Raises AuditUnavailableError if that cannot be recorded, unless the block raises something itself.
        """
        try:
            yield
        except ReaderGoneError:
            reason = "nobody reads the output any more"
            self._end(Outcome.FAILED, code=Code.CLIENT_GONE, reason=reason)
        except BaseException as exc:
            code, reason = code_and_reason(exc)
            # What failed may take no record of it either; what went wrong first is what is told.
            with suppress(GatewayError):
                self._end(Outcome.FAILED, code=code, reason=reason)
            raise
        else:
            self._end(Outcome.ANSWERED)

    def _end(
        self, outcome: Outcome, *, code: Code | None = None, reason: str | None = None
    ) -> None:
        event = replace(self._event(), outcome=outcome, code=code, reason=reason)
        with signals_deferred():
            try:
                self._append(event)
            except AuditUnavailableError as exc:
                message = "the lines went out, but the end of the export could not be recorded"
                raise AuditUnavailableError(exc.code, message, reason=exc.reason) from exc

    def _event(self) -> AuditEvent:
        ranges = [f"{origin}:{first}-{last}" for origin, (first, last) in self._ranges.items()]
        return replace(
            operator_event(Action.AUDIT_EXPORT),
            result_count=self._count,
            result_digest=self._digest.hexdigest(),
            detail=format_detail(format=self._format.value, ranges=ranges),
        )

    def _start_over(self) -> None:
        self._ranges: dict[str, tuple[int, int]] = {}
        self._count = 0
        self._digest = sha256()
        self._told_at = self._monotonic()

    def _append(self, event: AuditEvent) -> None:
        # Opened for one record: a log that is held while millions are added would read them all with its next one.
        record_once(self._engine, self._settings, event)
