"""Every failure the gateway names, grouped by whose fault it is.

Rules: each error carries a constant `code`; `message` is for the caller and names cause and fix without secrets;
`reason` is for the audit record only. HTTP status codes live in gateway.api alone.
"""

from enum import StrEnum


class Code(StrEnum):
    """The constant codes that callers, audit records and metrics see."""

    AUTHN_MISSING = "authn_missing"
    AUTHN_INVALID = "authn_invalid"
    AUTHN_STEP_UP = "authn_step_up"
    AUTHN_DPOP_NONCE = "authn_dpop_nonce"
    AUTHZ_DENIED = "authz_denied"
    RATE_LIMITED = "rate_limited"
    QUOTA_EXHAUSTED = "quota_exhausted"
    IDENTITY_UNAVAILABLE = "identity_unavailable"
    HTTP_INVALID = "http_invalid"
    ROUTE_UNKNOWN = "route_unknown"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    BODY_EMPTY = "body_empty"
    BODY_TOO_LARGE = "body_too_large"
    BODY_TIMEOUT = "body_timeout"
    BODY_INVALID = "body_invalid"
    PARAMETER_INVALID = "parameter_invalid"
    IMAGE_UNSUPPORTED = "image_unsupported"
    IMAGE_CORRUPT = "image_corrupt"
    IMAGE_TOO_LARGE = "image_too_large"
    CLIENT_GONE = "client_gone"
    OVERLOADED = "overloaded"
    NOT_READY = "not_ready"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    RUNNER_FAILED = "runner_failed"
    INTERNAL = "internal"
    SETTINGS_INVALID = "settings_invalid"
    KEY_INVALID = "key_invalid"
    SEALED_MODEL_REFUSED = "sealed_model_refused"
    MODEL_UNKNOWN = "model_unknown"
    RECORD_UNKNOWN = "record_unknown"
    MODEL_UNSUPPORTED = "model_unsupported"
    MODEL_EXISTS = "model_exists"
    MODEL_CONFLICT = "model_conflict"
    GOLDEN_FAILED = "golden_failed"
    GATE_FAILED = "gate_failed"
    DATASET_INVALID = "dataset_invalid"
    SAMPLE_REFUSED = "sample_refused"
    LEDGER_BROKEN = "ledger_broken"
    PROOF_INVALID = "proof_invalid"


class GatewayError(Exception):
    """A failure with a constant code, a message for the caller and a reason for the audit record."""

    def __init__(self, code: Code, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason or code.value


class CallerError(GatewayError):
    """The request is at fault; sending the same again fails the same way."""


class AuthnError(CallerError):
    """Who calls is not established."""


class DpopProofError(AuthnError):
    """The token may be good, but who sends it has not proved to hold the key it is bound to (RFC 9449)."""


class StepUpError(AuthnError):
    """The token is good, but not strong or fresh enough for what is asked (RFC 9470).

    acr_values: what the token's `acr` may be, the preferred first. max_age_seconds: how old its `auth_time` may be.
    """

    def __init__(
        self,
        message: str,
        *,
        acr_values: tuple[str, ...],
        max_age_seconds: int | None,
        reason: str,
    ) -> None:
        super().__init__(Code.AUTHN_STEP_UP, message, reason=reason)
        self.acr_values = acr_values
        self.max_age_seconds = max_age_seconds


class DpopNonceError(AuthnError):
    """The DPoP proof is good, but lacks a nonce of ours that is young enough (RFC 9449 section 9).

    nonce: what the next proof must carry, for the DPoP-Nonce header.
    """

    def __init__(self, *, nonce: str, reason: str) -> None:
        message = "the DPoP proof needs a fresh nonce: sign one with the nonce of the DPoP-Nonce header and send again"
        super().__init__(Code.AUTHN_DPOP_NONCE, message, reason=reason)
        self.nonce = nonce


class AuthzError(CallerError):
    """The principal may not do this."""


class QuotaError(CallerError):
    """Too much was asked in too short a time; the same request passes later.

    code: RATE_LIMITED or QUOTA_EXHAUSTED. limit: which one, from a closed list. quota: what it allows in
    window_seconds; both are None where it is a number of calls at the same time.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        limit: str,
        retry_after_seconds: int,
        quota: int | None = None,
        window_seconds: int | None = None,
    ) -> None:
        super().__init__(code, message, reason=limit)
        self.limit = limit
        self.retry_after_seconds = retry_after_seconds
        self.quota = quota
        self.window_seconds = window_seconds


class RequestError(CallerError):
    """The request's form is wrong: route, method, parameters, body."""


class DecodeError(CallerError):
    """The body is not an image that the gateway takes."""


class ServiceError(GatewayError):
    """The gateway is at fault or busy; the same request may pass later."""


class OverloadedError(ServiceError):
    """The queue is full or too slow; retry_after_seconds says when to come back."""

    def __init__(self, message: str, *, retry_after_seconds: int, reason: str = "") -> None:
        super().__init__(Code.OVERLOADED, message, reason=reason)
        self.retry_after_seconds = retry_after_seconds


class IdentityUnavailableError(ServiceError):
    """Who calls cannot be established now: keys, deny list or quotas cannot be read."""

    def __init__(self, *, reason: str) -> None:
        message = "the gateway cannot check credentials at this moment; try again"
        super().__init__(Code.IDENTITY_UNAVAILABLE, message, reason=reason)


class AuditUnavailableError(ServiceError):
    """The audit record could not be made durable, so the call may not go on."""


class RunnerError(ServiceError):
    """The detector failed on an image that was decoded well."""


class OperatorError(GatewayError):
    """Configuration, keys or files are at fault; only whoever runs the gateway can mend it."""


class SettingsError(OperatorError):
    """The environment or a file named in it is wrong; the message lists everything at once."""


class KeyFileError(OperatorError):
    """A key is missing, unreadable or too widely readable."""


class SealError(OperatorError):
    """A sealed model is refused; the message never says which check failed, the reason does."""


class RegistryError(OperatorError):
    """A model version is unknown or cannot take the wanted stage."""


class LedgerError(OperatorError):
    """The audit ledger does not verify; the message locates the first bad record."""
