"""What may be asked of the ledger, strictly parsed."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.query import PARAMETERS, LedgerQuery, detail_of, parse_moment, parse_query
from gateway.audit.query_cursors import QueryInvalidError
from gateway.store.queries.audit_search import RecordKey

NOW = datetime(2031, 5, 6, 1, tzinfo=UTC)


def asked(values: Mapping[str, str]) -> LedgerQuery:
    """The query of these parameters, without pseudonyms."""
    return parse_query(values, now=NOW, forms=lambda _name, text: (text,))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"subjekt": "a"}, "subjekt: unknown; known are issuer, subject, "),
        ({"x" * 99: "a"}, f"{'x' * 40}: unknown"),
        ({"subject": ""}, "subject: 1 to 256 characters"),
        ({"subject": "a" * 257}, "subject: 1 to 256 characters"),
        ({"issuer": "a" * 257}, "issuer: 1 to 256 characters"),
        ({"client_id": ""}, "client_id: 1 to 256 characters"),
        ({"address": "a" * 65}, "address: 1 to 64 characters"),
        ({"request_id": "a" * 65}, "request_id: 1 to 64 characters"),
        ({"model": ""}, "model: 1 to 128 characters"),
        ({"model": "@2"}, "model: 1 to 128 characters"),
        ({"model": "belt@"}, "model: 1 to 64 characters"),
        ({"model": "belt@" + "1" * 65}, "model: 1 to 64 characters"),
        ({"action": "Predict"}, "action: known are predict, models.read, "),
        ({"action": ""}, "action: known are "),
        ({"outcome": "ok"}, "outcome: known are admitted, answered, refused, failed"),
        ({"code": "403"}, "code: known are authn_missing, "),
        ({"origin": ""}, "origin: "),
        ({"origin": "a b"}, "origin: "),
        ({"origin": "a+b"}, "origin: "),
        ({"origin": "a" * 129}, "origin: "),
        ({"since": "yesterday"}, "since: a time such as 2031-05-06T07:08:09Z, or how long ago"),
        ({"since": ""}, "since: "),
        ({"until": "2031-05-06"}, "until: "),
        ({"since": "1h", "until": "1h"}, "until: it must be after since"),
        ({"since": "1h", "until": "2h"}, "until: it must be after since"),
        ({"order": "desc"}, "order: newest or oldest"),
        ({"order": ""}, "order: newest or oldest"),
        ({"limit": "0"}, "limit: a whole number from 1 to 1000"),
        ({"limit": "1001"}, "limit: "),
        ({"limit": "+1"}, "limit: "),
        ({"limit": "01"}, "limit: "),
        ({"limit": "1_0"}, "limit: "),
        ({"limit": "\u0661"}, "limit: "),
        ({"limit": ""}, "limit: "),
        ({"cursor": ""}, "cursor: give it as the page before gave it, or none"),
    ],
)
def test_what_cannot_be_asked_is_told(values: dict[str, str], told: str) -> None:
    """By the name of the parameter and what it takes."""
    with pytest.raises(QueryInvalidError) as caught:
        asked(values)
    assert str(caught.value).startswith(told)


@given(
    st.dictionaries(
        st.sampled_from(PARAMETERS) | st.text(max_size=5),
        st.text(max_size=20) | st.sampled_from(["1h", "predict", "failed", "10", "oldest", "a@b"]),
        max_size=4,
    )
)
def test_any_parameters_are_taken_or_refused(values: dict[str, str]) -> None:
    """By one error; what is taken has a limit and a key that is none or whole."""
    try:
        query = asked(values)
    except QueryInvalidError:
        return
    assert 1 <= query.limit <= 1000
    assert query.after is None or isinstance(query.after, RecordKey)
    # What a database is asked for holds nothing that one of them refuses.
    texts = [text for part in query.search.body_texts for text in part]
    assert all(map(str.isprintable, [*texts, *query.search.subjects, *query.search.request_ids]))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2031-05-06T07:08:09Z", datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)),
        ("2031-05-06T07:08:09.5Z", datetime(2031, 5, 6, 7, 8, 9, 500_000, tzinfo=UTC)),
        ("2031-05-06T07:08:09.123456Z", datetime(2031, 5, 6, 7, 8, 9, 123_456, tzinfo=UTC)),
        ("2031-05-06T07:08:09-02:30", datetime(2031, 5, 6, 9, 38, 9, tzinfo=UTC)),
        ("90s", datetime(2031, 5, 6, 0, 58, 30, tzinfo=UTC)),
        ("15m", datetime(2031, 5, 6, 0, 45, tzinfo=UTC)),
        ("2h", datetime(2031, 5, 5, 23, tzinfo=UTC)),
        ("7d", datetime(2031, 4, 29, 1, tzinfo=UTC)),
    ],
)
def test_moments(text: str, moment: datetime) -> None:
    """RFC 3339, or how long ago."""
    assert moment == parse_moment(text, now=NOW)


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "0s", "01h", "-1h", "1w", "1.5h", "1 h", "100000d", "1h ", "1h\n", "\u0661h",
        "2031-05-06", "2031-05-06T07:08Z", "2031-05-06T07:08:09", "2031-05-06 07:08:09Z",
        "2031-05-06t07:08:09z", "2031-05-06T07:08:09.Z", "2031-05-06T07:08:09.1234567Z",
        "2031-02-30T07:08:09Z", "2031-05-06T07:08:60Z", "2031-05-06T07:08:09+24:00",
        "2031-05-06T07:08:09+0200", "0001-01-01T00:00:00+02:00", "9999-12-31T23:59:59-02:00",
    ],
)  # fmt: skip
def test_what_is_no_moment(text: str) -> None:
    """Nothing lax."""
    with pytest.raises(ValueError):
        parse_moment(text, now=NOW)


@given(st.text(max_size=30))
def test_any_text_is_a_moment_or_none(text: str) -> None:
    """Never another error."""
    try:
        moment = parse_moment(text, now=NOW)
    except ValueError:
        return
    assert moment.tzinfo is UTC


def test_the_record_of_a_reading_says_what_was_asked() -> None:
    """Every filter in a pair of its own, and that a page was a further one."""
    query = asked({"subject": "camera 7", "since": "2h", "limit": "5"})
    assert "subject=camera%207 since=2h limit=5" == detail_of(query)
    assert "limit=100" == detail_of(asked({}))
