"""SECURITY.md's inventories of cryptography, settings, limits and logs say what the source does."""

import ast
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from prometheus_client import CollectorRegistry

from gateway.identity.keysets import ALGORITHMS
from gateway.identity.quota_limits import LimitName
from gateway.metrics import GatewayMetrics
from gateway.settings import GatewaySettings

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
CRYPTOGRAPHY = {"cryptography", "hashlib", "hmac", "secrets", "ssl", "_ssl", "jwt", "pkcs11"}
# Whatever else knows how to hash, sign or encrypt: none of it is in use.
OTHERS = {"Crypto", "Cryptodome", "nacl", "OpenSSL", "gnupg", "bcrypt", "argon2", "passlib", "jose"}
LOG_DESTINATIONS = {"FileHandler", "StreamHandler", "Handler"}
IN_USE = (
    "X25519MLKEM768", "X25519", "P-256", "P-384", "Ed25519", "RS256", "RS384", "RS512", "PS256",
    "AES-256-GCM", "HKDF-SHA512", "SHA-256", "HMAC-SHA256",
)  # fmt: skip


@cache
def source() -> list[tuple[str, ast.AST]]:
    """Every node of every module of both processes, with the module's path."""
    files = [*(ROOT / "gateway").rglob("*.py"), *(ROOT / "monitor").rglob("*.py")]
    return [
        (str(file.relative_to(ROOT)), node)
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    ]


