"""`gateway keys rotate` and `gateway keys list`: everything is exchanged or nothing, and it can be run again."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gateway.commands.kek_listing import list_keks
from gateway.commands.kek_rotation import rotate
from gateway.commands.keys import create_one
from gateway.commands.opening import open_trusted_signers, opened_store
from gateway.errors import KeyFileError, OperatorError
from gateway.sealing.container import parse_container
from gateway.sealing.keys import Kek, load_kek
from gateway.sealing.models_folder import rotating_alone
from gateway.sealing.sample_keys import create_sample_key, open_sample_key
from gateway.sealing.sealed_model import open_model
from gateway.settings import GatewaySettings
from gateway.store.database import write_transaction
from gateway.store.queries.sample_keys import insert_sample_key, list_sample_keys
from tests.softhsm import SoftHsm

Ledger = Callable[[], list[dict[str, Any]]]
NOW = datetime(2031, 5, 6, tzinfo=UTC)


@pytest.fixture
def old(home: Path) -> Kek:
    """The KEK that everything in the home is wrapped for."""
    return load_kek(home / "keys" / "kek")


@pytest.fixture
def new(home: Path) -> str:
    """The spec of another."""
    spec = f"file:{home / 'keys' / 'new'}"
    create_one(spec)
    return spec


@pytest.fixture
def both(settings: GatewaySettings, new: str) -> GatewaySettings:
    """Settings that name the new KEK first and the old one behind it."""
    return settings.model_copy(update={"keks": f"{new},{settings.keks}"})


@pytest.fixture
def two_files(settings: GatewaySettings) -> list[Path]:
    """Two sealed files, and a kept image's key; the files' names prove nothing."""
    first = settings.models_folder / "belt-1.sealed"
    second = settings.models_folder / "belt-2.sealed"
    shutil.copyfile(first, second)
    kek = load_kek(Path(settings.keks.removeprefix("file:")))
    _, record = create_sample_key(kek=kek, now=NOW, random=os.urandom)
    with opened_store(settings) as store, write_transaction(store) as connection:
        insert_sample_key(connection, record)
    return [first, second]


def run(settings: GatewaySettings, *specs: str, is_dry_run: bool = False) -> None:
    """A rotation whose progress nobody reads."""
    console = Console(quiet=True)
    rotate(settings, specs=specs, is_dry_run=is_dry_run, as_json=True, console=console)


def ids_of(path: Path) -> list[str]:
    """The KEKs that a file is wrapped for."""
    return [wrap.kek_id for wrap in parse_container(path.read_bytes()).wraps]


def sample_kek_ids(settings: GatewaySettings) -> list[str]:
    """The KEKs that the sample keys are wrapped for."""
    with opened_store(settings) as store, store.connect() as connection:
        return [record.kek_id for record in list_sample_keys(connection)]


def state_of(settings: GatewaySettings, files: list[Path]) -> list[object]:
    """Everything that a rotation could change."""
    return [*(path.read_bytes() for path in files), sample_kek_ids(settings)]


def test_everything_is_wrapped_for_what_is_configured(
    both: GatewaySettings, old: Kek, two_files: list[Path]
) -> None:
    """Files for both, sample keys for the first; bodies and signatures stay to the byte."""
    before = [parse_container(path.read_bytes()) for path in two_files]
    run(both)
    after = [parse_container(path.read_bytes()) for path in two_files]
    new_kek = load_kek(Path(both.keks.partition(",")[0].removeprefix("file:")))
    for was, became, path in zip(before, after, two_files, strict=True):
        assert ids_of(path) == [new_kek.kek_id, old.kek_id]
        assert bytes(was.body) == bytes(became.body)
        assert (was.core, was.signature) == (became.core, became.signature)
    assert sample_kek_ids(both) == [new_kek.kek_id]


def test_a_kek_goes_in_two_steps(
    both: GatewaySettings, new: str, old: Kek, two_files: list[Path]
) -> None:
    """In between either opens; afterwards the weights are the same and the old one opens nothing."""
    new_kek = load_kek(Path(new.removeprefix("file:")))
    trusted = open_trusted_signers(both)
    digests = []
    run(both)
    for keks in ([old], [new_kek]):
        opened = open_model(
            two_files[0].read_bytes(), name="belt", version="1", keks=keks, trusted_signers=trusted
        )
        digests.append(hashlib.sha256(bytes(opened.payload.weights)).hexdigest())
    run(both.model_copy(update={"keks": new}))
    opened = open_model(
        two_files[0].read_bytes(), name="belt", version="1", keks=[new_kek], trusted_signers=trusted
    )
    assert [hashlib.sha256(bytes(opened.payload.weights)).hexdigest()] * 2 == digests
    assert [ids_of(path) for path in two_files] == [[new_kek.kek_id]] * 2


def test_keks_can_be_given(
    settings: GatewaySettings, new: str, two_files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of the settings still open what is there; naming one twice spends it once."""
    run(settings, new)
    new_id = load_kek(Path(new.removeprefix("file:"))).kek_id
    assert [ids_of(path) for path in two_files] == [[new_id]] * 2
    assert json.loads(capsys.readouterr().out) == {
        "dry_run": False,
        "keks": [new_id],
        "files": {"wrapped": [str(path) for path in two_files], "left_alone": [], "unfinished": []},
        "sample_keys": {"wrapped": 1, "left_alone": 0, "not_opened": []},
    }


