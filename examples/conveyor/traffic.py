"""Camera traffic for the demo: the usual frames, and three ways in which the world moves on.

Kinds:
- clean: the very distribution the model was trained on, frame by frame independent.
- dirty_lens: smudges and haze on the lens, at the same place in every frame of a seed.
- dim_light: a lamp has failed; a quarter of the light, and the sensor's gain is turned up.
- new_part: every second part or so is a flange, which the model has never seen.

Frame number i of a seed shows the same parts in every kind, so kinds can be compared frame by frame.
No frame repeats a training, validation or test scene, whatever the seed.
"""

import argparse
import itertools
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import httpx
import numpy as np
from rich.progress import track

# The scripts of this folder run by path, which makes the folder itself the place to import from;
# type checkers see it from the repository's root.
if TYPE_CHECKING:
    from examples.conveyor.belt import HEIGHT, WIDTH
    from examples.conveyor.parts import Floats
    from examples.conveyor.scenes import Scene, Situation, draw_scene, scene_rng
else:
    from belt import HEIGHT, WIDTH
    from parts import Floats
    from scenes import Scene, Situation, draw_scene, scene_rng

LENS_STREAM = 1000  # keeps the lens of a seed independent of the seed's scenes
REQUEST_TIMEOUT_SECONDS = 30.0

EXAMPLES = """examples:
  python examples/conveyor/traffic.py --kind dirty_lens --count 20 --out frames
  python examples/conveyor/traffic.py --kind clean --count 500 --rate-per-second 5 \\
      --url https://127.0.0.1:8443/predict --token-file token --ca-file certs/ca.pem
"""


def scenes(kind: str, seed: int) -> Iterator[Scene]:
    """Scenes of that kind with their ground truth, without end; number i depends on seed and i.

    Raises ValueError if kind is not in KINDS.
    """
    setting = situation(kind, seed)
    for index in itertools.count():
        yield draw_scene(scene_rng("traffic", seed, index), setting)


def frames(kind: str, seed: int) -> Iterator[bytes]:
    """The JPEG files of scenes(kind, seed), without end."""
    return (scene.encode() for scene in scenes(kind, seed))


def situation(kind: str, seed: int) -> Situation:
    """What differs from the usual distribution in that kind of traffic."""
    if kind not in SITUATIONS:
        raise ValueError(f"no traffic kind {kind!r}; there are {', '.join(KINDS)}")
    return SITUATIONS[kind](np.random.default_rng([LENS_STREAM, seed]))


def clean(_rng: np.random.Generator) -> Situation:
    """Nothing differs."""
    return Situation()


def dirty_lens(rng: np.random.Generator) -> Situation:
    """Smudges drawn once from rng lie over every frame."""
    smudge = smudges(rng)
    return Situation(lens=lambda frame: smear(frame, smudge))


def dim_light(_rng: np.random.Generator) -> Situation:
    """A quarter of the light reaches the sensor, and its noise grows with its gain."""
    return Situation(exposure_ratio=0.25, noise_ratio=1.8)


def new_part(_rng: np.random.Generator) -> Situation:
    """About half of all parts are of a type the model does not know."""
    return Situation(novel_share=0.5)


SITUATIONS: dict[str, Callable[[np.random.Generator], Situation]] = {
    "clean": clean,
    "dirty_lens": dirty_lens,
    "dim_light": dim_light,
    "new_part": new_part,
}
KINDS = tuple(SITUATIONS)


