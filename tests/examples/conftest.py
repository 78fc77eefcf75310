"""The demo's scripts import each other from their own folder, as they do when run by path."""

import sys
from pathlib import Path

CONVEYOR = Path(__file__).resolve().parents[2] / "examples" / "conveyor"

if str(CONVEYOR) not in sys.path:
    sys.path.append(str(CONVEYOR))
