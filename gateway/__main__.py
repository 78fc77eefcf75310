"""The `gateway` command: parsing only; gateway.commands does the work.

Exit codes: 0 done, 1 refused or failed (the message names cause and fix), 2 wrong usage, 130 interrupted.
"""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gateway.errors import GatewayError

app = typer.Typer(
    name="gateway",
    help="A secure gateway for YOLO detectors.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
keys = typer.Typer(no_args_is_help=True, help="Make, list and exchange keys.")
models = typer.Typer(no_args_is_help=True, help="List, promote and roll back model versions.")
token = typer.Typer(no_args_is_help=True, help="Issue development tokens.")
audit = typer.Typer(no_args_is_help=True, help="Check and read the audit ledger.")
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

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def main() -> None:
    """Run the command line."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    for chatty in ("alembic", "httpx", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        app()
    except GatewayError as exc:
        # Whoever sits at this terminal runs the gateway: only callers must not learn the reason.
        reason = "" if exc.reason == exc.code else f" (reason: {exc.reason})"
        Console(stderr=True).print(
            f"gateway: {exc.message} [{exc.code}]{reason}", markup=False, soft_wrap=True
        )
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
    from gateway.commands.opening import settings_of_process
    from gateway.commands.serve import serve as run

    run(settings_of_process(), ready_descriptor=ready_descriptor)


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


@app.command()
def seal(
    source: Annotated[Path, typer.Argument(help="An ONNX file, or an Ultralytics .pt you trust.")],
    name: Annotated[str, typer.Option(help="Model name: a-z, 0-9, '.', '_', '-'.")],
    version: Annotated[str, typer.Option(help="Version: written once, never replaced.")],
    signer: Annotated[Path, typer.Option(help="Private key that signs.")] = Path(
        "var/keys/signer.key"
    ),
    precision: Annotated[str, typer.Option(help="f32, bf16 or int8.")] = "f32",
    golden: Annotated[
        Path | None, typer.Option(help="Images that every load must reproduce.")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Images to quantise on, labelled in YOLO's form if possible."),
    ] = None,
    obfuscate: Annotated[bool, typer.Option(help="Rename and shuffle the graph.")] = False,
    kek: Annotated[
        list[str] | None,
        typer.Option(help="Wrap for this KEK; repeat for more. Default: GATEWAY_KEKS."),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Refuse weights of another task than this.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="openvino (detect), onnxruntime or ultralytics (a .pt).")
    ] = None,
    head: Annotated[
        str, typer.Option(help="Of a .pt with both heads: auto, nms_free or dense.")
    ] = "auto",
    imgsz: Annotated[int | None, typer.Option(help="Export size of a .pt, pixels.")] = None,
    reduced_decode: Annotated[
        bool, typer.Option(help="Decode large JPEGs at 1/2, 1/4 or 1/8; needs labelled images.")
    ] = False,
    accept_loss: Annotated[
        bool, typer.Option(help="Seal although accuracy is lost or cannot be measured.")
    ] = False,
    skip_parity: Annotated[
        bool, typer.Option(help="Do not compare with Ultralytics' own predict.")
    ] = False,
    promote: Annotated[bool, typer.Option(help="Put it into production at once.")] = False,
) -> None:
    """Prepare, prove, encrypt and sign a model, and register it as a candidate.

    Example: gateway seal best.pt --name belt --version 3 --golden photographs/ --promote

    Smaller and faster: gateway seal best.pt --name belt --version 3-int8 --precision int8 --calibration photographs/
    """
    from gateway.commands.opening import settings_of_process
    from gateway.commands.seal_order import SealOrder
    from gateway.commands.sealing import seal as run

    order = SealOrder(
        source_file=source,
        name=name,
        version=version,
        signer_file=signer,
        image_size_pixels=imgsz,
        is_promoted=promote,
        precision=precision,
        engine=engine,
        task=task,
        head=head,
        kek_specs=tuple(kek or ()),
        golden_folder=golden,
        calibration_folder=calibration,
        is_obfuscated=obfuscate,
        is_decode_reduced=reduced_decode,
        is_loss_accepted=accept_loss,
        is_parity_skipped=skip_parity,
    )
    run(settings_of_process(), order, console=Console(stderr=True, soft_wrap=True))


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
        float | None, typer.Option(min=0.0, max=1.0, help="Of the requests; 1 is all.")
    ] = None,
) -> None:
    """Let a candidate look at a share of the requests, or answer it.

    A shadow's answers are sampled and given to nobody; a canary's are given, and production's if it fails.

    Example: gateway models traffic belt 2 canary --share 0.05
    """
    from gateway.commands.models import direct_traffic
    from gateway.commands.opening import settings_of_process
    from gateway.store.records import Traffic

    if mode not in list(Traffic):
        raise typer.BadParameter(f"{mode!r} is none of {', '.join(Traffic)}")
    if (mode == Traffic.NONE) is bool(share):
        raise typer.BadParameter("shadow and canary need a --share over 0, none takes none")
    traffic = Traffic(mode)
    direct_traffic(
        settings_of_process(), name=name, version=version, traffic=traffic, share=share or 0.0
    )
    _tell(f"{name}@{version}: {mode}" + (f" {share:.0%}" if share else ""))


def _tell(change: str) -> None:
    console = Console(stderr=True, soft_wrap=True)
    console.print(f"{change}; running gateways follow within about a second", markup=False)


@keys.command("create")
def keys_create(
    folder: Annotated[Path, typer.Argument(help="Where the key files go.")] = Path("var/keys"),
    kek: Annotated[
        str | None, typer.Option(help="Make only this KEK: file:PATH, or a pkcs11: URI.")
    ] = None,
) -> None:
    """Make the KEK, the model signer and the token key that are missing. Example: gateway keys create

    With --kek, only a KEK: file:PATH, or in a PKCS #11 token, which it never leaves:
    --kek 'pkcs11:token=LABEL;object=KEY?module-path=/PATH/MODULE.so&pin-source=file:/PATH/PIN'
    The same URI in GATEWAY_KEKS names it, or any AES-256 key there that is sensitive and not extractable.
    """
    from gateway.commands.keys import create_all, create_one

    console = Console(stderr=True, soft_wrap=True)
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

    console = Console(stderr=True, soft_wrap=True)
    settings = settings_of_process()
    rotate(settings, specs=kek or [], is_dry_run=dry_run, as_json=as_json, console=console)


@token.command("issue")
def token_issue(
    role: Annotated[list[str], typer.Option(help="client, analyst, auditor, operator or metrics.")],
    subject: Annotated[str, typer.Option(help="Who it is for.")] = "developer",
    lifetime_seconds: Annotated[int, typer.Option(help="How long it is good.")] = 86_400,
    key: Annotated[Path, typer.Option(help="Private key that signs.")] = Path("var/keys/token.key"),
) -> None:
    """Print a signed token. Example: gateway token issue --role client --subject camera-7"""
    from gateway.commands.opening import settings_of_process
    from gateway.commands.token import issue

    settings = settings_of_process()
    print(
        issue(
            settings, roles=role, subject=subject, lifetime_seconds=lifetime_seconds, key_file=key
        )
    )


@audit.command("verify")
def audit_verify(as_json: AsJson = False) -> None:
    """Check every record of the ledger and locate the first bad one; exits 1 if there is one.

    Example: gateway audit verify --json
    """
    from gateway.commands.audit import verify
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
    """Print records, the oldest first: time, action, outcome, subject, code, reason; looking is recorded.

    Example: gateway audit show --newest 50
    """
    from gateway.commands.audit import show
    from gateway.commands.opening import settings_of_process

    show(settings_of_process(), request_id=request_id, newest=newest, as_json=as_json)


@db.command("upgrade")
def db_upgrade() -> None:
    """Create the database or bring it to this release. Example: gateway db upgrade"""
    from gateway.commands.db import upgrade
    from gateway.commands.opening import settings_of_process

    upgrade(settings_of_process())


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
