"""What lies on disk while everything runs: no weights, no images, no keys that others can read."""

import random
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.system.conftest import Running

pytestmark = pytest.mark.system

CONVEYOR = Path(__file__).resolve().parents[2] / "examples" / "conveyor"


def windows_of(content: bytes, *, count: int) -> list[bytes]:
    """Random pieces of 32 bytes that are no repetition of one value."""
    rng = random.Random(7)
    found: list[bytes] = []
    while len(found) < count:
        start = rng.randrange(len(content) - 32)
        piece = content[start : start + 32]
        if len(set(piece)) > 16:
            found.append(piece)
    return found


def files_of(home: Path) -> list[Path]:
    """Every file of a home."""
    return [file for file in home.rglob("*") if file.is_file()]


def holds_any(file: Path, pieces: list[bytes]) -> bool:
    """Whether any of the pieces occurs in the file."""
    return re.search(b"|".join(map(re.escape, pieces)), file.read_bytes()) is not None


def test_no_plaintext_weights_on_disk(running: Running) -> None:
    """300 pieces of the model occur in its source and in no file of the home, log files and database included."""
    pieces = windows_of((CONVEYOR / "conveyor.onnx").read_bytes(), count=300)
    assert holds_any(CONVEYOR / "conveyor.onnx", pieces)
    assert [] == [f for f in files_of(Path(running.facts["home"])) if holds_any(f, pieces)]


def test_kept_images_are_encrypted_and_can_be_opened(
    running: Running, frame: bytes, tmp_path: Path
) -> None:
    """The kept image lies nowhere in the clear, and the command that looks gives the very bytes that were sent."""
    with running.client() as client:
        response = client.post("/predict", content=frame)
    request_id = response.headers["x-request-id"]
    wait_until_stored(running, request_id)
    pieces = windows_of(frame, count=100)
    assert [] == [f for f in files_of(Path(running.facts["home"])) if holds_any(f, pieces)]
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
    assert [] == [file for file in logs if holds_any(file, [token.split(".")[2].encode()])]


def test_metrics_name_no_principal(running: Running) -> None:
    """Subjects, request ids and tokens are never labels."""
    text = httpx.get(running.facts["gateway_metrics"], timeout=10.0).text
    assert "gateway_requests_total" in text
    assert "dev-client" not in text
