"""Every forged, bent and misused token is refused, and for the expected reason."""

from collections.abc import Callable

import pytest

from gateway.errors import AuthnError, Code
from gateway.identity.refusals import Refusal
from gateway.identity.tokens import read_token, verify_token
from tests.gateway.identity.token_attacks import (
    ATTACKS,
    NOW,
    T,
    issuer,
    sign_es256,
    sign_rs256,
    with_claims,
    with_header,
)


@pytest.mark.parametrize(
    ("attack", "expected"), [pytest.param(a, e, id=name) for name, a, e in ATTACKS]
)
def test_an_attack_is_refused_for_its_reason(attack: Callable[[], str], expected: Refusal) -> None:
    """Every forged token ends in the same error, which differs in the audited reason alone."""
    with pytest.raises(AuthnError) as caught:
        verify_token(read_token(attack()), issuer=issuer(), now=NOW)
    assert caught.value.reason == expected
    assert caught.value.code is Code.AUTHN_INVALID
    assert caught.value.message == (
        "the access token is not accepted: get a new one from the issuer and send it once"
    )


def test_every_reason_of_the_token_layer_is_attacked() -> None:
    """A reason without an attack would be a check without a negative test."""
    outside = {
        Refusal.CREDENTIALS_FORM,
        Refusal.CREDENTIALS_SEVERAL,
        Refusal.DENIED,
        Refusal.CERTIFICATE,
        Refusal.UNBOUND,
    }
    of_proofs = {reason for reason in Refusal if reason.startswith("dpop_")}
    assert set(Refusal) - outside - of_proofs == {expected for _, _, expected in ATTACKS}


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(with_claims, id="EdDSA"),
        pytest.param(lambda: with_header(sign_es256, alg="ES256", kid="ec"), id="ES256"),
        pytest.param(lambda: with_header(sign_rs256, alg="RS256", kid="rsa"), id="RS256"),
        pytest.param(lambda: with_header(typ="application/at+jwt"), id="long typ"),
        pytest.param(lambda: with_header(x5t="AAAA"), id="harmless member"),
        pytest.param(lambda: with_claims(aud=["other", "gatewatch"]), id="two audiences"),
        pytest.param(lambda: with_claims(roles=["client"] * 64), id="many roles"),
        pytest.param(lambda: with_claims(aud=["gatewatch"] * 32), id="many audiences"),
        pytest.param(lambda: with_claims(nbf=T + 60), id="begins within the skew"),
        pytest.param(lambda: with_claims(iat=T + 60), id="issued within the skew"),
        pytest.param(lambda: with_claims(exp=T - 59, iat=T - 99), id="ended within the skew"),
        pytest.param(lambda: with_claims(iat=T, exp=T + 3600), id="longest life"),
        pytest.param(
            lambda: with_claims(auth_time=T, acr="x", amr=["pwd"]), id="how it proved itself"
        ),
        pytest.param(lambda: with_claims(cnf={"jkt": "A" * 43}), id="bound to a key"),
        pytest.param(lambda: with_claims(scope="x", groups=[1]), id="other claims"),
    ],
)
def test_a_good_token_is_accepted(token: Callable[[], str]) -> None:
    """What is refused above is refused for its fault: the same token without it passes."""
    assert verify_token(read_token(token()), issuer=issuer(), now=NOW).subject == "camera-7"
