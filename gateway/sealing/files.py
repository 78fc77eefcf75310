"""Sealed models as files in one folder, NAME-VERSION.sealed.

Rules: a version is written once and never replaced; a file is complete or absent; nothing is read beyond the limit.
The folder is trusted with nothing: what is read from it is verified by gateway.sealing.sealed_model.
"""

import os
from pathlib import Path

from gateway.errors import Code, OperatorError, RegistryError
from gateway.sealing.container import check_name_and_version
from gateway.sealing.refusals import Refusal, refused
from gateway.sealing.regular_files import create_durably, read_regular, replace_durably


def sealed_file_name(name: str, version: str) -> str:
    """The file name of a version. Raises OperatorError if name or version could not stand in a sealed model."""
    check_name_and_version(name, version)
    return f"{name}-{version}.sealed"


def write_sealed_model(folder: Path, sealed: bytes, *, name: str, version: str) -> Path:
    """Write a new version durably (mode 0600) and return its path.

    Raises RegistryError if the version exists already, OperatorError if the folder cannot be written.
    """
    path = folder / sealed_file_name(name, version)
    try:
        create_durably(path, sealed, mode=0o600)
    except FileExistsError as exc:
        raise RegistryError(
            Code.MODEL_EXISTS,
            f"{path} exists already and is never replaced: seal under a new version",
        ) from exc
    except OSError as exc:
        raise OperatorError(Code.MODEL_UNSUPPORTED, f"cannot write {path}: {exc.strerror}") from exc
    return path


def list_sealed_files(folder: Path) -> list[Path]:
    """Every sealed file in a folder, registered or not, by name; none if there is no such folder."""
    return sorted(folder.glob("*.sealed"))


def read_sealed_file(path: Path, *, max_bytes: int) -> bytes:
    """The unverified bytes of one file of `list_sealed_files`.

    Raises RegistryError if it cannot be read, SealError if it is longer than max_bytes.
    """

    try:
        return _read(path, max_bytes=max_bytes)
    except OSError as exc:
        message = f"cannot read {path}: {exc.strerror}; restore it, or move it out of the folder"
        raise RegistryError(Code.MODEL_UNKNOWN, message) from exc


def replace_sealed_file(path: Path, sealed: bytes) -> None:
    """Put the same version, wrapped for other KEKs, in the place of its file. Raises OperatorError if it cannot."""
    try:
        replace_durably(path, sealed)
    except OSError as exc:
        message = f"cannot replace {path}: {exc.strerror}; run this as the user who owns it"
        raise OperatorError(Code.MODEL_UNSUPPORTED, message) from exc


def read_sealed_model(folder: Path, *, name: str, version: str, max_bytes: int) -> bytes:
    """The unverified bytes of a version's file.

    Raises RegistryError if there is no such file or it cannot be read, SealError if it is longer than max_bytes.
    """
    path = folder / sealed_file_name(name, version)
    try:
        return _read(path, max_bytes=max_bytes)
    except OSError as exc:
        # Operators read this over HTTPS too: where the file lies stands in the reason, which stays in log and ledger.
        raise RegistryError(
            Code.MODEL_UNKNOWN,
            f"the sealed file of {name}@{version} cannot be read: restore it, or seal and promote another version",
            reason=f"file_unreadable: {path}: {exc.strerror}",
        ) from exc


def _read(path: Path, *, max_bytes: int) -> bytes:
    def check(status: os.stat_result) -> None:
        if status.st_size > max_bytes:
            raise refused(Refusal.FILE_TOO_LARGE)

    return read_regular(path, check=check)