def smudges(rng: np.random.Generator) -> Floats:
    """How dirty each point of a lens is: float32 (480, 640), 0 clean .. 1 opaque."""
    dirt = np.zeros((HEIGHT // 8, WIDTH // 8), np.float32)
    rows, columns = np.mgrid[: HEIGHT // 8, : WIDTH // 8].astype(np.float32) * 8
    for _ in range(int(rng.integers(8, 13))):
        x, y = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)
        radius, stretch = rng.uniform(90, 200), rng.uniform(0.6, 1.5)
        far = np.hypot((columns - x) * stretch, (rows - y) / stretch) / radius
        thickness = rng.uniform(0.7, 1.0) * np.clip(1.7 * (1 - far), 0, 1)
        dirt = np.maximum(dirt, thickness.astype(np.float32))
    streaks = rng.standard_normal(dirt.shape, np.float32)
    dirt = np.clip(dirt * (1 + 0.15 * streaks), 0, 1)
    soft = cv2.GaussianBlur(dirt, (0, 0), 1.2)
    return np.asarray(cv2.resize(soft, (WIDTH, HEIGHT)), np.float32)


def smear(frame: Floats, smudge: Floats) -> Floats:
    """What comes through a dirty lens: blur and a grey veil where it is dirty.

    frame: float32 (480, 640, 3) BGR in linear light; smudge: float32 (480, 640) 0..1. A new array.
    """
    quarter = cv2.resize(frame, (WIDTH // 4, HEIGHT // 4), interpolation=cv2.INTER_AREA)
    blurred = cv2.resize(cv2.GaussianBlur(quarter, (0, 0), 3.0), (WIDTH, HEIGHT))
    veil = np.float32(0.35) * np.asarray(blurred, np.float32).mean() + np.float32(0.05)
    share = np.asarray(cv2.cvtColor(smudge, cv2.COLOR_GRAY2BGR), np.float32)
    through = np.asarray(blurred, np.float32) * np.float32(0.75) + veil
    return np.asarray(frame + share * (through - frame), np.float32)


def send(
    client: httpx.Client, url: str, bodies: Iterable[bytes], *, rate_per_second: float | None
) -> Counter[str]:
    """Post each JPEG and count the answers by status, or by the error where none came.

    rate_per_second: at most so many a second; None sends the next as soon as the last is answered.
    """
    answers: Counter[str] = Counter()
    due = time.monotonic()
    for body in bodies:
        try:
            response = client.post(url, content=body, headers={"Content-Type": "image/jpeg"})
            answers[str(response.status_code)] += 1
        except httpx.HTTPError as error:
            answers[type(error).__name__] += 1
        if rate_per_second is not None:
            due += 1 / rate_per_second
            time.sleep(max(0.0, due - time.monotonic()))
    return answers


def write(folder: Path, bodies: Iterable[bytes]) -> int:
    """Write each JPEG into the folder as 00000.jpg and so on; how many there were."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for body in bodies:
        (folder / f"{count:05}.jpg").write_bytes(body)
        count += 1
    return count


def open_client(token_file: Path | None, ca_file: Path | None) -> httpx.Client:
    """A client that presents the bearer token and trusts the certificate authority given."""
    headers = {}
    if token_file is not None:
        headers["Authorization"] = f"Bearer {token_file.read_text('ascii').strip()}"
    context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    return httpx.Client(headers=headers, verify=context, timeout=REQUEST_TIMEOUT_SECONDS)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(
        description="Send rendered camera frames to a gateway, or write them to a folder.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kind", choices=KINDS, default="clean", help="default: clean")
    parser.add_argument("--count", type=int, default=50, help="number of frames, default: 50")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same frames; default: 0")
    parser.add_argument("--url", help="where to post each frame as image/jpeg")
    parser.add_argument("--out", type=Path, help="folder to write the frames to instead")
    parser.add_argument("--token-file", type=Path, help="file that holds the bearer token")
    parser.add_argument("--ca-file", type=Path, help="PEM file of the certificate authority")
    parser.add_argument("--rate-per-second", type=float, help="default: as fast as answered")
    options = parser.parse_args(arguments)
    if (options.url is None) == (options.out is None):
        parser.error("give either --url (send the frames) or --out (write them)")
    if options.rate_per_second is not None and options.rate_per_second <= 0:
        parser.error("--rate-per-second must be more than 0")
    for name in ("token_file", "ca_file"):
        path = getattr(options, name)
        if path is not None and not path.is_file():
            parser.error(f"--{name.replace('_', '-')}: there is no file {path}")
    return options


def main(arguments: list[str]) -> int:
    """Run the command; 0 if every frame was written, or answered with a 2xx status."""
    options = parse(arguments)
    bodies = itertools.islice(frames(options.kind, options.seed), options.count)
    shown = track(bodies, total=options.count, description=f"{options.kind} frames")
    if options.out is not None:
        print(f"wrote {write(options.out, shown)} frames to {options.out}")
        return 0
    with open_client(options.token_file, options.ca_file) as client:
        answers = send(client, options.url, shown, rate_per_second=options.rate_per_second)
    print(", ".join(f"{count} x {answer}" for answer, count in sorted(answers.items())))
    return 0 if all(answer.startswith("2") for answer in answers) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
