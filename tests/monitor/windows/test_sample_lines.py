"""The parser of sample files takes what `gateway features` prints and nothing else."""

import base64
import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store.embeddings import pack_embedding
from monitor.records import Measurement, SampleLine, SampleLineError
from monitor.windows.sample_lines import MAX_LINE_CHARACTERS, parse_sample_line

GOOD: dict[str, Any] = {
    "features": {"brightness": 0.5, "mean_confidence": None, "width": 640},
    "detections": [[1, 0.9, 0.0, 1.0, 20.5, 30]],
    "model_name": "conveyor",
    "model_version": "1",
    "received_at": "2030-01-01T00:00:00+00:00",
}


def test_a_printed_line_is_parsed() -> None:
    """Every member arrives with its type; whole numbers become floats, null stays None."""
    assert parse_sample_line(json.dumps(GOOD), number=1) == SampleLine(
        measurement=Measurement(
            features={"brightness": 0.5, "mean_confidence": None, "width": 640.0},
            detections=((1, 0.9, 0.0, 1.0, 20.5, 30.0),),
        ),
        model_name="conveyor",
        model_version="1",
        received_at=datetime(2030, 1, 1, tzinfo=UTC),
    )


def test_an_embedding_is_unpacked() -> None:
    """As samples have it, in base64; null and its absence, as older gateways print, are a network without."""
    numbers = np.array([-127, 0, 64], np.float32)
    text = base64.b64encode(pack_embedding(numbers)).decode("ascii")
    found = parse_sample_line(json.dumps({**GOOD, "embedding": text}), number=1).measurement
    assert found.embedding is not None
    assert [-127.0, 0.0, 64.0] == found.embedding.tolist()
    without = parse_sample_line(json.dumps({**GOOD, "embedding": None}), number=1)
    assert parse_sample_line(json.dumps(GOOD), number=1) == without


@given(st.text(max_size=24))
def test_any_text_is_an_embedding_or_refused(unverified: str) -> None:
    """Nothing but our own error leaves the parser."""
    with suppress(SampleLineError):
        parse_sample_line(json.dumps({**GOOD, "embedding": unverified}), number=1)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"features": []}, "features is not an object"),
        ({"features": {"Bad-Name": 1}}, "feature name 'Bad-Name' is not lower_case_words"),
        ({"features": {"a" * 65: 1}}, "feature name 'aaaa"),
        ({"features": {"a</script>": 1}}, "feature name 'a</script>' is not"),
        ({"features": {"": 1}}, "feature name '' is not lower_case_words"),
        ({"features": {"a": True}}, "feature a holds something that is not a number"),
        ({"features": {"a": "1"}}, "feature a holds something that is not a number"),
        ({"features": {"a": 10**400}}, "feature a holds a number beyond a double's range"),
        ({"detections": {}}, "detections is not a list"),
        ({"detections": [[1, 0.9, 0, 0, 1]]}, "a detection is not"),
        ({"detections": [3]}, "a detection is not"),
        ({"detections": [[1.0, 0.9, 0, 0, 1, 1]]}, "a class_id is not a whole number"),
        ({"detections": [[True, 0.9, 0, 0, 1, 1]]}, "a class_id is not a whole number"),
        ({"detections": [[-1, 0.9, 0, 0, 1, 1]]}, "a class_id is not a whole number"),
        ({"detections": [[1, 1.1, 0, 0, 1, 1]]}, "a confidence is not in 0..1"),
        ({"detections": [[1, 0.9, 2, 0, 1, 1]]}, "a box has x1 > x2 or y1 > y2"),
        ({"detections": [[1, 0.9, 0, 2, 1, 1]]}, "a box has x1 > x2 or y1 > y2"),
        ({"model_name": ""}, "model_name is not a text of 1 to 128 characters"),
        ({"model_name": 3}, "model_name is not a text of 1 to 128 characters"),
        ({"model_version": "v" * 65}, "model_version is not a text of 1 to 64 characters"),
        ({"received_at": "yesterday"}, "received_at is not an ISO 8601 time"),
        ({"received_at": "2030-01-01T00:00:00"}, "received_at has no time zone"),
        ({"received_at": 0}, "received_at is not a text"),
        ({"extra": 1}, "members are"),
        ({"embedding": 1}, "embedding is neither null nor a text"),
        ({"embedding": ""}, "embedding is not base64 of a packed embedding: not the length"),
        ({"embedding": "AACAPwE"}, "embedding is not base64"),
        ({"embedding": "AACAPwF="}, "embedding is not base64"),
        ({"embedding": "AACA PwE="}, "embedding is not base64"),
        ({"embedding": "é"}, "embedding is not base64"),
        ({"embedding": "AADAfwE="}, "embedding is not base64 of a packed embedding: the scale"),
        (
            {"embedding": "A" * 8000},
            "embedding is not base64 of a packed embedding: not the length",
        ),
    ],
)
def test_a_wrong_member_is_refused_with_its_line(change: dict[str, Any], problem: str) -> None:
    """The message names the line and what is wrong there."""
    with pytest.raises(SampleLineError, match=f"^line 7: {problem}"):
        parse_sample_line(json.dumps({**GOOD, **change}), number=7)


