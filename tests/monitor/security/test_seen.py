"""Records are read strictly, and addresses count as the gateway's limits count them."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.entries import encode_event
from gateway.audit.events import Action, Outcome
from gateway.errors import Code
from monitor.records import Place
from monitor.security.seen import RecordInvalidError, parse_record
from tests.monitor.security.ledger_events import at, call, event, quickly_seen

PLACE = Place("gateway", 7)
BODY = encode_event(call(at(0), code=Code.AUTHZ_DENIED, reason="x")).body


def test_what_the_rules_need_is_read() -> None:
    """Each member as it was recorded."""
    each = call(
        at(1.5),
        outcome=Outcome.REFUSED,
        code=Code.AUTHZ_DENIED,
        certificate_thumbprint="abc",
        model_name="belt",
        model_version="2",
        reason='it said "no" \\ ☃',
        detail="a=b",
    )
    found = parse_record(PLACE, encode_event(each).body)
    # A backslash of a caller is stored twice.
    expected = quickly_seen(each, origin="gateway", position=7)
    assert expected._replace(reason='it said "no" \\\\ ☃') == found


@given(
    st.text(max_size=40),
    st.text(max_size=40),
    st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2200, 1, 1)),  # noqa: DTZ001
)
def test_whatever_a_gateway_stores_is_read(subject: str, address: str, when: datetime) -> None:
    """No text of a caller makes a record that cannot be read."""
    each = event(
        Action.PREDICT, Outcome.ANSWERED, when.replace(tzinfo=UTC), subject=subject, address=address
    )
    found = parse_record(PLACE, encode_event(each).body)
    assert found.at_seconds == pytest.approx(when.replace(tzinfo=UTC).timestamp(), abs=1e-5)
    assert found.subject is not None
    assert found.subject.isprintable()


def test_records_of_formats_before_are_read() -> None:
    """What they lack does not apply."""
    lacking = {"authentication", "detail", "proof_key_thumbprint", "pseudonymised"}
    older = _without(BODY, lacking, number=2)
    assert "token-1" == parse_record(PLACE, older).token_id
    oldest = _without(older, {"token_id", "certificate_thumbprint"}, number=1)
    found = parse_record(PLACE, oldest)
    assert ("camera-1", None, None) == (found.subject, found.token_id, found.detail)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{}",
        BODY[:-1],
        f" {BODY}",
        BODY.replace('"format":3', '"format":4'),
        BODY.replace('"subject":"camera-1"', '"subject":"camera-1","subject":"x"'),
        BODY.replace('"subject":"camera-1"', '"subject":7'),
        BODY.replace('"recorded_at":"2030', '"recorded_at":"20X0'),
        BODY.replace('"recorded_at":"2030-04-01', '"recorded_at":"2030-13-01'),
        BODY.replace('"camera-1"', '"\\ud800"'),
        BODY.replace('"camera-1"', '"\\u0000"'),
        BODY.replace('"camera-1"', '"\\u001b[2J"'),
    ],
)
def test_a_body_that_no_gateway_writes_is_refused(body: str) -> None:
    """Whoever can write to the table must not make the rules fail on it for ever."""
    with pytest.raises(RecordInvalidError):
        parse_record(PLACE, body)


def _without(body: str, members: set[str], *, number: int) -> str:
    kept = {name: value for name, value in json.loads(body).items() if name not in members}
    return json.dumps({**kept, "format": number}, sort_keys=True, separators=(",", ":"))
