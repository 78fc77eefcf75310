"""Sealing in a home of its own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import delete

from gateway.commands.keys import create_all
from gateway.commands.opening import open_keks, open_trusted_signers, opened_store
from gateway.commands.seal_order import SealOrder
from gateway.commands.sealing import seal
from gateway.errors import Code, GatewayError, OperatorError
from gateway.sealing.sealed_model import open_model
from gateway.settings import GatewaySettings
from gateway.store.database import write_transaction
from gateway.store.queries.models import list_model_versions
from gateway.store.tables import model_versions
from tests.gateway.inference.engines.graphs import split_onnx

QUIET = Console(quiet=True)
Ledger = Callable[[], list[dict[str, Any]]]


def stages(settings: GatewaySettings) -> dict[str, str]:
    """The stage of each version of belt."""
    with opened_store(settings) as store, store.connect() as connection:
        found = list_model_versions(connection, name="belt")
    return {version.version: version.stage.value for version in found}


def forget(settings: GatewaySettings, version: str) -> None:
    """Take a version's row away, as if the process had died before writing it."""
    with opened_store(settings) as store, write_transaction(store) as connection:
        connection.execute(delete(model_versions).where(model_versions.c.version == version))


def refusal(settings: GatewaySettings, order: SealOrder) -> GatewayError:
    """The error that refuses an order."""
    with pytest.raises(GatewayError) as caught:
        seal(settings, order, console=QUIET)
    return caught.value


def test_a_sealed_model_opens_to_its_source(settings: GatewaySettings, order: SealOrder) -> None:
    """The file holds the same bytes, encrypted; it is registered as a candidate."""
    path = seal(settings, order, console=QUIET)
    sealed, source = path.read_bytes(), order.source_file.read_bytes()
    opened = open_model(
        sealed,
        name="belt",
        version="2",
        keks=open_keks(settings),
        trusted_signers=open_trusted_signers(settings),
    )
    assert opened.payload.weights == source
    assert source[1000:1064] not in sealed
    assert path == settings.models_folder / "belt-2.sealed"
    assert stages(settings) == {"1": "production", "2": "candidate"}


def test_sealing_with_promotion_retires_the_version_before(
    settings: GatewaySettings, order: SealOrder
) -> None:
    """In one command."""
    seal(settings, replace(order, is_promoted=True), console=QUIET)
    assert stages(settings) == {"1": "retired", "2": "production"}


def test_a_crash_between_file_and_row_is_resumed(
    settings: GatewaySettings, order: SealOrder
) -> None:
    """Sealing the same weights again registers the file that is there."""
    path = seal(settings, order, console=QUIET)
    before = path.read_bytes()
    forget(settings, "2")
    seal(settings, order, console=QUIET)
    assert before == path.read_bytes()
    assert stages(settings) == {"1": "production", "2": "candidate"}


def test_a_file_of_another_model_is_not_taken_over(
    settings: GatewaySettings, order: SealOrder, tmp_path: Path
) -> None:
    """The name belongs to the weights that were sealed first."""
    seal(settings, order, console=QUIET)
    forget(settings, "2")
    # Another model: an unknown protobuf field (number 1000, one byte long) changes bytes and nothing else.
    other = tmp_path / "other.onnx"
    other.write_bytes(order.source_file.read_bytes() + b"\xc2\x3e\x01x")
    error = refusal(settings, replace(order, source_file=other))
    assert (error.code, "exists with another model" in error.message) == (Code.MODEL_EXISTS, True)
    assert stages(settings) == {"1": "production"}


def test_a_file_name_that_two_versions_share_is_not_taken_over(
    settings: GatewaySettings, order: SealOrder
) -> None:
    """The belt-1 of version 2 and the belt of version 1-2 have one file name, and here the same weights."""
    seal(settings, replace(order, name="belt-1", version="2"), console=QUIET)
    error = refusal(settings, replace(order, name="belt", version="1-2"))
    assert (error.code, "exists with another model" in error.message) == (Code.MODEL_EXISTS, True)


def test_a_registered_name_is_taken(settings: GatewaySettings, order: SealOrder) -> None:
    """Also by the same weights: a version is written once."""
    error = refusal(settings, replace(order, version="1"))
    assert (error.code, error.message) == (
        Code.MODEL_EXISTS,
        "belt@1 is registered already: seal under a new version",
    )