def test_a_second_run_leaves_everything_alone(
    both: GatewaySettings, two_files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """To the byte, so that it can be run from a timer."""
    run(both)
    before = state_of(both, two_files)
    capsys.readouterr()
    run(both)
    assert before == state_of(both, two_files)
    found = json.loads(capsys.readouterr().out)
    assert found["files"] == {
        "wrapped": [],
        "left_alone": [str(path) for path in two_files],
        "unfinished": [],
    }
    assert found["sample_keys"] == {"wrapped": 0, "left_alone": 1, "not_opened": []}


def test_after_a_crash_the_next_run_does_the_rest(
    both: GatewaySettings, two_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was done stays as it was made."""

    def die(path: Path, sealed: bytes) -> None:
        if path == two_files[1]:
            raise KeyboardInterrupt
        path.write_bytes(sealed)

    with monkeypatch.context() as patch:
        patch.setattr("gateway.commands.kek_rotation.replace_sealed_file", die)
        with pytest.raises(KeyboardInterrupt):
            run(both)
    first = two_files[0].read_bytes()
    assert [len(ids_of(path)) for path in two_files] == [2, 1]
    run(both)
    assert first == two_files[0].read_bytes()
    assert [len(ids_of(path)) for path in two_files] == [2, 2]


def test_a_dry_run_changes_nothing(
    both: GatewaySettings, two_files: list[Path], ledger: Callable[[], list[dict[str, Any]]]
) -> None:
    """And is not recorded as if it had."""
    before, records = state_of(both, two_files), len(ledger())
    run(both, is_dry_run=True)
    assert before == state_of(both, two_files)
    assert records == len(ledger())


def test_a_rotation_is_recorded(
    both: GatewaySettings, two_files: list[Path], ledger: Callable[[], list[dict[str, Any]]]
) -> None:
    """Before and after, with the ids of the KEKs, and at the end how much was wrapped."""
    run(both)
    records = [record for record in ledger() if record["action"] == "keys.rotate"]
    assert [record["outcome"] for record in records] == ["admitted", "answered"]
    ids = ",".join(ids_of(two_files[0]))
    asked = f"to={ids} known={ids}"
    done = "files=2 files_left=0 sample_keys=1 sample_keys_left=0 sample_keys_shut=0 unfinished=0"
    assert [asked, f"{asked} {done}"] == [record["detail"] for record in records]


def test_a_new_kek_that_cannot_be_opened_changes_nothing(
    settings: GatewaySettings, two_files: list[Path]
) -> None:
    """Whether given or configured."""
    before = state_of(settings, two_files)
    absent = "file:/nonexistent/kek"
    for changed, specs in ((settings, [absent]), (replaced(settings, absent), [])):
        with pytest.raises(KeyFileError, match="it does not exist"):
            run(changed, *specs)
    assert before == state_of(settings, two_files)


def replaced(settings: GatewaySettings, spec: str) -> GatewaySettings:
    """Settings with one KEK more."""
    return settings.model_copy(update={"keks": f"{settings.keks},{spec}"})


@pytest.mark.parametrize("damage", ["another KEK", "cut", "no signature", "too long"])
def test_a_file_that_nobody_opens_changes_nothing(
    both: GatewaySettings, old: Kek, two_files: list[Path], damage: str
) -> None:
    """Not even the files before it; the message names it and what to do."""
    content = two_files[1].read_bytes()
    if damage == "another KEK":
        content = content.replace(old.kek_id.encode(), b"f" * 16)
    elif damage == "cut":
        content = content[:100]
    elif damage == "no signature":
        start = content.index(b'"signature":"') + 13
        content = content[:start] + b"0" * 128 + content[start + 128 :]
    two_files[1].write_bytes(content)
    limit = len(content) - 1 if damage == "too long" else both.max_model_bytes
    if damage == "too long":
        two_files[0].write_bytes(b"")
    before = state_of(both, two_files)
    with pytest.raises(OperatorError, match="nothing was changed") as caught:
        run(both.model_copy(update={"max_model_bytes": limit}))
    assert str(two_files[1]) in caught.value.message
    assert "move them out of the folder" in caught.value.message
    assert before == state_of(both, two_files)


def test_an_old_kek_that_is_lost_stops_nothing_that_needs_it_not(
    both: GatewaySettings, new: str, home: Path, two_files: list[Path]
) -> None:
    """Once everything is wrapped for the new one as well."""
    run(both)
    (home / "keys" / "kek").unlink()
    run(both, new)
    assert [len(ids_of(path)) for path in two_files] == [1, 1]


def test_a_sample_key_that_nobody_opens_is_reported(
    both: GatewaySettings, two_files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """It stays as it is, and the rest is done."""
    lost = Kek(key=b"\x77" * 32)
    _, record = create_sample_key(kek=lost, now=NOW, random=os.urandom)
    with opened_store(both) as store, write_transaction(store) as connection:
        insert_sample_key(connection, record)
    run(both)
    found = json.loads(capsys.readouterr().out)["sample_keys"]
    assert found["not_opened"] == [{"key_id": record.key_id, "kek_id": lost.kek_id}]
    assert found["wrapped"] == 1
    assert lost.kek_id in sample_kek_ids(both)
    with opened_store(both) as store, store.connect() as connection:
        (kept,) = [one for one in list_sample_keys(connection) if one.kek_id == lost.kek_id]
    assert open_sample_key(kept, keks=[lost]).key_id == record.key_id
    assert kept == replace(record, created_at=kept.created_at)


def test_the_report_for_people_names_everything(
    both: GatewaySettings, two_files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """What was wrapped, and what was left alone."""
    rotate(both, specs=[], is_dry_run=False, as_json=False, console=Console(soft_wrap=True))
    said = capsys.readouterr().out
    assert "2 sealed files, 1 sample keys" in said
    assert str(two_files[1]) in said
    assert "left alone, as they were done: 0 sealed files, 0 sample keys" in said


def test_a_list_shows_what_needs_which_kek(
    settings: GatewaySettings,
    both: GatewaySettings,
    new: str,
    old: Kek,
    two_files: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before a rotation, after it, and when the old KEK is out of the settings."""
    names = [path.name for path in two_files]
    new_id = load_kek(Path(new.removeprefix("file:"))).kek_id
    list_keks(both, as_json=True)
    found = json.loads(capsys.readouterr().out)
    unused = {"files": [], "sole_files": [], "sample_keys": 0, "problem": None}
    assert found["keks"] == [
        {"kek_id": new_id, "kind": "file", "where": new, **unused},
        {
            "kek_id": old.kek_id,
            "kind": "file",
            "where": settings.keks,
            "problem": None,
            "files": names,
            "sole_files": names,
            "sample_keys": 1,
        },
    ]
    assert found["files"] == {name: [old.kek_id] for name in names}
    run(both)
    capsys.readouterr()
    list_keks(both, as_json=True)
    first, second = json.loads(capsys.readouterr().out)["keks"]
    assert (first["files"], first["sole_files"], first["sample_keys"]) == (names, [], 1)
    assert (second["files"], second["sole_files"], second["sample_keys"]) == (names, [], 0)
    list_keks(both.model_copy(update={"keks": new}), as_json=True)
    first, second = json.loads(capsys.readouterr().out)["keks"]
    assert (first["kek_id"], first["sole_files"]) == (new_id, names)
    assert (second["kek_id"], second["kind"], second["where"]) == (old.kek_id, None, None)


def test_a_list_needs_no_key(
    settings: GatewaySettings,
    home: Path,
    two_files: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A KEK that cannot be opened, a spec that is none and a file that is none are listed as such."""
    (home / "keys" / "kek").unlink()
    two_files[1].write_bytes(b"nothing")
    wrong = settings.model_copy(update={"keks": f"{settings.keks},pkcs11:?pin-value=s3cret"})
    list_keks(wrong, as_json=False)
    said = capsys.readouterr().out
    for expected in (
        f"(cannot be opened)  {settings.keks}: key file",
        "(cannot be opened)  (not shown): ",
        "holds a PIN",
        "needed, and not configured",
        "belt-2.sealed: no sealed model of this format",
    ):
        assert expected in said
    assert "s3cret" not in said


def test_a_kek_moves_into_a_token(
    settings: GatewaySettings, softhsm: SoftHsm, two_files: list[Path]
) -> None:
    """From a file, by way of both; then the file's key opens nothing."""
    uri = softhsm.uri("gw", key="object=rotated")
    kek_id = create_one(uri)
    both = settings.model_copy(update={"keks": f"{uri},{settings.keks}"})
    run(both)
    assert [ids_of(path)[0] for path in two_files] == [kek_id] * 2
    alone = settings.model_copy(update={"keks": uri})
    run(alone)
    assert [ids_of(path) for path in two_files] == [[kek_id]] * 2
    assert sample_kek_ids(alone) == [kek_id]
    with pytest.raises(OperatorError, match="nothing was changed"):
        run(settings)


@pytest.fixture
def unfinished(two_files: list[Path]) -> Path:
    """What a rotation leaves that is killed before it renames."""
    part = two_files[0].with_name(".belt-1.sealed.k3jx9a2b.part")
    part.write_bytes(two_files[0].read_bytes())
    return part


def test_what_a_killed_rotation_left_is_named_and_removed(
    both: GatewaySettings, unfinished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may open with a KEK that is on its way out."""
    list_keks(both, as_json=False)
    assert f"{unfinished.name}: its writing was cut short" in capsys.readouterr().out
    run(both, is_dry_run=True)
    assert json.loads(capsys.readouterr().out)["files"]["unfinished"] == [str(unfinished)]
    assert unfinished.exists()
    list_keks(both, as_json=True)
    assert json.loads(capsys.readouterr().out)["unfinished"] == [unfinished.name]
    run(both)
    assert not unfinished.exists()


def test_what_is_being_written_is_left_alone(both: GatewaySettings, unfinished: Path) -> None:
    """Its writer holds it."""
    with unfinished.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        run(both)
        assert unfinished.exists()


def test_of_two_rotations_one_is_refused(
    both: GatewaySettings, two_files: list[Path], ledger: Ledger
) -> None:
    """The refusal is on record; when the other is done, it goes."""
    before = state_of(both, two_files)
    with rotating_alone(both.models_folder), pytest.raises(OperatorError, match="another rotation"):
        run(both)
    assert before == state_of(both, two_files)
    assert [(r["action"], r["outcome"], r["code"]) for r in ledger()][-2:] == [
        ("keys.rotate", "admitted", None),
        ("keys.rotate", "failed", "model_conflict"),
    ]
    run(both)
    assert before != state_of(both, two_files)


def test_a_rotation_that_is_refused_is_recorded(
    settings: GatewaySettings, new: str, two_files: list[Path], ledger: Ledger
) -> None:
    """Whether a KEK or a file is the cause."""
    with pytest.raises(KeyFileError):
        run(settings, f"{new}-absent")
    with pytest.raises(OperatorError, match="nothing was changed"):
        run(settings.model_copy(update={"keks": new}))
    assert [(r["action"], r["outcome"], r["code"]) for r in ledger()][-4:] == [
        ("keys.rotate", "admitted", None),
        ("keys.rotate", "failed", "key_invalid"),
        ("keys.rotate", "admitted", None),
        ("keys.rotate", "failed", "sealed_model_refused"),
    ]
