"""A development home: everything that a first start makes and every later start finds again.

Rules: what exists is kept; each step can be repeated after a crash; nothing here runs in production.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich.console import Console

from gateway.audit.creation import verifier_of_ledger
from gateway.audit.keys import create_ledger_key
from gateway.commands.audit import begin
from gateway.commands.db import upgrade
from gateway.commands.keys import create_all, create_development_issuer, record_created
from gateway.commands.opening import opened_store
from gateway.commands.seal_order import SealOrder
from gateway.commands.sealing import seal
from gateway.commands.token import issue
from gateway.dev.certificates import are_current, create_certificates
from gateway.dev.claim import unusable
from gateway.errors import Code, KeyFileError, OperatorError, RegistryError, SettingsError
from gateway.identity.keysets import load_keyset
from gateway.sealing.container import MAGIC
from gateway.settings import GatewaySettings
from gateway.store.queries.models import find_production_version, list_model_versions

DEMO_MODEL = "conveyor"
DEMO_VERSION = "1"
MONITOR_ORIGIN = "monitor"  # What the monitor calls its ledger unless it is told otherwise.
ROLES = ("client", "analyst", "auditor", "operator", "metrics")
TOKEN_LIFETIME_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a home keeps what."""

    state: Path
    certificates: Path

    @property
    def keys(self) -> Path:
        """KEK, signer, token key."""
        return self.state / "keys"

    @property
    def tokens(self) -> Path:
        """One token a role, mode 0600."""
        return self.state / "tokens"

    @property
    def reports(self) -> Path:
        """What the monitor writes for people."""
        return self.state / "reports"

    @property
    def witness(self) -> Path:
        """What gateway and monitor have seen of ledgers. In production it lies elsewhere than the database."""
        return self.state / "witness"

    @property
    def database_url(self) -> str:
        """The SQLite database."""
        return f"sqlite:///{self.state / 'gatewatch.db'}"

    @property
    def ca_file(self) -> Path:
        """What a client must trust."""
        return self.certificates / "ca.pem"


def layout_of(home: Path | None) -> Layout:
    """The layout below a folder; without one, ./var and ./certs."""
    if home is None:
        return Layout(Path("var").absolute(), Path("certs").absolute())
    return Layout(home.absolute(), home.absolute() / "certs")


def gateway_overrides(layout: Layout) -> dict[str, object]:
    """The gateway settings that a home decides."""
    return {
        "database_url": layout.database_url,
        "models_folder": layout.state / "models",
        "keks": f"file:{layout.keys / 'kek'}",
        "trusted_signers_folder": layout.keys / "signers",
        "jwks_file": layout.keys / "jwks.json",
        "audit_key_file": layout.keys / "ledger.key",
        "audit_emergency_file": layout.state / "emergency.audit",
        "audit_witness_file": str(layout.witness / "gateway.checkpoint"),
        "tls_certificate_file": layout.certificates / "server.pem",
        "tls_key_file": layout.certificates / "server.key",
    }


def monitor_environment(layout: Layout) -> dict[str, str]:
    """The monitor's environment variables that a home decides."""
    return {
        "MONITOR_DATABASE_URL": layout.database_url,
        "MONITOR_REPORTS_FOLDER": str(layout.reports),
        "MONITOR_AUDIT_KEY_FILE": str(layout.keys / "monitor-ledger.key"),
        "MONITOR_WITNESS_FOLDER": str(layout.witness),
        "MONITOR_WITNESS_KEY_FILE": str(layout.keys / "witness.key"),
    }


def prepare(
    layout: Layout, settings: GatewaySettings, *, clock: Callable[[], datetime], console: Console
) -> None:
    """Make whatever the home lacks: certificates, keys, database, sealed demo model, tokens.

    The home is claimed already (gateway.dev.claim). Raises OperatorError naming the cause if a step fails.
    """
    try:
        _prepare(layout, settings, clock=clock, console=console)
    except OSError as exc:
        raise unusable(layout.state, exc) from exc


def _prepare(
    layout: Layout, settings: GatewaySettings, *, clock: Callable[[], datetime], console: Console
) -> None:
    if not are_current(layout.certificates, now=clock()):
        console.print("making a development CA and a server certificate")
        (layout.certificates / "server.key").unlink(missing_ok=True)
        create_certificates(layout.certificates, now=clock())
    upgrade(settings)
    _refuse_lost_kek(settings, layout.keys / "kek")
    made = create_all(layout.keys)
    create_development_issuer(layout.keys)
    layout.witness.mkdir(exist_ok=True)
    if not (layout.keys / "witness.key").exists():
        create_ledger_key(layout.keys / "witness.key")
    _begin_ledger(settings, now=clock())
    record_created(settings, made)
    _check_keyset(settings.jwks_file)
    if _lacks_demo_model(settings):
        console.print("sealing the demo model")
        seal(settings, _demo_order(layout), console=Console(quiet=True))
    _write_tokens(layout, settings)


def _begin_ledger(settings: GatewaySettings, *, now: datetime) -> None:
    with opened_store(settings) as store:
        begin(store, settings, now=now)


