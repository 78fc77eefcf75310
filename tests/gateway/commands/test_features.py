"""Measuring a folder of images."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.commands.features import print_features
from gateway.errors import OperatorError
from gateway.settings import GatewaySettings
from gateway.store.embeddings import unpack_embedding

FRAME = Path(__file__).resolve().parents[3] / "examples" / "conveyor" / "frame.jpg"


def test_each_image_is_measured_and_the_rest_is_left_out(
    settings: GatewaySettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One JSON line an image, at any depth; what the gateway would refuse is named on standard error."""
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    shutil.copy(FRAME, tmp_path / "photos" / "deep" / "frame.JPG")
    (tmp_path / "photos" / "broken.png").write_bytes(b"\x89PNG but no more")
    (tmp_path / "photos" / "words.txt").write_text("no image")
    print_features(settings, tmp_path / "photos")
    out, err = capsys.readouterr()
    (line,) = [json.loads(line) for line in out.splitlines()]
    assert set(line) == {
        "features", "detections", "model_name", "model_version", "received_at", "embedding",
    }  # fmt: skip
    embedding = unpack_embedding(base64.b64decode(line["embedding"], validate=True))
    assert embedding.any()
    assert line["features"]["candidate_count"] >= line["features"]["detection_count"]
    assert (line["model_name"], line["model_version"]) == ("belt", "1")
    assert line["features"]["brightness"] > 0
    assert all(len(row) == 6 for row in line["detections"])
    assert line["detections"]
    assert "left out" in err
    assert "broken.png" in err
    assert "words.txt" not in err


def test_a_folder_without_images_is_refused(settings: GatewaySettings, tmp_path: Path) -> None:
    """An empty reference would find drift in everything."""
    with pytest.raises(OperatorError, match="no image in"):
        print_features(settings, tmp_path)


def test_opening_the_model_for_it_is_on_record(
    settings: GatewaySettings, tmp_path: Path, ledger: Callable[[], list[dict[str, Any]]]
) -> None:
    """By whom, with which KEK: outside of a gateway as inside."""
    shutil.copy(FRAME, tmp_path / "frame.jpg")
    print_features(settings, tmp_path)
    bodies = ledger()[-3:]
    assert [
        ("models.load", "admitted", None),
        ("keys.use", "answered", "1"),
        ("models.load", "answered", "1"),
    ] == [(body["action"], body["outcome"], body["model_version"]) for body in bodies]
    assert "use=features images=1" == bodies[0]["detail"]
    assert {"operating-system"} == {body["issuer"] for body in bodies}
