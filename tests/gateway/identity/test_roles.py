"""An issuer's claims become our roles, and never more than that issuer may give."""

import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import AuthnError, Code
from gateway.identity.roles import ClaimMapping, RoleText, fits, read_role, roles_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["roles", "a", "b"]), inner)
    ),
    max_leaves=8,
)
MAPPINGS = st.builds(
    ClaimMapping,
    path=st.lists(st.sampled_from(["roles", "a", "b"]), min_size=1, max_size=3).map(tuple),
    is_space_separated=st.booleans(),
    role_map=st.none() | st.dictionaries(st.text(max_size=3), st.text(max_size=3)),
    keep_unmapped=st.booleans(),
    allowed_roles=st.none() | st.frozensets(st.text(max_size=3)),
)


def refusal(claims: dict[str, Any], mapping: ClaimMapping) -> str:
    """The reason for which the claims are refused."""
    with pytest.raises(AuthnError) as caught:
        roles_of(claims, mapping)
    assert Code.AUTHN_INVALID is caught.value.code
    return caught.value.reason


@pytest.mark.parametrize(
    ("claims", "mapping", "expected"),
    [
        ({"roles": ["client", "analyst:belt"]}, ClaimMapping(), {"client", "analyst:belt"}),
        ({"roles": ["client", "client"]}, ClaimMapping(), {"client"}),
        ({"roles": []}, ClaimMapping(), set()),
        ({}, ClaimMapping(), set()),
        ({"groups": ["client"]}, ClaimMapping(path=("groups",)), {"client"}),
        ({"groups": ["client"]}, ClaimMapping(), set()),
        ({"realm.roles": ["client"]}, ClaimMapping(path=("realm.roles",)), {"client"}),
        ({"a": {"roles": ["client"]}}, ClaimMapping(path=("a", "roles")), {"client"}),
        ({"a": {}}, ClaimMapping(path=("a", "roles")), set()),
        ({}, ClaimMapping(path=("a", "roles")), set()),
        ({"roles": ["client"]}, ClaimMapping(path=("a", "roles")), set()),
    ],
)
def test_roles_are_read_where_the_mapping_says(
    claims: dict[str, Any], mapping: ClaimMapping, expected: set[str]
) -> None:
    """And nowhere else; a claim that is absent gives none."""
    assert expected == roles_of(claims, mapping)


@pytest.mark.parametrize(
    "value",
    [None, True, 1, {}, "client", [None], [1], [["client"]], [""], ["a\n"], ["\u202e"]],
)
def test_a_malformed_list_is_refused(value: object) -> None:
    """One text, too, is no list, or its characters would be roles."""
    assert "roles" == refusal({"roles": value}, ClaimMapping())


@pytest.mark.parametrize("value", [None, True, 1, ["roles"], "roles", []])
def test_a_malformed_member_on_the_way_is_refused(value: object) -> None:
    """What is no object has no members."""
    assert "roles" == refusal({"a": value}, ClaimMapping(path=("a", "roles")))


def test_more_or_longer_roles_than_the_bounds_are_refused() -> None:
    """64 roles of 128 characters are the most, in either form."""
    most = [f"{number:0128}" for number in range(64)]
    assert frozenset(most) == roles_of({"roles": most}, ClaimMapping())
    assert "roles" == refusal({"roles": [*most, "x"]}, ClaimMapping())
    assert "roles" == refusal({"roles": ["x" * 129]}, ClaimMapping())
    spaced = ClaimMapping(is_space_separated=True)
    assert frozenset(most) == roles_of({"roles": " ".join(most)}, spaced)
    assert "roles" == refusal({"roles": " ".join([*most, "x"])}, spaced)
    assert "roles" == refusal({"roles": "x" * 129}, spaced)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("client", {"client"}),
        ("openid client analyst:belt", {"openid", "client", "analyst:belt"}),
        ("", set()),
    ],
)
def test_one_text_is_split_where_the_mapping_says_so(value: str, expected: set[str]) -> None:
    """As `scope` is written; an issuer writes no scopes as an empty text."""
    mapping = ClaimMapping(path=("scope",), is_space_separated=True)
    assert expected == roles_of({"scope": value}, mapping)


@pytest.mark.parametrize("value", [" ", "a  b", " a", "a ", "a\tb", ["a"], None, 1])
def test_a_malformed_text_is_refused(value: object) -> None:
    """Single spaces between names, RFC 6749 section 3.3; a list is not one text."""
    mapping = ClaimMapping(path=("scope",), is_space_separated=True)
    assert "roles" == refusal({"scope": value}, mapping)


