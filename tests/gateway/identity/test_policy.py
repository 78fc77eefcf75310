"""Roles give permissions, and nothing else does."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import AuthzError, Code
from gateway.identity.policy import DEFAULT_GRANTS, DecisionReason, Permission, decide, require
from gateway.identity.principal import Principal

PREDICT, MODELS_READ = Permission.PREDICT, Permission.MODELS_READ
MODELS_WRITE = Permission.MODELS_WRITE
R = DecisionReason


def principal(*roles: str) -> Principal:
    """Somebody with these roles."""
    return Principal(
        issuer="https://issuer.example",
        subject="camera-7",
        client_id="conveyor",
        roles=frozenset(roles),
        token_id="token-1",
        expires_at=datetime(2030, 1, 1, tzinfo=UTC),
    )


def test_the_whole_table() -> None:
    """The default grants, written out once more by hand."""
    assert {role: {p.value for p in held} for role, held in DEFAULT_GRANTS.items()} == {
        "client": {"predict", "models.read"},
        "analyst": {"models.read"},
        "auditor": {"models.read"},
        "operator": {"models.read", "models.write"},
        "metrics": set(),
    }


def test_the_table_cannot_be_changed() -> None:
    """No code can grant itself something at run time."""
    with pytest.raises(TypeError):
        DEFAULT_GRANTS["client"] = frozenset()  # type: ignore[index]  # That is the test.


@pytest.mark.parametrize(
    ("roles", "permission", "model", "expected"),
    [
        (["client"], PREDICT, "conveyor", R.GRANTED),
        (["client"], MODELS_READ, None, R.GRANTED),
        (["analyst", "client"], PREDICT, "conveyor", R.GRANTED),
        (["analyst"], PREDICT, "conveyor", R.NOT_PERMITTED),
        (["operator"], PREDICT, "conveyor", R.NOT_PERMITTED),
        (["auditor"], PREDICT, "conveyor", R.NOT_PERMITTED),
        (["operator"], MODELS_WRITE, "conveyor", R.GRANTED),
        (["operator:conveyor"], MODELS_WRITE, "conveyor", R.GRANTED),
        (["operator:belt"], MODELS_WRITE, "conveyor", R.OTHER_MODEL),
        (["client"], MODELS_WRITE, "conveyor", R.NOT_PERMITTED),
        (["metrics"], MODELS_READ, "conveyor", R.NOT_PERMITTED),
        ([], PREDICT, "conveyor", R.NO_KNOWN_ROLE),
        (["admin"], PREDICT, "conveyor", R.NO_KNOWN_ROLE),
        (["Client"], PREDICT, "conveyor", R.NO_KNOWN_ROLE),
        ([" client"], PREDICT, "conveyor", R.NO_KNOWN_ROLE),
        (["predict"], PREDICT, "conveyor", R.NO_KNOWN_ROLE),
        (["client:conveyor"], PREDICT, "conveyor", R.GRANTED),
        (["client:conveyor"], PREDICT, "other", R.OTHER_MODEL),
        (["client:conveyor"], PREDICT, "conveyor2", R.OTHER_MODEL),
        (["client:conveyor"], MODELS_READ, None, R.OTHER_MODEL),
        (["client:"], PREDICT, "conveyor", R.OTHER_MODEL),
        (["client:*"], PREDICT, "conveyor", R.OTHER_MODEL),
        (["client:conveyor:x"], PREDICT, "conveyor", R.OTHER_MODEL),
        (["analyst:conveyor"], PREDICT, "conveyor", R.NOT_PERMITTED),
        (["client:other", "analyst"], PREDICT, "conveyor", R.NOT_PERMITTED),
    ],
)
def test_a_decision(
    roles: list[str], permission: Permission, model: str | None, expected: DecisionReason
) -> None:
    """Allowed exactly where the reason says granted."""
    decision = decide(principal(*roles), permission, model)
    assert expected == decision.reason
    assert decision.allowed is (expected is R.GRANTED)


@given(st.lists(st.text()), st.sampled_from(Permission), st.none() | st.text())
def test_unknown_roles_give_nothing(
    roles: list[str], permission: Permission, model: str | None
) -> None:
    """Whatever an issuer invents, only the roles of the table count."""
    unknown = [role for role in roles if role.partition(":")[0] not in DEFAULT_GRANTS]
    assert not decide(principal(*unknown), permission, model).allowed


def test_other_grants_can_be_given() -> None:
    """The mapping is an argument, so a site may have its own."""
    grants = {"line-worker": frozenset({PREDICT})}
    assert decide(principal("line-worker"), PREDICT, "m", grants=grants).allowed
    assert not decide(principal("client"), PREDICT, "m", grants=grants).allowed


def test_require_returns_where_allowed() -> None:
    """No value, no error."""
    require(principal("client"), PREDICT, "conveyor")


def test_require_raises_where_denied() -> None:
    """The caller reads a constant message, the audit record the reason."""
    with pytest.raises(AuthzError) as caught:
        require(principal("analyst"), PREDICT, "conveyor")
    assert caught.value.code is Code.AUTHZ_DENIED
    assert caught.value.reason == "not_permitted"
    assert caught.value.message == (
        "your roles do not allow this: ask the operator for a role that does"
    )
