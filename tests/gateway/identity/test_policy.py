"""Roles give permissions, and nothing else does."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import AuthzError, Code
from gateway.identity.policy import (
    DEFAULT_GRANTS,
    DEFAULT_POLICY,
    DecisionReason,
    Permission,
    Policy,
    Role,
    RoleLimits,
    decide,
    limits_of,
    require,
)
from gateway.identity.principal import Principal

PREDICT, MODELS_READ = Permission.PREDICT, Permission.MODELS_READ
MODELS_WRITE = Permission.MODELS_WRITE
R = DecisionReason

# Few letters, so that patterns fit now and then.
NAMES = st.text("ab", min_size=1, max_size=3)
PATTERNS = st.text("ab*?", max_size=3)
PATTERN_LISTS = st.none() | st.lists(PATTERNS, max_size=2).map(tuple)
WORLD_ROLES = ("reader", "writer", "stranger")


def principal(*roles: str) -> Principal:
    """Somebody with these roles."""
    return Principal(
        issuer="https://issuer.example",
        subject="camera-7",
        client_id="conveyor",
        roles=frozenset(roles),
        token_id="token-1",
        issued_at=datetime(2029, 1, 1, tzinfo=UTC),
        expires_at=datetime(2030, 1, 1, tzinfo=UTC),
    )


def policy(**roles: Role) -> Policy:
    """These roles and no second factor."""
    return Policy(roles=roles, second_factors={})


def role(
    *permissions: Permission,
    models: tuple[str, ...] | None = None,
    versions: tuple[str, ...] | None = None,
) -> Role:
    """A role with these permissions."""
    return Role(frozenset(permissions), models=models, versions=versions)


def test_the_whole_table() -> None:
    """The default grants, written out once more by hand."""
    assert {
        "client": {"predict", "models.read", "audit.prove"},
        "analyst": {"models.read", "audit.prove"},
        "auditor": {"models.read", "audit.read", "audit.prove"},
        "operator": {"models.read", "models.write", "audit.prove"},
        "metrics": set(),
    } == {role: {p.value for p in held} for role, held in DEFAULT_GRANTS.items()}


def test_the_default_second_factor() -> None:
    """Changing models needs one that is a quarter of an hour old at most, and nothing else does."""
    assert {MODELS_WRITE} == DEFAULT_POLICY.second_factors.keys()
    factor = DEFAULT_POLICY.second_factors[MODELS_WRITE]
    assert ("http://schemas.openid.net/pape/policies/2007/06/multi-factor",) == factor.acr
    assert {"mfa"} == factor.amr
    assert 900 == factor.max_age_seconds


def test_the_tables_cannot_be_changed() -> None:
    """No code can grant itself something at run time, not even whoever made the policy."""
    roles = {"client": role(PREDICT)}
    made = Policy(roles=roles, second_factors={})
    roles["client"] = role(MODELS_WRITE)
    assert {PREDICT} == made.roles["client"].permissions
    with pytest.raises(TypeError):
        made.roles["client"] = role()  # type: ignore[index]  # That is the test.
    with pytest.raises(TypeError):
        del DEFAULT_POLICY.second_factors[MODELS_WRITE]  # type: ignore[attr-defined]  # So is that.
    with pytest.raises(TypeError):
        DEFAULT_GRANTS["client"] = frozenset()  # type: ignore[index]  # And that.


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
        (["client@2"], PREDICT, "conveyor", R.NO_KNOWN_ROLE),
        (["client*"], PREDICT, "conveyor", R.NO_KNOWN_ROLE),
        (["*"], PREDICT, "conveyor", R.NO_KNOWN_ROLE),
        (["client:conveyor"], PREDICT, "conveyor", R.GRANTED),
        (["client:conveyor"], PREDICT, "other", R.OTHER_MODEL),
        (["client:conveyor"], PREDICT, "conveyor2", R.OTHER_MODEL),
        (["client:Conveyor"], PREDICT, "conveyor", R.OTHER_MODEL),
        (["client:conveyor"], MODELS_READ, None, R.OTHER_MODEL),
        (["client:conv*"], PREDICT, "conveyor", R.GRANTED),
        (["client:conv?y?r"], PREDICT, "conveyor", R.GRANTED),
        (["client:conv?"], PREDICT, "conveyor", R.OTHER_MODEL),
        (["client:[c]onveyor"], PREDICT, "conveyor", R.OTHER_MODEL),
        (["client:conv*"], MODELS_READ, None, R.OTHER_MODEL),
        (["client:*"], PREDICT, "conveyor", R.GRANTED),
        (["client:*"], MODELS_READ, None, R.GRANTED),
        (["client:"], PREDICT, "conveyor", R.OTHER_MODEL),
        (["client:conveyor:x"], PREDICT, "conveyor", R.OTHER_MODEL),
        (["analyst:conveyor"], PREDICT, "conveyor", R.NOT_PERMITTED),
        (["client:other", "analyst"], PREDICT, "conveyor", R.NOT_PERMITTED),
    ],
)
def test_a_decision_on_a_model(
    roles: list[str], permission: Permission, model: str | None, expected: DecisionReason
) -> None:
    """Allowed exactly where the reason says granted."""
    decision = decide(DEFAULT_POLICY, principal(*roles), permission, model, None)
    assert expected == decision.reason
    assert decision.allowed is (expected is R.GRANTED)


@pytest.mark.parametrize(
    ("text", "model", "version", "expected"),
    [
        ("client:belt@2", "belt", "2", R.GRANTED),
        ("client:belt@2", "belt", "2.1", R.OTHER_VERSION),
        ("client:belt@2", "gate", "2", R.OTHER_MODEL),
        ("client:belt@2.*", "belt", "2.1", R.GRANTED),
        ("client:belt@2.*", "belt", "2", R.OTHER_VERSION),
        ("client:belt@2.*", "belt", "1.2.1", R.OTHER_VERSION),
        ("client:belt@2.*", "belt", None, R.GRANTED),
        ("client:belt@*", "belt", "7", R.GRANTED),
        ("client:belt@", "belt", "7", R.OTHER_VERSION),
        ("client:belt@", "belt", None, R.OTHER_VERSION),
        ("client:belt@2@2", "belt", "2", R.OTHER_VERSION),
        ("client:*@2", "belt", "2", R.GRANTED),
        ("client:*@2", None, None, R.OTHER_VERSION),
        ("client:*@*", None, None, R.GRANTED),
    ],
)
def test_a_decision_on_a_version(
    text: str, model: str | None, version: str | None, expected: DecisionReason
) -> None:
    """A version that is not known yet is refused only where no version fits."""
    decision = decide(DEFAULT_POLICY, principal(text), PREDICT, model, version)
    assert expected == decision.reason
    assert decision.allowed is (expected is R.GRANTED)


@pytest.mark.parametrize(
    ("held", "text", "model", "version", "expected"),
    [
        (role(PREDICT, models=("belt", "gate-*")), "r", "gate-3", "1", R.GRANTED),
        (role(PREDICT, models=("belt", "gate-*")), "r", "conveyor", "1", R.OTHER_MODEL),
        (role(PREDICT, models=("belt", "gate-*")), "r", None, None, R.OTHER_MODEL),
        (role(PREDICT, models=("*",)), "r", None, None, R.GRANTED),
        (role(PREDICT, models=()), "r", "belt", "1", R.OTHER_MODEL),
        (role(PREDICT, models=("gate-*",)), "r:belt", "belt", "1", R.OTHER_MODEL),
        (role(PREDICT, models=("gate-*",)), "r:belt", "gate-3", "1", R.OTHER_MODEL),
        (role(PREDICT, models=("gate-*",)), "r:*-3", "gate-3", "1", R.GRANTED),
        (role(PREDICT, models=("gate-*",)), "r:*-3", "gate-4", "1", R.OTHER_MODEL),
        (role(PREDICT, versions=("1", "2.*")), "r", "belt", "2.0", R.GRANTED),
        (role(PREDICT, versions=("1", "2.*")), "r", "belt", "1.0", R.OTHER_VERSION),
        (role(PREDICT, versions=("1", "2.*")), "r", "belt", None, R.GRANTED),
        (role(PREDICT, versions=("1", "2.*")), "r", None, None, R.OTHER_VERSION),
        (role(PREDICT, versions=()), "r", "belt", None, R.OTHER_VERSION),
        (role(PREDICT, versions=("1", "2.*")), "r:belt@*.0", "belt", "2.0", R.GRANTED),
        (role(PREDICT, versions=("1", "2.*")), "r:belt@*.0", "belt", "1", R.OTHER_VERSION),
        (role(PREDICT, versions=("1", "2.*")), "r:belt@*.0", "belt", "3.0", R.OTHER_VERSION),
        (role(models=("belt",)), "r", "belt", "1", R.NOT_PERMITTED),
    ],
)
def test_a_roles_own_restriction_holds_together_with_the_tokens(
    held: Role, text: str, model: str | None, version: str | None, expected: DecisionReason
) -> None:
    """Neither widens the other."""
    decision = decide(policy(r=held), principal(text), PREDICT, model, version)
    assert expected == decision.reason


@pytest.mark.parametrize(
    ("text", "permission", "expected"),
    [
        ("client", Permission.AUDIT_PROVE, R.GRANTED),
        ("client:belt", Permission.AUDIT_PROVE, R.GRANTED),
        ("client:belt@2.*", Permission.AUDIT_PROVE, R.GRANTED),
        ("metrics", Permission.AUDIT_PROVE, R.NOT_PERMITTED),
        ("auditor", Permission.AUDIT_READ, R.GRANTED),
        ("auditor:belt", Permission.AUDIT_READ, R.OTHER_MODEL),
        ("operator", Permission.AUDIT_READ, R.NOT_PERMITTED),
        ("client", Permission.AUDIT_READ, R.NOT_PERMITTED),
    ],
)
def test_a_decision_on_the_ledger(
    text: str, permission: Permission, expected: DecisionReason
) -> None:
    """All of it is read by auditors of all models; to prove one's own calls a role for one model is enough."""
    assert expected == decide(DEFAULT_POLICY, principal(text), permission, None, None).reason


