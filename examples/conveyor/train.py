"""Train the demo's detector from nothing, export it as ONNX, and measure the exported file.

Steps:
1. Render the training, validation and test splits; no two share a scene.
2. Train model.yaml from random weights on the CPU.
3. Export the weights to conveyor.onnx: static, batch 1, 320 x 320, no NMS inside, with the pooled
   backbone feature as a second output, as sealing would add it where onnx is installed.
4. Measure that file on the test split and on each kind of traffic, with Ultralytics' own
   validation code over OpenVINO, and print one JSON line.

It needs the seal extra (torch, Ultralytics, onnx, onnxslim), no GPU and no network.
"""

import argparse
import importlib
import itertools
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.progress import track

from gateway.sealing.graphs.pooled import add_pooled_output

# The scripts of this folder run by path, which makes the folder itself the place to import from;
# type checkers see it from the repository's root.
if TYPE_CHECKING:
    from examples.conveyor import traffic
    from examples.conveyor.scenes import CLASS_NAMES, write_data_yaml, write_dataset, write_split
else:
    import traffic
    from scenes import CLASS_NAMES, write_data_yaml, write_dataset, write_split

FOLDER = Path(__file__).resolve().parent
ONNX_FILE = FOLDER / "conveyor.onnx"
IMAGE_SIZE = 320  # pixels, both sides of the model's input
OPSET = 17
DATASET_SEED = 1
COUNTS = {"train": 3200, "val": 400, "test": 600}
EPOCHS = 12
# Scenes of each traffic kind that are measured: so many from each of so many seeds (lenses).
KIND_SEEDS, KIND_COUNT = 5, 60
# What a reader of the ONNX needs to run it. The rest that Ultralytics writes (date, paths) changes
# from run to run or tells about the machine, and is dropped.
KEPT_METADATA = ("stride", "task", "batch", "imgsz", "names", "channels", "end2end", "args")

TRAINING = {
    "epochs": EPOCHS,
    "batch": 16,
    "nbs": 16,  # one optimiser step a batch
    "optimizer": "AdamW",
    "lr0": 0.003,
    "lrf": 0.01,
    "warmup_epochs": 1.0,
    "weight_decay": 0.0005,
    "rect": True,  # 320 x 256 instead of 320 x 320: a fifth less to compute
    "mosaic": 0.0,  # the scenes vary enough, and mosaics of four cost time
    "erasing": 0.0,
    "hsv_h": 0.005,
    "hsv_s": 0.2,
    "hsv_v": 0.2,
    "translate": 0.05,
    "scale": 0.15,
    "fliplr": 0.5,
    "flipud": 0.5,
    "seed": 0,
    "deterministic": False,
    "workers": 1,
    "cache": "ram",
    "amp": False,
    "plots": False,
    "pretrained": False,
}

EXAMPLES = """examples:
  python examples/conveyor/train.py                    # everything; half an hour of one idle core
  python examples/conveyor/train.py --evaluate-only    # measure conveyor.onnx again
  python examples/conveyor/train.py --epochs 1 --out quick.onnx
"""


def load_ultralytics(settings_folder: Path) -> types.ModuleType:
    """Import Ultralytics with its telemetry, downloads and installs off.

    settings_folder: where it writes its settings file instead of the home folder.
    """
    os.environ["YOLO_OFFLINE"] = "1"
    os.environ["YOLO_AUTOINSTALL"] = "false"
    os.environ["YOLO_CONFIG_DIR"] = str(settings_folder)
    ultralytics = importlib.import_module("ultralytics")
    stand_in_for_broken_torchvision()
    return ultralytics


def stand_in_for_broken_torchvision() -> None:
    """Put a stub in place of a torchvision that cannot be imported.

    torchvision built for CUDA does not import beside a CPU-only torch, and Ultralytics insists on
    importing it although it only needs the non-maximum suppression, which it also has itself.
    """
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        suppression = importlib.import_module("ultralytics.utils.nms")
        stub = types.ModuleType("torchvision")
        vars(stub)["ops"] = types.SimpleNamespace(nms=suppression.TorchNMS.nms)
        sys.modules["torchvision"] = stub


def fit(work: Path, *, epochs: int) -> Path:
    """Train on the dataset in work/dataset; the best weights as a .pt file."""
    ultralytics = load_ultralytics(work)
    model = ultralytics.YOLO(str(FOLDER / "model.yaml"), task="detect")
    options = TRAINING | {"epochs": epochs, "imgsz": IMAGE_SIZE, "device": "cpu"}
    model.train(
        data=str(work / "dataset" / "data.yaml"), project=str(work / "runs"), name="fit", **options
    )
    return work / "runs" / "fit" / "weights" / "best.pt"


