"""A table of the policy file has its form, or the message says where it does not and what to write."""

import json
from pathlib import Path

import pytest

from gateway.errors import Code, SettingsError
from gateway.identity.policy_file import read_policy
from gateway.identity.policy_forms import IssuerForm, RoleForm, SecondFactorForm

EXAMPLE = Path(__file__).parents[3] / "docs" / "policy.toml"
ISSUER = """
[[issuers]]
issuer = "https://a.example"
audience = "gatewatch"
"""


def mistakes(text: str) -> list[str]:
    """What is said about a policy that is wrong, line by line."""
    with pytest.raises(SettingsError) as caught:
        read_policy(text)
    assert Code.SETTINGS_INVALID is caught.value.code
    first, *others = caught.value.message.splitlines()
    assert "GATEWAY_POLICY_FILE: the policy is wrong:" == first
    return others


@pytest.mark.parametrize("name", ["a:b", "a@1", "", "a b", "-a", "*", "a" * 65, "\u00e4"])
def test_a_role_that_no_token_could_name(name: str) -> None:
    """Colons and at signs end the name in a token."""
    (only,) = mistakes(f"[roles.{json.dumps(name, ensure_ascii=False)}]\npermissions = []")
    assert "a role's name has 1 to 64 characters from 0-9 A-Z a-z . _ - and no colon" in only


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        ("permissions = []\npermission = []", "permission: there is no such member; did you mean"),
        ("", "permissions: it is missing; write it"),
        ("permissions = 'predict'", "permissions: write a list, in brackets (got 'predict')"),
        ("permissions = ['predikt']", "permissions[0]: there is no such permission; did you mean"),
        ("permissions = [1]", "permissions[0]: there is no such permission; known are predict, "),
        ("permissions = []\nmodels = []", "models: name one at least, or leave it out (got [])"),
        ("permissions = []\nmodels = ['Belt']", "models[0]: a model's pattern has 1 to 63 "),
        ("permissions = []\nmodels = ['b[ae]lt']", "models[0]: a model's pattern has 1 to 63 "),
        ("permissions = []\nmodels = ['belt\\n']", "models[0]: a model's pattern has 1 to 63 "),
        ("permissions = []\nmodels = ['']", "models[0]: a model's pattern has 1 to 63 "),
        ("permissions = []\nmodels = [1]", "models[0]: write a text, in quotes (got 1)"),
        ("permissions = []\nversions = []", "versions: name one at least, or leave it out"),
        ("permissions = []\nversions = ['1:2']", "versions[0]: a version's pattern has 1 to 63 "),
        ("permissions = []\nrequests = ''", "requests: write \"unlimited\", or how much (got '')"),
        ("permissions = []\nrequests = '0/second'", 'requests: write a rate as "100/second"'),
        ("permissions = []\nrequests = '5/week'", 'requests: write a rate as "100/second"'),
        ("permissions = []\nrequests = '5 per day'", 'requests: write a rate as "100/second"'),
        ("permissions = []\nrequests = '5/day,9/day'", 'requests: write a rate as "100/second"'),
        ("permissions = []\nrequests = '1234567890/day'", 'requests: write a rate as "100/sec'),
        ("permissions = []\nrequests = 5", "requests: write a text, in quotes (got 5)"),
        ("permissions = []\nconcurrency = 0", "concurrency: Input should be greater than or eq"),
        ("permissions = []\nconcurrency = 65537", "concurrency: Input should be less than or eq"),
        ("permissions = []\nconcurrency = '4'", "concurrency: write a whole number, without quo"),
        ("permissions = []\nconcurrency = true", "concurrency: write a whole number, without qu"),
        ("permissions = []\nconcurrency = 4.0", "concurrency: write a whole number, without quo"),
        ("permissions = []\nconcurrency = 'unlimited'", "concurrency: write a whole number, wit"),
        ("permissions = []\ndaily_images = 0", 'daily_images: write "unlimited", or how much'),
        ("permissions = []\ndaily_images = -1", "daily_images: Input should be greater than or"),
        ("permissions = []\ndaily_images = false", "daily_images: write a whole number, without"),
    ],
)
def test_a_role_of_another_form(member: str, expected: str) -> None:
    """The message says where, and what to write."""
    (only,) = mistakes(f"[roles.new]\n{member}")
    assert only.startswith(f"[roles.new]: {expected}")


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        ("acr = []", "it asks for nothing; name acr or amr, or write false in its place"),
        ("acr = []\namr = []", "it asks for nothing; name acr or amr, or write false in its place"),
        ("acr = ['a b']", "acr[0]: an acr value has 1 to 256 printable ASCII characters without"),
        ("acr = ['a\"']", "acr[0]: an acr value has 1 to 256 printable ASCII characters without"),
        ("acr = ['a\\\\']", "acr[0]: an acr value has 1 to 256 printable ASCII characters with"),
        ('acr = ["a\\r\\n"]', "acr[0]: an acr value has 1 to 256 printable ASCII characters wit"),
        ("acr = ['\u00e4']", "acr[0]: an acr value has 1 to 256 printable ASCII characters with"),
        ("acr = ['']", "acr[0]: an acr value has 1 to 256 printable ASCII characters without"),
        ("acr = 'gold'", "acr: write a list, in brackets (got 'gold')"),
        ("amr = ['']", "amr[0]: write 1 to 256 printable characters (got '')"),
        ("max_age = 5", "max_age: there is no such member; did you mean max_age_minutes?"),
        ("max_age_minutes = 0", 'max_age_minutes: write "any", or how much (got 0)'),
        ("max_age_minutes = 43201", "max_age_minutes: Input should be less than or equal to 432"),
        ("max_age_minutes = 1.5", "max_age_minutes: write a whole number, without quotes (got"),
    ],
)
def test_a_second_factor_of_another_form(member: str, expected: str) -> None:
    """The message says where, and what to write."""
    (only,) = mistakes(f"[second_factor.predict]\n{member}")
    assert only.startswith(f'[second_factor."predict"]: {expected}')


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ("", "name one of jwks_file, jwks_url and discover = true (got none)"),
        (
            "jwks_file = 'a'\ndiscover = true",
            "name one of jwks_file, jwks_url and discover = true (got jwks_file and discover)",
        ),
        (
            "jwks_file = 'a'\njwks_url = 'https://a.example'",
            "name one of jwks_file, jwks_url and discover = true (got jwks_file and jwks_url)",
        ),
        ("discover = false", "discover: write true, or leave it out (got False)"),
        ("jwks_file = ''", "jwks_file: write 1 to 256 printable characters (got '')"),
        ("jwks_file = 'a'\nca_file = 'b'", "ca_file: keys in a file need no server; remove it"),
        ("jwks_file = 'a'\nca_fil = 'b'", "ca_fil: there is no such member; did you mean ca_file"),
        ("jwks_file = 'a'\nmax_lifetime_seconds = 59", "max_lifetime_seconds: Input should be gr"),
        ("jwks_file = 'a'\nclock_skew_seconds = 61", "clock_skew_seconds: Input should be less t"),
        ("jwks_file = 'a'\nclock_skew_seconds = -1", "clock_skew_seconds: Input should be greate"),
        ("jwks_file = 'a'\nroles_claim = []", "roles_claim: name one at least, or leave it out"),
        ("jwks_file = 'a'\nroles_claim = ''", "roles_claim[0]: write 1 to 256 printable charact"),
        ("jwks_file = 'a'\nroles_claim = 1", "roles_claim: write a list, in brackets (got 1)"),
        (f"jwks_file = 'a'\nroles_claim = {['a'] * 9}", "roles_claim: name 8 at most (got ["),
        ("jwks_file = 'a'\nroles_are = 'words'", "roles_are: Input should be 'list' or 'space-s"),
        ("jwks_file = 'a'\nrole_map = 1", "role_map: write a table (got 1)"),
        ("jwks_file = 'a'\nrole_map = { a = 1 }", "role_map.a: write a text, in quotes (got 1)"),
        (
            "jwks_file = 'a'\nrole_map = { a = 'cleint' }",
            "role_map.a: there is no role 'cleint'; did you mean client? (got 'cleint')",
        ),
        (
            "jwks_file = 'a'\nrole_map = { a = 'client:' }",
            "role_map.a: after the colon, a model's pattern has 1 to 63 characters",
        ),
        (
            "jwks_file = 'a'\nrole_map = { a = 'client:b@' }",
            "role_map.a: after the at sign, a version's pattern has 1 to 63 characters",
        ),
        (
            f"jwks_file = 'a'\nrole_map = {{ a = 'client:{'b' * 63}@{'1' * 63}' }}",
            "role_map.a: a role has 128 characters at most",
        ),
        (
            "jwks_file = 'a'\nrole_map = { a = 'operator' }\nallowed_roles = ['client']",
            "role_map.a: operator is outside of allowed_roles; allow it or remove the line",
        ),
        (
            "jwks_file = 'a'\nkeep_unmapped = true",
            "keep_unmapped: without a role_map every name is kept; remove it",
        ),
        ("jwks_file = 'a'\nallowed_roles = []", "allowed_roles: name one at least, or leave it "),
        (
            "jwks_file = 'a'\nallowed_roles = ['client:belt']",
            "allowed_roles[0]: there is no role 'client:belt'; did you mean client?",
        ),
    ],
)
def test_an_issuer_of_another_form(members: str, expected: str) -> None:
    """The message says where, and what to write."""
    (only,) = mistakes(f"{ISSUER}{members}")
    assert only.startswith(f"[[issuers]] number 1: {expected}")


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example/keys",
        "file:///keys",
        "https://",
        "https:/a.example",
        "a.example/keys",
        "https://a.example/ keys",
        "https://a.example/keys\u202e",
        "https://\u0430.example/keys",
        "https://[::1/keys",
        "https://a.example:x/keys",
        "https://a.example:65536/keys",
        "https://a.example:0/keys",
        "https://user:word@a.example/keys",
        "https://a.example@b.example/keys",
        "https://a.example/keys#old",
        "",
    ],
)
def test_keys_come_by_https_from_a_plain_address(url: str) -> None:
    """Whoever could change them on the way could sign tokens."""
    (only,) = mistakes(f"{ISSUER}jwks_url = {json.dumps(url, ensure_ascii=False)}")
    assert only.startswith("[[issuers]] number 1: jwks_url: ")


