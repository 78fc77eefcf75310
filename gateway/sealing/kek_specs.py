"""How an operator names KEKs, and opening what is named.

A spec is `file:PATH`, `env:NAME` or a `pkcs11:` URI. Rules: specs stand in settings and on command lines, so none
holds a secret; the first of several wraps what is new, and all of them unwrap; no key is named twice.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import Code, KeyFileError
from gateway.keyfiles import read_private_file
from gateway.sealing.kek_environment import TakeVariable, check_variable_name, take_variable
from gateway.sealing.kek_pkcs11 import Pkcs11Kek
from gateway.sealing.keys import KeyProvider, RandomBytes, create_kek, load_kek, parse_kek_line
from gateway.sealing.pkcs11_tokens import Tokens
from gateway.sealing.pkcs11_uris import SCHEME as PKCS11_SCHEME
from gateway.sealing.pkcs11_uris import Pkcs11Uri, parse_pkcs11_uri

# Only before another spec: paths and URIs may hold commas of their own.
_SEPARATOR = re.compile(r",\s*(?=(?:file|env|pkcs11):)")
_MAX_SPEC_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class FileSpec:
    """A KEK in a file of mode 0600."""

    path: Path

    def __str__(self) -> str:
        """The spec again."""
        return f"file:{self.path}"


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """A KEK in an environment variable."""

    name: str

    def __str__(self) -> str:
        """The spec again."""
        return f"env:{self.name}"


KekSpec = FileSpec | EnvironmentSpec | Pkcs11Uri


def split_specs(text: str) -> list[str]:
    """The specs in a comma-separated list; a comma separates only where another spec begins."""
    return _SEPARATOR.split(text.strip())


def parse_spec(text: str) -> KekSpec:
    """What one spec names. Raises KeyFileError naming what is wrong with it."""
    if len(text) > _MAX_SPEC_CHARACTERS or not text.isprintable():
        raise KeyFileError(
            Code.KEY_INVALID, "a KEK's name is too long or holds characters that cannot be printed"
        )
    if text.startswith(PKCS11_SCHEME):
        return parse_pkcs11_uri(text)
    scheme, _, rest = text.partition(":")
    if scheme == "env":
        check_variable_name(rest)
        return EnvironmentSpec(rest)
    if scheme == "file" and rest:
        return FileSpec(Path(rest))
    message = (
        "a KEK is named by file:PATH, env:NAME or a pkcs11: URI; several are separated by commas"
    )
    raise KeyFileError(Code.KEY_INVALID, message)


def open_keks(specs: Sequence[str], *, opener: "KekOpener | None" = None) -> list[KeyProvider]:
    """The KEKs of these specs, in order; variables that hold one are removed from the environment.

    opener: to share with other calls, which may name the same KEKs. Raises KeyFileError if there is no spec, one cannot
    be opened, or two name the same key.
    """
    opener = opener or KekOpener()
    keks = [opener.open(parsed) for parsed in [parse_spec(spec) for spec in specs]]
    if not keks:
        raise KeyFileError(Code.KEY_INVALID, "no KEK is named: use file:PATH, env:NAME or pkcs11:")
    ids = [kek.kek_id for kek in keks]
    if len(set(ids)) != len(ids):
        named = ", ".join(
            spec for spec, kek_id in zip(specs, ids, strict=True) if ids.count(kek_id) > 1
        )
        raise KeyFileError(
            Code.KEY_INVALID, f"the same KEK is named more than once: {named}; name it once"
        )
    return keks


class KekOpener:
    """Opens KEKs one by one, each of them once, and remembers which tokens have refused a PIN."""

    def __init__(self, *, take_variable: TakeVariable = take_variable) -> None:
        """Take how a variable is read and removed."""
        self._take_variable = take_variable
        self._tokens = Tokens()
        self._opened: dict[KekSpec, KeyProvider] = {}
        self._pins: dict[str, str] = {}

    def open(self, spec: KekSpec) -> KeyProvider:
        """The KEK that a spec names, the same for the same spec. Raises KeyFileError."""
        if spec not in self._opened:
            self._opened[spec] = self._open(spec)
        return self._opened[spec]

    def _open(self, spec: KekSpec) -> KeyProvider:
        if isinstance(spec, FileSpec):
            return load_kek(spec.path)
        if isinstance(spec, EnvironmentSpec):
            return parse_kek_line(
                self._take_variable(spec.name), source=f"the variable {spec.name}"
            )
        return Pkcs11Kek(key=self._tokens.open_key(spec, read_pin=self._pin_reader(spec)))

    def create(self, spec: KekSpec, *, random: RandomBytes) -> KeyProvider:
        """Make a new KEK where a spec says. Raises KeyFileError if there is one already, or none can be made."""
        if isinstance(spec, FileSpec):
            return create_kek(spec.path, random=random)
        if isinstance(spec, EnvironmentSpec):
            message = (
                f"{spec}: no command can set a variable of what called it: make a file (`gateway keys create "
                "--kek file:PATH`), set the variable to its one line, and remove the file"
            )
            raise KeyFileError(Code.KEY_INVALID, message)
        read_pin = self._pin_reader(spec)
        self._tokens.create_key(spec, read_pin=read_pin)
        return Pkcs11Kek(key=self._tokens.open_key(spec, read_pin=read_pin))

    def _pin_reader(self, uri: Pkcs11Uri) -> Callable[[], str]:
        scheme, _, rest = uri.pin_source.partition(":")
        if scheme == "file":
            # Read anew for each login: a token that was reset may have got another PIN.
            return lambda: _pin_of(read_private_file(Path(rest)), source=uri.pin_source)
        check_variable_name(rest)
        # Several keys of a token name the same variable, which can be taken only once.
        if rest not in self._pins:
            taken = self._take_variable(rest).encode("utf-8", "surrogateescape")
            self._pins[rest] = _pin_of(taken, source=uri.pin_source)
        pin = self._pins[rest]
        return lambda: pin


def _pin_of(content: bytes, *, source: str) -> str:
    try:
        pin = content.removesuffix(b"\n").decode("utf-8")
    except UnicodeDecodeError as exc:
        raise KeyFileError(Code.KEY_INVALID, f"{source} holds no PIN: it is not UTF-8") from exc
    if not pin or not pin.isprintable():
        raise KeyFileError(
            Code.KEY_INVALID, f"{source} holds no PIN: write one line with the PIN into it"
        )
    return pin
