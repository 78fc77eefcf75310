"""`gateway audit export`: shipping ledgers to where a security team looks at everything.

Rules: an export is recorded before its first line and at its end, and while it follows, every day or million records;
lines go out before the cursor moves, so that an export that is killed repeats lines and leaves none out; no connection
of the database is held while a reader is waited for.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.details import format_detail
from gateway.audit.entries import format_time
from gateway.audit.export import ExportOrder, LedgerExport, Page
from gateway.audit.export_lines import ExportFormat, line_writer
from gateway.audit.replaced_files import Disk
from gateway.commands.export_cursor_file import CursorFile, opened_cursor
from gateway.commands.export_journal import ExportJournal
from gateway.commands.export_output import (
    STANDARD_OUTPUT,
    Output,
    StoppedError,
    opened_output,
)
from gateway.commands.opening import opened_store
from gateway.commands.stopping import Stop, stopping_on_signals
from gateway.errors import AuditUnavailableError, Code
from gateway.sealing.termination import TerminatedError
from gateway.settings import GatewaySettings

# While the database is away a following export asks less and less often.
MAX_PAUSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What the command line asks for.

    output: a file, or "-" for standard output. cursor_file: where to go on, and where that is kept; None to begin anew.
    origins: of the ledgers; empty for all. since: UTC-aware; where a ledger begins that the cursor does not name.
    poll_seconds: how long a following export waits before it looks again.
    """

    export_format: ExportFormat
    output: Path = STANDARD_OUTPUT
    cursor_file: Path | None = None
    origins: tuple[str, ...] = ()
    since: datetime | None = None
    is_following: bool = False
    is_unsigned_included: bool = False
    poll_seconds: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """What an export works with. monotonic: seconds."""

    export: LedgerExport
    cursor: CursorFile
    output: Output
    journal: ExportJournal
    stop: Stop
    console: Console
    poll_seconds: float

    def ship(self, page: Page) -> None:
        """Let a page out and remember it."""
        # Killed before the cursor is replaced: the page goes out again. The other order would leave it out.
        self.output.write(page.content)
        self.cursor.save(page.origin, page.last)
        self.journal.add(page)


def export(settings: GatewaySettings, request: ExportRequest) -> None:
    """Write ledgers to the output until their end, or until a signal if it follows.

    Raises OperatorError for the output or the cursor, LedgerError for a ledger that is not there and at a record that
    is missing or was changed, AuditUnavailableError if the database fails or the export cannot be recorded,
    TerminatedError if a signal ended it before its end.
    """
    with ExitStack() as stack:
        stop = stack.enter_context(stopping_on_signals())
        engine = stack.enter_context(opened_store(settings))
        cursor = stack.enter_context(opened_cursor(request.cursor_file, disk=Disk()))
        output = stack.enter_context(
            opened_output(request.output, is_stopping=lambda: stop.number is not None)
        )
        run_export(engine, settings, request, cursor=cursor, output=output, stop=stop)


def run_export(
    engine: Engine,
    settings: GatewaySettings,
    request: ExportRequest,
    *,
    cursor: CursorFile,
    output: Output,
    stop: Stop,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """The same with what it works with. monotonic: seconds."""
    order = ExportOrder(
        write_line=line_writer(request.export_format, product_version=version("gatewatch")),
        origins=frozenset(request.origins),
        since=None if request.since is None else format_time(request.since),
        is_unsigned_included=request.is_unsigned_included,
    )
    shipment = Shipment(
        export=LedgerExport(engine, order, cursor.marks),
        cursor=cursor,
        output=output,
        journal=ExportJournal(engine, settings, request.export_format, monotonic=monotonic),
        stop=stop,
        console=Console(stderr=True, soft_wrap=True),
        poll_seconds=request.poll_seconds,
    )
    with _database_failures():
        measured = shipment.export.measure()
    shipment.journal.begin(_begin_detail(request, measured))
    with shipment.journal.ending():
        try:
            if request.is_following:
                _follow(shipment)
            else:
                with _database_failures():
                    _run_once(shipment, measured)
        except StoppedError:
            # Only a stop that has a number is given up for.
            if not request.is_following:
                raise TerminatedError(stop.number or 0) from None


def _run_once(shipment: Shipment, measured: Mapping[str, tuple[int, int]]) -> None:
    stop = shipment.stop
    total = sum(max(size - position, 0) for position, size in measured.values())
    console = shipment.console
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("records exported", total=total)
        for page in shipment.export.pages():
            shipment.ship(page)
            progress.update(task, advance=page.count)
            if stop.number is not None:
                raise TerminatedError(stop.number)


def _follow(shipment: Shipment) -> None:
    pause_seconds = shipment.poll_seconds
    while shipment.stop.number is None:
        try:
            _catch_up(shipment)
            pause_seconds = shipment.poll_seconds
        except (SQLAlchemyError, AuditUnavailableError) as exc:
            # A database that restarts must not end what watches it; that it is away is told once.
            if pause_seconds == shipment.poll_seconds:
                message = f"gateway: the database failed ({type(exc).__name__}); trying on"
                shipment.console.print(message, markup=False)
            pause_seconds = min(pause_seconds * 2, MAX_PAUSE_SECONDS)
        shipment.output.check_reader()
        shipment.stop.wait(pause_seconds)


def _catch_up(shipment: Shipment) -> None:
    for page in shipment.export.pages():
        shipment.ship(page)
        shipment.journal.tell_if_due()
        if shipment.stop.number is not None:
            return
    shipment.journal.tell_if_due()


@contextmanager
def _database_failures() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as exc:
        message = "the database failed while the ledger was read; run it again, --cursor goes on where it stopped"
        raise AuditUnavailableError(
            Code.AUDIT_UNAVAILABLE, message, reason=type(exc).__name__
        ) from exc


def _begin_detail(request: ExportRequest, measured: Mapping[str, tuple[int, int]]) -> str | None:
    return format_detail(
        format=request.export_format.value,
        output=str(request.output),
        follow="yes" if request.is_following else None,
        unsigned="yes" if request.is_unsigned_included else None,
        since=None if request.since is None else format_time(request.since),
        start=[f"{origin}:{position}" for origin, (position, _) in measured.items()],
    )
