"""A configuration's digest changes with every setting, and with no secret."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.audit.configuration import configuration_digest, shown_settings
from gateway.settings import GatewaySettings

# Those whose values may hold a password or a PIN.
HIDDEN = {"database_url", "keks", "quota_store"}


def digest(
    *,
    policy: str | None = None,
    kek_ids: Sequence[str] = ("k1",),
    signer_ids: Sequence[str] = ("s1", "s2"),
    **settings: Any,
) -> str:
    """Of settings that differ from the defaults in these."""
    return configuration_digest(
        GatewaySettings(**settings), policy_sha256=policy, kek_ids=kek_ids, signer_ids=signer_ids
    )


def test_the_same_configuration_has_the_same_digest() -> None:
    """Whoever started it, in whatever order its signers were found."""
    assert digest() == digest(signer_ids=("s2", "s1"))
    assert 64 == len(digest())


def test_every_setting_counts() -> None:
    """One that is added later does so by itself."""
    assert set(GatewaySettings.model_fields) == set(shown_settings(GatewaySettings()))
    assert digest() != digest(issuer="https://other.example")
    assert digest() != digest(database_url="sqlite:///other.db")


@pytest.mark.parametrize(
    "change",
    [{"policy": "ab"}, {"kek_ids": ("k2",)}, {"kek_ids": ("k1", "k2")}, {"signer_ids": ("s1",)}],
)
def test_what_files_decide_counts(change: dict[str, Any]) -> None:
    """Another policy, KEK or signer under the same path is another configuration."""
    assert digest() != digest(**change)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("database_url", "postgresql+psycopg://gw:secret@db/gw", "postgresql+psycopg://gw:@db/gw"),
        ("database_url", "postgresql+psycopg://db/gw?password=a", "postgresql+psycopg://db/gw"),
        ("quota_store", "rediss://:secret@cache/0", "rediss://cache/0"),
        ("keks", "pkcs11:token=t;object=o?pin-value=1234", "pkcs11:token=t;object=o"),
        ("audit_witness_url", "https://u:secret@witness/add", "https://witness/add"),
    ],
)
def test_no_secret_enters_it(name: str, one: str, other: str) -> None:
    """Whoever reads the ledger could try passwords until the digest fits."""
    assert digest(**{name: one}) == digest(**{name: other})
    changed: dict[str, Any] = {name: one}
    shown = json.dumps(shown_settings(GatewaySettings(**changed)))
    assert "secret" not in shown
    assert "1234" not in shown


def test_what_may_hold_a_secret_is_marked_so() -> None:
    """A new one that is not shown by pydantic is cut here too; this list is looked at when it grows."""
    hidden = {name for name, field in GatewaySettings.model_fields.items() if not field.repr}
    assert HIDDEN == hidden
