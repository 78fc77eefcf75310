"""Whether a check of the ledger sees every tamper, and names the first bad record. Prints one JSON line.

tampers: how many of each kind. undetected: those that were called good. misnamed: those for which not the first bad
record was named, or a range without it or beyond the checkpoints around it, or another kind. false_alarms: good ledgers
that were called bad, of good. Whoever tampers can write to the database, and does not have the ledger's key.
unseen: what by its nature cannot be seen, tried and seen: records that nobody has signed yet, written anew with all
their hashes, and a ledger put back to an older state where no witness is asked; not among the tampers.
Example: python benchmarks/tamper.py --quick
"""

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track

if TYPE_CHECKING:
    from benchmarks.tampered_ledger import Copy, Ledger, check, make_ledger
    from benchmarks.tampers import TAMPERS, Tamper, rewrite
else:
    from tampered_ledger import Copy, Ledger, check, make_ledger
    from tampers import TAMPERS, Tamper, rewrite

SEED = 20310506
# Records of each ledger, and how many of them are not signed yet.
LEDGERS = ((300, 7), (600, 0), (1100, 3), (2000, 12))
SHARES = 20
QUICK_LEDGERS = ((300, 7), (560, 0))


def main() -> None:
    """Run everything and print the line; exits 1 if a tamper was not seen or not named, or a good ledger called bad."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="ten of each kind")
    parser.add_argument("--tampers", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    if arguments.quick:
        found = try_some(arguments.seed, 10 * len(TAMPERS), QUICK_LEDGERS)
    else:
        found = _try_in_processes(arguments.seed, arguments.tampers)
    for line in found.misnamed:
        print(line, file=sys.stderr)
    print(json.dumps(found.figures()))
    if found.undetected or found.misnamed or found.false_alarms:
        sys.exit(1)


@dataclass(kw_only=True)
class Found:
    """Counts of what was tried and what was said of it."""

    tampers: Counter[str] = field(default_factory=Counter)
    undetected: int = 0
    misnamed: list[str] = field(default_factory=list)
    good: int = 0
    false_alarms: int = 0
    unseen_tried: Counter[str] = field(default_factory=Counter)
    unseen_seen: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Found") -> None:
        """Count what was tried elsewhere too."""
        self.tampers += other.tampers
        self.undetected += other.undetected
        self.misnamed += other.misnamed
        self.good += other.good
        self.false_alarms += other.false_alarms
        self.unseen_tried += other.unseen_tried
        self.unseen_seen += other.unseen_seen

    def figures(self) -> dict[str, Any]:
        """The members of the line."""
        return {
            "tampers": dict(self.tampers),
            "tried": self.tampers.total(),
            "undetected": self.undetected,
            "misnamed": len(self.misnamed),
            "good": self.good,
            "false_alarms": self.false_alarms,
            "unseen": {
                name: {"tried": tried, "seen": self.unseen_seen[name]}
                for name, tried in self.unseen_tried.items()
            },
        }


def _try_in_processes(seed: int, tampers: int) -> Found:
    found = Found()
    shares = [tampers // SHARES + (number < tampers % SHARES) for number in range(SHARES)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        parts = [
            pool.submit(try_some, seed + number, share, LEDGERS)
            for number, share in enumerate(shares)
        ]
        console = Console(stderr=True)
        done = track(as_completed(parts), total=SHARES, description="tampers", console=console)
        for part in done:
            found.add(part.result())
    return found


def try_some(seed: int, tampers: int, sizes: Sequence[tuple[int, int]]) -> Found:
    """Tamper this often with new ledgers, each kind in turn; then try what is good, and what cannot be seen."""
    rng, found = random.Random(seed), Found()
    with tempfile.TemporaryDirectory(prefix="gatewatch-tamper-") as name:
        folder = Path(name)
        ledgers = [
            make_ledger(folder / str(number), rng, records=records, unsigned=unsigned)
            for number, (records, unsigned) in enumerate(sizes)
        ]
        file = folder / "copy.db"
        for number in range(tampers):
            tamper = TAMPERS[(seed + number) % len(TAMPERS)]
            _tamper(tamper, ledgers[(number // len(TAMPERS)) % len(ledgers)], file, rng, found)
        for _ in range(max(tampers // 20, 1)):
            found.good += 1
            found.false_alarms += _is_called_bad(rng.choice(ledgers), file, rng)
            _try_unseen(ledgers, file, rng, found)
    return found


def _tamper(tamper: Tamper, ledger: Ledger, file: Path, rng: random.Random, found: Found) -> None:
    with Copy(ledger.file, file) as copy:
        truth = tamper(copy, ledger, rng)
    fault = check(file, ledger).first_bad
    name = tamper.__name__
    found.tampers[name] += 1
    if fault is None:
        found.undetected += 1
        print(f"{name}: not seen: {truth}", file=sys.stderr)
    elif not truth.is_named_by(fault):
        found.misnamed.append(f"{name}: {truth}, but {fault}")


def _is_called_bad(ledger: Ledger, file: Path, rng: random.Random) -> bool:
    # As it is, older than what no witness saw, or grown since the witness looked.
    state = rng.randrange(3)
    with Copy(ledger.older if state == 1 else ledger.file, file) as copy:
        if state == 2:
            copy.append(ledger.signer, rng, rng.randrange(1, 99))
    return check(file, ledger, is_witnessed=state != 1).first_bad is not None


def _try_unseen(ledgers: list[Ledger], file: Path, rng: random.Random, found: Found) -> None:
    ledger = rng.choice([ledger for ledger in ledgers if ledger.count > ledger.signed])
    for name, tamper in (
        ("unsigned_rewritten", _rewrite_unsigned),
        ("put_back_without_witness", _put_back),
    ):
        with Copy(ledger.file, file) as copy:
            tamper(ledger, copy, rng)
        found.unseen_tried[name] += 1
        found.unseen_seen[name] += check(file, ledger, is_witnessed=False).first_bad is not None


def _put_back(ledger: Ledger, copy: Copy, _rng: random.Random) -> None:
    copy.replace(ledger.older)


def _rewrite_unsigned(ledger: Ledger, copy: Copy, rng: random.Random) -> None:
    rewrite(copy, rng.randrange(ledger.signed, ledger.count), rng)
    copy.mend_nodes()


if __name__ == "__main__":
    main()
