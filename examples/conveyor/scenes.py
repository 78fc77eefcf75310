"""Parts on a conveyor belt, rendered: the demo's endless supply of labelled camera frames.

Rules:
- The same seed gives the same scene; scenes of different (stream, seed, index) are independent.
- Frames are what a camera would deliver: light, dirt, blur, noise and JPEG vary from one to the
  next, always with the same distribution unless a Situation says otherwise.
- A box covers exactly the visible pixels of its part or defect.

It needs numpy and OpenCV only. Traffic with drift is made in traffic.py, the model in train.py.
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
from rich.progress import track

# The scripts of this folder run by path, which makes the folder itself the place to import from;
# type checkers see it from the repository's root.
if TYPE_CHECKING:
    from examples.conveyor.belt import HEIGHT, WIDTH, belt, camera, lamp, light_field, record
    from examples.conveyor.parts import SHAPES, Bytes, Floats, Light, Sprite, draw_part
else:
    from belt import HEIGHT, WIDTH, belt, camera, lamp, light_field, record
    from parts import SHAPES, Bytes, Floats, Light, Sprite, draw_part

Ints = npt.NDArray[np.int64]

PART_NAMES = ("bolt", "nut", "washer", "gear", "bracket")
DEFECT_NAMES = ("scratch", "rust")
CLASS_NAMES = PART_NAMES + DEFECT_NAMES
NOVEL_NAME = "flange"  # takes the place of another part, never in a clean scene, never labelled

STREAMS = {"train": 1, "val": 2, "test": 3, "traffic": 4}

# Range of the half extent of each part in pixels, before the scene's own scale.
HALF_EXTENTS = {
    "bolt": (52, 78),
    "nut": (26, 38),
    "washer": (27, 42),
    "gear": (44, 66),
    "bracket": (46, 70),
}
RUST_CHANCE, SCRATCH_CHANCE = 0.28, 0.45
SCRATCHED_PARTS = ("gear", "bracket", "bolt")  # the others have no room for a visible scratch
SHADOW_TRAVEL_PIXELS = 9.0
LEAST_VISIBLE_RATIO = 0.3  # a part or defect covered more than this is not labelled
LEAST_BOX_PIXELS = 8

EXAMPLES = """examples:
  python examples/conveyor/scenes.py --out dataset
  python examples/conveyor/scenes.py --count 3200 --val-count 400 --test-count 600 --out dataset
"""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One frame with its ground truth.

    image: uint8 (480, 640, 3) BGR, before JPEG compression.
    boxes: float32 (n, 4) xyxy in pixels, 0 <= x1 < x2 <= 640 and 0 <= y1 < y2 <= 480.
    class_ids: int64 (n,), indices into CLASS_NAMES.
    jpeg_quality: 1..100, the compression this camera uses.
    """

    image: Bytes
    boxes: Floats
    class_ids: Ints
    jpeg_quality: int

    def encode(self) -> bytes:
        """The frame as the JPEG file the camera sends."""
        options = [cv2.IMWRITE_JPEG_QUALITY, self.jpeg_quality]
        return cv2.imencode(".jpg", self.image, options)[1].tobytes()


