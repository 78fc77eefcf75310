"""The digest of a configuration: two starts with the same one were told the same, and a change shows in the ledger.

Rules: no secret enters the digest, for whoever reads the ledger could guess at it; what is left out is a password's
value, never that something else changed.
"""

import hashlib
import json
import re
from collections.abc import Sequence

from gateway.settings import GatewaySettings

# Of a URL: user and password before the host, and options behind it, which may hold a password too.
_USER_INFO = re.compile(r"(?<=://)[^/?#\s]*@")
_OPTIONS = re.compile(r"[?#][^,\s]*")


def configuration_digest(
    settings: GatewaySettings,
    *,
    policy_sha256: str | None,
    kek_ids: Sequence[str],
    signer_ids: Sequence[str],
) -> str:
    """SHA-256, lower-case hexadecimal, of one text of all settings and of what the files they name decide.

    policy_sha256: of the policy file. kek_ids: of the keys that open models. signer_ids: of who may sign them.
    """
    content = {
        "settings": shown_settings(settings),
        "policy": policy_sha256,
        "keks": list(kek_ids),
        "signers": sorted(signer_ids),
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def shown_settings(settings: GatewaySettings) -> dict[str, object]:
    """Every setting by name, as JSON has it; without what may hold a secret."""
    values = settings.model_dump(mode="json")
    fields = type(settings).model_fields
    return {name: _shown(value, is_hidden=not fields[name].repr) for name, value in values.items()}


def _shown(value: object, *, is_hidden: bool) -> object:
    if not isinstance(value, str):
        return value
    text = _USER_INFO.sub("", value)
    return _OPTIONS.sub("", text) if is_hidden else text
