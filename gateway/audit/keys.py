"""The key that signs a ledger's checkpoints.

Rules: made only when asked, never over an existing one; a new key is a new ledger, because a reader trusts one key for
an origin.
"""

import os
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.audit.entries import checked_origin
from gateway.audit.notes import NoteCosigner, NoteSigner
from gateway.errors import Code, KeyFileError
from gateway.keyfiles import create_private_file, read_private_file


def create_ledger_key(path: Path, *, random: Callable[[int], bytes] = os.urandom) -> None:
    """A new Ed25519 key (PEM, PKCS #8, mode 0600). Raises KeyFileError if the file exists already."""
    private_key = Ed25519PrivateKey.from_private_bytes(random(32))
    pem = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    create_private_file(path, pem)


def load_ledger_signer(path: Path, *, origin: str) -> NoteSigner:
    """What signs the ledger of this origin.

    Raises KeyFileError if the file is missing, readable by others or holds no Ed25519 key, SettingsError if the origin
    is no name.
    """
    return NoteSigner(checked_origin(origin), _load(path))


def load_cosigner(path: Path, *, name: str) -> NoteCosigner:
    """What cosigns as a witness of this name. Raises as load_ledger_signer does."""
    return NoteCosigner(checked_origin(name), _load(path))


def _load(path: Path) -> Ed25519PrivateKey:
    if not path.exists():
        message = (
            f"there is no key {path}: restore it from a backup, or, for a ledger that is new, make it with "
            f"`gateway keys create {path.parent}`"
        )
        raise KeyFileError(Code.KEY_INVALID, message)
    content = read_private_file(path)
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise _refused(path) from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise _refused(path)
    return key


def _refused(path: Path) -> KeyFileError:
    message = f"{path} holds no Ed25519 private key in PEM: restore it, or make one with `gateway keys create`"
    return KeyFileError(Code.KEY_INVALID, message)
