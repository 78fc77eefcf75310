"""Looking at kept images."""

import hashlib
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from gateway.commands.opening import open_keks, opened_store
from gateway.commands.samples import write_image
from gateway.errors import Code, OperatorError, SealError
from gateway.sealing.sample_keys import SampleSealer, create_sample_key
from gateway.settings import GatewaySettings
from gateway.store.database import write_transaction
from gateway.store.queries.sample_keys import insert_sample_key
from gateway.store.tables import sample_images

Ledger = Callable[[], list[dict[str, Any]]]
IMAGE = b"\xff\xd8 the bytes as received"


@pytest.fixture
def kept(settings: GatewaySettings) -> GatewaySettings:
    """The settings of a home in which the image of request-1 was kept, and its bytes again under request-2."""
    key, wrapped = create_sample_key(
        kek=open_keks(settings)[0], now=datetime.now(UTC), random=os.urandom
    )
    sealed = SampleSealer(key=key, random=os.urandom).seal(IMAGE, request_id="request-1")
    rows = [
        {"request_id": request_id, "key_id": sealed.key_id, "ciphertext": sealed.ciphertext}
        for request_id in ("request-1", "request-2")
    ]
    with opened_store(settings) as store, write_transaction(store) as connection:
        insert_sample_key(connection, wrapped)
        connection.execute(insert(sample_images), rows)
    return settings


def test_a_kept_image_comes_back_as_received(
    kept: GatewaySettings, tmp_path: Path, ledger: Ledger
) -> None:
    """Looking at it is on record before and after, with the request's id."""
    write_image(kept, "request-1", tmp_path / "seen.jpg")
    assert (tmp_path / "seen.jpg").read_bytes() == IMAGE
    assert [(r["action"], r["outcome"], r["request_id"]) for r in ledger()][-3:] == [
        ("samples.view", "admitted", "request-1"),
        ("keys.use", "answered", "request-1"),
        ("samples.view", "answered", "request-1"),
    ]
    _, used, viewed = ledger()[-3:]
    assert "open-sample-key" in used["detail"]
    expected = ("sample=request-1", hashlib.sha256(IMAGE).hexdigest(), len(IMAGE))
    assert expected == (viewed["detail"], viewed["input_sha256"], viewed["input_bytes"])


def test_a_picture_on_the_disk_is_its_owners_alone(kept: GatewaySettings, tmp_path: Path) -> None:
    """What was encrypted in the database does not become readable to everybody."""
    write_image(kept, "request-1", tmp_path / "seen.jpg")
    assert (tmp_path / "seen.jpg").stat().st_mode & 0o777 == 0o600


def test_an_image_moved_to_another_request_is_refused(
    kept: GatewaySettings, tmp_path: Path, ledger: Ledger
) -> None:
    """Each is bound to its request; the attempt is on record and nothing is written."""
    with pytest.raises(SealError):
        write_image(kept, "request-2", tmp_path / "seen.jpg")
    assert not (tmp_path / "seen.jpg").exists()
    assert (ledger()[-1]["outcome"], ledger()[-1]["code"]) == ("failed", "sample_refused")


def test_an_image_that_was_not_kept_is_said_so(kept: GatewaySettings, tmp_path: Path) -> None:
    """With the setting that decides how many are."""
    with pytest.raises(OperatorError, match="GATEWAY_SAMPLE_IMAGE_RATE") as caught:
        write_image(kept, "request-9", tmp_path / "seen.jpg")
    assert caught.value.code is Code.SAMPLE_REFUSED


def test_an_existing_file_is_not_overwritten(kept: GatewaySettings, tmp_path: Path) -> None:
    """The operator names another."""
    (tmp_path / "seen.jpg").write_bytes(b"mine")
    with pytest.raises(OperatorError, match=r"cannot write .*seen\.jpg: File exists"):
        write_image(kept, "request-1", tmp_path / "seen.jpg")
    assert (tmp_path / "seen.jpg").read_bytes() == b"mine"
