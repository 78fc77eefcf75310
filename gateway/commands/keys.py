"""Making keys: only ever when asked, and never over existing ones."""

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.errors import Code, KeyFileError
from gateway.identity.issue import create_signing_key, jwks_of, load_signing_key
from gateway.sealing.kek_specs import KekOpener, parse_spec
from gateway.sealing.keys import create_kek
from gateway.sealing.regular_files import create_durably
from gateway.sealing.signers import create_signer, load_signer, write_trusted_signer


def create_all(folder: Path) -> None:
    """A KEK, a signer with its trusted public key, and a token-signing key with its JWKS, each if it is absent.

    Raises KeyFileError if one cannot be written. Running it again after a crash makes what is missing.
    """
    signers = folder / "signers"
    try:
        # Not writable by the group whatever the umask says: such a folder is not trusted.
        signers.mkdir(parents=True, exist_ok=True, mode=0o755)
    except OSError as exc:
        raise _unwritable(signers, exc) from exc
    if not (folder / "kek").exists():
        create_kek(folder / "kek")
    if not (folder / "signer.key").exists():
        create_signer(folder / "signer.key")
    if not any(signers.glob("*.pem")):
        # Only where none is trusted: one that is missing beside others may have been withdrawn.
        signer = load_signer(folder / "signer.key")
        write_trusted_signer(signer.trusted, signers / f"{signer.signer_id[:16]}.pem")
    if not (folder / "token.key").exists():
        create_signing_key(folder / "token.key")
    if not (folder / "jwks.json").exists():
        _write_jwks(folder / "jwks.json", load_signing_key(folder / "token.key"))


def create_one(spec: str) -> str:
    """A new KEK where a spec says, a file or a token; its id. Raises KeyFileError if there is one already."""
    return KekOpener().create(parse_spec(spec), random=os.urandom).kek_id


def _write_jwks(file: Path, token_key: Ed25519PrivateKey) -> None:
    try:
        create_durably(file, jwks_of([token_key.public_key()]), mode=0o644)
    except OSError as exc:
        raise _unwritable(file, exc) from exc


def _unwritable(path: Path, exc: OSError) -> KeyFileError:
    message = f"cannot write {path}: {exc.strerror}; check the folder above it"
    return KeyFileError(Code.KEY_INVALID, message)
