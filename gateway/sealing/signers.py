"""Who may seal: Ed25519 keys that sign sealed models, and the public keys that a gateway trusts.

Rules: a signer's id is the SHA-256 of its raw public key, in lower-case hex; a trusted key is named by an operator
and never taken from a sealed file.
"""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from gateway.errors import Code, KeyFileError
from gateway.keyfiles import create_private_file, read_private_file
from gateway.sealing.keys import RandomBytes
from gateway.sealing.regular_files import create_durably, read_regular

_ROOT = 0
_MAX_PUBLIC_KEY_BYTES = 4096  # An Ed25519 public key in PEM has 113.


@dataclass(frozen=True, slots=True)
class TrustedSigner:
    """A public key whose signatures count."""

    public_key: Ed25519PublicKey

    @property
    def signer_id(self) -> str:
        """SHA-256 of the raw public key, 64 lower-case hex digits."""
        return hashlib.sha256(self.public_key.public_bytes_raw()).hexdigest()

    def has_signed(self, message: bytes, *, unverified_signature: bytes) -> bool:
        """Whether the signature (64 bytes) over the message is this signer's."""
        try:
            self.public_key.verify(unverified_signature, message)
        except InvalidSignature:
            return False
        return True


class Signer:
    """A private key that seals models."""

    def __init__(self, *, private_key: Ed25519PrivateKey) -> None:
        """Take the private key; its public half is `trusted`."""
        self._private_key = private_key
        self.trusted = TrustedSigner(private_key.public_key())

    @property
    def signer_id(self) -> str:
        """The id that sealed models carry."""
        return self.trusted.signer_id

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes."""
        return self._private_key.sign(message)


def create_signer(path: Path, *, random: RandomBytes = os.urandom) -> Signer:
    """Make a new signer and its private key file (PEM, PKCS #8, mode 0600).

    Raises KeyFileError if the file exists already.
    """
    private_key = Ed25519PrivateKey.from_private_bytes(random(32))
    pem = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    create_private_file(path, pem)
    return Signer(private_key=private_key)


def load_signer(path: Path) -> Signer:
    """The signer whose private key this file holds.

    Raises KeyFileError if the file is missing, is readable by others, belongs to another user, or holds no
    unencrypted Ed25519 key.
    """
    pem = read_private_file(path)
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise _invalid(
            path, "holds no unencrypted Ed25519 private key; name a signer's file"
        ) from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise _invalid(
            path, "holds a private key of another kind than Ed25519; name a signer's file"
        )
    return Signer(private_key=key)


def write_trusted_signer(trusted: TrustedSigner, path: Path) -> None:
    """Write a public key file (PEM, mode 0644) to be trusted. Raises KeyFileError if it exists already."""
    pem = trusted.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    try:
        create_durably(path, pem, mode=0o644)
    except FileExistsError as exc:
        raise _invalid(path, "exists and is never overwritten; move it away first") from exc
    except OSError as exc:
        raise _invalid(path, f"cannot be created: {exc.strerror}; check its folder") from exc


def load_trusted_signer(path: Path) -> TrustedSigner:
    """The public key in this file.

    Raises KeyFileError if the file is missing, can be changed by others, or holds no Ed25519 public key.
    """
    try:
        pem = read_regular(path, check=lambda status: _check_public(path, status))
    except OSError as exc:
        raise _invalid(path, f"cannot be read: {exc.strerror}; correct the path") from exc
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise _invalid(path, "holds no Ed25519 public key; name a signer's public file") from exc
    if not isinstance(key, Ed25519PublicKey):
        raise _invalid(
            path, "holds a public key of another kind than Ed25519; name a signer's file"
        )
    return TrustedSigner(key)


def _check_public(path: Path, status: os.stat_result) -> None:
    # The file is public, but whoever can change it decides whose models run.
    if status.st_uid not in {os.geteuid(), _ROOT}:
        raise _invalid(path, f"belongs to user {status.st_uid}; chown it to user {os.geteuid()}")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o022:
        raise _invalid(path, f"has mode {mode:04o}, so others may change it; chmod it to 0644")
    if status.st_size > _MAX_PUBLIC_KEY_BYTES:
        raise _invalid(path, "is too long for a public key; name the right file")


def _invalid(path: Path, cause_and_fix: str) -> KeyFileError:
    return KeyFileError(Code.KEY_INVALID, f"key file {path} {cause_and_fix}")
