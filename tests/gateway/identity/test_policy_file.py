"""The policy file is taken whole or not at all, and every mistake in it is named at once."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, SettingsError
from gateway.identity.policy import DEFAULT_POLICY, Permission, Role, RoleLimits
from gateway.identity.policy_file import MAX_POLICY_CHARACTERS, IssuerConfig, read_policy
from gateway.identity.policy_forms import IssuerForm, RoleForm, SecondFactorForm
from gateway.identity.roles import ClaimMapping, roles_of
from gateway.identity.step_up import SecondFactor

EXAMPLE = Path(__file__).parents[3] / "docs" / "policy.toml"
PREDICT, MODELS_READ = Permission.PREDICT, Permission.MODELS_READ
MODELS_WRITE = Permission.MODELS_WRITE

ISSUER = """
[[issuers]]
issuer = "https://a.example"
audience = "gatewatch"
"""
WITH_FILE = f'{ISSUER}jwks_file = "jwks.json"\n'


def mistakes(text: str) -> list[str]:
    """What is said about a policy that is wrong, line by line."""
    with pytest.raises(SettingsError) as caught:
        read_policy(text)
    assert Code.SETTINGS_INVALID is caught.value.code
    first, *others = caught.value.message.splitlines()
    assert "GATEWAY_POLICY_FILE: the policy is wrong:" == first
    return others


def test_an_empty_file_is_the_default() -> None:
    """No issuer, the usual roles and factors, nothing to warn of."""
    read = read_policy("")
    assert DEFAULT_POLICY == read.policy
    assert () == read.issuers
    assert () == read.warnings


def test_the_example_in_the_docs() -> None:
    """It is taken, it warns of nothing, and it means what its comments say."""
    read = read_policy(EXAMPLE.read_text("utf-8"))
    keycloak, auth0, plain, oauth = read.issuers
    assert () == read.warnings
    realm = {"roles": ["gatewatch-camera-belt", "line lead", "operator"]}
    assert {"client:belt-*", "line-lead"} == roles_of({"realm_access": realm}, keycloak.mapping)
    permissions = ["images:send", "analyst", "operator", "client:belt"]
    assert {"client", "analyst", "client:belt"} == roles_of(
        {"permissions": permissions}, auth0.mapping
    )
    assert {"auditor"} == roles_of({"roles": ["auditor", "operator"]}, plain.mapping)
    assert {"client"} == roles_of({"scope": "openid gatewatch.predict"}, oauth.mapping)
    assert DEFAULT_POLICY.second_factors == read.policy.second_factors
    assert {"client", "analyst", "auditor", "operator", "metrics", "line-lead"} == set(
        read.policy.roles
    )


def test_an_issuer_with_every_member() -> None:
    """As written."""
    read = read_policy(f"""
        {ISSUER}
        jwks_url = "https://a.example:8443/keys?v=1"
        ca_file = "ca.pem"
        max_lifetime_seconds = 600
        clock_skew_seconds = 0
        sender_constrained = true
        roles_claim = ["realm_access", "roles"]
        roles_are = "space-separated"
        role_map = {{ boss = "operator:belt-*@2.*" }}
        keep_unmapped = true
        allowed_roles = ["operator", "client"]
    """)
    expected = IssuerConfig(
        issuer="https://a.example",
        audience="gatewatch",
        jwks_file=None,
        jwks_url="https://a.example:8443/keys?v=1",
        is_discovered=False,
        ca_file=Path("ca.pem"),
        max_lifetime_seconds=600,
        clock_skew_seconds=0,
        is_sender_constrained=True,
        mapping=ClaimMapping(
            path=("realm_access", "roles"),
            is_space_separated=True,
            role_map={"boss": "operator:belt-*@2.*"},
            keep_unmapped=True,
            allowed_roles=frozenset({"operator", "client"}),
        ),
    )
    assert (expected,) == read.issuers


def test_an_issuer_with_the_fewest_members() -> None:
    """The claim `roles`, as the gateway's own issuer has it."""
    expected = IssuerConfig(
        issuer="https://a.example",
        audience="gatewatch",
        jwks_file=Path("jwks.json"),
        jwks_url=None,
        is_discovered=False,
        ca_file=None,
        max_lifetime_seconds=None,
        clock_skew_seconds=60,
        is_sender_constrained=False,
        mapping=ClaimMapping(),
    )
    assert (expected,) == read_policy(WITH_FILE).issuers


def test_an_issuer_can_be_discovered() -> None:
    """By its own address."""
    (issuer,) = read_policy(f"{ISSUER}discover = true").issuers
    assert issuer.is_discovered
    assert (None, None) == (issuer.jwks_file, issuer.jwks_url)


def test_a_role_with_every_member() -> None:
    """As written."""
    read = read_policy("""
        [roles.client]
        permissions = ["predict"]
        models = ["belt", "gate-*"]
        versions = ["1", "2.*"]
        requests = "100/second"
        concurrency = 4
        daily_images = 1000
    """)
    expected = Role(
        permissions=frozenset({PREDICT}),
        models=("belt", "gate-*"),
        versions=("1", "2.*"),
        limits=RoleLimits(requests="100/second", concurrency=4, daily_images=1000),
    )
    assert expected == read.policy.roles["client"]


