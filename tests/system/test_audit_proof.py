"""A caller's proof over real TLS, checked where nothing is known but the ledger's public key."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.conftest import Running

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]


def gateway(folder: Path, environment: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    """A `gateway` command in a process of its own: exit code, output, errors."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_caller_keeps_a_proof_of_its_call(running: Running, frame: bytes, tmp_path: Path) -> None:
    """Of what it sent and got; another answer, another's proof and another key do not pass."""
    with running.client() as client:
        answer = client.post("/predict", content=frame)
        index = answer.headers["x-audit-index"]
        proof = client.get(
            f"/v1/audit/proof/{index}", params={"origin": answer.headers["x-audit-log"]}
        )
        stranger = client.get("/v1/audit/proof/0")
    assert (200, 200, 404) == (answer.status_code, proof.status_code, stranger.status_code)
    code, key, _ = gateway(tmp_path, running.environment, "audit", "key")
    assert 0 == code
    files = {
        "frame.jpg": frame,
        "answer.json": answer.content,
        "other.json": answer.content + b" ",
        "call.tlog-proof": proof.content,
        "ledger.vkey": key.encode(),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    check = ["audit", "check", "call.tlog-proof", "--input", "frame.jpg", "--key", "ledger.vkey"]
    request_id = answer.headers["x-request-id"]
    code, told, _ = gateway(
        tmp_path, {}, *check, "--result", "answer.json", "--request-id", request_id
    )
    assert 0 == code
    assert f"proved: record {index} of " in told
    code, told, err = gateway(tmp_path, {}, *check, "--result", "other.json")
    assert (1, "") == (code, told)
    assert "of something else: result_digest is" in err
    changed = key.strip()[:-8] + ("A" if key.strip()[-8] != "A" else "B") + key.strip()[-7:]
    code, told, err = gateway(tmp_path, {}, *check[:-1], changed)
    assert (1, "") == (code, told)


def test_an_auditor_finds_the_call_in_both_ways(
    running: Running, frame: bytes, tmp_path: Path
) -> None:
    """Over HTTPS and on the host, and both readings are on record."""
    with running.client() as client:
        request_id = client.post("/predict", content=frame).headers["x-request-id"]
    with running.client("auditor") as auditor:
        answer = auditor.get("/v1/audit", params={"request_id": request_id, "order": "oldest"})
    assert ["admitted", "answered"] == [r["outcome"] for r in answer.json()["records"]]
    assert ["answered"] == [
        r["outcome"] for r in running.records_of(answer.headers["x-request-id"])
    ]
    code, told, _ = gateway(tmp_path, running.environment, "audit", "query", request_id)
    assert 0 == code
    assert 3 == len(told.splitlines())
    code, told, _ = gateway(
        tmp_path,
        running.environment,
        "audit",
        "query",
        "--action",
        "audit.read",
        "--json",
        "--limit",
        "2",
    )
    assert request_id in told
