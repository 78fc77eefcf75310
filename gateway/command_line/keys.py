"""`gateway keys`: making, listing and exchanging keys."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.command_line.output import AsJson, terminal

keys = typer.Typer(no_args_is_help=True, help="Make, list and exchange keys.")


@keys.command("create")
def keys_create(
    folder: Annotated[Path, typer.Argument(help="Where the key files go.")] = Path("var/keys"),
    kek: Annotated[
        str | None, typer.Option(help="Make only this KEK: file:PATH, or a pkcs11: URI.")
    ] = None,
) -> None:
    """Make the KEK and the model signer, whichever is missing. Example: gateway keys create

    With --kek, only a KEK: file:PATH, or in a PKCS #11 token, which it never leaves:
    --kek 'pkcs11:token=LABEL;object=KEY?module-path=/PATH/MODULE.so&pin-source=file:/PATH/PIN'
    The same URI in GATEWAY_KEKS names it, or any AES-256 key there that is sensitive and not extractable.
    """
    from gateway.commands.keys import create_all, create_one

    console = terminal()
    if kek is not None:
        console.print(f"made the KEK {create_one(kek)}: name it in GATEWAY_KEKS", markup=False)
        return
    create_all(folder)
    console.print(f"keys are in {folder}: back them up apart from the models", markup=False)


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
