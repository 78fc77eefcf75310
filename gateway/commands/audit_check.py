"""`gateway audit check`: a proof file against public keys, anywhere, without settings and database.

Rules: nothing is printed of a record before it is proved and is the one that was asked for.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from gateway.audit.events import printable
from gateway.audit.merkle import LogInvalidError
from gateway.audit.notes import VerifiedSignature, Verifier, parse_verifier
from gateway.audit.proof_check import ProvedRecord, check_proof
from gateway.audit.proof_files import MAX_FILE_BYTES
from gateway.errors import Code, OperatorError

Result = TypeVar("Result")

STANDARD_INPUT = Path("-")

_CHUNK_BYTES = 1 << 20
_MAX_KEY_BYTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOrder:
    """What is checked: a proof file ("-" for standard input), keys as lines or files, and what the record must be of.

    input_file, result_file: what was sent and answered, byte for byte. request_id: X-Request-Id of the answer.
    """

    proof_file: Path
    key: str
    witnesses: Sequence[str] = ()
    input_file: Path | None = None
    result_file: Path | None = None
    request_id: str | None = None


def check(order: CheckOrder, *, as_json: bool) -> None:
    """Print what the proved record says. Raises OperatorError (PROOF_INVALID) if it is not proved or another's."""
    log = _verifier(order.key, "--key")
    witnesses = [_verifier(text, "--witness") for text in order.witnesses]
    try:
        proved = check_proof(_read(order.proof_file), log=log, witnesses=witnesses)
    except LogInvalidError as exc:
        raise _refused(f"{order.proof_file}: not proved: {exc}") from exc
    _compare(proved, order)
    print(json.dumps(_as_members(proved)) if as_json else "\n".join(_lines(proved)))


def _verifier(text: str, option: str) -> Verifier:
    try:
        return parse_verifier(text)
    except LogInvalidError as no_line:
        file = Path(text)
        if not file.is_file():
            message = f"{option}: neither a verifier key (name+ID+key, as `gateway audit key` prints it) nor a file"
            raise _refused(message) from no_line
    try:
        return parse_verifier(_bytes(file, _MAX_KEY_BYTES).decode("utf-8").strip())
    except (LogInvalidError, UnicodeDecodeError) as exc:
        raise _refused(f"{option}: {file} holds no verifier key: {exc}") from exc


def _compare(proved: ProvedRecord, order: CheckOrder) -> None:
    for file, member in (
        (order.input_file, "input_sha256"),
        (order.result_file, "result_digest"),
    ):
        if file is not None:
            _require(proved, member, _digest(file), str(file))
    if order.request_id is not None:
        _require(proved, "request_id", order.request_id, "--request-id")


def _require(proved: ProvedRecord, member: str, value: str, what: str) -> None:
    recorded = proved.members.get(member)
    if recorded != value:
        message = f"{what}: the record is proved, but of something else: {member} is {recorded}, not {value}"
        raise _refused(message)


def _lines(proved: ProvedRecord) -> list[str]:
    said = {name: value for name, value in proved.members.items() if value is not None}
    width = max(map(len, said))
    return [
        f"proved: record {proved.index} of {proved.origin}, by its checkpoint of {proved.size} records",
        *(f"cosigned: by {s.verifier.name} at {_time(s)}" for s in proved.cosignatures),
        *(f"  {name:<{width}}  {_shown(value)}" for name, value in said.items()),
    ]


def _shown(member: object) -> str:
    text = str(member)
    return text if text.isprintable() else printable(text, max_characters=2 * len(text))


def _as_members(proved: ProvedRecord) -> dict[str, Any]:
    return {
        "origin": proved.origin,
        "index": proved.index,
        "checkpoint_size": proved.size,
        "cosignatures": {s.verifier.name: _time(s) for s in proved.cosignatures},
        "record": dict(proved.members),
    }


def _time(signature: VerifiedSignature) -> str:
    seconds = signature.time_seconds or 0
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s"  # No calendar has it, and its witness signed it all the same.


def _read(file: Path) -> bytes:
    if file == STANDARD_INPUT:
        return sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    return _bytes(file, MAX_FILE_BYTES + 1)


def _bytes(file: Path, limit: int) -> bytes:
    return _opened(file, lambda stream: stream.read(limit))


def _digest(file: Path) -> str:
    def digest(stream: BinaryIO) -> str:
        found = sha256()
        while chunk := stream.read(_CHUNK_BYTES):
            found.update(chunk)
        return found.hexdigest()

    return _opened(file, digest)


def _opened(file: Path, use: Callable[[BinaryIO], Result]) -> Result:
    try:
        with file.open("rb") as stream:
            return use(stream)
    except OSError as exc:
        raise _refused(f"cannot read {file}: {exc.strerror}") from exc


def _refused(message: str) -> OperatorError:
    return OperatorError(Code.PROOF_INVALID, message)
