"""Makes reference.jsonl: what the gateway measures on clean frames, which the demo's monitor takes for normal.

Run it again whenever conveyor.onnx, the scenes or the gateway's features change; a test compares.
Example: python examples/conveyor/reference.py
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track

from gateway.commands.opening import utc_now
from gateway.dev.home import gateway_overrides, layout_of, prepare
from gateway.settings import read_settings

if TYPE_CHECKING:
    from examples.conveyor.traffic import frames
else:
    from traffic import frames

FRAMES = 300
SEED = 900_000  # far from the seeds that people give to traffic.py
HERE = Path(__file__).resolve().parent


def main() -> int:
    """Write the file; returns the exit code of the measuring command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=FRAMES, help="how many frames")
    parser.add_argument("--out", type=Path, default=HERE / "reference.jsonl", help="the file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "frames"
        images.mkdir()
        rendered = itertools.islice(frames("clean", SEED), arguments.count)
        for number, body in enumerate(
            track(rendered, total=arguments.count, description="rendering", console=_console())
        ):
            (images / f"{number:05d}.jpg").write_bytes(body)
        measured = _measure(Path(folder) / "home", images)
    arguments.out.write_text(measured, encoding="utf-8")
    return 0


def _measure(home: Path, images: Path) -> str:
    overrides = gateway_overrides(layout_of(home))
    settings = read_settings({}, **overrides)
    prepare(layout_of(home), settings, clock=utc_now, console=_console())
    environment = {settings.variable_name(name): str(value) for name, value in overrides.items()}
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "features", str(images)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def _console() -> Console:
    return Console(stderr=True)


if __name__ == "__main__":
    sys.exit(main())
