"""What lies on disk while everything runs: no weights, no images, no keys that others can read."""

import contextlib
import hashlib
import os
import resource
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.sealing.chunked import seal_chunked
from tests.system.conftest import Running, started
from tests.system.windows import count_held, holding, windows_of

pytestmark = pytest.mark.system
linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="core files are looked for as Linux names them"
)

CONVEYOR = Path(__file__).resolve().parents[2] / "examples" / "conveyor"


CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")


def files_of(*folders: Path) -> list[Path]:
    """Every file below these folders."""
    return [file for folder in folders for file in folder.rglob("*") if file.is_file()]


@pytest.fixture(scope="module")
def pieces() -> list[bytes]:
    """1,000 pieces of the weights that every home here serves."""
    return windows_of((CONVEYOR / "conveyor.onnx").read_bytes(), count=1000)


@pytest.fixture(scope="module")
def any_core_size() -> Iterator[None]:
    """The largest core limit there is, for every process started meanwhile; skips where the system allows none."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    if before[1] == 0:
        pytest.skip("the hard limit of core files is 0: no process here can write one")
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, before)


@pytest.fixture(scope="module")
def crashed(any_core_size: None, tmp_path_factory: pytest.TempPathFactory, frame: bytes) -> Path:
    """A folder with home, temporary and working folder of a gateway that has served and then died of SIGSEGV."""
    folder = tmp_path_factory.mktemp("crashed")
    (folder / "temporary").mkdir()
    (folder / "working").mkdir()
    environment = {"TMPDIR": str(folder / "temporary"), "GATEWAY_SAMPLE_IMAGE_RATE": "1.0"}
    with (
        contextlib.chdir(folder / "working"),
        started(folder / "home", environment) as run,
        run.client() as client,
    ):
        client.post("/predict", content=frame).raise_for_status()
        assert any(file.name.endswith("-wal") for file in files_of(folder / "home"))
        gateway = run.child("gateway")
        descriptor = os.pidfd_open(gateway)
        os.kill(gateway, signal.SIGSEGV)
        # Readable once the process is gone, its core file, if any, written.
        assert select.select([descriptor], [], [], 60)[0]
        os.close(descriptor)
        wait_until_noticed(folder / "home" / "dev.log")
    return folder


def wait_until_noticed(log: Path) -> None:
    """Until the development command has said how its gateway ended; it looks about once a second."""
    end = time.monotonic() + 30
    while "was killed by signal" not in log.read_text(encoding="utf-8"):
        assert time.monotonic() < end, "the development command has not noticed"
        time.sleep(0.1)  # polling another process's log


def test_the_search_finds_weights_where_they_are(pieces: list[bytes], tmp_path: Path) -> None:
    """All of them in their source, one across the border of two blocks, none in noise."""
    assert len(set(pieces)) == count_held(CONVEYOR / "conveyor.onnx", pieces)
    at_border, noise = tmp_path / "border", tmp_path / "noise"
    at_border.write_bytes(bytes((1 << 24) - 7) + pieces[0] + bytes(9))
    noise.write_bytes(os.urandom(100_000))
    assert [at_border] == holding([at_border, noise], pieces)


def test_no_plaintext_weights_on_disk(running: Running, pieces: list[bytes]) -> None:
    """Not in the home of a running gateway and monitor: database, journal, logs and reports included."""
    assert [] == holding(files_of(Path(running.facts["home"])), pieces)


@linux_only
def test_a_crash_leaves_no_core_file(crashed: Path) -> None:
    """Though the limits that the gateway was started with allow one; a pipe's receiver cannot be looked at."""
    assert "was killed by signal 11" in (crashed / "home" / "dev.log").read_text(encoding="utf-8")
    assert [] == [file for file in files_of(crashed) if "core" in file.name]


@linux_only
def test_a_crash_leaves_no_weights_anywhere(crashed: Path, pieces: list[bytes]) -> None:
    """Home, temporary and working folder, shared memory, and whatever a core file would be."""
    assert [] == holding(files_of(crashed, Path("/dev/shm")), pieces)


_OPEN_AND_CRASH = """
import hashlib, os, signal, sys
from pathlib import Path
from gateway.commands.process_memory import dump_nothing
from gateway.sealing.chunked import open_chunked_guarded
mode = sys.argv[2]
if mode == "filtered":
    dump_nothing()
guarded = open_chunked_guarded(bytes(32), b"c", Path(sys.argv[1]).read_bytes())
# Long, for the last bytes that were moved are in registers, which every core file holds.
marker = b"".join(hashlib.sha256(bytes([i])).digest() for i in range(256))
copy = bytearray(guarded.view) if mode != "guarded" else None
os.kill(os.getpid(), signal.SIGSEGV)
"""


