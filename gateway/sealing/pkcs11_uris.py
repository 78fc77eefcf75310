"""PKCS #11 URIs: which key in which token, the module that speaks to it, and where its PIN is.

Rules: the part of RFC 7512 that names one secret key; an attribute that is not known here is refused, never ignored,
since it would have narrowed the choice; a PIN never stands in a URI, and no message repeats the value of one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_from_bytes

from gateway.errors import Code, KeyFileError

SCHEME = "pkcs11:"

_TOKEN = ("token", "serial", "manufacturer", "model")
_KEY = ("object", "id")
_PATH = (*_TOKEN, *_KEY, "type")
_QUERY = ("module-path", "pin-source")
# pk11-path-res-avail and pk11-query-res-avail of RFC 7512 section 2.3, less what separates attributes.
_PATH_TEXT = re.compile(r"(?:[A-Za-z0-9._~:\[\]@!$'()*+,=-]|%[0-9A-Fa-f]{2}|&)*")
_QUERY_TEXT = re.compile(r"(?:[A-Za-z0-9._~:\[\]@!$'()*+,=/?|-]|%[0-9A-Fa-f]{2})*")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNESCAPED = "!$'()*+:=@[]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pkcs11Uri:
    """One secret key; a member that is None was not named and narrows nothing.

    token, serial, manufacturer, model: of the token, token or serial at least. label, key_id: of the key (CKA_LABEL,
    CKA_ID), one at least. pin_source: `file:/PATH` or `env:NAME`, as `read_pin` takes it.
    """

    token: str | None
    serial: str | None
    manufacturer: str | None
    model: str | None
    label: str | None
    key_id: bytes | None
    module_path: Path
    pin_source: str

    def __str__(self) -> str:
        """The URI again, in one spelling."""
        key_id = None if self.key_id is None else "".join(f"%{byte:02X}" for byte in self.key_id)
        path = {
            "token": _escaped(self.token),
            "serial": _escaped(self.serial),
            "manufacturer": _escaped(self.manufacturer),
            "model": _escaped(self.model),
            "object": _escaped(self.label),
            "id": key_id,
        }
        named = ";".join(f"{name}={value}" for name, value in path.items() if value is not None)
        query = {
            "module-path": _escaped(str(self.module_path), "/"),
            "pin-source": _escaped(self.pin_source, "/"),
        }
        return f"{SCHEME}{named}?" + "&".join(f"{name}={value}" for name, value in query.items())


def parse_pkcs11_uri(text: str) -> Pkcs11Uri:
    """The key that a URI names.

    Raises KeyFileError naming what is missing, unknown, given twice or malformed. Source: RFC 7512.
    """
    if not text.startswith(SCHEME):
        raise _invalid(f"must begin with {SCHEME}")
    path_text, _, query_text = text.removeprefix(SCHEME).partition("?")
    path = _attributes(path_text, separator=";", known=_PATH, shape=_PATH_TEXT)
    query = _attributes(query_text, separator="&", known=_QUERY, shape=_QUERY_TEXT)
    _check_complete(path, query)
    return Pkcs11Uri(
        token=_text(path, "token"),
        serial=_text(path, "serial"),
        manufacturer=_text(path, "manufacturer"),
        model=_text(path, "model"),
        label=_text(path, "object"),
        key_id=path.get("id"),
        module_path=_module_path(query),
        pin_source=_pin_source(query),
    )


def _attributes(
    text: str, *, separator: str, known: tuple[str, ...], shape: re.Pattern[str]
) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in text.split(separator) if text else []:
        name, equals, value = part.partition("=")
        if name == "pin-value":
            raise _invalid(
                "holds a PIN (pin-value), which every process listing and log would show: put the PIN into a file of "
                "mode 0600 and write pin-source=file:/PATH in its place"
            )
        if name not in known:
            shown = name if re.fullmatch(r"[a-z-]{1,32}", name) else "one of its parts"
            raise _invalid(f"{shown} is not known here: use {', '.join(known)}")
        if name in found:
            raise _invalid(f"{name} is given twice")
        if not equals or not value or not shape.fullmatch(value):
            raise _invalid(f"{name} has no value, or one with characters to be written as %XX")
        found[name] = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), value.encode("ascii"))
    return found


def _check_complete(path: Mapping[str, bytes], query: Mapping[str, bytes]) -> None:
    if not any(name in path for name in ("token", "serial")):
        raise _invalid("names no token: add token=LABEL or serial=NUMBER")
    if not any(name in path for name in _KEY):
        raise _invalid("names no key: add object=LABEL or id=%XX")
    if path.get("type", b"secret-key") != b"secret-key":
        raise _invalid("type is not secret-key, and only such a key can wrap")
    if "module-path" not in query:
        raise _invalid("names no module: add module-path=/PATH/OF/THE/VENDORS/MODULE.so")
    if "pin-source" not in query:
        raise _invalid("names no PIN: add pin-source=file:/PATH or pin-source=env:NAME")


def _module_path(query: Mapping[str, bytes]) -> Path:
    path = Path(_text(query, "module-path") or "")
    # A relative one would be searched for where the loader likes, and the module gets the PIN.
    if not path.is_absolute():
        raise _invalid("module-path must be an absolute path")
    return path


def _pin_source(query: Mapping[str, bytes]) -> str:
    source = _text(query, "pin-source") or ""
    if source.startswith("/"):
        source = f"file:{source}"
    if not source.startswith(("file:/", "env:")):
        raise _invalid("pin-source must be file:/PATH, absolute, or env:NAME")
    return source


def _text(attributes: Mapping[str, bytes], name: str) -> str | None:
    value = attributes.get(name)
    if value is None:
        return None
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise _invalid(f"{name} is not UTF-8") from exc
    # It is shown in messages and lists, and a terminal obeys control characters.
    if not text.isprintable():
        raise _invalid(f"{name} has characters that cannot be printed")
    return text


def _escaped(value: str | None, more: str = "") -> str | None:
    return None if value is None else quote_from_bytes(value.encode("utf-8"), _UNESCAPED + more)


def _invalid(what: str) -> KeyFileError:
    return KeyFileError(Code.KEY_INVALID, f"a pkcs11: URI is wrong: {what}")
