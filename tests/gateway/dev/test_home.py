"""A development home: everything is made once, and found again."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from rich.console import Console

from gateway.audit.creation import verifier_of_ledger
from gateway.audit.keys import load_ledger_signer
from gateway.commands.opening import opened_store
from gateway.dev import home
from gateway.dev.claim import claimed
from gateway.dev.home import (
    ROLES,
    Layout,
    begin_monitor_ledger,
    demo_folder,
    failed,
    gateway_overrides,
    layout_of,
    monitor_environment,
    prepare,
    prepare_reference,
)
from gateway.errors import Code, OperatorError
from gateway.settings import GatewaySettings, read_settings
from gateway.store.queries.audit import find_last_position
from gateway.store.queries.models import find_production_version

QUIET = Console(quiet=True)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A home that does not exist yet."""
    return layout_of(tmp_path / "home")


@pytest.fixture
def settings(layout: Layout) -> GatewaySettings:
    """Its settings."""
    return read_settings({}, **gateway_overrides(layout))


def contents(folder: Path) -> Mapping[str, bytes]:
    """Every file below a folder but tokens, which are new at every start, and the database."""
    files = (file for file in folder.rglob("*") if file.is_file())
    named = {str(file.relative_to(folder)): file.read_bytes() for file in files}
    return {n: c for n, c in named.items() if not n.startswith(("tokens/", "gatewatch.db"))}


def prepared(layout: Layout, settings: GatewaySettings, *, days: int = 0) -> None:
    """Prepare the home, days from now."""
    now = datetime.now(UTC) + timedelta(days=days)
    with claimed(layout.state):
        prepare(layout, settings, clock=lambda: now, console=QUIET)


def test_a_home_keeps_everything_in_one_folder(tmp_path: Path) -> None:
    """Certificates too; without a folder, state and certificates lie beside each other."""
    assert layout_of(tmp_path) == Layout(tmp_path, tmp_path / "certs")
    assert layout_of(None) == Layout(Path.cwd() / "var", Path.cwd() / "certs")


def test_the_monitor_reads_the_same_database(layout: Layout) -> None:
    """As the gateway."""
    environment = monitor_environment(layout)
    assert environment["MONITOR_DATABASE_URL"] == gateway_overrides(layout)["database_url"]


def test_the_monitors_ledger_is_begun_once(layout: Layout, settings: GatewaySettings) -> None:
    """With a key of its own; one whose key is lost gets no other."""
    prepared(layout, settings)
    environment = monitor_environment(layout)
    key = Path(environment["MONITOR_AUDIT_KEY_FILE"])
    for _ in range(2):
        begin_monitor_ledger(settings, environment)
    with opened_store(settings) as store:
        verifier = verifier_of_ledger(store, "monitor")
    assert load_ledger_signer(key, origin="monitor").verifier.line() == verifier
    key.unlink()
    begin_monitor_ledger(settings, environment)
    assert not key.exists()


def test_a_first_start_makes_everything(layout: Layout, settings: GatewaySettings) -> None:
    """The demo model is in production, a token a role lies ready, nobody else may look inside."""
    prepared(layout, settings)
    with opened_store(settings) as store, store.connect() as connection:
        found = find_production_version(connection, "conveyor")
    assert found is not None
    assert found.version == "1"
    assert {file.stem for file in layout.tokens.iterdir()} == set(ROLES)
    assert layout.state.stat().st_mode & 0o777 == 0o700
    for file in (*layout.tokens.iterdir(), layout.keys / "kek", settings.tls_key_file):
        assert file.stat().st_mode & 0o777 == 0o600
    assert layout.ca_file.is_file()


def test_the_operators_token_alone_has_a_second_factor(
    layout: Layout, settings: GatewaySettings
) -> None:
    """Without one it could change nothing, and no other role needs one."""
    prepared(layout, settings)
    strong = {
        role
        for role in ROLES
        if "mfa"
        in jwt.decode(
            (layout.tokens / f"{role}.jwt").read_text(), options={"verify_signature": False}
        ).get("amr", [])
    }
    assert {"operator"} == strong


def test_a_second_start_keeps_everything(layout: Layout, settings: GatewaySettings) -> None:
    """Keys, certificates and the sealed model are those of the first; nothing is sealed anew."""
    prepared(layout, settings)
    before = contents(layout.state)
    with opened_store(settings) as store, store.connect() as connection:
        records = find_last_position(connection, "gateway")
    prepared(layout, settings)
    assert before == contents(layout.state)
    with opened_store(settings) as store, store.connect() as connection:
        assert records == find_last_position(connection, "gateway")


