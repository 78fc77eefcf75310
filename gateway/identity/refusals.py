"""Why credentials are refused: a closed list for the audit record, one message for the caller, one more for proofs.

Rule: the caller never learns which check failed, or a forger could feel his way from one to the next. Proofs have a
message of their own since clients fail by clocks and URLs there; their token says itself that it needs one.
"""

from enum import StrEnum

from gateway.errors import AuthnError, Code, DpopProofError


class Refusal(StrEnum):
    """The reasons that an audit record may give for refused credentials."""

    CREDENTIALS_SEVERAL = "credentials_several"
    CREDENTIALS_FORM = "credentials_form"
    TOKEN_SIZE = "token_size"  # noqa: S105  (a reason, not a secret)
    TOKEN_FORM = "token_form"  # noqa: S105  (a reason, not a secret)
    HEADER_FORM = "header_form"
    HEADER_MEMBER = "header_member"
    ALGORITHM = "algorithm"
    KEY_ID = "key_id"
    KEY_UNKNOWN = "key_unknown"
    KEY_ALGORITHM = "key_algorithm"
    SIGNATURE = "signature"
    TYPE = "type"
    PAYLOAD_FORM = "payload_form"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    SUBJECT = "subject"
    CLIENT_ID = "client_id"
    TOKEN_ID = "token_id"  # noqa: S105  (a reason, not a secret)
    ROLES = "roles"
    TIME_FORM = "time_form"
    LIFETIME = "lifetime"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    ACR = "acr"
    AMR = "amr"
    AUTH_TIME = "auth_time"
    CONFIRMATION = "confirmation"
    UNBOUND = "unbound"
    AUTHORIZATION_DETAILS = "authorization_details"
    DENIED = "denied"
    CERTIFICATE = "certificate"
    DPOP_MISSING = "dpop_missing"
    DPOP_UNBOUND = "dpop_unbound"
    DPOP_SEVERAL = "dpop_several"
    DPOP_FORM = "dpop_form"
    DPOP_TYPE = "dpop_type"
    DPOP_ALGORITHM = "dpop_algorithm"
    DPOP_KEY = "dpop_key"
    DPOP_SIGNATURE = "dpop_signature"
    DPOP_METHOD = "dpop_method"
    DPOP_URI = "dpop_uri"
    DPOP_TIME = "dpop_time"
    DPOP_TOKEN_HASH = "dpop_token_hash"  # noqa: S105  (a reason, not a secret)
    DPOP_BINDING = "dpop_binding"
    DPOP_ID = "dpop_id"
    DPOP_REPLAY = "dpop_replay"
    DPOP_NONCE = "dpop_nonce"


def refused(reason: Refusal) -> AuthnError:
    """The error that refuses credentials; of those about proofs and those about tokens only the reasons differ."""
    if reason.startswith("dpop_"):
        message = "the DPoP proof is not accepted: send 'Authorization: DPoP ...' and a new proof for this request"
        return DpopProofError(Code.AUTHN_INVALID, message, reason=reason.value)
    message = "the access token is not accepted: get a new one from the issuer and send it once"
    return AuthnError(Code.AUTHN_INVALID, message, reason=reason.value)
