"""The `gateway` command: parsing only; gateway.commands does the work.

Exit codes: 0 done, 1 refused or failed (the message names cause and fix), 2 wrong usage, 130 interrupted.
"""

import gc
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway.command_line.audit import audit
from gateway.command_line.keys import keys
from gateway.command_line.models import models
from gateway.command_line.output import AsJson, terminal
from gateway.command_line.seal import seal
from gateway.command_line.token import token
from gateway.errors import GatewayError

app = typer.Typer(
    name="gateway",
    help="A secure gateway for YOLO detectors.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
db = typer.Typer(no_args_is_help=True, help="Create and migrate the database.")
samples = typer.Typer(no_args_is_help=True, help="Look at kept samples.")
for name, group in {
    "keys": keys,
    "models": models,
    "token": token,
    "audit": audit,
    "db": db,
    "samples": samples,
}.items():
    app.add_typer(group, name=name)

app.command()(seal)


def main() -> None:
    """Run the command line."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S%z",  # with its zone, to be laid beside the ledger's UTC
        stream=sys.stderr,
    )
    for chatty in ("alembic", "httpx", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        app()
    except GatewayError as exc:
        # Whoever sits at this terminal runs the gateway: only callers must not learn the reason.
        reason = "" if exc.reason == exc.code else f" (reason: {exc.reason})"
        terminal().print(f"gateway: {exc.message} [{exc.code}]{reason}", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@app.command()
def serve(
    ready_descriptor: Annotated[
        int | None, typer.Option(help="Write the port to this open descriptor once serving.")
    ] = None,
) -> None:
    """Serve the production versions of GATEWAY_MODEL_NAME and GATEWAY_MODEL_NAMES over TLS until SIGINT or SIGTERM.

    Example: GATEWAY_PORT=8443 gateway serve
    """
    # A start imports hundreds of modules and makes no garbage: looking for some would take a tenth of its time.
    gc.disable()
    try:
        from gateway.commands.opening import settings_of_process
        from gateway.commands.serve import serve as run

        run(settings_of_process(), ready_descriptor=ready_descriptor)
    finally:
        gc.enable()


@app.command()
def dev(
    home: Annotated[
        Path | None, typer.Option(help="Keep everything below this folder; default ./var, ./certs.")
    ] = None,
    any_ports: Annotated[bool, typer.Option(help="Take free ports instead of the usual.")] = False,
    as_json: AsJson = False,
    since: Annotated[float | None, typer.Option(help="Unix time to count the start from.")] = None,
) -> None:
    """Prepare keys, certificates, database and demo model, then run gateway and monitor until Ctrl-C.

    Example: gateway dev --home /tmp/try
    """
    from gateway.dev.run import run

    run(home=home, any_ports=any_ports, as_json=as_json, since=since)


@db.command("upgrade")
def db_upgrade() -> None:
    """Create the database or bring it to this release. Example: gateway db upgrade"""
    from gateway.commands.db import next_step, upgrade
    from gateway.commands.opening import settings_of_process

    settings = settings_of_process()
    upgrade(settings)
    terminal().print(next_step(settings) or "the database is at this release", markup=False)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Examine settings, keys, certificate, database and every version in use; exits 1 if something is broken.

    Says what differs between this machine and the one that sealed, and runs each version's golden set.

    Example: gateway doctor --json
    """
    from gateway.commands.doctor import examine
    from gateway.commands.opening import settings_of_process

    examine(settings_of_process(), as_json=as_json)


@app.command()
def features(
    folder: Annotated[Path, typer.Argument(help="A folder of images, searched to any depth.")],
) -> None:
    """Print what the gateway would measure of these images, a JSON line each, for `monitor reference`.

    Example: gateway features photos/ > features.jsonl
    """
    from gateway.commands.features import print_features
    from gateway.commands.opening import settings_of_process

    print_features(settings_of_process(), folder)


@samples.command("image")
def samples_image(
    request_id: str, out: Annotated[Path, typer.Option(help="Where the image is written.")]
) -> None:
    """Decrypt one kept image; looking is recorded. Example: gateway samples image REQUEST_ID --out seen.jpg"""
    from gateway.commands.opening import settings_of_process
    from gateway.commands.samples import write_image

    write_image(settings_of_process(), request_id, out)


if __name__ == "__main__":
    main()