@linux_only
@pytest.mark.parametrize(
    ("mode", "marker_held", "weights_held"),
    [("guarded", 1, False), ("copied", 1, True), ("filtered", 0, False)],
)
def test_a_core_file_holds_no_guarded_memory(
    any_core_size: None,
    pieces: list[bytes],
    tmp_path: Path,
    mode: str,
    marker_held: int,
    weights_held: bool,
) -> None:
    """A real one, of a process that keeps nothing else back.

    Guarded weights are not in it, a marker outside is; a copy on the heap is, but not where the dump filter is empty.
    """
    if CORE_PATTERN.read_text(encoding="utf-8").startswith("|"):
        pytest.skip("the kernel pipes core dumps to a program here: /proc/sys/kernel/core_pattern")
    plaintext = (CONVEYOR / "conveyor.onnx").read_bytes()
    (tmp_path / "sealed").write_bytes(seal_chunked(bytes(32), b"c", plaintext, salt=bytes(24)))
    marker = hashlib.sha256(bytes([100])).digest()
    done = subprocess.run(
        [sys.executable, "-c", _OPEN_AND_CRASH, "sealed", mode],
        cwd=tmp_path,
        timeout=60,
    )
    assert -signal.SIGSEGV == done.returncode
    (core,) = [file for file in tmp_path.iterdir() if file.name != "sealed"]
    assert marker_held == count_held(core, [marker])
    assert weights_held == (count_held(core, pieces) > 900)
    assert weights_held == (count_held(core, pieces) > 0)


def test_kept_images_are_encrypted_and_can_be_opened(
    running: Running, frame: bytes, tmp_path: Path
) -> None:
    """The kept image lies nowhere in the clear, and the command that looks gives the very bytes that were sent."""
    with running.client() as client:
        response = client.post("/predict", content=frame)
    request_id = response.headers["x-request-id"]
    wait_until_stored(running, request_id)
    pieces = windows_of(frame, count=100)
    assert [] == holding(files_of(Path(running.facts["home"])), pieces)
    command = [sys.executable, "-m", "gateway", "samples", "image", request_id]
    out = tmp_path / "seen.jpg"
    subprocess.run(
        [*command, "--out", str(out)], env=running.environment, check=True, capture_output=True
    )
    assert frame == out.read_bytes()
    assert "samples.view" == running.records_of(request_id)[-1]["action"]


def wait_until_stored(running: Running, request_id: str) -> None:
    """Until the sampler has written that image; it writes within a second or so."""
    from gateway.store.database import open_database
    from gateway.store.queries.samples import find_sealed_image

    engine = open_database(running.facts["database_url"])
    end = time.monotonic() + 30
    while True:
        with engine.connect() as connection:
            if find_sealed_image(connection, request_id) is not None:
                break
        assert time.monotonic() < end, "the image was not kept"
        time.sleep(0.1)  # polling another process's table
    engine.dispose()


def test_secrets_are_for_their_owner_alone(running: Running) -> None:
    """Keys, tokens, database and sealed models have no rights for group and others."""
    home = Path(running.facts["home"])
    secret = [*(home / "keys").glob("*.key"), home / "keys" / "kek", home / "certs" / "server.key"]
    secret += [*(home / "tokens").iterdir(), *(home / "models").iterdir(), home / "gatewatch.db"]
    assert [] == [f for f in secret if stat.S_IMODE(f.stat().st_mode) & 0o077]


def test_tokens_are_not_logged(running: Running, frame: bytes) -> None:
    """No part of a token that was used is in any log."""
    token = running.token("client")
    with running.client() as client:
        client.post("/predict", content=frame)
        client.post("/predict", content=frame, headers={"Authorization": f"Basic {token}"})
    logs = list((Path(running.facts["home"]) / "logs").iterdir())
    assert logs
    signature = token.split(".")[2].encode()
    assert [] == [file for file in logs if signature in file.read_bytes()]


def test_metrics_name_no_principal(running: Running) -> None:
    """Subjects, request ids and tokens are never labels."""
    text = httpx.get(running.facts["gateway_metrics"], timeout=10.0).text
    assert "gateway_requests_total" in text
    assert "dev-client" not in text
