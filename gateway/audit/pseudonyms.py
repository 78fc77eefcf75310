"""Pseudonyms: personal fields of a record as keyed hashes, which only whoever has the key can look up.

Rules: a field's values are hashed under the field's name, so that equal texts in two fields do not show as equal; the
same value has the same pseudonym in every record, so that records of one principal still belong together; the record
names the fields that are pseudonyms; a key that cannot be read ends the start, for without it names would be stored.
"""

import base64
import hmac
import os
import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from gateway.audit.details import parse_detail, replace_values
from gateway.audit.events import AuditEvent
from gateway.errors import Code, KeyFileError, SettingsError
from gateway.keyfiles import create_private_file, read_private_file
from gateway.settings import GatewaySettings

# What may be pseudonyms. The same names are used in a record's detail.
FIELDS = ("subject", "client_id", "address", "certificate_thumbprint", "proof_key_thumbprint")
MARK = "~"
# Names of our own programs, and of nobody.
OPERATING_SYSTEM = "operating-system"

_KEY_BYTES = 32
_KEY_LINE = re.compile(rb"gatewatch-pseudonym-v1:([0-9a-f]{64})\n")
# 192 bits: no two values meet, and a record stays short.
_PSEUDONYM_CHARACTERS = 32
# A value is hashed once and not for each of its calls; the busiest are kept.
_KEPT_VALUES = 8192


class Pseudonyms:
    """The pseudonyms that one key (32 bytes) gives to some of FIELDS."""

    def __init__(self, *, key: bytes, fields: frozenset[str]) -> None:
        """Raise RuntimeError for a key of another length or a field that is none of FIELDS."""
        if len(key) != _KEY_BYTES or not fields <= set(FIELDS):
            raise RuntimeError("internal: wrong key or fields for pseudonyms")
        self.fields = tuple(name for name in FIELDS if name in fields)
        self._key = key
        self._of = lru_cache(maxsize=_KEPT_VALUES)(self._hash)

    def of(self, field: str, value: str) -> str:
        """The pseudonym of a field's value: "~" and 32 characters of base64url."""
        return self._of(field, value)

    def prepare(self, event: AuditEvent) -> AuditEvent:
        """The event with pseudonyms in its fields and in pairs of its detail that are named as they are."""
        changed = {
            name: self._of(name, value)
            for name in self.fields
            if (value := getattr(event, name)) is not None and not _is_of_program(event, name)
        }
        named = [*changed]
        if event.detail is not None:
            detail = self._in_detail(event.detail)
            if detail != event.detail:
                changed["detail"] = detail
                named.append("detail")
        if not named:
            return event
        return replace(event, **changed, pseudonymised=",".join(named))  # type: ignore[arg-type]

    def _in_detail(self, detail: str) -> str:
        pairs = parse_detail(detail)
        return replace_values(
            detail,
            {
                name: tuple(self._of(name, value) for value in pairs[name])
                for name in self.fields
                if name in pairs
            },
        )

    def _hash(self, field: str, value: str) -> str:
        # HMAC (RFC 2104) and not a plain hash: names and addresses are few enough to be guessed. Field names hold no
        # zero byte, so no two pairs read the same.
        message = field.encode("ascii") + b"\0" + value.encode("utf-8", "surrogatepass")
        digest = hmac.digest(self._key, message, "sha256")
        return MARK + base64.urlsafe_b64encode(digest).decode("ascii")[:_PSEUDONYM_CHARACTERS]


def load_pseudonyms(key_file: Path, *, fields: str) -> Pseudonyms:
    """The pseudonyms of the key in this file; fields: comma-separated names out of FIELDS.

    Raises KeyFileError if the file is missing, open to others or holds no such key, SettingsError for another field.
    """
    names = [name.strip() for name in fields.split(",") if name.strip()]
    unknown = sorted(set(names) - set(FIELDS))
    if unknown or not names:
        message = (
            f"pseudonyms: {', '.join(unknown) or 'no field'}: name some of {', '.join(FIELDS)}"
        )
        raise SettingsError(Code.SETTINGS_INVALID, message)
    match = _KEY_LINE.fullmatch(read_private_file(key_file))
    if match is None:
        message = (
            f"{key_file} holds no key for pseudonyms: restore it from a backup, for another one gives other "
            "pseudonyms, or make one with `gateway keys create --pseudonym`"
        )
        raise KeyFileError(Code.KEY_INVALID, message)
    return Pseudonyms(key=bytes.fromhex(match[1].decode("ascii")), fields=frozenset(names))


def create_pseudonym_key(path: Path, *, random: Callable[[int], bytes] = os.urandom) -> None:
    """A new key in a file of mode 0600. Raises KeyFileError if the file exists already."""
    content = b"gatewatch-pseudonym-v1:" + random(_KEY_BYTES).hex().encode("ascii") + b"\n"
    create_private_file(path, content)


def configured_pseudonyms(settings: GatewaySettings) -> Pseudonyms | None:
    """The pseudonyms that the settings ask for, if they do. Raises as load_pseudonyms does."""
    if not settings.audit_pseudonym_key_file:
        return None
    return load_pseudonyms(
        Path(settings.audit_pseudonym_key_file), fields=settings.audit_pseudonym_fields
    )


def preparation(settings: GatewaySettings) -> Callable[[AuditEvent], AuditEvent]:
    """What is done to each event before it is stored. Raises as load_pseudonyms does."""
    pseudonyms = configured_pseudonyms(settings)
    return _unchanged if pseudonyms is None else pseudonyms.prepare


def stored_forms(pseudonyms: Pseudonyms | None, field: str, value: str) -> tuple[str, ...]:
    """Every form in which a value may stand in the ledger, the present one first.

    Records from before a key was named have it as it is. A value that is a pseudonym already stays one.
    """
    if pseudonyms is None or field not in pseudonyms.fields or is_pseudonym(value):
        return (value,)
    return (pseudonyms.of(field, value), value)


def is_pseudonym(value: str) -> bool:
    """Whether a text has the form of a pseudonym."""
    return bool(_PSEUDONYM.fullmatch(value))


_PSEUDONYM = re.compile(rf"{MARK}[A-Za-z0-9_-]{{{_PSEUDONYM_CHARACTERS}}}")


def _unchanged(event: AuditEvent) -> AuditEvent:
    return event


def _is_of_program(event: AuditEvent, name: str) -> bool:
    # `gateway-cli` and `monitor` tell programs apart, which rules over the ledger need; the account is the subject.
    return name == "client_id" and event.issuer == OPERATING_SYSTEM