@dataclass(frozen=True, slots=True)
class Situation:
    """What differs from the usual distribution; the default is the usual distribution itself.

    exposure_ratio: light on the sensor over the usual light.
    noise_ratio: noise of the sensor over the usual noise.
    novel_share: chance of each part to be replaced by one the model has never seen, 0..1.
    lens: what the lens does to the light, float32 (480, 640, 3) BGR in and out.
    """

    exposure_ratio: float = 1.0
    noise_ratio: float = 1.0
    novel_share: float = 0.0
    lens: Callable[[Floats], Floats] | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a part lies: centre and half extent in pixels, angle in radians."""

    name: str
    x: float
    y: float
    half_extent: float
    angle: float


def draw_scene(rng: np.random.Generator, situation: Situation | None = None) -> Scene:
    """Render one scene; the same generator state gives the same scene, whatever the situation."""
    situation = situation or Situation()
    layout_rng, belt_rng, light_rng, camera_rng, novelty_rng = rng.spawn(5)
    light = lamp(light_rng)
    frame = belt(belt_rng)
    owners = np.zeros((HEIGHT, WIDTH), np.uint8)  # 1 + index of the part on top; 0 is the belt
    flaws = np.zeros((HEIGHT, WIDTH), np.uint8)  # 1 + index of the defect on top; 0 is none
    seen: list[tuple[str, Bytes, int, int]] = []  # name, map, value in the map, pixels drawn
    for number, place in enumerate(_placements(layout_rng), start=1):
        name = NOVEL_NAME if novelty_rng.random() < situation.novel_share else place.name
        sprite = _sprite(name, place, light, layout_rng.spawn(1)[0])
        window = _lay(frame, sprite, place, light)
        solid = sprite.alpha[window.source] > 0.5
        owners[window.target][solid] = number
        flaws[window.target][solid] = 0
        if name != NOVEL_NAME:
            seen.append((name, owners, number, int((sprite.alpha > 0.5).sum())))
        for flaw, pixels in sprite.defects.items():
            flaws[window.target][pixels[window.source]] = number
            seen.append((flaw, flaws, number, int(pixels.sum())))
    frame *= light_field(light_rng, light) * np.float32(situation.exposure_ratio)
    if situation.lens is not None:
        frame = situation.lens(frame)
    device = camera(camera_rng)
    image = record(frame, device, camera_rng, noise_gain=situation.noise_ratio)
    boxes, class_ids = _labels(seen)
    return Scene(image, boxes, class_ids, device.jpeg_quality)


def scene_rng(stream: str, seed: int, index: int) -> np.random.Generator:
    """The generator of one scene; no two triples share one.

    stream: a name in STREAMS, so that traffic never repeats a training scene, whatever its seed.
    """
    return np.random.default_rng([STREAMS[stream], seed, index])


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a sprite that falls into the frame: slices of the sprite and of the frame."""

    source: tuple[slice, slice]
    target: tuple[slice, slice]


def _placements(rng: np.random.Generator) -> list[Placement]:
    """Three to eight parts, mostly apart, sometimes overlapping or cut by the frame's edge."""
    zoom = rng.uniform(0.85, 1.2)
    crowding = 0.62 if rng.random() < 0.25 else 0.95
    placed: list[Placement] = []
    for _ in range(int(rng.integers(3, 9))):
        name = str(rng.choice(PART_NAMES))
        half_extent = rng.uniform(*HALF_EXTENTS[name]) * zoom
        angle = rng.uniform(0, 2 * np.pi)
        for _attempt in range(12):
            x, y = rng.uniform(15, WIDTH - 15), rng.uniform(40, HEIGHT - 40)
            gaps = [
                np.hypot(x - p.x, y - p.y) - crowding * (p.half_extent + half_extent)
                for p in placed
            ]
            if min(gaps, default=0) >= 0:
                placed.append(Placement(name, x, y, half_extent, angle))
                break
    return placed


def _sprite(name: str, place: Placement, light: Light, rng: np.random.Generator) -> Sprite:
    """The part of that name at that place, with at most one defect on it."""
    chance = rng.random()
    defects: tuple[str, ...] = ()
    if name != NOVEL_NAME and chance < RUST_CHANCE:
        defects = ("rust",)
    elif name in SCRATCHED_PARTS and chance < RUST_CHANCE + SCRATCH_CHANCE:
        defects = ("scratch",)
    finish = rng.choice(["steel", "zinc", "brass", "black_oxide"], p=[0.4, 0.25, 0.2, 0.15])
    return draw_part(
        SHAPES[name](rng),
        half_extent=place.half_extent,
        angle=place.angle,
        finish=str(finish),
        light=light,
        defects=defects,
        rng=rng,
    )


def _lay(frame: Floats, sprite: Sprite, place: Placement, light: Light) -> Window:
    """Lay a sprite and its shadow over the frame, in place; where it came to lie."""
    window = _window(sprite.alpha.shape[0], place)
    x, y, _ = light.direction
    move = np.array(
        [[1, 0, -x * SHADOW_TRAVEL_PIXELS], [0, 1, -y * SHADOW_TRAVEL_PIXELS]], np.float32
    )
    side = sprite.alpha.shape[::-1]
    shadow = cv2.GaussianBlur(cv2.warpAffine(sprite.alpha, move, side), (0, 0), 3.0)
    shade = 1 - shadow * np.float32(0.75 * (1 - light.ambient))
    alpha = sprite.alpha[window.source]
    under = cv2.cvtColor(shade[window.source] * (1 - alpha), cv2.COLOR_GRAY2BGR)
    over = cv2.cvtColor(alpha, cv2.COLOR_GRAY2BGR) * sprite.colour[window.source]
    frame[window.target] = frame[window.target] * under + over
    return window


