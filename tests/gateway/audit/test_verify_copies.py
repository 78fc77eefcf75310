"""Comparing columns with the body that they repeat: the short way says yes to nothing else than the long one."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.verify_copies import COPIES, CopyComparison, explain_copies
from tests.gateway.audit.signed_ledger import entry

TIME = "2031-05-06T00:00:00.000000Z"


def body_of(**members: object) -> str:
    """A body with these members."""
    return json.dumps(members, sort_keys=True, separators=(",", ":"))


def good(**changed: object) -> tuple[str, dict[str, Any]]:
    """A body, and the columns beside it that fit."""
    copies: dict[str, object] = {
        "recorded_at": TIME,
        "action": "predict",
        "outcome": "admitted",
        "request_id": "r-1",
        "subject": "conveyor-7",
        "model_name": "belt",
    }
    copies |= changed
    return body_of(**copies, model_version="3", token_id=None, result_count=None), copies


def first_bad(*rows: tuple[str, dict[str, Any]]) -> int | None:
    """The number of the first row whose columns do not fit."""
    comparison = CopyComparison()
    columns = [[copies[name] for _, copies in rows] for name in COPIES]
    return comparison.first_bad([body for body, _ in rows], tuple(columns))


# Whoever asks has looked at the types of times and request ids.
OTHERS: dict[str, tuple[object, ...]] = dict.fromkeys(COPIES, ("x", "", None, b"predict", 7))
OTHERS |= {"recorded_at": ("x", ""), "request_id": ("x", "", None)}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, others in OTHERS.items() for value in others]
)
def test_a_column_that_differs_is_found(name: str, value: object) -> None:
    """Also after rows that fit, from which the short way knows how such bodies look."""
    body, copies = good()
    assert 2 == first_bad(good(), good(), (body, copies | {name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("request_id", 'r-1","result_count":null,"subject":"conveyor-7","token_id":null'),
        ("request_id", "r-1\\u0041"),
        ("recorded_at", f'{TIME}","request_id":"r-1'),
        ("subject", 'conveyor-7","token_id":null'),
        ("model_name", 'belt","model_version":"3'),
    ],
)
def test_a_column_that_holds_the_bodys_text_is_found(name: str, value: str) -> None:
    """A value that reads on into the next members, or as JSON writes it, is another value."""
    body, copies = good()
    assert 1 == first_bad(good(), (body, copies | {name: value}))


def test_an_escaped_value_is_not_the_text_of_it() -> None:
    """The body's \\u0041 is an A; the column's six characters are not."""
    body, copies = good(request_id="A")
    spelt = body.replace('"request_id":"A"', '"request_id":"\\u0041"')
    assert first_bad(good(), (spelt, copies)) is None
    assert 1 == first_bad(good(), (spelt, copies | {"request_id": "\\u0041"}))


def test_bodies_of_other_lengths_fit() -> None:
    """A member may stand elsewhere than in the row before."""
    rows = [good(), good(request_id="a-longer-one"), good(subject="s"), good(request_id=None)]
    longer = body_of(**rows[0][1], address="10.20.30.40", model_version="3", token_id="x" * 9)
    assert first_bad(*rows, (longer, rows[0][1]), *rows) is None


def test_what_the_gateway_writes_fits() -> None:
    """With the columns that it writes beside it."""
    entries = [entry(number) for number in range(9)]
    rows = [(e.body, {name: getattr(e, name) for name in COPIES}) for e in entries]
    assert first_bad(*rows) is None


@given(
    st.lists(
        st.tuples(*[st.text(max_size=6)] * 3, st.none() | st.text(max_size=6)),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(COPIES),
    st.text(max_size=6),
)
def test_the_short_way_agrees_with_the_long_one(
    texts: list[tuple[str, str, str, str | None]], name: str, value: str
) -> None:
    """Whatever text stands in body and columns."""
    rows = [
        good(request_id=request, subject=subject, model_name=model, action=action)
        for action, request, subject, model in texts
    ]
    assert first_bad(*rows) is None
    body, copies = rows[-1]
    changed = copies | {name: value}
    is_same = changed == copies
    assert first_bad(*rows[:-1], (body, changed)) == (None if is_same else len(rows) - 1)
    assert is_same == (explain_copies(body, tuple(changed.values()), 0) is None)


@pytest.mark.parametrize("body", ["", "[]", "17", "{", "[" * 5000, "{}"])
def test_a_body_that_is_no_record_is_told(body: str) -> None:
    """Nothing was ever written without these members."""
    assert explain_copies(body, (None,) * len(COPIES), 5) is not None
