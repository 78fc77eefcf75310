"""The two pictures of the README: one frame with its ground truth, and the four kinds of traffic."""

import argparse
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

# The scripts of this folder run by path, which makes the folder itself the place to import from;
# type checkers see it from the repository's root.
if TYPE_CHECKING:
    from examples.conveyor import traffic
    from examples.conveyor.parts import Bytes
    from examples.conveyor.scenes import CLASS_NAMES, PART_NAMES, Scene
else:
    import traffic
    from parts import Bytes
    from scenes import CLASS_NAMES, PART_NAMES, Scene

FOLDER = Path(__file__).resolve().parent
SEED = 3
PART_COLOUR, DEFECT_COLOUR = (80, 220, 80), (60, 60, 255)  # BGR
STRIP_FRAMES, STRIP_SCALE = 3, 0.5


def with_boxes(scene: Scene) -> Bytes:
    """The frame with its ground truth drawn on it: uint8 (480, 640, 3) BGR."""
    drawn = scene.image.copy()
    for (x1, y1, x2, y2), class_id in zip(scene.boxes.astype(int), scene.class_ids, strict=True):
        name = CLASS_NAMES[class_id]
        colour = PART_COLOUR if name in PART_NAMES else DEFECT_COLOUR
        cv2.rectangle(drawn, (int(x1), int(y1)), (int(x2), int(y2)), colour, 1)
        corner = (int(x1), max(int(y1) - 4, 12))
        cv2.putText(drawn, name, corner, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
    return drawn


def strip() -> Bytes:
    """A row for each kind of traffic with the same moments: uint8 (960, 960, 3) BGR."""
    rows = []
    for kind in traffic.KINDS:
        shown = [
            scene.image for scene in itertools.islice(traffic.scenes(kind, SEED), STRIP_FRAMES)
        ]
        row = cv2.resize(np.hstack(shown), None, fx=STRIP_SCALE, fy=STRIP_SCALE)
        cv2.putText(
            row, kind, (10, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA
        )
        rows.append(row)
    return np.asarray(np.vstack(rows), np.uint8)


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Draw the two pictures of the README.")
    parser.add_argument(
        "--out", type=Path, default=FOLDER, help="folder, default: beside this file"
    )
    options = parser.parse_args(arguments)
    pictures = {
        "boxes.jpg": with_boxes(next(traffic.scenes("clean", SEED))),
        "traffic.jpg": strip(),
    }
    for name, picture in pictures.items():
        encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
        (options.out / name).write_bytes(encoded.tobytes())
    print(f"wrote {' and '.join(pictures)} to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
