"""Whether the ledger loses anything: killed, without power, without space, read-only, locked, without its server.

kills: a process that appends from eight tasks is killed (SIGKILL) at a random moment, this many times. power_cuts: the
storage below it is traced (storage_shim.c, needs a C compiler), and for random moments of the trace the files are made
that a disk may hold after the power went, and started from. faults: while each lasts, appends must be refused; after it
everything must go on without a person. Lost: records that were acknowledged and are not there. Prints one JSON line.
Example: python benchmarks/audit_torture.py --quick
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track
from sqlalchemy.exc import SQLAlchemyError

from gateway.errors import GatewayError
from gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from benchmarks.killed_processes import kill_often
    from benchmarks.ledger_worker import begin, find_lost, settings_in
    from benchmarks.power_cuts import Change, Disk, read_trace
    from benchmarks.storage_faults import run_faults
else:
    from killed_processes import kill_often
    from ledger_worker import begin, find_lost, settings_in
    from power_cuts import Change, Disk, read_trace
    from storage_faults import run_faults

HERE = Path(__file__).resolve().parent
SEED = 20310506
CONTROL_CUTS = 20


def main() -> None:
    """Run everything and print the line; exits 1 if anything was lost or needs a person."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few of each")
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--power-cuts", type=int, default=1_000)
    arguments = parser.parse_args()
    kills = 12 if arguments.quick else arguments.kills
    cuts = 30 if arguments.quick else arguments.power_cuts
    with tempfile.TemporaryDirectory(prefix="gatewatch-torture-") as name:
        folder = Path(name)
        figures: dict[str, Any] = kill_often(folder / "kills", kills, random.Random(SEED))
        shim = _compile(folder / "shim.so")
        if shim is not None:
            figures |= _cut_power(folder / "power", shim, cuts, random.Random(SEED))
        figures |= {"faults": run_faults(folder / "faults", shim)}
    print(json.dumps(figures))
    if _is_bad(figures):
        sys.exit(1)


def _is_bad(figures: dict[str, Any]) -> bool:
    counts = [
        value for name, value in figures.items() if name.endswith(("_lost", "_stuck", "_bad"))
    ]
    is_blind = figures.get("power_control_found") == 0
    return is_blind or any(counts) or any(said != "ok" for said in figures["faults"].values())


def _compile(target: Path) -> Path | None:
    compiler = shutil.which("cc")
    if compiler is None:
        print("no C compiler (cc): power cuts and full disks are left out", file=sys.stderr)
        return None
    source = str(HERE / "storage_shim.c")
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(target), source, "-ldl", "-lpthread"]
    subprocess.run(command, check=True)
    return target


@dataclass(frozen=True, slots=True)
class _Traced:
    """What a ledger's files were at first, and everything that happened to them."""

    files: dict[str, bytes]
    changes: list[Change]


def _cut_power(folder: Path, shim: Path, cuts: int, rng: random.Random) -> dict[str, Any]:
    traced = _trace(folder, shim, runs=4, records=max(300, cuts))
    figures = _start_after_cuts(folder, traced, cuts, rng)
    # The same on a disk that syncs nothing must lose something, or these cuts would prove nothing.
    changes = [change for change in traced.changes if change.kind not in "SD"]
    control = _start_after_cuts(folder, _Traced(traced.files, changes), CONTROL_CUTS, rng)
    found = sum(control[f"power_{name}"] for name in ("lost", "stuck", "bad"))
    return figures | {"power_control_found": found}


def _start_after_cuts(
    folder: Path, traced: _Traced, cuts: int, rng: random.Random
) -> dict[str, int]:
    moments = sorted(rng.randrange(len(traced.changes)) for _ in range(cuts))
    disk, said, done = Disk(traced.files), bytearray(), 0
    figures = {"power_cuts": cuts, "power_lost": 0, "power_stuck": 0, "power_bad": 0}
    for moment in track(moments, description="power cuts", console=Console(stderr=True)):
        for change in traced.changes[done:moment]:
            if change.path == "acknowledged":
                said += change.data
            else:
                disk.apply(change)
        done = moment
        _start_after_cut(
            folder.with_name("cut"), folder, disk.after_power_cut(rng), _parse(bytes(said)), figures
        )
    return figures | {"power_acknowledged": said.count(b"\n")}


def _trace(folder: Path, shim: Path, *, runs: int, records: int) -> _Traced:
    folder.mkdir()
    begin(settings_in(folder))
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    trace = folder.with_name("trace")
    for run in range(runs):
        command = [sys.executable, str(HERE / "ledger_worker.py"), str(folder), f"run{run}"]
        environment = {
            "PYTHONPATH": str(HERE.parent),
            "LD_PRELOAD": str(shim),
            "GATEWATCH_SHIM_FOLDER": str(folder),
            "GATEWATCH_SHIM_TRACE": str(trace),
        }
        subprocess.run(
            [*command, str(records)],
            env={**os.environ, **environment},
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return _Traced(files, list(read_trace(trace.read_bytes())))


def _start_after_cut(
    folder: Path,
    traced: Path,
    files: dict[str, bytes],
    acknowledged: dict[int, str],
    figures: dict[str, int],
) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path, content in files.items():
        # What SQLite shares between processes is none of the ledger: it is made anew.
        if not path.endswith("-shm"):
            (folder / path).write_bytes(content)
            (folder / path).chmod(0o600)
    settings = settings_in(folder).model_copy(
        update={"audit_key_file": settings_in(traced).audit_key_file}
    )
    _look(settings, acknowledged, figures, prefix="power")


def _look(
    settings: GatewaySettings, acknowledged: dict[int, str], figures: dict[str, int], *, prefix: str
) -> None:
    try:
        lost = find_lost(settings, acknowledged)
    except (GatewayError, SQLAlchemyError) as exc:
        print(f"does not start: {type(exc).__name__}: {exc}", file=sys.stderr)
        figures[f"{prefix}_stuck"] += 1
        return
    figures[f"{prefix}_lost"] += lost.records
    if lost.why:
        print(f"does not verify: {lost.why}", file=sys.stderr)
        figures[f"{prefix}_bad"] += 1


def _parse(said: bytes) -> dict[int, str]:
    # The last line may be cut: it acknowledged nothing yet.
    lines = said[: said.rfind(b"\n") + 1].decode().splitlines()
    return {int(position): request_id for position, request_id in map(str.split, lines)}


if __name__ == "__main__":
    main()