def test_a_signer_that_is_not_trusted_seals_nothing(
    settings: GatewaySettings, order: SealOrder, tmp_path: Path, ledger: Ledger
) -> None:
    """What it signed would not load; the failure is on record."""
    create_all(tmp_path / "stranger")
    error = refusal(settings, replace(order, signer_file=tmp_path / "stranger" / "signer.key"))
    assert error.code is Code.KEY_INVALID
    assert "is not trusted: put its public key into" in error.message
    assert not (settings.models_folder / "belt-2.sealed").exists()
    assert [(r["action"], r["outcome"], r["code"]) for r in ledger()][-1] == (
        "models.seal", "failed", "key_invalid",
    )  # fmt: skip


def test_a_source_that_is_missing_is_named(
    settings: GatewaySettings, order: SealOrder, tmp_path: Path
) -> None:
    """With the reason."""
    error = refusal(settings, replace(order, source_file=tmp_path / "absent.onnx"))
    assert error.message == f"cannot read {tmp_path}/absent.onnx: No such file or directory"


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x08\x07"])
def test_a_source_that_is_no_network_is_refused(
    settings: GatewaySettings, order: SealOrder, tmp_path: Path, content: bytes
) -> None:
    """Before anything is written."""
    source = tmp_path / "bad.onnx"
    source.write_bytes(content)
    assert isinstance(refusal(settings, replace(order, source_file=source)), OperatorError)
    assert not (settings.models_folder / "belt-2.sealed").exists()


def test_a_source_that_is_cut_is_refused(
    settings: GatewaySettings, order: SealOrder, tmp_path: Path
) -> None:
    """Wherever that is, in words, and nothing is left."""
    content = order.source_file.read_bytes()
    source = tmp_path / "cut.onnx"
    before = sorted(settings.models_folder.iterdir())
    for size in (*range(1, len(content), len(content) // 8), len(content) - 1):
        source.write_bytes(content[:size])
        error = refusal(settings, replace(order, source_file=source))
        assert "it is not an ONNX file: export it" in error.message
    assert before == sorted(settings.models_folder.iterdir())


def test_a_source_whose_weights_lie_in_other_files_is_refused(
    settings: GatewaySettings,
    order: SealOrder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They would stay in the clear; where the libraries for changing graphs are missing it is told all the same."""
    source = tmp_path / "split.onnx"
    source.write_bytes(split_onnx(order.source_file.read_bytes(), tmp_path))
    monkeypatch.chdir(tmp_path)
    error = refusal(settings, replace(order, source_file=source))
    assert "its weights lie in other files: save it as one file" in error.message
    assert not (settings.models_folder / "belt-2.sealed").exists()


@pytest.mark.parametrize("class_name", ["\\ud800", "\\u202e", "a\\u2028b", "a\\nb"])
def test_class_names_that_forge_what_is_shown_are_refused(
    settings: GatewaySettings, order: SealOrder, tmp_path: Path, class_name: str
) -> None:
    """Before the long part begins; escapes in the metadata are read as what they stand for."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(order.source_file)
    for entry in model.metadata_props:
        if entry.key == "names":
            entry.value = entry.value.replace("bolt", class_name, 1)
    source = tmp_path / "named.onnx"
    onnx.save_model(model, source)
    error = refusal(settings, replace(order, source_file=source))
    assert "rename the classes in the weights" in error.message
    assert not (settings.models_folder / "belt-2.sealed").exists()


@pytest.mark.parametrize("name", ["../belt", "Belt", "", "a/b", "a b"])
def test_a_name_that_is_no_file_name_is_refused(
    settings: GatewaySettings, order: SealOrder, name: str
) -> None:
    """Names become file names."""
    assert isinstance(refusal(settings, replace(order, name=name)), OperatorError)


def test_a_damaged_image_is_named(
    settings: GatewaySettings, order: SealOrder, tmp_path: Path
) -> None:
    """Before the network is touched: among hundreds nobody would find it."""
    folder = tmp_path / "golden"
    folder.mkdir()
    assert order.golden_folder is not None
    whole = min(order.golden_folder.rglob("*.jpg")).read_bytes()
    (folder / "a.jpg").write_bytes(whole)
    (folder / "b.jpg").write_bytes(whole[: len(whole) // 2])
    error = refusal(settings, replace(order, golden_folder=folder))
    assert (error.code, f"{folder}/b.jpg: " in error.message) == (Code.DATASET_INVALID, True)


def test_a_pt_under_another_name_is_told_apart(
    settings: GatewaySettings, order: SealOrder, tmp_path: Path
) -> None:
    """It is no broken ONNX file."""
    source = tmp_path / "best.onnx"
    source.write_bytes(b"PK\x03\x04rest")
    error = refusal(settings, replace(order, source_file=source))
    assert error.message == f"{source} looks like a .pt: give it that name"
