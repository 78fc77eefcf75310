"""`gateway audit check`: what is printed of a proof, what it is compared with, and what is refused."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.checkpoints import Checkpoint, checkpoint_text, sign_checkpoint
from gateway.audit.entries import encode_event
from gateway.audit.events import Outcome
from gateway.audit.merkle import hash_leaf
from gateway.audit.notes import add_signature
from gateway.audit.proof_files import ProofFile, format_proof_file
from gateway.commands.audit_check import CheckOrder, check
from gateway.errors import Code, OperatorError
from tests.gateway.audit.sample_log import ORIGIN, SIGNER, STRANGER, TIME_SECONDS, WITNESS
from tests.gateway.audit.stored_events import event

IMAGE, ANSWER = b"an image", b'{"images":[]}'
LOG_KEY, WITNESS_KEY = SIGNER.verifier.line(), WITNESS.verifier.line()


def proof_of(*, time_seconds: int = TIME_SECONDS, **members: Any) -> bytes:
    """The proof of a call that was answered, alone in its ledger."""
    said = {
        "request_id": "r-1",
        "outcome": Outcome.ANSWERED,
        "subject": "camera-7",
        "input_sha256": sha256(IMAGE).hexdigest(),
        "result_digest": sha256(ANSWER).hexdigest(),
    }
    body = encode_event(event(0, **{**said, **members})).body.encode()
    checkpoint = Checkpoint(ORIGIN, 1, hash_leaf(body))
    line = WITNESS.cosign(checkpoint_text(checkpoint), time_seconds=time_seconds)
    note = add_signature(sign_checkpoint(checkpoint, SIGNER), line)
    return format_proof_file(ProofFile(0, (), note, body))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a proof, the key, the image and the answer."""
    (tmp_path / "call.tlog-proof").write_bytes(proof_of())
    (tmp_path / "ledger.vkey").write_text(LOG_KEY + "\n")
    (tmp_path / "frame.jpg").write_bytes(IMAGE)
    (tmp_path / "answer.json").write_bytes(ANSWER)
    return tmp_path


@pytest.fixture
def order(files: Path) -> CheckOrder:
    """The proof and the ledger's key, and nothing else."""
    return CheckOrder(proof_file=files / "call.tlog-proof", key=LOG_KEY)


def refused(order: CheckOrder, capsys: pytest.CaptureFixture[str]) -> str:
    """What is told of it, when nothing is printed."""
    with pytest.raises(OperatorError) as caught:
        check(order, as_json=False)
    assert Code.PROOF_INVALID is caught.value.code
    assert "" == capsys.readouterr().out
    return caught.value.message