def test_certificates_near_their_end_are_made_anew(
    layout: Layout, settings: GatewaySettings
) -> None:
    """And nothing else."""
    prepared(layout, settings)
    before = contents(layout.state)
    prepared(layout, settings, days=390)
    after = contents(layout.state)
    assert {name for name in before if before[name] != after[name]} == {
        "certs/ca.pem", "certs/server.pem", "certs/server.key",
    }  # fmt: skip


@pytest.mark.parametrize(
    "missing", ["certs/server.pem", "certs/ca.pem", "keys/jwks.json", "keys/token.development"]
)
def test_what_a_crash_left_out_is_made(
    layout: Layout, settings: GatewaySettings, missing: str
) -> None:
    """Every step can be repeated."""
    prepared(layout, settings)
    (layout.state / missing).unlink()
    prepared(layout, settings)
    assert (layout.state / missing).is_file()


@pytest.mark.parametrize(
    ("path", "cure"),
    [
        (
            "keys/kek",
            r"/keys/kek is missing, .* restore it from a backup, or delete .*/home to start",
        ),
        ("models/conveyor-1.sealed", r"conveyor-1.sealed is missing, .* delete .*/home to start"),
    ],
)
def test_what_cannot_be_made_again_is_refused(
    layout: Layout, settings: GatewaySettings, path: str, cure: str
) -> None:
    """A new KEK would lock out every model and image for good; nothing is changed."""
    prepared(layout, settings)
    (layout.state / path).unlink()
    before = contents(layout.state)
    with pytest.raises(OperatorError, match=cure):
        prepared(layout, settings)
    assert before == contents(layout.state)


def test_a_model_in_another_releases_format_is_named(
    layout: Layout, settings: GatewaySettings
) -> None:
    """A home that an earlier release made does not end in a refusal that says nothing."""
    prepared(layout, settings)
    file = layout.state / "models" / "conveyor-1.sealed"
    file.write_bytes(b"\x89SEAL1\r\n" + file.read_bytes()[8:])
    with pytest.raises(OperatorError, match=r"has the format of another release: delete .*/home"):
        prepared(layout, settings)


def test_a_broken_key_set_is_named_with_its_path(layout: Layout, settings: GatewaySettings) -> None:
    """And with a way out."""
    prepared(layout, settings)
    settings.jwks_file.write_bytes(b"{")
    with pytest.raises(OperatorError, match=r"/keys/jwks.json: key set: .*; or delete it"):
        prepared(layout, settings)


def test_what_the_system_refuses_is_no_traceback(layout: Layout, settings: GatewaySettings) -> None:
    """It names the home and the cause."""
    layout.state.mkdir()
    layout.certificates.touch()
    with pytest.raises(OperatorError, match=r"/home cannot be a home: "):
        prepare(layout, settings, clock=lambda: datetime.now(UTC), console=QUIET)


def test_a_childs_failure_has_one_code() -> None:
    """Its own, at the end of the message, where the command line puts it."""
    error = failed("it failed", "a\nb\nc\nd\ne\ngateway: no such key [key_invalid]\n")
    assert (error.code, error.message) == (
        Code.KEY_INVALID, "it failed:\nb\nc\nd\ne\ngateway: no such key",
    )  # fmt: skip
    assert failed("it failed", "odd [thing]").code is Code.NOT_READY
    assert failed("it failed", "").message == "it failed:"


def test_the_demos_files_are_there() -> None:
    """The model, and what its validation scenes measured."""
    assert (demo_folder() / "conveyor.onnx").is_file()
    assert (demo_folder() / "reference.jsonl").is_file()


def test_the_reference_is_the_demo_models_whatever_is_watched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the demo ships was measured on its model and fits no other."""
    watched = []

    def run(command: list[str], environment: Mapping[str, str]) -> str:
        watched.append((command[3], environment["MONITOR_MODEL_NAME"]))
        return '{"models": [{"reference": null}]}'

    monkeypatch.setattr(home, "_run", run)
    prepare_reference({"MONITOR_MODEL_NAME": "belt"}, console=QUIET)
    assert watched == [("status", "conveyor"), ("reference", "conveyor")]