def test_restrictions_of_two_roles_do_not_mix() -> None:
    """One role's model with another role's permission is neither role."""
    made = policy(read=role(MODELS_READ), write=role(MODELS_WRITE, models=("belt",)))
    both = principal("read", "write")
    assert decide(made, both, MODELS_WRITE, "belt", "1").allowed
    assert not decide(made, both, MODELS_WRITE, "gate", "1").allowed


@given(
    st.lists(st.text()), st.sampled_from(Permission), st.none() | st.text(), st.none() | st.text()
)
def test_unknown_roles_give_nothing(
    roles: list[str], permission: Permission, model: str | None, version: str | None
) -> None:
    """Whatever an issuer invents, only the roles of the table count."""
    unknown = [role for role in roles if role.partition(":")[0] not in DEFAULT_GRANTS]
    assert not decide(DEFAULT_POLICY, principal(*unknown), permission, model, version).allowed


@st.composite
def _policies(draw: st.DrawFn) -> Policy:
    permissions = st.frozensets(st.sampled_from(Permission))
    made = st.builds(Role, permissions, PATTERN_LISTS, PATTERN_LISTS)
    return Policy(roles={"reader": draw(made), "writer": draw(made)}, second_factors={})


@st.composite
def _role_texts(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(WORLD_ROLES))
    return name + draw(st.sampled_from(("", ":", ":a*", ":ab", ":*@", ":*@b?", ":b@a", ":*")))


