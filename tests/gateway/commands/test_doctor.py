"""The examination of a home: a good one, and one with each fault."""

import json
import socket
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gateway.commands import doctor
from gateway.commands.doctor import examine
from gateway.commands.made_with import facts_of_machine
from gateway.commands.seal_order import SealOrder
from gateway.commands.sealing import seal
from gateway.dev.certificates import create_certificates
from gateway.sealing import private_folder
from gateway.settings import GatewaySettings


@pytest.fixture
def settings(settings: GatewaySettings, home: Path) -> GatewaySettings:
    """The settings of a home with a certificate."""
    create_certificates(home / "certs", now=datetime.now(UTC))
    return settings


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files in which no process of this machine has left anything."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(private_folder, "_SHARED_MEMORY", folder)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return folder


def marks(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str], *, is_broken: bool
) -> list[tuple[str, str, str]]:
    """Subject, mark and text of each finding, without those about this machine's memory."""
    capsys.readouterr()
    if is_broken:
        with pytest.raises(SystemExit) as caught:
            examine(settings, as_json=True)
        assert 1 == caught.value.code
    else:
        examine(settings, as_json=True)
    found = json.loads(capsys.readouterr().out)
    return [(f["subject"], f["mark"], f["said"]) for f in found if f["subject"] != "memory"]


