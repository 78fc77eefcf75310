"""`gateway seal`: what can be asked of a sealing."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.command_line.output import terminal

Source = Annotated[Path, typer.Argument(help="An ONNX file, or an Ultralytics .pt you trust.")]
Name = Annotated[str, typer.Option(help="Model name: a-z, 0-9, '.', '_', '-'.")]
Version = Annotated[str, typer.Option(help="Version: written once, never replaced.")]
SignerFile = Annotated[Path, typer.Option(help="Private key that signs.")]
Precision = Annotated[str, typer.Option(help="f32, bf16 or int8.")]
Golden = Annotated[Path | None, typer.Option(help="Images that every load must reproduce.")]
Calibration = Annotated[
    Path | None, typer.Option(help="Images to quantise on, labelled if possible.")
]
Obfuscate = Annotated[bool, typer.Option(help="Rename and shuffle the graph.")]
KekSpecs = Annotated[
    list[str] | None,
    typer.Option(help="Wrap for this KEK; repeat for more. Default: GATEWAY_KEKS."),
]
Task = Annotated[str | None, typer.Option(help="Refuse weights of another task than this.")]
EngineName = Annotated[
    str | None, typer.Option(help="openvino (detect), onnxruntime or ultralytics (a .pt).")
]
Head = Annotated[str, typer.Option(help="Of a .pt with both heads: auto, nms_free or dense.")]
ImageSize = Annotated[int | None, typer.Option(help="Export size of a .pt, pixels.")]
ReducedDecode = Annotated[
    bool, typer.Option(help="Decode large JPEGs at 1/2, 1/4 or 1/8; needs labelled images.")
]
AcceptLoss = Annotated[
    bool, typer.Option(help="Seal although accuracy is lost or cannot be measured.")
]
SkipParity = Annotated[bool, typer.Option(help="Do not compare with Ultralytics' own predict.")]
Promote = Annotated[bool, typer.Option(help="Put it into production at once.")]

SIGNER_FILE = Path("var/keys/signer.key")


def seal(
    source: Source,
    name: Name,
    version: Version,
    signer: SignerFile = SIGNER_FILE,
    precision: Precision = "f32",
    golden: Golden = None,
    calibration: Calibration = None,
    obfuscate: Obfuscate = False,
    kek: KekSpecs = None,
    task: Task = None,
    engine: EngineName = None,
    head: Head = "auto",
    imgsz: ImageSize = None,
    reduced_decode: ReducedDecode = False,
    accept_loss: AcceptLoss = False,
    skip_parity: SkipParity = False,
    promote: Promote = False,
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
    run(settings_of_process(), order, console=terminal())