@cache
def imports() -> list[tuple[str, str, str]]:
    """The path of the module that imports, the one it imports, and the name it takes from it, if it does."""
    found: list[tuple[str, str, str]] = []
    for path, node in source():
        if isinstance(node, ast.Import):
            found += [(path, alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(path, node.module, alias.name) for alias in node.names]
    return found


def importing(packages: set[str]) -> set[str]:
    """The paths of the modules that import one of the packages."""
    return {path for path, name, _ in imports() if name.partition(".")[0] in packages}


def taken_from(module: str) -> set[str]:
    """What is imported from a module, or asked of it by the last part of its name."""
    last = module.rpartition(".")[2]
    asked = {
        node.attr
        for _, node in source()
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == last
    }
    is_imported = any(f"{name}.{taken}" == module for _, name, taken in imports())
    taken = {taken for _, name, taken in imports() if name == module and taken}
    return taken | (asked if is_imported or "." not in module else set())


def calls(is_wanted: Callable[[ast.Call], bool]) -> list[tuple[str, ast.Call]]:
    """The calls of a kind, each with the path of its module."""
    return [(p, node) for p, node in source() if isinstance(node, ast.Call) and is_wanted(node)]


def is_call_of(name: str) -> Callable[[ast.Call], bool]:
    """Whether a call is of `something.name`."""
    return lambda call: isinstance(call.func, ast.Attribute) and call.func.attr == name


def section(heading: str) -> str:
    """What stands below a heading, of whatever level, until the next."""
    _, _, rest = TEXT.partition(f"# {heading}\n")
    assert rest
    return re.split(r"\n##+ ", rest)[0]


def modules_in(text: str) -> set[str]:
    """The modules that a text names."""
    return set(re.findall(r"`((?:gateway|monitor)/[\w/]+\.py)`", text))


def inventory_rows() -> list[list[str]]:
    """The cells of the inventory of cryptography."""
    lines = [line for line in section("Cryptography").splitlines() if line.startswith("| ")]
    return [line.strip("| ").split(" | ") for line in lines[1:]]


def test_every_use_of_cryptography_is_in_the_inventory() -> None:
    """Found in the source; a new module that hashes, signs or encrypts has to say what for."""
    listed = [module for row in inventory_rows() for module in sorted(modules_in(row[2]))]
    assert importing(CRYPTOGRAPHY) == set(listed)
    assert len(set(listed)) == len(listed)
    assert set() == importing(OTHERS)


def test_secrets_come_from_the_system() -> None:
    """What draws keys, salts and nonces gets the kernel's randomness; the seeded generator stays where it is listed."""
    _, _, listed = section("Cryptography").partition("\nKeys, salts and nonces come from")
    assert importing({"random"}) == modules_in(listed)
    handed_on = [
        ast.unparse(keyword.value)
        for _, call in calls(lambda call: True)
        for keyword in call.keywords
        if keyword.arg == "random"
    ]
    assert {"os.urandom", "random", "self._random"} >= set(handed_on)
    assert "os.urandom" in handed_on


def test_only_named_ciphers_and_hashes_are_used() -> None:
    """AES-GCM and the SHA-2 family; nothing is encrypted by RSA."""
    primitives = "cryptography.hazmat.primitives"
    assert {"sha256"} == taken_from("hashlib")
    assert {"SHA256", "SHA512"} == taken_from(f"{primitives}.hashes")
    assert {"AESGCM"} == taken_from(f"{primitives}.ciphers.aead")
    assert {f"{primitives}.ciphers.aead"} == {n for _, n, _ in imports() if "ciphers" in n}
    assert set() == taken_from(f"{primitives}.asymmetric.padding")
    by_name = {ast.unparse(call.args[2]) for _, call in calls(is_call_of("digest")) if call.args}
    assert {"'sha256'"} == by_name


def test_secrets_are_compared_in_constant_time() -> None:
    """Wherever a caller can send a guess again and again: thumbprints, nonces, hashes of tokens, MACs."""
    assert [
        "gateway/identity/binding.py",
        "gateway/identity/dpop.py",
        "gateway/identity/dpop_nonces.py",
        "gateway/sealing/chunked.py",
        "gateway/sealing/wraps.py",
    ] == sorted(path for path, _ in calls(is_call_of("compare_digest")))


def test_every_algorithm_of_tokens_is_listed() -> None:
    """Those that keys may have, no more and no less."""
    (row,) = [row for row in inventory_rows() if row[0].startswith("tokens and DPoP proofs")]
    listed, _, sizes = row[1].partition("; ")
    assert sorted(ALGORITHMS) == sorted(listed.split(", "))
    assert "RSA of 2048 to 8192 bits" == sizes


def test_every_algorithm_has_a_successor() -> None:
    """Whatever the inventory names stands in the plan, on one side or the other."""
    plan, inventory = section("What comes after"), " ".join(row[1] for row in inventory_rows())
    assert [] == [name for name in IN_USE if name not in inventory]
    assert [] == [name for name in IN_USE if name not in plan]


def test_settings_are_shown_with_their_defaults() -> None:
    """Those of the table as they are delivered; and none is named that does not exist."""
    defaults = {
        GatewaySettings.variable_name(name): str(field.default)
        for name, field in GatewaySettings.model_fields.items()
    }
    shown = dict(re.findall(r"^\| `(GATEWAY_\w+)` \| ([^|]+) \|", TEXT, re.MULTILINE))
    assert 5 == len(shown)
    assert {name: defaults[name] for name in shown} == shown
    assert set() == set(re.findall(r"`(GATEWAY_[A-Z_]+)[`=]", TEXT)) - defaults.keys()


def test_every_limit_is_named() -> None:
    """What decides beside permissions includes each limit that a call can meet."""
    text = section("What decides")
    assert [] == [limit.value for limit in LimitName if f"`{limit.value}`" not in text]


def test_every_log_event_that_is_named_exists() -> None:
    """Whoever writes a rule on one of these words gets what it waits for."""
    _, _, text = section("Logs").partition("\nOf use to a security team")
    events, _, metrics = text.partition("\n\n")[0].partition("In the metrics:")
    written = {
        str(call.args[0].value).partition(" ")[0]
        for _, call in calls(lambda call: isinstance(call.func, ast.Attribute))
        if call.args and isinstance(call.args[0], ast.Constant)
    }
    named = re.findall(r"`(\w+)`", events)
    assert 29 == len(named)
    assert [] == [name for name in named if name not in written]
    registry = CollectorRegistry()
    GatewayMetrics(registry)
    families = {f"{m.name}_total" if m.type == "counter" else m.name for m in registry.collect()}
    assert set() == set(re.findall(r"`(\w+)`", metrics)) - families


def test_logs_go_to_standard_error_alone() -> None:
    """The inventory of logs is whole: nothing opens another place for them, here or elsewhere on the network."""
    assert set() == taken_from("logging") & {*LOG_DESTINATIONS, "handlers", "config"}
    assert [] == [name for _, name, _ in imports() if name.startswith(("logging.", "syslog"))]
    configured = calls(is_call_of("basicConfig"))
    assert ["gateway/__main__.py", "monitor/jobs/running.py"] == sorted(
        path for path, _ in configured
    )
    for _, call in configured:
        assert "sys.stderr" in [ast.unparse(k.value) for k in call.keywords if k.arg == "stream"]


def test_logs_state_the_zone_of_their_times() -> None:
    """Whoever lays them beside the ledger, whose times are UTC, must not have to know where the host stood."""
    formats = [
        ast.literal_eval(keyword.value)
        for _, call in calls(is_call_of("basicConfig"))
        for keyword in call.keywords
        if keyword.arg == "datefmt"
    ]
    assert ["%Y-%m-%dT%H:%M:%S%z"] * 2 == formats
