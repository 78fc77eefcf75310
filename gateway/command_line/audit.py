"""`gateway audit`: beginning, checking and reading the ledger."""

from typing import Annotated

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
