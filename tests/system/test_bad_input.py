"""Whatever is sent, the gateway answers with a status and a constant code, and records the call."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.system.conftest import Running

pytestmark = pytest.mark.system


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header claims this size, with far too little data behind it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1_000_000), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


@dataclass(frozen=True, slots=True)
class Case:
    """One bad request and what it must get."""

    status: int
    code: str
    method: str = "POST"
    path: str = "/predict"
    role: str | None = "client"
    body: bytes | None = None  # None: a good frame


CASES = {
    "no token": Case(401, "authn_missing", role=None),
    "wrong role": Case(403, "authz_denied", role="auditor"),
    "empty body": Case(400, "body_empty", body=b""),
    "text instead of an image": Case(415, "image_unsupported", body=b"this is no image at all"),
    "20,000 x 20,000 PNG": Case(413, "image_too_large", body=png_of(20_000, 20_000)),
    "unknown path": Case(404, "route_unknown", path="/nothing/here"),
    "unknown path without token": Case(404, "route_unknown", path="/nothing", role=None),
    "wrong method": Case(405, "method_not_allowed", method="DELETE"),
    "unknown parameter": Case(422, "parameter_invalid", path="/predict?confidence=0.5"),
    "threshold out of range": Case(422, "parameter_invalid", path="/predict?conf=1.5"),
    "size that is not compiled": Case(422, "parameter_invalid", path="/predict?imgsz=640"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_is_answered_and_recorded(running: Running, frame: bytes, case: Case) -> None:
    """Each bad request gets its status and code, and its last record says the same."""
    body = frame if case.body is None else case.body
    with running.client(case.role) as client:
        response = client.request(case.method, case.path, content=body)
    assert case.status == response.status_code
    assert "application/problem+json" == response.headers["content-type"]
    assert case.code == response.json()["code"]
    records = running.records_of(response.headers["x-request-id"])
    assert "refused" == records[-1]["outcome"]
    assert case.code == records[-1]["code"]


def test_a_truncated_jpeg_is_refused(running: Running, frame: bytes) -> None:
    """Half a photograph is not analysed as if it were whole; it was admitted before it was decoded."""
    with running.client() as client:
        response = client.post("/predict", content=frame[: len(frame) // 2])
    assert 422 == response.status_code
    assert "image_corrupt" == response.json()["code"]
    records = running.records_of(response.headers["x-request-id"])
    assert ["admitted", "refused"] == [record["outcome"] for record in records]


def test_a_declared_100_mb_body_is_refused_unread(running: Running) -> None:
    """The length alone is enough; the client still gets its answer."""
    with running.client() as client:
        response = client.post("/predict", content=bytes(100_000_000))
    assert 413 == response.status_code
    assert "body_too_large" == response.json()["code"]
    assert "refused" == running.records_of(response.headers["x-request-id"])[-1]["outcome"]


def test_a_100_mb_body_of_unknown_length_is_refused(running: Running) -> None:
    """Without a declared length the count ends it at the limit."""

    def drip() -> Iterator[bytes]:
        for _ in range(100):
            yield bytes(1_000_000)

    with running.client() as client:
        response = client.post("/predict", content=drip())
    assert 413 == response.status_code
    assert "body_too_large" == response.json()["code"]


def test_a_bad_token_is_refused(running: Running, frame: bytes) -> None:
    """A token with one changed character is nobody's."""
    token = running.token("client")
    changed = token[:-5] + ("A" if token[-5] != "A" else "B") + token[-4:]
    with running.client(None) as client:
        response = client.post(
            "/predict", content=frame, headers={"Authorization": f"Bearer {changed}"}
        )
    assert 401 == response.status_code
    assert "authn_invalid" == response.json()["code"]
    assert response.headers["www-authenticate"].startswith(
        'Bearer realm="gatewatch", error="invalid_token", resource_metadata="https://127.0.0.1:'
    )


def test_it_still_serves_afterwards(running: Running, frame: bytes) -> None:
    """After all of that a good call is answered and recorded twice."""
    with running.client() as client:
        response: httpx.Response = client.post("/predict", content=frame)
    assert 200 == response.status_code
    records = running.records_of(response.headers["x-request-id"])
    assert ["admitted", "answered"] == [record["outcome"] for record in records]