def test_a_named_role_replaces_its_default_and_no_other() -> None:
    """Nothing of the old one is left; who is not named stays."""
    read = read_policy("[roles.client]\npermissions = []\n[roles.new]\npermissions = ['predict']")
    assert Role(frozenset()) == read.policy.roles["client"]
    assert Role(frozenset({PREDICT})) == read.policy.roles["new"]
    assert DEFAULT_POLICY.roles["operator"] == read.policy.roles["operator"]


def test_the_default_roles_can_be_left_out() -> None:
    """Then only those of the file count."""
    read = read_policy("[roles]\ndefaults = false\n[roles.line]\npermissions = ['predict']")
    assert {"line"} == set(read.policy.roles)
    assert {"line", "client"} < set(read_policy("[roles.line]\npermissions = []").policy.roles)


def test_unlimited_is_a_word() -> None:
    """What the settings write as nothing and 0 would look like none at all here."""
    read = read_policy("""
        [roles.client]
        permissions = []
        requests = "unlimited"
        daily_images = "unlimited"
    """)
    assert RoleLimits("", None, 0) == read.policy.roles["client"].limits


def test_a_second_factor_with_every_member() -> None:
    """As written, the order of classes too."""
    read = read_policy("""
        [second_factor.predict]
        acr = ["z", "a"]
        amr = ["hwk", "otp"]
        max_age_minutes = 5
    """)
    assert (
        SecondFactor(("z", "a"), frozenset({"hwk", "otp"}), 300)
        == (read.policy.second_factors[PREDICT])
    )
    assert DEFAULT_POLICY.second_factors[MODELS_WRITE] == read.policy.second_factors[MODELS_WRITE]


def test_a_second_factor_that_is_only_about_age_keeps_the_factor() -> None:
    """Whoever shortens the time does not mean to take the factor away."""
    read = read_policy('[second_factor."models.write"]\nmax_age_minutes = 5')
    usual = DEFAULT_POLICY.second_factors[MODELS_WRITE]
    expected = SecondFactor(usual.acr, usual.amr, 300)
    assert expected == read.policy.second_factors[MODELS_WRITE]
    assert usual == read_policy("[second_factor.predict]").policy.second_factors[PREDICT]


def test_a_second_factor_that_names_one_list_takes_no_other() -> None:
    """Whoever asks for one class does not want the usual methods to do as well."""
    read = read_policy('[second_factor."models.write"]\nacr = ["gold"]')
    assert SecondFactor(("gold",), frozenset(), 900) == read.policy.second_factors[MODELS_WRITE]
    read = read_policy('[second_factor."models.write"]\namr = ["hwk"]')
    assert SecondFactor((), frozenset({"hwk"}), 900) == read.policy.second_factors[MODELS_WRITE]


def test_a_second_factor_that_is_turned_off_is_warned_of() -> None:
    """Explicitly, by one word."""
    read = read_policy('[second_factor]\n"models.write" = false\npredict = false')
    assert {} == read.policy.second_factors
    assert ("models.write needs no second factor: a stolen token is enough for it",) == (
        read.warnings
    )


def test_a_second_factor_of_any_age_is_warned_of() -> None:
    """It is possible, since some issuers put no time into their tokens."""
    read = read_policy('[second_factor."models.write"]\nmax_age_minutes = "any"')
    assert read.policy.second_factors[MODELS_WRITE].max_age_seconds is None
    assert ("models.write takes a second factor of any age: set max_age_minutes",) == read.warnings


