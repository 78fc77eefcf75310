"""`gateway token`: denying tokens before they end, and issuing them for development."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.command_line.output import AsJson, terminal

if TYPE_CHECKING:
    from gateway.store.queries.token_denials import StoredDenial

token = typer.Typer(no_args_is_help=True, help="Revoke access tokens; issue some for development.")

Why = Annotated[str, typer.Option(help="For whoever reads the ledger.")]


@token.command("issue")
def token_issue(
    role: Annotated[list[str], typer.Option(help="client, analyst, auditor, operator or metrics.")],
    subject: Annotated[str, typer.Option(help="Who it is for.")] = "developer",
    lifetime_seconds: Annotated[int, typer.Option(help="How long it is good.")] = 86_400,
    key: Annotated[Path, typer.Option(help="Private key that signs.")] = Path("var/keys/token.key"),
    second_factor: Annotated[
        bool, typer.Option("--second-factor", help="As if one had been shown just now.")
    ] = False,
    certificate: Annotated[
        Path | None, typer.Option(help="Good only with this client certificate, a PEM file.")
    ] = None,
    dpop_jkt: Annotated[
        str | None, typer.Option(help="Good only with the DPoP key of this thumbprint.")
    ] = None,
) -> None:
    """Print a signed token, in a home that `gateway dev` made; in production the identity provider issues them.

    Example: gateway token issue --role operator --subject anna --second-factor
    """
    from gateway.commands.opening import settings_of_process
    from gateway.commands.token import issue

    signed = issue(
        settings_of_process(),
        roles=role,
        subject=subject,
        lifetime_seconds=lifetime_seconds,
        key_file=key,
        has_second_factor=second_factor,
        certificate_file=certificate,
        key_thumbprint=dpop_jkt,
    )
    print(signed)


@token.command("revoke")
def token_revoke(
    why: Why,
    jti: Annotated[str | None, typer.Option(help="One token, by its id.")] = None,
    subject: Annotated[str | None, typer.Option(help="Every token of this principal.")] = None,
    issuer: Annotated[
        str | None, typer.Option(help="Whose; a single trusted one need not be named.")
    ] = None,
    issued_before: Annotated[
        str | None, typer.Option(help="Only those issued before: now, or 2031-05-06T07:08:09Z.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="The token in this file, - for standard input.")
    ] = None,
    lasts: Annotated[
        str | None, typer.Option("--for", help="How long, such as 12h; default until they end.")
    ] = None,
    everybody: Annotated[
        bool, typer.Option("--everybody", help="Yes, all principals of the issuer.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Refuse tokens before they end, in every gateway on this database, within a second.

    A single token is denied until it must have ended; a subject until restored, or with --issued-before until the
    tokens before must have ended, so that newer ones pass. The token of --token-file is neither shown nor stored.

    Example: gateway token revoke --token-file leaked.jwt --why "sent by mail"

    Example: gateway token revoke --subject camera-7 --issued-before now --why "stolen"

    Example: gateway token revoke --everybody --issued-before now --why "the provider was broken into"
    """
    from gateway.admission import token_lifetimes
    from gateway.commands.opening import settings_of_process, utc_now
    from gateway.commands.revocation_order import OrderInvalidError, read_order
    from gateway.commands.token_revocation import as_members, read_token_names, revoke

    settings = settings_of_process()
    known_issuers = list(token_lifetimes(settings))
    now = utc_now()
    try:
        order = read_order(
            names=None if token_file is None else read_token_names(token_file),
            token_id=jti,
            subject=subject,
            issuer=issuer,
            known_issuers=known_issuers,
            issued_before=issued_before,
            lasts=lasts,
            why=why,
            is_everybody=everybody,
            now=now,
        )
    except OrderInvalidError as exc:
        raise typer.BadParameter(str(exc)) from exc
    stored = revoke(settings, order)
    if as_json:
        print(json.dumps(as_members(stored, now=now)))
    _tell_denied(stored, known_issuers=known_issuers)


def _tell_denied(stored: "StoredDenial", *, known_issuers: list[str]) -> None:
    from gateway.commands.token_revocation import describe, until

    issuer = stored.denial.issuer
    if issuer not in known_issuers:
        _tell(f"note: no setting trusts {issuer}; trusted are {', '.join(known_issuers)}")
    _tell(f"denied {until(stored.denial)}: {describe(stored.denial)} (denial {stored.id})")
    _tell("every gateway on the same database follows within a second")


@token.command("denied")
def token_denied(
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that ended or were lifted.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List what is denied. Example: gateway token denied --all"""
    from gateway.commands.opening import settings_of_process
    from gateway.commands.token_revocation import list_denied

    list_denied(settings_of_process(), is_history_included=everything, as_json=as_json)


@token.command("restore")
def token_restore(
    denial: Annotated[int, typer.Argument(help="The id that `gateway token denied` shows.")],
    why: Why,
) -> None:
    """Take a denial back: its tokens pass again if they have not ended.

    Example: gateway token restore 7 --why "the laptop was found"
    """
    from gateway.commands.opening import settings_of_process
    from gateway.commands.revocation_order import OrderInvalidError, check_why
    from gateway.commands.token_revocation import describe, restore

    try:
        check_why(why)
    except OrderInvalidError as exc:
        raise typer.BadParameter(str(exc)) from exc
    restored = restore(settings_of_process(), denial, why=why)
    _tell(f"restored: {describe(restored.denial)} (denial {denial})")
    for other in restored.same_ids:
        _tell(f"denial {other} is for the same: it stays until it is restored too")
    _tell("every gateway on the same database follows within a second")


def _tell(words: str) -> None:
    # A Text, for names in it may look like markup or like the name of an emoji, :bus:.
    from rich.text import Text

    terminal().print(Text(words))
