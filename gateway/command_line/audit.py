"""`gateway audit`: beginning, checking and reading the ledger."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from gateway.command_line.output import AsJson

audit = typer.Typer(no_args_is_help=True, help="Begin, check and read the audit ledger.")


@audit.command("create")
def audit_create() -> None:
    """Begin the ledger of GATEWAY_AUDIT_ORIGIN, signed by GATEWAY_AUDIT_KEY_FILE; once a gateway.

    Example: gateway audit create
    """
    from gateway.commands.audit import create
    from gateway.commands.opening import settings_of_process, utc_now

    create(settings_of_process(), now=utc_now())


@audit.command("verify")
def audit_verify(as_json: AsJson = False) -> None:
    """Check every record of the ledger and locate the first bad one; exits 1 if there is one.

    Example: gateway audit verify --json
    """
    from gateway.commands.audit_verify import verify
    from gateway.commands.opening import settings_of_process

    verify(settings_of_process(), as_json=as_json)


@audit.command("show")
def audit_show(
    request_id: Annotated[
        str | None, typer.Argument(help="Only this request's: X-Request-Id of the answer.")
    ] = None,
    newest: Annotated[int, typer.Option(min=1, max=10_000, help="How many, at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Print records, the oldest first: time, action, outcome, address, subject, model, code, reason;
    looking is recorded.

    Example: gateway audit show --newest 50
    """
    from gateway.commands.audit import show
    from gateway.commands.opening import settings_of_process

    show(settings_of_process(), request_id=request_id, newest=newest, as_json=as_json)


@audit.command("export")
def audit_export(
    line_format: Annotated[
        Literal["ocsf", "jsonl"],
        typer.Option("--format", help="Events of the OCSF, or the records as they are."),
    ] = "ocsf",
    output: Annotated[Path, typer.Option(help='A file that grows; "-" is standard output.')] = Path(
        "-"
    ),
    cursor: Annotated[
        Path | None, typer.Option(help="Go on where this file says, and keep it up to date.")
    ] = None,
    follow: Annotated[bool, typer.Option(help="Go on with what is added, until a signal.")] = False,
    ledger: Annotated[
        list[str] | None, typer.Option(help="Only of this origin; can be repeated.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Begin at this time, RFC 3339, or so long ago: 90s, 15m, 2h, 7d."),
    ] = None,
    unsigned: Annotated[
        bool, typer.Option(help="Also records that no signed checkpoint covers yet.")
    ] = False,
    poll_seconds: Annotated[
        float, typer.Option(min=0.05, max=3600, help="How often --follow looks.")
    ] = 1.0,
) -> None:
    """Write the ledgers of this database as JSON lines for a SIEM; exporting is recorded.

    Example: gateway audit export --follow --cursor var/siem.cursor --output var/siem.jsonl
    """
    from gateway.audit.export_lines import ExportFormat
    from gateway.commands.audit_export import ExportRequest, export
    from gateway.commands.opening import settings_of_process, utc_now

    request = ExportRequest(
        export_format=ExportFormat(line_format),
        output=output,
        cursor_file=cursor,
        origins=tuple(ledger or ()),
        since=None if since is None else _moment(since, now=utc_now()),
        is_following=follow,
        is_unsigned_included=unsigned,
        poll_seconds=poll_seconds,
    )
    export(settings_of_process(), request)


def _moment(text: str, *, now: datetime) -> datetime:
    from gateway.audit.query import parse_moment

    try:
        return parse_moment(text, now=now)
    except (ValueError, OverflowError) as exc:
        message = "--since: give an RFC 3339 time with its zone, or how long ago: 90s, 15m, 2h, 7d"
        raise typer.BadParameter(message) from exc
