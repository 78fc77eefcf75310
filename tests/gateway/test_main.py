"""The command line: help for every command, and exit codes that scripts can rely on."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import typer

from gateway.__main__ import app, main
from gateway.commands.keys import create_development_issuer
from gateway.dev.home import gateway_overrides, layout_of
from gateway.errors import Code, OperatorError
from gateway.sealing.refusals import Refusal, refused

COMMANDS = {
    "serve", "dev", "seal", "doctor", "features", "models list", "models show", "models promote",
    "models rollback", "models retire", "models traffic", "keys create",
    "keys list", "keys rotate",
    "token issue", "token revoke", "token denied", "token restore",
    "audit create", "audit verify", "audit query", "audit proof", "audit key", "audit check", "audit export",
    "audit pseudonym", "db upgrade", "samples image",
}  # fmt: skip


def _commands() -> Iterator[tuple[str, str]]:
    """Every command's name and help."""
    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]  # the top is always a group
        for below, leaf in getattr(command, "commands", {"": command}).items():
            yield f"{name} {below}".strip(), leaf.help or ""


@pytest.fixture
def in_empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The process stands in an empty folder, and its environment names what will lie there."""
    for field, value in gateway_overrides(layout_of(tmp_path)).items():
        monkeypatch.setenv(f"GATEWAY_{field.upper()}", str(value))
    monkeypatch.setenv("GATEWAY_MODEL_NAME", "belt")
    layout_of(tmp_path).witness.mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of the command line with these arguments."""
    monkeypatch.setattr("sys.argv", ["gateway", *arguments])
    monkeypatch.setattr("logging.basicConfig", lambda **_options: None)
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def begin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Keys, tables and a ledger, by commands whose words are forgotten."""
    for command in ("keys create keys", "db upgrade", "audit create"):
        assert run(monkeypatch, *command.split()) == 0
    capsys.readouterr()


def test_the_commands_are_known() -> None:
    """A new command is listed here and in the README."""
    assert {name for name, _ in _commands()} == COMMANDS


@pytest.mark.parametrize(("name", "text"), list(_commands()))
def test_every_command_has_an_example(name: str, text: str) -> None:
    """That names the command itself."""
    _, found, example = text.partition("Example: ")
    assert found
    assert f"gateway {name}" in example


def test_a_home_is_made_used_and_checked_by_commands(
    in_empty_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Results go to standard output, words to standard error; a changed record makes the check exit 1."""
    onnx = Path(__file__).resolve().parents[2] / "examples" / "conveyor" / "conveyor.onnx"
    seal = ["seal", str(onnx), "--name", "belt", "--version", "1", "--signer", "keys/signer.key"]
    assert run(monkeypatch, "keys", "create", "keys") == 0
    assert "not recorded in the ledger: " in capsys.readouterr().err
    assert run(monkeypatch, "db", "upgrade") == 0
    assert run(monkeypatch, "audit", "create") == 0
    assert capsys.readouterr().out.startswith("gateway: begun\n")
    assert run(monkeypatch, *seal) == 0
    assert run(monkeypatch, "models", "promote", "belt", "1") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "sealed belt@1" in err
    assert "in production: belt@1" in err

    assert run(monkeypatch, "models", "list", "--json") == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["name"], listed["version"], listed["stage"]) == ("belt", "1", "production")

    issue = ["token", "issue", "--role", "client", "--key", "keys/token.key"]
    assert run(monkeypatch, *issue) == 1
    assert "keys/token.development is missing" in capsys.readouterr().err
    create_development_issuer(in_empty_home / "keys")
    assert run(monkeypatch, *issue) == 0
    assert capsys.readouterr().out.count(".") == 2

    assert run(monkeypatch, "audit", "verify") == 0
    assert capsys.readouterr().out.startswith("gateway: 8 records, all good")
    assert run(monkeypatch, "audit", "query", "--action", "audit.verify") == 0
    assert "  audit.verify  answered  " in capsys.readouterr().out
    assert run(monkeypatch, "audit", "key") == 0
    Path("ledger.vkey").write_text(capsys.readouterr().out)
    assert run(monkeypatch, "audit", "proof", "1", "--out", "1.tlog-proof") == 0
    assert run(monkeypatch, "audit", "check", "1.tlog-proof", "--key", "ledger.vkey") == 0
    assert capsys.readouterr().out.startswith("proved: record 1 of gateway, by its checkpoint of ")
    _change_a_record(in_empty_home / "gatewatch.db")
    assert run(monkeypatch, "audit", "verify") == 1
    assert "gateway: record 2 is bad: " in capsys.readouterr().err