def test_the_record_is_printed_with_what_proves_it(
    order: CheckOrder, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it does not say is left out."""
    check(order, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert f"proved: record 0 of {ORIGIN}, by its checkpoint of 1 records" == lines[0]
    assert "  subject        camera-7" in lines
    assert "  recorded_at    2031-05-06T00:00:00.000000Z" in lines
    assert not [line for line in lines if "None" in line or "reason" in line]


def test_a_witness_is_named_with_its_time(
    order: CheckOrder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where its key was given; one that no calendar has is told in seconds."""
    check(replace(order, witnesses=[WITNESS_KEY]), as_json=False)
    told = "cosigned: by witness.example/w1 at 2023-11-14T22:13:20Z"
    assert told == capsys.readouterr().out.splitlines()[1]
    order.proof_file.write_bytes(proof_of(time_seconds=1 << 62))
    check(replace(order, witnesses=[WITNESS_KEY]), as_json=False)
    assert f"at {1 << 62} s" in capsys.readouterr().out


def test_programs_get_one_json_value(order: CheckOrder, capsys: pytest.CaptureFixture[str]) -> None:
    """With the record whole."""
    check(replace(order, witnesses=[WITNESS_KEY]), as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert "camera-7" == told.pop("record")["subject"]
    assert told == {
        "origin": ORIGIN,
        "index": 0,
        "checkpoint_size": 1,
        "cosignatures": {"witness.example/w1": "2023-11-14T22:13:20Z"},
    }


def test_keys_are_taken_from_files_too(
    order: CheckOrder, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `gateway audit key` prints them."""
    (files / "witness.vkey").write_text(WITNESS_KEY)
    witnesses = [str(files / "witness.vkey")]
    check(replace(order, key=str(files / "ledger.vkey"), witnesses=witnesses), as_json=False)
    assert capsys.readouterr().out.startswith("proved: ")


def test_the_proof_is_taken_from_standard_input_too(
    order: CheckOrder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that curl can feed it."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(proof_of())))
    check(replace(order, proof_file=Path("-")), as_json=False)
    assert capsys.readouterr().out.startswith("proved: ")


def test_what_was_sent_and_answered_is_compared(
    order: CheckOrder, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Byte for byte."""
    whole = replace(
        order,
        input_file=files / "frame.jpg",
        result_file=files / "answer.json",
        request_id="r-1",
    )
    check(whole, as_json=False)
    assert capsys.readouterr().out.startswith("proved: ")
    for other, told in (
        ({"input_file": files / "answer.json"}, "the record is proved, but of something else: input_sha256 is "),
        ({"result_file": files / "frame.jpg"}, "something else: result_digest is "),
        ({"request_id": "r-2"}, "--request-id: the record is proved, but of something else: request_id is r-1"),
    ):  # fmt: skip
        assert told in refused(replace(whole, **other), capsys)


def test_a_record_that_says_nothing_of_it_is_not_of_it(
    order: CheckOrder, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one before the answer has no digest of one."""
    order.proof_file.write_bytes(proof_of(result_digest=None))
    told = refused(replace(order, result_file=files / "answer.json"), capsys)
    assert "result_digest is None" in told


@pytest.mark.parametrize("content", [b"", b"nonsense", proof_of()[:-1], proof_of() * 400])
def test_what_proves_nothing_is_refused(
    order: CheckOrder, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    """Empty, cut, too long."""
    order.proof_file.write_bytes(content)
    assert ": not proved: " in refused(order, capsys)


def test_keys_of_others_are_refused(order: CheckOrder, capsys: pytest.CaptureFixture[str]) -> None:
    """Of another ledger, or in the place of another."""
    stranger = STRANGER.verifier.line()
    assert ": not proved: " in refused(replace(order, key=stranger), capsys)
    assert "were exchanged" in refused(replace(order, key=WITNESS_KEY), capsys)
    assert "were exchanged" in refused(replace(order, witnesses=[stranger]), capsys)


def test_a_witness_that_did_not_sign_is_named(
    order: CheckOrder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever asks for it wants to know."""
    content = proof_of()
    end = content.index("\u2014 witness".encode())
    order.proof_file.write_bytes(content[:end])
    check(order, as_json=False)
    capsys.readouterr()
    told = refused(replace(order, witnesses=[WITNESS_KEY]), capsys)
    assert "not signed by witness.example/w1" in told


def test_what_cannot_be_read_is_told(
    order: CheckOrder, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which file, and why."""
    gone = files / "gone"
    assert f"cannot read {gone}: " in refused(replace(order, proof_file=gone), capsys)
    assert f"cannot read {gone}: " in refused(replace(order, input_file=gone), capsys)
    assert "--key: neither a verifier key" in refused(replace(order, key=str(gone)), capsys)
    assert "--key: neither a verifier key" in refused(replace(order, key=LOG_KEY + "A"), capsys)
    for content in (b"", b"nonsense", b"\xff", LOG_KEY.encode() + b"\n" + LOG_KEY.encode()):
        (files / "bad.vkey").write_bytes(content)
        told = refused(replace(order, witnesses=[str(files / "bad.vkey")]), capsys)
        assert "--witness: " in told
        assert "holds no verifier key" in told


def test_a_record_cannot_drive_a_terminal(
    order: CheckOrder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever has the ledger's key may not have our manners."""
    body = encode_event(event(0, subject="X")).body.replace('"X"', '"\\u001b[2J"').encode()
    note = sign_checkpoint(Checkpoint(ORIGIN, 1, hash_leaf(body)), SIGNER)
    order.proof_file.write_bytes(format_proof_file(ProofFile(0, (), note, body)))
    check(order, as_json=False)
    assert "  subject      \\x1b[2J\n" in capsys.readouterr().out


def test_it_needs_nothing_but_the_proof_and_the_key(files: Path) -> None:
    """A process of its own in a bare folder: no settings, though one of them is wrong; exit 0 and 1."""
    command = [sys.executable, "-m", "gateway", "audit", "check", "call.tlog-proof", "--key"]
    root = str(Path(__file__).resolve().parents[3])
    environment = {"PYTHONPATH": root, "GATEWAY_PORT": "wrong", "PATH": "/nowhere"}
    codes = []
    for key in ("ledger.vkey", STRANGER.verifier.line()):
        done = subprocess.run(
            [*command, key], cwd=files, env=environment, capture_output=True, check=False
        )
        codes.append(done.returncode)
    assert [0, 1] == codes