def _window(side: int, place: Placement) -> Window:
    """Which pixels of a square sprite, centred on the placement, fall into which of the frame."""
    left, top = round(place.x - side / 2), round(place.y - side / 2)
    x1, x2 = max(left, 0), min(left + side, WIDTH)
    y1, y2 = max(top, 0), min(top + side, HEIGHT)
    return Window(
        source=(slice(y1 - top, y2 - top), slice(x1 - left, x2 - left)),
        target=(slice(y1, y2), slice(x1, x2)),
    )


def _labels(seen: list[tuple[str, Bytes, int, int]]) -> tuple[Floats, Ints]:
    """Boxes around what stayed visible: float32 (n, 4) xyxy and int64 (n,)."""
    boxes, class_ids = [], []
    for name, owners, number, drawn in seen:
        visible = (owners == number).astype(np.uint8)
        x, y, width, height = cv2.boundingRect(visible)
        if min(width, height) < LEAST_BOX_PIXELS:
            continue
        if cv2.countNonZero(visible) < LEAST_VISIBLE_RATIO * drawn:
            continue
        boxes.append((x, y, x + width, y + height))
        class_ids.append(CLASS_NAMES.index(name))
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(class_ids, np.int64)


def write_split(folder: Path, split: str, drawn: Iterable[Scene]) -> int:
    """Write scenes as images/SPLIT/00000.jpg and labels/SPLIT/00000.txt; how many there were."""
    images, labels = folder / "images" / split, folder / "labels" / split
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    count = 0
    for scene in drawn:
        (images / f"{count:05}.jpg").write_bytes(scene.encode())
        (labels / f"{count:05}.txt").write_text(label_lines(scene), "utf-8")
        count += 1
    return count


def write_dataset(folder: Path, *, seed: int, counts: dict[str, int]) -> None:
    """Write a dataset in Ultralytics' own layout: images/SPLIT, labels/SPLIT and data.yaml.

    counts: split name ("train", "val" or "test") to number of scenes. No two splits share a scene.
    """
    for split, count in counts.items():
        drawn = (draw_scene(scene_rng(split, seed, index)) for index in range(count))
        write_split(folder, split, track(drawn, total=count, description=f"{split} scenes"))
    write_data_yaml(folder, counts)


def write_data_yaml(folder: Path, splits: Iterable[str]) -> None:
    """Write the data.yaml that names the folder's splits and the classes.

    Ultralytics insists on a train and a val split; where there is none, the first split stands in.
    """
    named = {split: split for split in splits}
    first = next(iter(named))
    named = {"train": first, "val": first} | named
    lines = [f"path: {folder.resolve()}"]
    lines += [f"{name}: images/{split}" for name, split in named.items()]
    lines += ["names:", *(f"  {number}: {name}" for number, name in enumerate(CLASS_NAMES))]
    (folder / "data.yaml").write_text("\n".join(lines) + "\n", "utf-8")


def label_lines(scene: Scene) -> str:
    """One line a box, "class x y width height": the centre and size over the frame's size."""
    lines = []
    for class_id, (x1, y1, x2, y2) in zip(scene.class_ids, scene.boxes.tolist(), strict=True):
        x, y = (x1 + x2) / 2 / WIDTH, (y1 + y2) / 2 / HEIGHT
        width, height = (x2 - x1) / WIDTH, (y2 - y1) / HEIGHT
        lines.append(f"{class_id} {x:.6f} {y:.6f} {width:.6f} {height:.6f}\n")
    return "".join(lines)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(
        description="Render labelled scenes as a dataset that Ultralytics can train on.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--count", type=int, default=300, help="training scenes, default: 300")
    parser.add_argument("--val-count", type=int, default=50, help="validation, default: 50")
    parser.add_argument("--test-count", type=int, default=50, help="test, default: 50")
    parser.add_argument("--seed", type=int, default=1, help="same seed, same scenes; default: 1")
    options = parser.parse_args(arguments)
    if min(options.count, options.val_count, options.test_count) < 1:
        parser.error("each of the three counts must be at least 1")
    return options


def main(arguments: list[str]) -> int:
    """Run the command."""
    options = parse(arguments)
    counts = {"train": options.count, "val": options.val_count, "test": options.test_count}
    write_dataset(options.out, seed=options.seed, counts=counts)
    print(f"wrote {sum(counts.values())} scenes and {options.out / 'data.yaml'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