@pytest.mark.parametrize(
    "issuer", ["plant", "http://a.example", "https://a.example?x=1", "https://a.example#x"]
)
def test_only_an_address_can_be_discovered(issuer: str) -> None:
    """It is where the issuer describes itself, RFC 8414 section 2."""
    (only,) = mistakes(f"[[issuers]]\nissuer = '{issuer}'\naudience = 'b'\ndiscover = true")
    assert only.startswith("[[issuers]] number 1: issuer: discover = true needs ")


@pytest.mark.parametrize(
    "value", [".".join("a" * 5000) + " = 1", "= 0x" + "f" * 5000, "= '" + "x" * 5000 + "'"]
)
def test_a_monstrous_value_is_shown_shortly(value: str) -> None:
    """Neither its depth nor its length reaches the message."""
    joint = "" if value.startswith("=") else "."
    (only,) = mistakes(f"[roles.new]\npermissions = []\nmodels{joint}{value}")
    assert 200 > len(only)


def test_the_example_in_the_docs_shows_every_member() -> None:
    """Whoever looks for one finds it there."""
    text = EXAMPLE.read_text("utf-8")
    for form in (IssuerForm, RoleForm, SecondFactorForm):
        for member in form.model_fields:
            assert f"\n{member} = " in text or f"\n[issuers.{member}]" in text