def begin_monitor_ledger(settings: GatewaySettings, environment: Mapping[str, str]) -> None:
    """Have the monitor begin its own ledger where the home has none.

    environment: the monitor's variables. Raises OperatorError if the step fails.
    """
    with opened_store(settings) as store:
        is_begun = verifier_of_ledger(
            store, environment.get("MONITOR_AUDIT_ORIGIN", MONITOR_ORIGIN)
        )
    if is_begun is None:
        _run([sys.executable, "-m", "monitor", "ledger", "create"], environment)


def prepare_reference(environment: Mapping[str, str], *, console: Console) -> None:
    """Have the monitor make the demo model's drift reference, unless it has one.

    The demo ships what `gateway features` said of its validation scenes. Raises OperatorError if the step fails.
    """
    # Whatever is watched later: this reference was measured on the demo model and fits no other.
    environment = {**environment, "MONITOR_MODEL_NAME": DEMO_MODEL}
    if _has_reference(environment):
        return
    console.print("making the demo model's drift reference")
    measured = demo_folder() / "reference.jsonl"
    _run(
        [sys.executable, "-m", "monitor", "reference", "--from", "dataset", str(measured)],
        environment,
    )


def _has_reference(environment: Mapping[str, str]) -> bool:
    status = json.loads(_run([sys.executable, "-m", "monitor", "status", "--json"], environment))
    return any(model["reference"] is not None for model in status["models"])


def demo_folder() -> Path:
    """The demo's files: inside the package when installed from a wheel, in examples/ in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_conveyor"
    return installed if installed.is_dir() else package.parent / "examples" / "conveyor"


def _lacks_demo_model(settings: GatewaySettings) -> bool:
    with opened_store(settings) as store, store.connect() as connection:
        found = find_production_version(connection, DEMO_MODEL)
    if found is None:
        return True
    file = settings.models_folder / found.file_name
    if not file.is_file():
        message = (
            f"{file} is missing, and a version is never sealed twice: restore it from a backup, or delete "
            f"{settings.models_folder.parent} to start anew (its keys, samples and ledger are lost)"
        )
        raise RegistryError(Code.MODEL_UNKNOWN, message)
    if not file.read_bytes().startswith(MAGIC):
        message = (
            f"{file} has the format of another release: delete {settings.models_folder.parent} to start anew "
            "(its keys, samples and ledger are lost), or seal the demo again under a new version and promote it"
        )
        raise RegistryError(Code.SEALED_MODEL_REFUSED, message, reason="magic")
    return False


def _refuse_lost_kek(settings: GatewaySettings, file: Path) -> None:
    """A new KEK would open nothing that is there. Sample keys exist only where a model was registered first."""
    if file.exists():
        return
    with opened_store(settings) as store, store.connect() as connection:
        is_needed = bool(list_model_versions(connection))
    if is_needed or any(settings.models_folder.glob("*.sealed")):
        message = (
            f"{file} is missing, and the sealed models and kept images need it: restore it from a "
            f"backup, or delete {settings.models_folder.parent} to start anew (samples and ledger are lost)"
        )
        raise KeyFileError(Code.KEY_INVALID, message)


def _check_keyset(file: Path) -> None:
    try:
        load_keyset(file.read_bytes())
    except SettingsError as exc:
        message = (
            f"{file}: {exc.message}; or delete it, and the next start makes it of the token key"
        )
        raise SettingsError(exc.code, message) from exc


def _demo_order(layout: Layout) -> SealOrder:
    return SealOrder(
        source_file=demo_folder() / "conveyor.onnx",
        name=DEMO_MODEL,
        version=DEMO_VERSION,
        signer_file=layout.keys / "signer.key",
        golden_folder=demo_folder() / "golden",
        # Ultralytics is not needed to run the demo; its own tests compare this model with it.
        is_parity_skipped=True,
        is_promoted=True,
    )


def _write_tokens(layout: Layout, settings: GatewaySettings) -> None:
    layout.tokens.mkdir(exist_ok=True, mode=0o700)
    for role in ROLES:
        text = issue(
            settings,
            roles=[role],
            subject=f"dev-{role}",
            lifetime_seconds=min(TOKEN_LIFETIME_SECONDS, settings.token_max_lifetime_seconds),
            key_file=layout.keys / "token.key",
            # Without one it could change nothing; it is good for as long after this as the policy says.
            has_second_factor=role == "operator",
        )
        file = layout.tokens / f"{role}.jwt"
        file.touch(mode=0o600)
        file.write_text(text, encoding="ascii")


def _run(command: list[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise failed(f"{' '.join(command[2:4])} failed", done.stderr)
    return done.stdout


def failed(what: str, log: str) -> OperatorError:
    """What a child did, with the last lines it wrote; the code is the one that it named last, if it named any."""
    lines = log.strip().splitlines()[-5:]
    code = Code.NOT_READY
    if lines and (match := re.fullmatch(r"(.*) \[(\w+)\]", lines[-1])) and match[2] in set(Code):
        lines[-1], code = match[1], Code(match[2])
    return OperatorError(code, "\n".join([f"{what}:", *lines]))
