"""What `gateway dev` tells once it serves."""

import io
import json
import shlex
import sys
from pathlib import Path

import pytest
from rich.console import Console

from gateway.dev.announce import Addresses, announce, command_line, monitor_command
from gateway.dev.home import ROLES, Layout, layout_of

ADDRESSES = Addresses(
    url="https://127.0.0.1:8443",
    gateway_metrics="http://127.0.0.1:1/metrics",
    monitor_metrics="http://127.0.0.1:1/metrics",
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A home with tokens and nothing else, at a path that a shell would split."""
    made = layout_of(tmp_path / "my [bold] home")
    made.tokens.mkdir(parents=True)
    for role in ROLES:
        (made.tokens / f"{role}.jwt").write_text(f"token-of-{role}")
    return made


def announced(layout: Layout, *, as_json: bool) -> str:
    """What people are told on standard error."""
    console = Console(file=io.StringIO(), soft_wrap=True)
    announce(layout, ADDRESSES, seconds=1.23, as_json=as_json, console=console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_programs_are_told_in_one_json_line(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    """Addresses and files; the tokens themselves stay in their files."""
    announced(layout, as_json=True)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "token-of-client" not in out
    facts = json.loads(out)
    assert facts == {
        "url": "https://127.0.0.1:8443",
        "ca_file": str(layout.ca_file),
        "gateway_metrics": "http://127.0.0.1:1/metrics",
        "monitor_metrics": "http://127.0.0.1:1/metrics",
        "reports_folder": str(layout.reports),
        "database_url": layout.database_url,
        "home": str(layout.state),
        "token_files": {role: str(layout.tokens / f"{role}.jwt") for role in ROLES},
        "start_seconds": 1.2,
    }


def test_people_are_told_what_to_try(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, with a token a role first and the address last."""
    told = announced(layout, as_json=False)
    assert capsys.readouterr().out == ""
    lines = told.splitlines()
    assert lines[0] == f"token client ({layout.tokens}/client.jwt):"
    assert [f"  token-of-{role}" for role in ROLES] == lines[1:10:2]
    assert lines[-1] == "serving on https://127.0.0.1:8443 after 1.2 s; Ctrl-C stops both"


def test_the_command_can_be_copied(layout: Layout) -> None:
    """Whatever the paths hold."""
    told = announced(layout, as_json=False)
    command = told.partition("try it:\n")[2].partition("metrics:")[0].replace("\\\n", "")
    words = shlex.split(command)
    assert words[:3] == ["curl", "--cacert", str(layout.ca_file)]
    assert words[4] == f"Authorization: Bearer $(cat '{layout.tokens}/client.jwt')"
    assert words[-1] == "https://127.0.0.1:8443/predict"


def test_a_monitors_command_names_the_home(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Unless it is the default, which the monitor finds itself."""
    monkeypatch.setenv("PATH", "")
    words = shlex.split(monitor_command(layout, "report"))
    assert words[0] == f"MONITOR_DATABASE_URL={layout.database_url}"
    script = Path(sys.executable).parent / "monitor"
    assert (Path(words[-2]).absolute(), words[-1]) == (script, "report")
    monkeypatch.chdir(tmp_path)
    assert monitor_command(layout_of(None), "report") == f"{script} report"


def test_a_script_on_the_path_is_called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """As everybody would type it."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert command_line({"A": "b c"}, ["monitor", "run"]) == "A='b c' monitor run"
