"""Killing processes that append to a ledger, at random moments."""

import asyncio
import os
import random
import select
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console
from rich.progress import track

from gateway.errors import GatewayError
from gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from benchmarks.ledger_worker import append_for_ever, begin, find_lost, opened, settings_in
else:
    from ledger_worker import append_for_ever, begin, find_lost, opened, settings_in

# Between looks at everything; each process that starts looks at what it goes on from anyway.
KILLS_BETWEEN_LOOKS = 50
# A process needs about a tenth of a second until it appends: some are killed while they start.
MAX_LIFE_SECONDS = 0.4
START_SECONDS = 30
_STUCK = 3


def kill_often(folder: Path, kills: int, rng: random.Random) -> dict[str, int]:
    """Kill this many processes, one after another, all on one ledger below a new folder; the counts of what was found.

    Processes are forked from this one, which must have neither threads nor open databases.
    """
    folder.mkdir()
    settings = settings_in(folder)
    begin(settings)
    acknowledged: dict[int, str] = {}
    figures = {"kills": kills, "kills_lost": 0, "kills_stuck": 0, "kills_bad": 0}
    for number in track(range(kills), description="kills", console=Console(stderr=True)):
        said, is_stuck = _kill_one(settings, f"run{number}", rng.uniform(0, MAX_LIFE_SECONDS))
        acknowledged |= said
        figures["kills_stuck"] += is_stuck
        if number % KILLS_BETWEEN_LOOKS == KILLS_BETWEEN_LOOKS - 1 or number == kills - 1:
            _look(settings, acknowledged, figures)
    return figures | {"kills_acknowledged": len(acknowledged)}


def _kill_one(
    settings: GatewaySettings, name: str, life_seconds: float
) -> tuple[dict[int, str], bool]:
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        _live(settings, name, writing)
    os.close(writing)
    said = _read_until(reading, time.monotonic() + life_seconds)
    os.kill(process, signal.SIGKILL)
    while chunk := os.read(reading, 1 << 16):
        said += chunk
    os.close(reading)
    _, status = os.waitpid(process, 0)
    is_stuck = os.WIFEXITED(status) and os.WEXITSTATUS(status) == _STUCK
    # A line is one write, smaller than what a pipe takes whole: none is cut.
    lines = said.decode().splitlines()
    return {int(p): request_id for p, request_id in map(str.split, lines)}, is_stuck


def _read_until(reading: int, ends_at: float) -> bytes:
    said = b""
    while (left := ends_at - time.monotonic()) > 0:
        if select.select([reading], [], [], left)[0]:
            chunk = os.read(reading, 1 << 16)
            if not chunk:
                break
            said += chunk
    return said


def _live(settings: GatewaySettings, name: str, said: int) -> NoReturn:
    code = _STUCK
    try:
        with opened(settings) as (_, audit):
            asyncio.run(
                append_for_ever(
                    audit, name, lambda position, id_: _say(said, f"{position} {id_}\n")
                )
            )
    except GatewayError as exc:
        print(f"does not start: {exc.message} ({exc.reason})", file=sys.stderr)
    finally:
        os._exit(code)


def _say(said: int, line: str) -> None:
    os.write(said, line.encode())


def _look(settings: GatewaySettings, acknowledged: dict[int, str], figures: dict[str, int]) -> None:
    # In a process of its own: the next one is forked from this, which may not have had the database open.
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            lost = find_lost(settings, acknowledged)
            os.write(writing, f"{lost.records} {lost.why}".encode())
        except GatewayError as exc:
            print(f"does not start: {exc.message} ({exc.reason})", file=sys.stderr)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        records, _, why = said.read().partition(" ")
    os.waitpid(process, 0)
    if not records:
        figures["kills_stuck"] += 1
        return
    figures["kills_lost"] += int(records)
    if why:
        print(f"does not verify: {why}", file=sys.stderr)
        figures["kills_bad"] += 1
