"""Making keys: only ever when asked, and never over existing ones."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gateway.audit.details import format_detail
from gateway.audit.events import Action, Outcome
from gateway.audit.keys import create_ledger_key
from gateway.audit.pseudonyms import create_pseudonym_key
from gateway.commands.opening import opened_store, operator_event, record_once
from gateway.errors import Code, KeyFileError
from gateway.identity.issue import create_signing_key, jwks_of, load_signing_key
from gateway.sealing.kek_specs import KekOpener, parse_spec
from gateway.sealing.keys import create_kek
from gateway.sealing.regular_files import create_durably
from gateway.sealing.signers import create_signer, load_signer, write_trusted_signer
from gateway.settings import GatewaySettings

_MARKER = b"""The key beside this file signs tokens for development: `gateway token issue` uses it
while this file is here. In production an identity provider signs tokens, and neither file belongs on the machine.
"""


def create_all(folder: Path) -> dict[str, str]:
    """A KEK, a signer with its trusted public key, and the ledger's key, each if it is absent; ids of what was made.

    Raises KeyFileError if one cannot be written. Running it again after a crash makes what is missing.
    """
    made: dict[str, str] = {}
    signers = folder / "signers"
    _make_folder(signers)
    if not (folder / "kek").exists():
        made["kek"] = create_kek(folder / "kek").kek_id
    if not (folder / "signer.key").exists():
        create_signer(folder / "signer.key")
        made["signer"] = load_signer(folder / "signer.key").signer_id
    if not (folder / "ledger.key").exists():
        create_ledger_key(folder / "ledger.key")
        # Its id is told by what it signs, under an origin that this does not know.
        made["ledger_key"] = str(folder / "ledger.key")
    if not any(signers.glob("*.pem")):
        # Only where none is trusted: one that is missing beside others may have been withdrawn.
        signer = load_signer(folder / "signer.key")
        write_trusted_signer(signer.trusted, signers / f"{signer.signer_id[:16]}.pem")
        made["trusted_signer"] = signer.signer_id
    return made


def create_pseudonyms(folder: Path) -> Path:
    """A key for the ledger's pseudonyms; its file. Raises KeyFileError if there is one already."""
    _make_folder(folder)
    create_pseudonym_key(folder / "pseudonym.key")
    return folder / "pseudonym.key"


def record_created(settings: GatewaySettings, made: Mapping[str, str]) -> None:
    """Put on record which keys were made, where there is a ledger: the first keys of a host are older than any.

    made: what each is, and its id. Raises OperatorError if there is no ledger yet, AuditUnavailableError.
    """
    if not made:
        return
    event = operator_event(Action.KEYS_CREATE, detail=format_detail(**made))
    with opened_store(settings) as store:
        record_once(store, settings, replace(event, outcome=Outcome.ANSWERED))


def create_development_issuer(folder: Path) -> None:
    """A token-signing key, its JWKS, and the marker that lets `gateway token issue` use it, each if it is absent.

    For development homes alone: whoever reads this key is every principal. A key that an earlier release made gets its
    marker. Raises KeyFileError if one cannot be written. Running it again after a crash makes what is missing.
    """
    _make_folder(folder)
    key_file = folder / "token.key"
    if not key_file.exists():
        create_signing_key(key_file)
    if not (folder / "jwks.json").exists():
        public_key = load_signing_key(key_file).public_key()
        _create_public(folder / "jwks.json", jwks_of([public_key]))
    if not marker_of(key_file).exists():
        _create_public(marker_of(key_file), _MARKER)


def marker_of(key_file: Path) -> Path:
    """The file beside a token-signing key that says that it is for development."""
    return key_file.with_suffix(".development")


def create_one(spec: str) -> str:
    """A new KEK where a spec says, a file or a token; its id. Raises KeyFileError if there is one already."""
    return KekOpener().create(parse_spec(spec), random=os.urandom).kek_id


def _make_folder(folder: Path) -> None:
    try:
        # Not writable by the group whatever the umask says: such a folder is not trusted.
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    except OSError as exc:
        raise _unwritable(folder, exc) from exc


def _create_public(file: Path, content: bytes) -> None:
    try:
        create_durably(file, content, mode=0o644)
    except OSError as exc:
        raise _unwritable(file, exc) from exc


def _unwritable(path: Path, exc: OSError) -> KeyFileError:
    message = f"cannot write {path}: {exc.strerror}; check the folder above it"
    return KeyFileError(Code.KEY_INVALID, message)