def test_a_token_is_revoked_listed_and_restored_by_commands(
    in_empty_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Words say what and for how long; the token itself is never told."""
    create_development_issuer(in_empty_home / "keys")
    begin(monkeypatch, capsys)
    issue = ["--role", "client", "--subject", "bus:bus:", "--key", "keys/token.key"]
    assert run(monkeypatch, "token", "issue", *issue) == 0
    token = capsys.readouterr().out
    Path("leaked.jwt").write_text(token)

    revoke = ["token", "revoke", "--token-file", "leaked.jwt", "--why", "[bold]"]
    assert run(monkeypatch, *revoke, "--json") == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert ("bus:bus:", "[bold]", 1) == (told["subject"], told["why"], told["id"])
    assert f"{told['token_id']} of bus:bus: from https://gatewatch.localhost (denial 1)" in err
    assert "every gateway on the same database follows within a second" in err
    assert token.strip() not in out + err

    assert run(monkeypatch, "token", "denied") == 0
    listed = capsys.readouterr().out
    assert f"token {told['token_id']} of bus:bus: from https://gatewatch.localhost" in listed
    assert "[bold]" in listed
    assert run(monkeypatch, "token", "restore", "1", "--why", "found") == 0
    assert "restored: token " in capsys.readouterr().err
    assert run(monkeypatch, "token", "restore", "1", "--why", "found") == 1
    assert "was lifted before" in capsys.readouterr().err
    assert run(monkeypatch, "token", "denied") == 0
    assert ("", "no token is denied\n") == capsys.readouterr()
    assert run(monkeypatch, "token", "denied", "--all", "--json") == 0
    assert ["lifted"] == [one["state"] for one in json.loads(capsys.readouterr().out)]


def test_another_issuers_tokens_are_denied_with_a_note(
    in_empty_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt issuer would deny nothing."""
    begin(monkeypatch, capsys)
    revoke = ["--subject", "a", "--issuer", "https://other.example", "--why", "left"]
    assert run(monkeypatch, "token", "revoke", *revoke) == 0
    err = capsys.readouterr().err
    assert "no setting trusts https://other.example; trusted are https://gatewatch.localhost" in err


def _change_a_record(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        body = "replace(replace(body, 'seal', 'sell'), 'promote', 'demoted')"
        connection.execute(f"UPDATE audit_records SET body = {body} WHERE position = 2")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["models", "list"], 1, "[settings_invalid]"),
        (["serve"], 1, "[settings_invalid]"),
        (["samples", "image", "r", "--out", "seen.jpg"], 1, "create it with `gateway db upgrade`"),
        (["token", "issue", "--role", "client"], 1, "var/keys/token.key"),
        (["token", "issue"], 2, "--role"),
        (["token", "revoke", "--jti", "a"], 2, "--why"),
        (["token", "revoke", "--why", "a"], 2, "deny everybody"),
        (["token", "revoke", "--why", "a", "--issued-before", "now"], 2, "--everybody"),
        (["token", "revoke", "--why", "a", "--jti", "b", "--for", "soon"], 2, "a duration is"),
        (["token", "revoke", "--why", "a", "--token-file", "absent"], 1, "cannot read absent"),
        (["token", "restore", "7"], 2, "--why"),
        (["token", "restore", "7", "--why", ""], 2, "--why"),
        (["token", "denied"], 1, "create it with `gateway db upgrade`"),
        (["audit", "query", "--outcome", "ok"], 2, "outcome: known are admitted, answered"),
        (["audit", "query", "--limit", "1001"], 2, "limit: a whole number from 1 to 1000"),
        (["audit", "check", "absent"], 2, "--key"),
        (["audit", "check", "absent", "--key", "absent"], 1, "[proof_invalid]"),
        (["audit", "export", "--format", "xml"], 2, "'xml' is not one of"),
        (["audit", "export", "--since", "soon"], 2, "--since: give an RFC 3339 time"),
        (
            ["audit", "export", "--cursor", "absent/cursor"],
            1,
            "create it with `gateway db upgrade`",
        ),
        (["nonsense"], 2, "nonsense"),
        (["models", "traffic", "belt", "2", "all"], 2, "'all' is none of none, shadow, canary"),
        (["models", "traffic", "belt", "2", "canary"], 2, "--share"),
        (["models", "traffic", "belt", "2", "none", "--share", "0.5"], 2, "--share"),
        (["models", "traffic", "belt", "2", "canary", "--share", "1e-320"], 2, "from 0.0001 to 1"),
        (["models", "traffic", "belt", "2", "shadow", "--share", "nan"], 2, "from 0.0001 to 1"),
        (["models", "traffic", "belt", "2", "shadow", "--share", "1.5"], 2, "from 0.0001 to 1"),
        (["seal", "a.onnx"], 2, "--name"),
    ],
)
def test_a_failure_says_what_to_mend(
    in_empty_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    told: str,
) -> None:
    """Exit 1 for what failed, 2 for wrong usage; on standard error, without a traceback."""
    assert run(monkeypatch, *arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert "Traceback" not in err


def test_a_bad_environment_is_told_in_full(
    in_empty_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every mistake on a line of its own."""
    monkeypatch.setenv("GATEWAY_PROT", "1")
    monkeypatch.setenv("GATEWAY_PORT", "x")
    assert run(monkeypatch, "models", "list") == 1
    err = capsys.readouterr().err
    assert "\nGATEWAY_PROT: no such setting; did you mean GATEWAY_PORT?\nGATEWAY_PORT: " in err


def test_an_interrupt_exits_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """As shells expect of a process that Ctrl-C ended."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gateway.__main__.app", interrupted)
    assert run(monkeypatch, "models", "list") == 130


def test_a_reason_is_told_at_the_operators_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only callers must not learn which check failed; a reason that only repeats the code is left out."""
    errors = [refused(Refusal.SIGNATURE), OperatorError(Code.KEY_INVALID, "no key")]

    def fail() -> None:
        raise errors.pop(0)

    monkeypatch.setattr("gateway.__main__.app", fail)
    assert [run(monkeypatch), run(monkeypatch)] == [1, 1]
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith(" [sealed_model_refused] (reason: signature)")
    assert second == "gateway: no key [key_invalid]"