@pytest.mark.parametrize("member", sorted(GOOD))
def test_a_missing_member_is_refused(member: str) -> None:
    """All five are needed."""
    line = json.dumps({name: value for name, value in GOOD.items() if name != member})
    with pytest.raises(SampleLineError, match="members are"):
        parse_sample_line(line, number=1)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"features": {"a": NaN}}', "NaN is not a JSON number"),
        ('{"features": {"a": 1e999}}', "members are"),
        ('{"a": 1, "a": 1}', "a member appears twice"),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, "a number with too many digits"),
        (" " * (MAX_LINE_CHARACTERS + 1), "longer than 1048576 characters"),
    ],
    ids=range(9),
)
def test_a_line_that_is_no_such_object_is_refused(line: str, problem: str) -> None:
    """Whatever it is, the error is ours."""
    with pytest.raises(SampleLineError, match=f"^line 3: {problem}"):
        parse_sample_line(line, number=3)


def test_an_infinite_number_is_refused() -> None:
    """1e999 is JSON, but no double."""
    line = json.dumps(GOOD).replace("0.5", "1e999")
    with pytest.raises(SampleLineError, match="beyond a double's range"):
        parse_sample_line(line, number=1)


FINITE = st.floats(-1e9, 1e9, allow_nan=False)
BOXES = st.tuples(FINITE, FINITE, st.floats(0, 1e6), st.floats(0, 1e6))


@given(
    st.dictionaries(st.from_regex(r"\A[a-z][a-z0-9_]{0,20}\Z"), st.none() | FINITE, max_size=8),
    st.lists(st.tuples(st.integers(0, 1000), st.floats(0, 1), BOXES), max_size=5),
    st.datetimes(timezones=st.just(UTC)),
)
def test_whatever_is_printed_comes_back(
    features: dict[str, float | None],
    found: list[tuple[int, float, tuple[float, float, float, float]]],
    received_at: datetime,
) -> None:
    """Printing and parsing is the identity."""
    detections = [(i, c, x, y, x + w, y + h) for i, c, (x, y, w, h) in found]
    line = json.dumps(
        {
            **GOOD,
            "features": features,
            "detections": detections,
            "received_at": received_at.isoformat(),
        }
    )
    parsed = parse_sample_line(line, number=1)
    assert parsed.measurement == Measurement(features=features, detections=tuple(detections))
    assert parsed.received_at == received_at


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)


@given(st.sampled_from(sorted(GOOD)), JSON)
def test_any_value_in_a_member_is_parsed_or_refused(member: str, value: object) -> None:
    """No other exception escapes."""
    with suppress(SampleLineError):
        parse_sample_line(json.dumps({**GOOD, member: value}), number=1)


@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """The same for lines that are no JSON at all."""
    with pytest.raises(SampleLineError, match=r"^line 1: "):
        parse_sample_line(text, number=1)