QUESTIONS = {
    "made": _policies(),
    "texts": st.frozensets(_role_texts(), max_size=4),
    "permission": st.sampled_from(Permission),
    "model": st.none() | NAMES,
    "version": st.none() | NAMES,
}


@given(**QUESTIONS, name=st.sampled_from(("reader", "writer")))
def test_a_restriction_in_the_policy_never_grants_more(
    made: Policy,
    texts: frozenset[str],
    permission: Permission,
    model: str | None,
    version: str | None,
    name: str,
) -> None:
    """Whatever is allowed with it is allowed without it."""
    caller, held = principal(*texts), made.roles[name]
    for wider in (replace(held, models=None), replace(held, versions=None)):
        without = Policy(roles={**made.roles, name: wider}, second_factors={})
        if decide(made, caller, permission, model, version).allowed:
            assert decide(without, caller, permission, model, version).allowed


@given(**QUESTIONS, text=_role_texts(), suffix=PATTERNS)
def test_a_restriction_in_the_token_never_grants_more(
    made: Policy,
    texts: frozenset[str],
    permission: Permission,
    model: str | None,
    version: str | None,
    text: str,
    suffix: str,
) -> None:
    """A role with a model counts at most like the one without, one with a version at most like that."""
    name, _, restriction = text.partition(":")
    only_model = restriction.partition("@")[0]
    chain = (name, f"{name}:{only_model}", f"{name}:{only_model}@{suffix}")
    allowed = [
        decide(made, principal(*texts, link), permission, model, version).allowed for link in chain
    ]
    assert sorted(allowed, reverse=True) == allowed


