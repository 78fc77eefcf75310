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
def audit_verify(
    from_file: Annotated[
        Path | None,
        typer.Option("--from", help="A checkpoint up to which all was checked before."),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Where the newest checkpoint goes, for the next --from.")
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(
            help="The ledger's public key, or a file of such; default that of GATEWAY_AUDIT_KEY_FILE."
        ),
    ] = None,
    witness: Annotated[
        list[Path] | None,
        typer.Option(help="A checkpoint that somebody else holds; may be given several times."),
    ] = None,
    is_all: Annotated[bool, typer.Option("--all", help="Every ledger of the database.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check every record of the ledger and locate the first bad one; exits 1 if there is one.

    Example: gateway audit verify --save checked.note, and the next time --from checked.note
    """
    from gateway.commands.audit_verify import VerifyOrder, verify
    from gateway.commands.opening import settings_of_process

    order = VerifyOrder(
        keys=tuple(key or ()),
        from_file=from_file,
        save_file=save,
        witness_files=tuple(witness or ()),
        is_all=is_all,
    )
    verify(settings_of_process(), order, as_json=as_json)


@audit.command("query")
def audit_query(
    request_id: Annotated[
        str | None, typer.Argument(help="Only this request's: X-Request-Id of the answer.")
    ] = None,
    subject: Annotated[str | None, typer.Option(help="Only of this principal.")] = None,
    issuer: Annotated[str | None, typer.Option(help="Only of this issuer's principals.")] = None,
    client: Annotated[str | None, typer.Option(help="Only of this client_id.")] = None,
    token: Annotated[str | None, typer.Option(help="Only with the token of this jti.")] = None,
    certificate: Annotated[
        str | None, typer.Option(help="Only with the client certificate of this thumbprint.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="Only from this address.")] = None,
    action: Annotated[str | None, typer.Option(help="predict, models.promote, ...")] = None,
    outcome: Annotated[
        str | None, typer.Option(help="admitted, answered, refused or failed.")
    ] = None,
    code: Annotated[str | None, typer.Option(help="Refused or failed with it.")] = None,
    model: Annotated[str | None, typer.Option(help="NAME or NAME@VERSION.")] = None,
    since: Annotated[
        str | None,
        typer.Option(help="From this time on, RFC 3339, or from so long ago: 90s, 15m, 2h, 7d."),
    ] = None,
    until: Annotated[str | None, typer.Option(help="Before this time.")] = None,
    origin: Annotated[
        str | None, typer.Option(help="Only of this ledger; default all of the database.")
    ] = None,
    oldest_first: Annotated[
        bool, typer.Option("--oldest-first", help="As they came, which a request's always are.")
    ] = False,
    limit: Annotated[int, typer.Option(help="How many, at most; 1 to 1000.")] = 20,
    cursor: Annotated[
        str | None, typer.Option(help="Go on behind a page, with its filters.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print audit records that fit: time, place in the ledger, action, outcome, principal, address, model, code,
    reason, detail; looking is recorded.

    Example: gateway audit query 5c0e2ae5-5d1b-4b5e-9f53-4f2d6a0e8a11

    Example: gateway audit query --outcome refused --since 2h

    Example: gateway audit query --subject camera-7 --model belt@2 --since 2031-05-06T07:00:00Z --limit 1000 --json

    Example: gateway audit query --action models.promote --oldest-first
    """
    is_oldest_first = oldest_first or request_id is not None
    asked = {
        "request_id": request_id,
        "subject": subject,
        "issuer": issuer,
        "client_id": client,
        "token_id": token,
        "certificate_thumbprint": certificate,
        "address": address,
        "action": action,
        "outcome": outcome,
        "code": code,
        "model": model,
        "since": since,
        "until": until,
        "origin": origin,
        "order": "oldest" if is_oldest_first else None,
        "limit": str(limit),
        "cursor": cursor,
    }
    _query({name: text for name, text in asked.items() if text is not None}, as_json=as_json)


def _query(values: dict[str, str], *, as_json: bool) -> None:
    from gateway.audit.query_cursors import QueryInvalidError
    from gateway.commands.audit_query import query
    from gateway.commands.opening import settings_of_process, utc_now

    try:
        query(settings_of_process(), values, now=utc_now(), as_json=as_json)
    except QueryInvalidError as exc:
        raise typer.BadParameter(str(exc)) from exc


@audit.command("proof")
def audit_proof(
    index: Annotated[int, typer.Argument(min=0, help="The record's position in its ledger.")],
    origin: Annotated[
        str | None, typer.Option(help="The ledger; default GATEWAY_AUDIT_ORIGIN.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where it is written; default standard output.")
    ] = None,
) -> None:
    """Write the proof that a record is in the ledger, for `gateway audit check`; this is recorded.

    Example: gateway audit proof 17 --out call.tlog-proof
    """
    from gateway.commands.audit_query import proof
    from gateway.commands.opening import settings_of_process

    proof(settings_of_process(), index, origin=origin, out=out)


@audit.command("key")
def audit_key() -> None:
    """Print the public key of the ledger, one line, to be handed to whoever checks proofs.

    Example: gateway audit key > ledger.vkey
    """
    from gateway.commands.audit_query import show_key
    from gateway.commands.opening import settings_of_process

    show_key(settings_of_process())


@audit.command("check")
def audit_check(
    proof_file: Annotated[
        Path, typer.Argument(metavar="PROOF", help='The proof file; "-" is standard input.')
    ],
    key: Annotated[str, typer.Option(help="The ledger's public key, the line itself or a file.")],
    witness: Annotated[
        list[str] | None,
        typer.Option(help="A witness's public key, which must have signed too; can be repeated."),
    ] = None,
    input_file: Annotated[
        Path | None, typer.Option("--input", help="The image that was sent.")
    ] = None,
    result_file: Annotated[
        Path | None, typer.Option("--result", help="The answer, byte for byte.")
    ] = None,
    request_id: Annotated[str | None, typer.Option(help="X-Request-Id of the answer.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check a proof by public keys alone, and print the record that it proves; exits 1 if it proves none.

    It needs no settings, no database and no network; the key must come by another way than the proof.

    Example: gateway audit check call.tlog-proof --key ledger.vkey --input frame.jpg --result answer.json
    """
    from gateway.commands.audit_check import CheckOrder, check

    order = CheckOrder(
        proof_file=proof_file,
        key=key,
        witnesses=tuple(witness or ()),
        input_file=input_file,
        result_file=result_file,
        request_id=request_id,
    )
    check(order, as_json=as_json)


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


@audit.command("pseudonym")
def audit_pseudonym(
    subject: Annotated[str | None, typer.Option(help="A principal, or an account.")] = None,
    client: Annotated[str | None, typer.Option(help="A client_id.")] = None,
    address: Annotated[str | None, typer.Option(help="An address.")] = None,
    certificate: Annotated[str | None, typer.Option(help="A certificate's thumbprint.")] = None,
    proof_key: Annotated[str | None, typer.Option(help="A DPoP key's thumbprint.")] = None,
) -> None:
    """Print what one name is called in the ledger, by the key of GATEWAY_AUDIT_PSEUDONYM_KEY_FILE; looking is recorded.

    `gateway audit query` takes names and looks them up by itself; this is for exports and other tools.

    Example: gateway audit pseudonym --subject camera-7
    """
    from gateway.commands.audit_pseudonym import look_up
    from gateway.commands.opening import settings_of_process

    asked = {
        "subject": subject,
        "client_id": client,
        "address": address,
        "certificate_thumbprint": certificate,
        "proof_key_thumbprint": proof_key,
    }
    given = [(field, value) for field, value in asked.items() if value is not None]
    if len(given) != 1:
        raise typer.BadParameter("name exactly one of the options")
    look_up(settings_of_process(), *given[0])
