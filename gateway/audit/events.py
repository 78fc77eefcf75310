"""What the ledger says about one call or command.

Rules: actions and outcomes are closed sets; an event holds no image, no token and no secret; text that callers chose
is bounded and printable before it is stored, so that a reader's terminal or log shipper cannot be attacked with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from gateway.errors import Code


class Action(StrEnum):
    """What was attempted."""

    PREDICT = "predict"
    MODELS_READ = "models.read"
    MODELS_SEAL = "models.seal"
    MODELS_PROMOTE = "models.promote"
    MODELS_ROLLBACK = "models.rollback"
    MODELS_RETIRE = "models.retire"
    MODELS_TRAFFIC = "models.traffic"
    MODELS_LOAD = "models.load"
    KEYS_CREATE = "keys.create"
    KEYS_USE = "keys.use"
    KEYS_ROTATE = "keys.rotate"
    ISSUER_KEYS = "issuer.keys"
    POLICY_CHANGE = "policy.change"
    TOKENS_REVOKE = "tokens.revoke"
    TOKENS_RESTORE = "tokens.restore"
    GATEWAY_START = "gateway.start"
    GATEWAY_STOP = "gateway.stop"
    AUDIT_CREATE = "audit.create"
    AUDIT_READ = "audit.read"
    AUDIT_EXPORT = "audit.export"
    AUDIT_PROVE = "audit.prove"
    AUDIT_VERIFY = "audit.verify"
    AUDIT_OUTAGE = "audit.outage"
    AUDIT_WITNESS = "audit.witness"
    SAMPLES_VIEW = "samples.view"
    TRUTH_WRITE = "truth.write"
    REFERENCE_MAKE = "reference.make"
    REPORT_MAKE = "report.make"
    ALARM_CHANGE = "alarm.change"
    MONITOR_START = "monitor.start"
    MONITOR_STOP = "monitor.stop"
    ROUTE_UNKNOWN = "route.unknown"


class Outcome(StrEnum):
    """How far it came."""

    ADMITTED = "admitted"
    ANSWERED = "answered"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One thing that happened; a field that does not apply is None.

    recorded_at: UTC-aware. issuer, subject, client_id, token_id: of the verified token, never of an unverified one.
    certificate_thumbprint: base64url SHA-256 of the client certificate that TLS verified.
    address: the peer's. route: the matched route's template, or the path as sent for an unknown one.
    input_sha256: lower-case hexadecimal, of the body as received; input_bytes: its length.
    result_digest: lower-case hexadecimal SHA-256 of the answer; result_count: its detections.
    code: the constant error code. reason: why, for the security team; the caller never sees it.
    authentication: the verified token's acr and amr, proof_key_thumbprint: of the key that a DPoP proof was made with.
    detail: what was asked or changed: filters, key ids, digests. Both are name=value pairs (gateway.audit.details).
    pseudonymised: names of the fields whose values are keyed hashes, comma-separated (gateway.audit.pseudonyms).
    """

    action: Action
    outcome: Outcome
    recorded_at: datetime
    request_id: str | None = None
    issuer: str | None = None
    subject: str | None = None
    client_id: str | None = None
    token_id: str | None = None
    certificate_thumbprint: str | None = None
    address: str | None = None
    method: str | None = None
    route: str | None = None
    model_name: str | None = None
    model_version: str | None = None
    input_sha256: str | None = None
    input_bytes: int | None = None
    result_digest: str | None = None
    result_count: int | None = None
    code: Code | None = None
    reason: str | None = None
    authentication: str | None = None
    proof_key_thumbprint: str | None = None
    detail: str | None = None
    pseudonymised: str | None = None


# Characters a field keeps. Together they bound a record to a few kilobytes whatever a caller sends.
MAX_CHARACTERS: Mapping[str, int] = MappingProxyType(
    {
        "request_id": 64,
        "issuer": 256,
        "subject": 256,
        "client_id": 256,
        "token_id": 256,
        "certificate_thumbprint": 64,
        "address": 64,
        "method": 32,
        "route": 512,
        "model_name": 128,
        "model_version": 64,
        "input_sha256": 64,
        "result_digest": 64,
        "reason": 512,
        "authentication": 256,
        "proof_key_thumbprint": 64,
        "detail": 1024,
        "pseudonymised": 96,
    }
)

_CUT = "…"


def printable(unverified_text: str, *, max_characters: int) -> str:
    """The text with everything unprintable escaped, cut to max_characters and then ending in "…".

    Line breaks, terminal escapes, bidirectional overrides and lone surrogates become `\\xNN`, `\\uNNNN` or
    `\\UNNNNNNNN`; a backslash is doubled, so that no caller can write what looks like an escape of ours.
    """
    # Cutting first bounds the work: escaping never makes a text shorter.
    text = unverified_text[: max_characters + 1]
    if not is_plain(text):
        text = "".join(map(_escape, text))
    if len(text) <= max_characters:
        return text
    return text[: max_characters - len(_CUT)] + _CUT


def is_plain(text: str) -> bool:
    """Whether printable() leaves a text that is short enough as it is."""
    return text.isprintable() and "\\" not in text


def _escape(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    number = ord(character)
    if number <= 0xFF:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