@given(**QUESTIONS)
def test_a_version_that_is_not_known_yet_is_never_refused_wrongly(
    made: Policy,
    texts: frozenset[str],
    permission: Permission,
    model: str | None,
    version: str | None,
) -> None:
    """What would be allowed for some version of a model is not refused before it is known."""
    caller = principal(*texts)
    if model is not None and decide(made, caller, permission, model, version).allowed:
        assert decide(made, caller, permission, model, None).allowed


@given(**QUESTIONS)
def test_all_models_at_once_is_never_more_than_each(
    made: Policy,
    texts: frozenset[str],
    permission: Permission,
    model: str | None,
    version: str | None,
) -> None:
    """Who may list them all may see every one of them, in every version."""
    caller = principal(*texts)
    if decide(made, caller, permission, None, None).allowed:
        assert decide(made, caller, permission, model, version).allowed


@given(**QUESTIONS, further=_role_texts())
def test_another_role_never_takes_anything_away(
    made: Policy,
    texts: frozenset[str],
    permission: Permission,
    model: str | None,
    version: str | None,
    further: str,
) -> None:
    """There are no roles that forbid."""
    if decide(made, principal(*texts), permission, model, version).allowed:
        assert decide(made, principal(*texts, further), permission, model, version).allowed


def test_require_returns_where_allowed() -> None:
    """No value, no error."""
    require(principal("client"), PREDICT, "conveyor", "1", policy=DEFAULT_POLICY)


@pytest.mark.parametrize(
    ("text", "reason"), [("analyst", "not_permitted"), ("client:conveyor@2", "other_version")]
)
def test_require_raises_where_denied(text: str, reason: str) -> None:
    """The caller reads a constant message, the audit record the reason."""
    with pytest.raises(AuthzError) as caught:
        require(principal(text), PREDICT, "conveyor", "1", policy=DEFAULT_POLICY)
    assert caught.value.code is Code.AUTHZ_DENIED
    assert reason == caught.value.reason
    assert (
        "your roles do not allow this: ask the operator for a role that does"
        == caught.value.message
    )


def limited(**limits: RoleLimits) -> Policy:
    """A policy whose roles give nothing but limits."""
    return policy(**{name: Role(frozenset(), limits=limit) for name, limit in limits.items()})


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        (("10/second", "20/second"), "20/second"),
        (("100/minute", "2/second"), "2/second"),
        (("7201/hour", "2/second"), "7201/hour"),
        (("86401/day", "1/second"), "86401/day"),
        (("", "999999999/second"), ""),
        ((None, "1/day"), "1/day"),
        ((None, None), None),
    ],
)
def test_the_most_generous_rate_wins(
    offered: tuple[str | None, str | None], expected: str | None
) -> None:
    """Rates compare by what they come to in a second; empty is no limit, None names none."""
    made = limited(a=RoleLimits(requests=offered[0]), b=RoleLimits(requests=offered[1]))
    assert expected == limits_of(made, principal("a", "b")).requests


def test_each_limit_is_the_most_generous_of_its_kind() -> None:
    """Roles add up; a daily budget of 0 is no limit."""
    made = limited(
        a=RoleLimits(concurrency=8, daily_images=1000), b=RoleLimits(concurrency=2, daily_images=0)
    )
    expected = RoleLimits(requests=None, concurrency=8, daily_images=0)
    assert expected == limits_of(made, principal("a", "b"))
    assert RoleLimits(None, 8, 1000) == limits_of(made, principal("a"))


def test_a_role_for_one_model_counts_with_its_limits() -> None:
    """Limits are the principal's, whichever model it calls."""
    made = limited(a=RoleLimits(concurrency=8))
    assert 8 == limits_of(made, principal("a:belt@2")).concurrency


def test_a_role_that_is_not_known_limits_nothing() -> None:
    """An issuer cannot raise a limit by inventing a role."""
    made = limited(a=RoleLimits(concurrency=8))
    assert RoleLimits() == limits_of(made, principal("b", "A", "a@2"))