def broken(settings: GatewaySettings, capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    """Subject and text of what is broken."""
    found = marks(settings, capsys, is_broken=True)
    return [(subject, said) for subject, mark, said in found if mark == "broken"]


def test_a_good_home_has_nothing_broken(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each part is named, and the version in production was run."""
    found = marks(settings, capsys, is_broken=False)
    assert [mark for subject, mark, _ in found if subject in {"settings", "database"}] == [
        "good"
    ] * 2
    assert found[-1] == (
        "belt@1",
        "good",
        "opens, runs on openvino in f32, reproduces its golden set",
    )
    assert ("belt@1", "doubtful", "parity not run: --skip-parity") in found


def test_people_get_lines(settings: GatewaySettings, capsys: pytest.CaptureFixture[str]) -> None:
    """One a finding, the mark first."""
    examine(settings, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert "good      settings: read without mistakes" == lines[0]


def test_a_damaged_model_is_broken(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the reason that callers never see."""
    file = settings.models_folder / "belt-1.sealed"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    ((subject, said),) = broken(settings, capsys)
    assert ("belt@1", True) == (subject, said.endswith("(reason: body_chunk)"))


def test_a_missing_model_is_broken(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, with its path."""
    (settings.models_folder / "belt-1.sealed").unlink()
    ((subject, said),) = broken(settings, capsys)
    assert ("belt@1", True) == (subject, "belt-1.sealed" in said)


def test_missing_keys_hide_nothing_else(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    """The database is still examined, the models are not."""
    (home / "keys" / "kek").unlink()
    found = marks(settings, capsys, is_broken=True)
    assert [s for s, mark, _ in found if mark == "broken"] == ["keys"]
    assert ("models", "doubtful", "not examined: the keys come first") in found
    assert "database" in [subject for subject, mark, _ in found if mark == "good"]


def test_a_model_name_without_production_is_broken(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """A start would refuse, and says the same."""
    other = settings.model_copy(update={"model_name": "other"})
    ((subject, said),) = broken(other, capsys)
    assert ("models", True) == (subject, said.startswith("no version of 'other' is in production"))


@pytest.mark.parametrize(("days_ago", "mark"), [(0, "good"), (80, "doubtful"), (91, "broken")])
def test_the_certificate_is_watched(
    settings: GatewaySettings,
    capsys: pytest.CaptureFixture[str],
    home: Path,
    days_ago: int,
    mark: str,
) -> None:
    """Before it ends."""
    for file in (home / "certs").iterdir():
        file.unlink()
    create_certificates(home / "certs", now=datetime.now(UTC) - timedelta(days=days_ago))
    found = marks(settings, capsys, is_broken=mark == "broken")
    assert [m for subject, m, _ in found if subject == "TLS certificate"] == [mark]


def test_a_database_that_is_not_there_is_broken(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Named with its setting."""
    other = settings.model_copy(update={"database_url": f"sqlite:///{tmp_path}/absent.db"})
    ((subject, said),) = broken(other, capsys)
    assert ("database", True) == (subject, said.startswith("GATEWAY_DATABASE_URL: "))


def test_another_machine_is_explained(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words, beside the golden set's own verdict."""
    real = facts_of_machine

    def changed(*, engine: str) -> dict[str, str]:
        return real(engine=engine) | {"openvino": "2031.1"}

    monkeypatch.setattr(doctor, "facts_of_machine", changed)
    found = marks(settings, capsys, is_broken=False)
    assert [
        said for subject, mark, said in found if "here is 2031.1" in said and mark == "doubtful"
    ]


def test_candidates_without_traffic_are_left_alone(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str], order: SealOrder
) -> None:
    """Only what gets requests is run."""
    seal(settings, replace(order, version="2"), console=Console(quiet=True))
    subjects = {subject for subject, _, _ in marks(settings, capsys, is_broken=False)}
    assert ("belt@1" in subjects, "belt@2" in subjects) == (True, False)


def test_what_killed_processes_left_is_told(
    settings: GatewaySettings,
    capsys: pytest.CaptureFixture[str],
    temporary: Path,
) -> None:
    """Plaintext is broken, a sealed file that was never finished doubtful; each with what removes it."""
    folder = temporary / "gatewatch-private-1-x"
    folder.mkdir()
    part = settings.models_folder / ".belt-1.sealed.x.part"
    part.touch()
    found = {
        subject: (mark, said) for subject, mark, said in marks(settings, capsys, is_broken=True)
    }
    mark, said = found["plaintext"]
    assert (mark, str(folder) in said, "`gateway seal`" in said) == ("broken", True, True)
    mark, said = found["models folder"]
    assert (mark, str(part) in said, "`gateway keys rotate`" in said) == ("doubtful", True, True)
    assert (folder.exists(), part.exists()) == (True, True)


def test_each_issuer_and_its_keys_are_named(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what a careful operator would not leave so."""
    found = [(mark, said) for _, mark, said in marks(settings, capsys, is_broken=False)]
    assert ("doubtful", "is a development issuer: no production gateway trusts it") in found
    assert any(said.startswith("trusted for 'gatewatch', keys ") for _, said in found)


def test_keys_that_cannot_be_fetched_are_broken(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody listens there; every token of that issuer would be refused."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    remote = settings.model_copy(
        update={"issuer": "https://issuer.example", "jwks_url": f"https://127.0.0.1:{port}/jwks"}
    )
    ((subject, said),) = broken(remote, capsys)
    assert "https://issuer.example" == subject
    assert said.startswith("its keys cannot be fetched: ")


def test_a_bad_policy_hides_nothing_else(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    """The models are examined all the same."""
    policy = home / "policy.toml"
    policy.write_text("[roles", encoding="utf-8")
    policy.chmod(0o644)
    wrong = settings.model_copy(update={"policy_file": str(policy)})
    found = marks(wrong, capsys, is_broken=True)
    assert ("policy", "broken") in [(subject, mark) for subject, mark, _ in found]
    assert "belt@1" == found[-1][0]


def test_a_key_that_a_start_would_refuse_is_broken(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    """Readable by others, or of another certificate."""
    (home / "certs" / "server.key").chmod(0o644)
    ((subject, said),) = broken(settings, capsys)
    assert ("TLS", True) == (subject, "0600" in said)
    other = home / "other"
    create_certificates(other, now=datetime.now(UTC))
    (home / "certs" / "server.key").write_bytes((other / "server.key").read_bytes())
    (home / "certs" / "server.key").chmod(0o600)
    ((subject, said),) = broken(settings, capsys)
    assert ("TLS", True) == (subject, "do not load" in said)


def test_a_model_that_is_opened_for_it_is_on_record(
    settings: GatewaySettings,
    capsys: pytest.CaptureFixture[str],
    ledger: Callable[[], list[dict[str, Any]]],
) -> None:
    """Examining needs the KEK as a start does; one record a version, and nothing else is written."""
    before = len(ledger())
    marks(settings, capsys, is_broken=False)
    (used,) = ledger()[before:]
    assert ("keys.use", "answered", "1") == (used["action"], used["outcome"], used["model_version"])
    assert "use=open-model" in used["detail"]


def test_without_a_ledger_no_model_is_opened(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    """What a start would refuse is named; a KEK is not used unseen."""
    (home / "keys" / "ledger.key").unlink()
    found = marks(settings, capsys, is_broken=True)
    assert ["ledger"] == [subject for subject, mark, _ in found if mark == "broken"]
    assert ("models", "doubtful", "not examined: the ledger comes first") in found


def test_a_witness_file_that_is_gone_is_told_of_and_stays_gone(
    settings: GatewaySettings,
    capsys: pytest.CaptureFixture[str],
    ledger: Callable[[], list[dict[str, Any]]],
) -> None:
    """Whoever looks for it must find it so."""
    file = Path(settings.audit_witness_file)
    file.unlink()
    found = marks(settings, capsys, is_broken=False)
    assert ["doubtful"] == [mark for subject, mark, _ in found if subject == "witness file"]
    assert not file.exists()
    assert "audit.witness" != ledger()[-1]["action"]
