"""Why something sealed is refused: a closed set of reasons, and the one message that callers see.

The message is the same for every reason, so that a caller who probes with changed files learns nothing from it; only
what an earlier release sealed is said to be that.
"""

from enum import StrEnum

from gateway.errors import Code, SealError

MESSAGE = (
    "the sealed model is refused: it is damaged or changed, or was sealed by another signer, for other keys or "
    "under another name. Seal the weights again under a new version, or fetch the file again"
)
# The first bytes are in the clear, so that who made the file may be told: a probe learns nothing by it.
EARLIER_MESSAGE = (
    "the sealed model is refused: it was sealed by an earlier release, whose format this one does not open. "
    "Seal the weights again under a new version"
)


class Refusal(StrEnum):
    """The constant reasons, in the order in which the checks are made."""

    FILE_TOO_LARGE = "file_too_large"
    MAGIC = "magic"
    HEADER_LENGTH = "header_length"
    HEADER_NOT_CANONICAL = "header_not_canonical"
    FORMAT_UNKNOWN = "format_unknown"
    HEADER_MEMBERS = "header_members"
    SIGNER_UNTRUSTED = "signer_untrusted"
    SIGNATURE = "signature"
    NAME_OR_VERSION = "name_or_version"
    NO_USABLE_KEY = "no_usable_key"
    UNWRAP = "unwrap"
    WRAPS_MAC = "wraps_mac"
    BODY_KEY_LENGTH = "body_key_length"
    BODY_SIZE = "body_size"
    BODY_COMMITMENT = "body_commitment"
    BODY_CHUNK = "body_chunk"
    PLAINTEXT_LENGTH = "plaintext_length"
    PLAINTEXT_DIGEST = "plaintext_digest"
    PAYLOAD = "payload"


def refused(refusal: Refusal) -> SealError:
    """The error to raise for this reason."""
    return SealError(Code.SEALED_MODEL_REFUSED, MESSAGE, reason=refusal.value)


def refused_as_earlier() -> SealError:
    """The error to raise for a file that begins as an earlier release's did."""
    return SealError(Code.SEALED_MODEL_REFUSED, EARLIER_MESSAGE, reason=Refusal.MAGIC.value)
