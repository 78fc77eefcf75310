"""Challenges read back by a reader of RFC 9110's grammar, and what must never get into one."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.challenges import ChallengeError, Scheme, challenge, quoted_string

METADATA = "https://belt.example/.well-known/oauth-protected-resource"
# RFC 9110 sections 5.6.2 and 5.6.4, without obs-text.
_PARAMETER = re.compile(r'([A-Za-z_]+)="((?:[\t !#-\[\]-~]|\\[\t -~])*)"')


def read(text: str) -> tuple[str, dict[str, str]]:
    """The scheme and parameters of one challenge, by the grammar alone."""
    scheme, _, rest = text.partition(" ")
    parameters = {}
    position = 0
    while position < len(rest):
        found = _PARAMETER.match(rest, position)
        assert found, rest[position:]
        assert found[1] not in parameters
        parameters[found[1]] = re.sub(r"\\(.)", r"\1", found[2])
        position = found.end()
        assert rest[position : position + 2] in {"", ", "}
        position += 2
    return scheme, parameters


@pytest.mark.parametrize(
    ("built", "expected"),
    [
        (challenge(Scheme.BEARER), 'Bearer realm="gatewatch"'),
        (
            challenge(Scheme.BEARER, ChallengeError.INVALID_TOKEN),
            'Bearer realm="gatewatch", error="invalid_token"',
        ),
        (
            challenge(Scheme.BEARER, resource_metadata_url=METADATA),
            f'Bearer realm="gatewatch", resource_metadata="{METADATA}"',
        ),
        (
            challenge(
                Scheme.BEARER,
                ChallengeError.INSUFFICIENT_USER_AUTHENTICATION,
                description="sign in again with a second factor",
                acr_values=("urn:mfa:hardware", "urn:mfa"),
                max_age_seconds=300,
            ),
            'Bearer realm="gatewatch", error="insufficient_user_authentication", '
            'error_description="sign in again with a second factor", '
            'acr_values="urn:mfa:hardware urn:mfa", max_age="300"',
        ),
        (
            challenge(Scheme.DPOP, ChallengeError.USE_DPOP_NONCE, algorithms=("ES256", "EdDSA")),
            'DPoP realm="gatewatch", error="use_dpop_nonce", algs="ES256 EdDSA"',
        ),
    ],
)
def test_each_rfc_gets_its_words(built: str, expected: str) -> None:
    """RFC 6750 section 3, RFC 9728 section 5.1, RFC 9470 section 3, RFC 9449 section 7.1; nothing empty is said."""
    assert expected == built


def test_an_authentication_that_may_not_be_old_at_all() -> None:
    """Zero seconds is a demand; None is none."""
    assert {"realm": "gatewatch", "max_age": "0"} == read(
        challenge(Scheme.BEARER, max_age_seconds=0)
    )[1]


@given(
    description=st.text(st.characters(min_codepoint=32, max_codepoint=126)),
    acr_values=st.lists(
        st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1), max_size=3
    ),
)
def test_whatever_is_put_in_comes_out(description: str, acr_values: list[str]) -> None:
    """Quotes and backslashes begin no parameter of their own."""
    built = challenge(Scheme.BEARER, description=description, acr_values=tuple(acr_values))
    scheme, parameters = read(built)
    assert "Bearer" == scheme
    assert description == parameters.pop("error_description", "")
    assert " ".join(acr_values) == parameters.pop("acr_values", "")
    assert {"realm": "gatewatch"} == parameters


@pytest.mark.parametrize(
    "text", ["a\r\nSet-Cookie: x=1", "a\n", "\x00", "a\tb", "\x7f", "caf\xe9", "\u2028"]
)
def test_what_cannot_stand_in_a_header_raises(text: str) -> None:
    """A line break would begin a header of somebody else's choice."""
    with pytest.raises(ValueError, match="cannot stand in a header"):
        quoted_string(text)


@pytest.mark.parametrize("text", ["", "urn:mfa urn:none"])
def test_what_would_be_read_as_two_of_a_list_raises(text: str) -> None:
    """A blank separates values of `acr_values` and `algs`."""
    with pytest.raises(ValueError, match="cannot stand in a list"):
        challenge(Scheme.BEARER, acr_values=(text,))
    with pytest.raises(ValueError, match="cannot stand in a list"):
        challenge(Scheme.DPOP, algorithms=(text,))