def export(weights: Path, onnx_file: Path) -> None:
    """Write weights (.pt) as a simplified ONNX that says nothing about this machine."""
    onnx, onnxslim = importlib.import_module("onnx"), importlib.import_module("onnxslim")
    with tempfile.TemporaryDirectory() as folder:
        ultralytics = load_ultralytics(Path(folder))
        copy = Path(shutil.copy(weights, Path(folder) / "conveyor.pt"))
        model = ultralytics.YOLO(str(copy))
        options = {"format": "onnx", "imgsz": IMAGE_SIZE, "opset": OPSET, "device": "cpu"}
        # Ultralytics' own simplify=True asks for onnxruntime first; onnxslim does the work anyway.
        exported = model.export(**options, batch=1, dynamic=False, nms=False, simplify=False)
        graph = onnxslim.slim(onnx.load(exported))
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    kept = {key: metadata[key] for key in KEPT_METADATA if key in metadata}
    kept["description"] = "Gatewatch conveyor demo: parts and defects on a belt"
    kept["license"] = "AGPL-3.0-or-later"
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, kept)
    for node in graph.graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    graph.ClearField("doc_string")
    onnx.checker.check_model(graph, full_check=True)
    onnx_file.write_bytes(add_pooled_output(graph.SerializeToString()))


def as_openvino(onnx_file: Path, work: Path) -> Path:
    """Convert the ONNX, unrounded, into a folder that Ultralytics takes for an OpenVINO export."""
    onnx, openvino = importlib.import_module("onnx"), importlib.import_module("openvino")
    folder = work / "conveyor_openvino_model"
    folder.mkdir(exist_ok=True)
    model = openvino.convert_model(str(onnx_file))
    openvino.save_model(model, str(folder / "conveyor.xml"), compress_to_fp16=False)
    props = onnx.load(onnx_file).metadata_props
    lines = [f"{entry.key}: {entry.value}\n" for entry in props if entry.key in KEPT_METADATA]
    (folder / "metadata.yaml").write_text("".join(lines), "utf-8")
    return folder


def validate(model_folder: Path, dataset: Path) -> dict[str, Any]:
    """Mean average precision on a dataset's test split, by Ultralytics' validator, 0..1."""
    work = model_folder.parent
    model = load_ultralytics(work).YOLO(str(model_folder), task="detect")
    result = model.val(
        data=str(dataset / "data.yaml"), split="test", imgsz=IMAGE_SIZE, batch=1, device="cpu",
        workers=0, plots=False, verbose=False, project=str(work / "runs"), name=dataset.name,
    )  # fmt: skip
    by_class = zip(result.box.ap_class_index, result.box.ap50, strict=True)
    return {
        "map50": round(float(result.box.map50), 4),
        "map50_95": round(float(result.box.map), 4),
        "map50_by_class": {CLASS_NAMES[i]: round(float(ap), 4) for i, ap in by_class},
    }


def inference_ms(onnx_file: Path, *, repeats: int = 200) -> float:
    """Median milliseconds of one inference in OpenVINO on one thread, f32, without pre-processing."""
    openvino = importlib.import_module("openvino")
    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(str(onnx_file), "CPU", options).create_infer_request()
    image = np.full((1, 3, IMAGE_SIZE, IMAGE_SIZE), 0.5, np.float32)
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        request.infer([image])
        taken.append(time.perf_counter() - start)
    return round(1000 * statistics.median(taken), 2)


def render_traffic(folder: Path, kind: str) -> None:
    """Write a dataset of one kind of traffic, drawn from several seeds, as its test split."""
    drawn = itertools.chain.from_iterable(
        itertools.islice(traffic.scenes(kind, seed), KIND_COUNT) for seed in range(KIND_SEEDS)
    )
    shown = track(drawn, total=KIND_SEEDS * KIND_COUNT, description=f"{kind} scenes")
    write_split(folder, "test", shown)
    write_data_yaml(folder, ["test"])


def evaluate(onnx_file: Path, work: Path) -> dict[str, Any]:
    """All numbers about an exported model; work/dataset holds the held-out test split."""
    model_folder = as_openvino(onnx_file, work)
    measured = validate(model_folder, work / "dataset")
    by_kind = {}
    for kind in traffic.KINDS:
        render_traffic(work / kind, kind)
        by_kind[kind] = validate(model_folder, work / kind)
    return {
        "model": onnx_file.name,
        "bytes": onnx_file.stat().st_size,
        "test_scenes": COUNTS["test"],
        **measured,
        "traffic_scenes": KIND_SEEDS * KIND_COUNT,
        "traffic": by_kind,
        "inference_ms": inference_ms(onnx_file),
    }


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(
        description="Train, export and measure the demo's detector.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--evaluate-only", action="store_true", help="measure the ONNX file only")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"default: {EPOCHS}")
    parser.add_argument("--out", type=Path, default=ONNX_FILE, help="the ONNX file")
    options = parser.parse_args(arguments)
    if options.evaluate_only and not options.out.is_file():
        parser.error(f"--evaluate-only: there is no file {options.out}")
    return options


def main(arguments: list[str]) -> int:
    """Run the command."""
    options = parse(arguments)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="conveyor-") as folder:
        work = Path(folder)
        counts = {"test": COUNTS["test"]} if options.evaluate_only else COUNTS
        write_dataset(work / "dataset", seed=DATASET_SEED, counts=counts)
        if not options.evaluate_only:
            export(fit(work, epochs=options.epochs), options.out)
        measured = evaluate(options.out, work)
    print(json.dumps(measured | {"seconds": round(time.monotonic() - start)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
