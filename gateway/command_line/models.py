"""`gateway models`: listing versions, and changing which of them get requests."""

from typing import Annotated

import typer

from gateway.command_line.output import AsJson, terminal

models = typer.Typer(no_args_is_help=True, help="List, promote and roll back model versions.")


@models.command("list")
def models_list(as_json: AsJson = False) -> None:
    """Every registered version and its stage. Example: gateway models list --json"""
    from gateway.commands.models import list_models
    from gateway.commands.opening import settings_of_process

    list_models(settings_of_process(), as_json=as_json)


@models.command("show")
def models_show(name: str, as_json: AsJson = False) -> None:
    """One model's versions, their sealed headers, and where a rollback goes. Example: gateway models show belt"""
    from gateway.commands.models import show_model
    from gateway.commands.opening import settings_of_process

    show_model(settings_of_process(), name=name, as_json=as_json)


@models.command("promote")
def models_promote(name: str, version: str) -> None:
    """Check a version and put it into production. Example: gateway models promote belt 2"""
    from gateway.commands.models import promote
    from gateway.commands.opening import settings_of_process

    promote(settings_of_process(), name=name, version=version)
    _tell(f"in production: {name}@{version}")


@models.command("rollback")
def models_rollback(name: str) -> None:
    """Check the version that was in production before and put it back. Example: gateway models rollback belt"""
    from gateway.commands.models import roll_back
    from gateway.commands.opening import settings_of_process

    version = roll_back(settings_of_process(), name=name)
    _tell(f"in production again: {name}@{version}")


@models.command("retire")
def models_retire(name: str, version: str) -> None:
    """Take a version out of use; rollbacks pass it by. Example: gateway models retire belt 1"""
    from gateway.commands.models import retire
    from gateway.commands.opening import settings_of_process

    retire(settings_of_process(), name=name, version=version)
    _tell(f"retired: {name}@{version}")


@models.command("traffic")
def models_traffic(
    name: str,
    version: str,
    mode: Annotated[str, typer.Argument(help="shadow, canary or none.")],
    share: Annotated[
        float | None, typer.Option(help="Of the requests, 0.0001 to 1; 1 is all.")
    ] = None,
) -> None:
    """Let a candidate look at a share of the requests, or answer it.

    A shadow's answers are sampled and given to nobody; a canary's are given, and production's if it fails.

    Example: gateway models traffic belt 2 canary --share 0.05
    """
    from gateway.commands.models import direct_traffic, share_text
    from gateway.commands.opening import settings_of_process
    from gateway.models.changes import why_share_unfit
    from gateway.store.records import Traffic

    if mode not in list(Traffic):
        raise typer.BadParameter(f"{mode!r} is none of {', '.join(Traffic)}")
    traffic, share = Traffic(mode), share or 0.0
    mistake = why_share_unfit(traffic, share)
    if mistake is not None:
        raise typer.BadParameter(f"--share: {mistake}")
    direct_traffic(settings_of_process(), name=name, version=version, traffic=traffic, share=share)
    _tell(f"{name}@{version}: {mode}" + (f" {share_text(share)}" if share else ""))


def _tell(change: str) -> None:
    console = terminal()
    console.print(f"{change}; running gateways follow within about a second", markup=False)
