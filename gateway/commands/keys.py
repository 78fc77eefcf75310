"""Making keys: only ever when asked, and never over existing ones."""

from pathlib import Path

from gateway.identity.issue import create_signing_key, jwks_of, load_signing_key
from gateway.sealing.keys import create_kek
from gateway.sealing.signers import create_signer, write_trusted_signer


def create_all(folder: Path) -> None:
    """A KEK, a signer with its trusted public key, and a token-signing key with its JWKS, each if it is absent.

    Raises KeyFileError if one cannot be written. Running it again after a crash makes what is missing.
    """
    signers = folder / "signers"
    signers.mkdir(parents=True, exist_ok=True)
    if not (folder / "kek").exists():
        create_kek(folder / "kek")
    if not (folder / "signer.key").exists():
        signer = create_signer(folder / "signer.key")
        write_trusted_signer(signer.trusted, signers / f"{signer.signer_id[:16]}.pem")
    if not (folder / "token.key").exists():
        create_signing_key(folder / "token.key")
    token_key = load_signing_key(folder / "token.key")
    (folder / "jwks.json").write_bytes(jwks_of([token_key.public_key()]))