def test_a_map_translates_and_drops_the_rest() -> None:
    """An issuer's own `operator` means nothing here unless the map says so."""
    mapping = ClaimMapping(role_map={"Line workers": "client:belt-*", "gw-read": "analyst"})
    claims = {"roles": ["Line workers", "gw-read", "operator", "line workers"]}
    assert {"client:belt-*", "analyst"} == roles_of(claims, mapping)


def test_an_empty_map_takes_nothing() -> None:
    """It is not the same as none."""
    assert set() == roles_of({"roles": ["operator"]}, ClaimMapping(role_map={}))


def test_unmapped_names_can_be_kept() -> None:
    """What the map names is not kept beside what it becomes."""
    mapping = ClaimMapping(role_map={"a": "client"}, keep_unmapped=True)
    assert {"client", "b"} == roles_of({"roles": ["a", "b"]}, mapping)


def test_the_map_cannot_be_changed() -> None:
    """Not even by whoever made the mapping."""
    role_map = {"a": "client"}
    mapping = ClaimMapping(role_map=role_map)
    role_map["a"] = "operator"
    assert {"client"} == roles_of({"roles": ["a"]}, mapping)


def test_a_role_that_the_issuer_may_not_give_is_dropped() -> None:
    """With or without a model; after mapping, too."""
    mapping = ClaimMapping(
        role_map={"boss": "operator"}, keep_unmapped=True, allowed_roles=frozenset({"client"})
    )
    claims = {"roles": ["client:belt@2", "operator", "operator:belt", "boss", "client2", ":client"]}
    assert {"client:belt@2"} == roles_of(claims, mapping)


@given(st.dictionaries(st.sampled_from(["roles", "a", "b"]), JSON), MAPPINGS)
def test_whatever_a_token_carries_only_allowed_roles_come_out(
    claims: dict[str, Any], mapping: ClaimMapping
) -> None:
    """Or the one error."""
    try:
        roles = roles_of(claims, mapping)
    except AuthnError:
        return
    names = {role.partition(":")[0] for role in roles}
    assert mapping.allowed_roles is None or names <= mapping.allowed_roles
    if mapping.role_map is not None and not mapping.keep_unmapped:
        assert roles <= set(mapping.role_map.values())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("client", RoleText("client", None, None)),
        ("client:belt", RoleText("client", "belt", None)),
        ("client:belt-*@2.*", RoleText("client", "belt-*", "2.*")),
        ("client:", RoleText("client", "", None)),
        ("client:@", RoleText("client", "", "")),
        ("client:a:b", RoleText("client", "a:b", None)),
        ("client:a@b@c:d", RoleText("client", "a", "b@c:d")),
        ("client@2", RoleText("client@2", None, None)),
        ("client@2:a", RoleText("client@2", "a", None)),
        ("", RoleText("", None, None)),
    ],
)
def test_a_roles_text_has_one_reading(text: str, expected: RoleText) -> None:
    """The first colon ends the name, the first at sign after it the model."""
    assert expected == read_role(text)


@given(st.text())
def test_a_roles_text_goes_there_and_back(text: str) -> None:
    """Nothing of it is lost, so nothing restricts without being seen."""
    role = read_role(text)
    model = "" if role.model is None else f":{role.model}"
    version = "" if role.version is None else f"@{role.version}"
    assert text == f"{role.name}{model}{version}"


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("belt", "belt", True),
        ("belt", "belt2", False),
        ("belt", "abelt", False),
        ("Belt", "belt", False),
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("*", "anything\nat all", True),
        ("?", "", False),
        ("?", "a", True),
        ("?", "ab", False),
        ("2.*", "2.1", True),
        ("2.*", "2", False),
        ("2.*", "21", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("ab*ba", "aba", False),
        ("*ab", "aab", True),
        ("*ab*b", "ab", False),
        ("*ab*b", "abb", True),
        ("*a?*?", "ab", False),
        ("*a*b*a", "aba", True),
        ("*a*b*a", "ab", False),
        ("*a?c*", "xabc", True),
        ("*a?c*", "xac", False),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        ("a.c", "abc", False),
        ("\\*", "*", False),
    ],
)
def test_a_pattern(pattern: str, text: str, *, expected: bool) -> None:
    """`*` and `?` only, and always the whole text."""
    assert expected is fits(pattern, text)


@given(st.text("ab*?", max_size=8), st.text("ab\n", max_size=10))
def test_a_pattern_fits_as_the_regular_expression_would(pattern: str, text: str) -> None:
    """The one of fnmatchcase without sets."""
    parts = ({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern)
    expected = re.fullmatch("".join(parts), text, re.DOTALL) is not None
    assert expected is fits(pattern, text)


def test_a_hostile_pattern_costs_little() -> None:
    """One that a regular expression would try for longer than a life."""
    pattern, name = "*a" * 60 + "*b", "a" * 63
    started = time.process_time()
    assert not fits(pattern, name)
    assert 0.1 > time.process_time() - started