@pytest.mark.parametrize(
    ("members", "is_warned_of"),
    [
        ("", True),
        ("role_map = {}\nkeep_unmapped = true", True),
        ("role_map = {}", False),
        ('allowed_roles = ["client"]', False),
        ('role_map = {}\nkeep_unmapped = true\nallowed_roles = ["client"]', False),
    ],
)
def test_an_issuer_beside_others_that_may_give_every_role_is_warned_of(
    members: str, *, is_warned_of: bool
) -> None:
    """One that is alone is trusted with all of them."""
    issuer = f"{WITH_FILE}{members}\n"
    other = f"{WITH_FILE}role_map = {{}}\n".replace("a.example", "b.example")
    expected = (
        "https://a.example may give every role: name allowed_roles, or a role_map without keep_unmapped",
    )
    assert () == read_policy(issuer).warnings
    assert (expected if is_warned_of else ()) == read_policy(issuer + other).warnings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("isuers = []", "isuers: there is no such member; did you mean issuers?"),
        ("x = 1", "x: there is no such member; known are issuers, roles, second_factor"),
        ("issuers = 1", "issuers: write [[issuers]], with two brackets, before each issuer"),
        (
            "[issuers]\nissuer = 'a'",
            "issuers: write [[issuers]], with two brackets, before each issuer",
        ),
        ("issuers = [1]", "[[issuers]] number 1: write a table here (got 1)"),
        ("roles = 1", "roles: write a table [roles.NAME] for each role"),
        ("[[roles]]", "roles: write a table [roles.NAME] for each role"),
        ("[roles]\ndefaults = 1", "roles.defaults: write true or false"),
        (
            "[roles]\ndefaults = false",
            "roles: with defaults = false nobody may do anything; write [roles.NAME]",
        ),
        (
            "[roles]\ndefault = false",
            "roles.default: write a table [roles.default]; only defaults is no role",
        ),
        (
            "second_factor = false",
            'second_factor: write a table [second_factor."PERMISSION"]',
        ),
        (
            "[second_factor.predikt]",
            "[second_factor]: there is no permission 'predikt'; did you mean predict?"
            " Write it in quotes",
        ),
        (
            "[second_factor.models.write]",
            "[second_factor]: there is no permission 'models'; did you mean models.read or"
            " models.write? Write it in quotes",
        ),
        (
            "[second_factor]\npredict = true",
            '[second_factor."predict"]: write a table here (got True)',
        ),
    ],
)
def test_a_section_of_another_form(text: str, expected: str) -> None:
    """The message says what to write."""
    assert [expected] == mistakes(text)


def test_an_issuer_that_is_named_twice_is_refused() -> None:
    """Or one of the two sets of keys and rules would silently win."""
    assert ["[[issuers]]: https://a.example occurs 2 times; keep one"] == mistakes(WITH_FILE * 2)


def test_roles_of_the_file_can_be_mapped_to_and_roles_that_are_gone_cannot() -> None:
    """A map into nothing would look as if it gave something."""
    text = f"""
        {WITH_FILE}
        role_map = {{ a = "line", b = "client" }}
        [roles]
        defaults = false
        [roles.line]
        permissions = []
    """
    assert [
        "[[issuers]] number 1: role_map.b: there is no role 'client'; did you mean line?"
        " (got 'client')"
    ] == mistakes(text)


def test_every_mistake_is_named_at_once() -> None:
    """In all sections, also where one depends on another."""
    found = mistakes(f"""
        isuers = 1
        {ISSUER}
        audiance = "x"
        [roles.line]
        permission = []
        [roles.client]
        permissions = ["predikt", "models.red"]
        [second_factor]
        predikt = false
    """)
    assert 8 == len(found)


@pytest.mark.parametrize(
    "text",
    [
        "[roles",
        "a = 1\na = 2",
        "[roles.client]\n[roles.client]",
        "a = " + "9" * 5000,
        "a = " + "[" * 100_000,
        "\0",
    ],
)
def test_what_is_not_toml_is_refused(text: str) -> None:
    """A name given twice, too."""
    (only,) = mistakes(text)
    assert only.startswith("it is not TOML")


def test_a_file_that_is_too_large_is_refused() -> None:
    """It is some other file."""
    read_policy("#" * MAX_POLICY_CHARACTERS)
    (only,) = mistakes("#" * (MAX_POLICY_CHARACTERS + 1))
    assert "it has more than 1048576 characters; name the policy file" == only


VALUES = st.recursive(
    st.booleans() | st.integers() | st.sampled_from(["", "predict", "client", "https://a.example"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=4,
)
MEMBERS = st.sampled_from(
    [name for form in (IssuerForm, RoleForm, SecondFactorForm) for name in form.model_fields]
)
TABLES = st.dictionaries(MEMBERS, VALUES, max_size=6)
NAMED = st.sampled_from(["client", "predict", "models.write", "defaults", "a:b"])
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "issuers": st.lists(TABLES, max_size=2) | VALUES,
        "roles": st.dictionaries(NAMED, TABLES | VALUES, max_size=3) | VALUES,
        "second_factor": st.dictionaries(NAMED, TABLES | VALUES, max_size=3) | VALUES,
    },
)


def toml(value: Any) -> str:
    """A value as TOML writes it in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


@given(DOCUMENTS)
def test_any_tables_are_taken_or_refused_by_the_one_error(document: dict[str, Any]) -> None:
    """Nothing else ever comes out, and what is taken has a factor, a role and an issuer that hold."""
    try:
        read = read_policy("\n".join(f"{name} = {toml(value)}" for name, value in document.items()))
    except SettingsError:
        return
    assert read.policy.roles
    assert all(factor.acr or factor.amr for factor in read.policy.second_factors.values())
    assert all(sources(issuer) == 1 for issuer in read.issuers)


def sources(issuer: IssuerConfig) -> int:
    """How many places its keys come from."""
    return [issuer.jwks_file is None, issuer.jwks_url is None, not issuer.is_discovered].count(
        False
    )


@given(st.text())
def test_any_text_is_taken_or_refused_by_the_one_error(text: str) -> None:
    """Nothing else ever comes out."""
    with suppress(SettingsError):
        read_policy(text)
