"""`gateway keys`: making, listing and exchanging keys."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.command_line.output import AsJson, terminal

if TYPE_CHECKING:
    from rich.console import Console

keys = typer.Typer(no_args_is_help=True, help="Make, list and exchange keys.")


@keys.command("create")
def keys_create(
    folder: Annotated[Path, typer.Argument(help="Where the key files go.")] = Path("var/keys"),
    kek: Annotated[
        str | None, typer.Option(help="Make only this KEK: file:PATH, or a pkcs11: URI.")
    ] = None,
    pseudonym: Annotated[
        bool, typer.Option("--pseudonym", help="Make only the key of the ledger's pseudonyms.")
    ] = False,
) -> None:
    """Make the KEK, the model signer and the ledger's key, whichever is missing. Example: gateway keys create

    With --kek, only a KEK: file:PATH, or in a PKCS #11 token, which it never leaves:
    --kek 'pkcs11:token=LABEL;object=KEY?module-path=/PATH/MODULE.so&pin-source=file:/PATH/PIN'
    The same URI in GATEWAY_KEKS names it, or any AES-256 key there that is sensitive and not extractable.
    """
    from gateway.commands.keys import create_all, create_one, create_pseudonyms

    if kek is not None and pseudonym:
        raise typer.BadParameter("name one of --kek and --pseudonym")
    console = terminal()
    if kek is not None:
        made = {"kek": create_one(kek)}
        console.print(f"made the KEK {made['kek']}: name it in GATEWAY_KEKS", markup=False)
    elif pseudonym:
        made = {"pseudonym_key": str(create_pseudonyms(folder))}
        words = "name it in GATEWAY_AUDIT_PSEUDONYM_KEY_FILE"
        console.print(f"made {made['pseudonym_key']}: {words}", markup=False)
    else:
        made = create_all(folder)
        console.print(f"keys are in {folder}: back them up apart from the models", markup=False)
    _record_created(made, console)


def _record_created(made: dict[str, str], console: "Console") -> None:
    from gateway.commands.keys import record_created
    from gateway.commands.opening import settings_of_process
    from gateway.errors import GatewayError

    try:
        record_created(settings_of_process(), made)
    except GatewayError as exc:
        # They are made, and the first ones must be before there can be a ledger.
        console.print(f"not recorded in the ledger: {exc.message}", markup=False)


@keys.command("list")
def keys_list(as_json: AsJson = False) -> None:
    """The KEKs of GATEWAY_KEKS, and which sealed files and sample keys need which. Example: gateway keys list"""
    from gateway.commands.kek_listing import list_keks
    from gateway.commands.opening import settings_of_process

    list_keks(settings_of_process(), as_json=as_json)


@keys.command("rotate")
def keys_rotate(
    kek: Annotated[
        list[str] | None,
        typer.Option(help="A KEK to wrap for, repeatable; default those of GATEWAY_KEKS."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Wrap every sealed file and sample key for exactly these KEKs; weights and signatures stay as they are.

    To exchange a KEK: put the new one first in GATEWAY_KEKS, the old one behind it, restart, rotate; then take the old
    one out, rotate again. Example: gateway keys rotate --dry-run
    """
    from gateway.commands.kek_rotation import rotate
    from gateway.commands.opening import settings_of_process

    console = terminal()
    settings = settings_of_process()
    rotate(settings, specs=kek or [], is_dry_run=dry_run, as_json=as_json, console=console)
