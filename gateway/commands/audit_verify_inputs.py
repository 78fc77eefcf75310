"""What a check of ledgers is made with: keys, checkpoints that others hold, and the one that the last check ended at.

Rules: a checkpoint counts only with the signature of the ledger's key; a private key is needed for nothing here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.audit.checkpoints import SignedCheckpoint, open_checkpoint, parse_checkpoint_text
from gateway.audit.keys import load_ledger_signer
from gateway.audit.merkle import LogInvalidError
from gateway.audit.notes import (
    DEFAULT_MAX_BYTES,
    KeyKind,
    Verifier,
    parse_note,
    parse_verifier,
)
from gateway.audit.places import WitnessDisagreementError, WitnessUnavailableError
from gateway.audit.replaced_files import Disk, lock_beside, read_small_file, replace_file
from gateway.audit.witness_file import read_witness_file
from gateway.errors import Code, KeyFileError, LedgerError, OperatorError
from gateway.settings import GatewaySettings

_MAX_KEYS_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOrder:
    """What is checked, and with what.

    keys: verifier keys as lines or files of lines, whose names are the ledgers; none for the configured ledger with the
    public half of its key. from_file: where the last check ended; save_file: where this one ends. witness_files:
    checkpoints that others hold. is_all: every ledger of the database.
    """

    keys: Sequence[str] = ()
    from_file: Path | None = None
    save_file: Path | None = None
    witness_files: Sequence[Path] = ()
    is_all: bool = False


def read_keys(order: VerifyOrder, settings: GatewaySettings) -> dict[str, list[Verifier]]:
    """The keys of each ledger by its name: those that were named, and with none or for all the configured one's.

    Raises OperatorError for what is no key of a ledger, or if there is none to check with.
    """
    keys: dict[str, list[Verifier]] = {}
    for text in order.keys:
        for verifier in _parse_keys(text):
            keys.setdefault(verifier.name, []).append(verifier)
    if not keys or (order.is_all and settings.audit_origin not in keys):
        configured = _configured_key(settings, is_needed=not order.is_all)
        if configured is not None:
            keys[configured.name] = [configured]
    return keys


def read_checkpoint(
    file: Path, keys: dict[str, list[Verifier]], *, option: str
) -> SignedCheckpoint:
    """The checkpoint in a file that one of these ledgers signed. Raises OperatorError if it holds none."""
    content = _read(file, DEFAULT_MAX_BYTES, option)
    try:
        unverified = parse_checkpoint_text(parse_note(content).unverified_text)
        return open_checkpoint(
            content, origin=unverified.origin, verifiers=keys.get(unverified.origin, [])
        )
    except LogInvalidError as exc:
        message = (
            f"{option}: {file} is no checkpoint that a ledger with a known key signed ({exc}): name another file, or "
            "the ledger's public key with --key"
        )
        raise OperatorError(Code.LEDGER_BROKEN, message, reason="no checkpoint") from exc


def read_configured_witness(
    settings: GatewaySettings, keys: dict[str, list[Verifier]]
) -> SignedCheckpoint | None:
    """What GATEWAY_AUDIT_WITNESS_FILE holds of the configured ledger; None if it is not set or not there yet.

    Raises LedgerError if it holds something else, OperatorError if it cannot be read.
    """
    verifiers = keys.get(settings.audit_origin)
    if not settings.audit_witness_file or not verifiers:
        return None
    try:
        return read_witness_file(Path(settings.audit_witness_file), verifiers[0])
    except WitnessDisagreementError as exc:
        raise LedgerError(Code.LEDGER_BROKEN, str(exc), reason="witness") from exc
    except WitnessUnavailableError as exc:
        message = f"GATEWAY_AUDIT_WITNESS_FILE: {exc}"
        raise OperatorError(Code.SETTINGS_INVALID, message) from exc


def save_checkpoint(file: Path, signed: SignedCheckpoint, verifiers: Sequence[Verifier]) -> None:
    """Keep a checkpoint for the next check; a larger one that is there stays.

    Raises OperatorError if the file holds anything but a checkpoint of this ledger, or cannot be written.
    """
    try:
        with lock_beside(file):
            held = read_small_file(file, max_bytes=DEFAULT_MAX_BYTES)
            if held is not None:
                origin = signed.checkpoint.origin
                older = open_checkpoint(held, origin=origin, verifiers=verifiers)
                if older.checkpoint.size >= signed.checkpoint.size:
                    return
            replace_file(file, signed.note, disk=Disk())
    except LogInvalidError as exc:
        message = f"--save: {file} holds something else ({exc}) and is left alone: name another"
        raise OperatorError(Code.SETTINGS_INVALID, message) from exc
    except OSError as exc:
        message = f"--save: {file} cannot be written: {exc.strerror}; check its folder and rights"
        raise OperatorError(Code.SETTINGS_INVALID, message) from exc


def _parse_keys(text: str) -> list[Verifier]:
    try:
        return [_of_ledger(parse_verifier(text))]
    except LogInvalidError as no_line:
        if not Path(text).is_file():
            message = f"--key: {text!r} is neither a public key ({no_line}) nor a file with some"
            raise OperatorError(Code.KEY_INVALID, message) from no_line
    content = _read(Path(text), _MAX_KEYS_BYTES, "--key")
    try:
        lines = content.decode("utf-8").split()
        return [_of_ledger(parse_verifier(line)) for line in lines]
    except (LogInvalidError, UnicodeDecodeError) as exc:
        message = f"--key: {text} must hold public keys of ledgers, one a line: {exc}"
        raise OperatorError(Code.KEY_INVALID, message) from exc


def _of_ledger(verifier: Verifier) -> Verifier:
    if verifier.kind is not KeyKind.ED25519:
        raise LogInvalidError("it is the key of a witness, not of a ledger")
    return verifier


def _configured_key(settings: GatewaySettings, *, is_needed: bool) -> Verifier | None:
    try:
        signer = load_ledger_signer(settings.audit_key_file, origin=settings.audit_origin)
    except KeyFileError as exc:
        if not is_needed:
            return None
        message = (
            f"GATEWAY_AUDIT_KEY_FILE: {exc.message}; or name the ledger's public key, which `gateway audit key` "
            "prints where the private key is, with --key"
        )
        raise OperatorError(Code.KEY_INVALID, message) from exc
    return signer.verifier


def _read(file: Path, max_bytes: int, option: str) -> bytes:
    try:
        content = read_small_file(file, max_bytes=max_bytes)
    except OSError as exc:
        raise _unreadable(option, file, exc.strerror) from exc
    if content is None:
        raise _unreadable(option, file, "it is not there")
    return content


def _unreadable(option: str, file: Path, why: str | None) -> OperatorError:
    message = f"{option}: {file} cannot be read: {why}; name another file"
    return OperatorError(Code.SETTINGS_INVALID, message)
