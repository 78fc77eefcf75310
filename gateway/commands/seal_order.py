"""What whoever seals a model asks for."""

from dataclasses import dataclass
from pathlib import Path

PRECISIONS = ("f32", "bf16", "int8")
DEFAULT_IMAGE_SIZE_PIXELS = 640


@dataclass(frozen=True, slots=True, kw_only=True)
class SealOrder:
    """A source, a name, and how it is to be run.

    source_file: an ONNX file or a .pt. image_size_pixels: the side that a .pt is exported for; None is 640. engine:
    None chooses by task. task: None takes what the weights say. head: auto, nms_free or dense. kek_specs: KEKs to wrap
    for; none means those of the configuration. golden_folder, calibration_folder: images, labelled or not.
    """

    source_file: Path
    name: str
    version: str
    signer_file: Path
    image_size_pixels: int | None = None
    is_promoted: bool = False
    precision: str = "f32"
    engine: str | None = None
    task: str | None = None
    head: str = "auto"
    kek_specs: tuple[str, ...] = ()
    golden_folder: Path | None = None
    calibration_folder: Path | None = None
    is_obfuscated: bool = False
    is_decode_reduced: bool = False
    is_loss_accepted: bool = False
    is_parity_skipped: bool = False
