"""How a reference is stored: bit for bit, and whatever else a row holds is one error with its fix."""

import base64
import json
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.ranks import merge_ranked
from monitor.records import Measurement, MonitorError
from monitor.summaries import (
    ALL_SAMPLES,
    HOURS_OF_DAY,
    Fit,
    ReferenceSummary,
    SliceSummary,
    Stratum,
)
from monitor.windows.content import dump_summary, parse_summary
from monitor.windows.content_reading import write_array
from monitor.windows.fitting import columns
from monitor.windows.slicing import parse_bands
from monitor.windows.summarise import summarise
from tests.monitor.windows.summaries import START, draw_samples

BROKEN = "a stored reference cannot be read .*: make a new one with `monitor reference`"


@pytest.fixture(scope="module")
def summary() -> ReferenceSummary:
    """With everything that a reference can have."""
    samples = draw_samples(400, sources=("a", "b"), minutes=60.0)
    return summarise(samples, bands=parse_bands("06-18,18-06"), max_slices=4, preprocessing="p")


def test_what_was_stored_comes_back(summary: ReferenceSummary) -> None:
    """Bit for bit: the stored form of what was read is the stored form."""
    content = dump_summary(summary)
    parsed = parse_summary(content, sample_count=400)
    assert dump_summary(parsed) == content
    assert (parsed.sample_count, parsed.preprocessing) == (400, "p")
    assert (parsed.examples, parsed.covers_from) == (summary.examples, START)
    assert [each.slice for each in summary.slices] == [each.slice for each in parsed.slices]
    for before, after in zip(summary.slices, parsed.slices, strict=True):
        assert [s.hours for s in before.strata] == [s.hours for s in after.strata]
    before_rank = summary.slices[1].strata[0].features["f01"]
    after_rank = parsed.slices[1].strata[0].features["f01"]
    assert before_rank.lowest.tobytes() == after_rank.lowest.tobytes()
    assert before_rank.ranks.tolist() == after_rank.ranks.tolist()


def test_samples_are_computed_alike_after_storing(summary: ReferenceSummary) -> None:
    """Or every later sample would be a little off from what was ranked."""
    parsed = parse_summary(dump_summary(summary), sample_count=400)
    names = tuple(summary.slices[0].strata[0].features)
    rows: list[Measurement] = [each.measurement for each in draw_samples(50, seed=9)]
    before = columns(rows, fit=summary.fit, names=names)
    assert before.tobytes() == columns(rows, fit=parsed.fit, names=names).tobytes()


def test_merged_ranks_keep_both_ends(summary: ReferenceSummary) -> None:
    """Only where they differ is the second one stored."""
    stratum = summary.slices[0].strata[0]
    merged = {
        name: merge_ranked([ranked, ranked], limit=20) for name, ranked in stratum.features.items()
    }
    slices = (SliceSummary(ALL_SAMPLES, (Stratum(HOURS_OF_DAY, merged),)),)
    content = dump_summary(replace(summary, sample_count=800, slices=slices))
    parsed = parse_summary(content, sample_count=800).slices[0].strata[0].features["f00"]
    assert merged["f00"].lowest.tolist() == parsed.lowest.tolist()
    assert merged["f00"].highest.tolist() == parsed.highest.tolist()
    assert '"highest"' not in dump_summary(summary)


def test_the_stored_form_is_fixed() -> None:
    """A literal, so that old references stay readable."""
    parsed = parse_summary(OLD, sample_count=2)
    assert {1: 0.5, 7: 0.25} == parsed.fit.class_shares
    embedding = parsed.fit.embedding
    assert embedding is not None
    assert [1.0, 2.0] == embedding.mean.tolist()
    assert [[1.0, 0.0]] == embedding.directions.tolist()
    assert ([0.5], 0.25) == (embedding.scales.tolist(), embedding.residual_scale)
    assert ("weights 0", ("r1",), START) == (
        parsed.preprocessing,
        parsed.examples,
        parsed.covers_from,
    )
    (everything,) = parsed.slices
    (stratum,) = everything.strata
    assert ["embedding_1", "noise"] == list(stratum.features)
    assert ([1], [-3.0]) == _rank_lists(stratum, "embedding_1")
    assert ([1, 2], [-np.inf, 1.5]) == _rank_lists(stratum, "noise")
    assert OLD == dump_summary(parsed)


OLD = json.dumps(
    {
        "format": 2,
        "preprocessing": "weights 0",
        "examples": ["r1"],
        "covers_from": "2030-01-01T00:00:00+00:00",
        "class_ids": "AQAAAAcAAAA=",
        "class_shares": "AAAAAAAA4D8AAAAAAADQPw==",
        "embedding": {
            "mean": "AACAPwAAAEA=",
            "directions": "ADwAAA==",
            "scales": "AAAAPw==",
            "residual_scale": 0.25,
        },
        "features": ["embedding_1", "noise"],
        "slices": [
            {
                "slice": "",
                "strata": [
                    {
                        "hours": [*range(24)],
                        "groups": [
                            {"of": "AA==", "count": 1, "ranks": "AQAAAA==", "lowest": "AABAwA=="},
                            {
                                "of": "AQ==",
                                "count": 2,
                                "ranks": "AQAAAAIAAAA=",
                                "lowest": "AACA/wAAwD8=",
                            },
                        ],
                    }
                ],
            }
        ],
    },
    separators=(",", ":"),
)


def _rank_lists(stratum: Stratum, name: str) -> tuple[list[int], list[float]]:
    ranked = stratum.features[name]
    return ranked.ranks.tolist(), ranked.lowest.tolist()


def test_a_reference_of_format_1_is_still_read() -> None:
    """It held every value; its counts of classes are features like any other."""
    content = '{"format":1,"features":{"class_count_2":[1,0,3],"noise":[1.5,null,1e300]}}'
    parsed = parse_summary(content, sample_count=3)
    (everything,) = parsed.slices
    (stratum,) = everything.strata
    assert [-np.inf, 1.5, float(np.finfo(np.float32).max)] == stratum.features[
        "noise"
    ].lowest.tolist()
    assert [0.0, 1.0, 3.0] == stratum.features["class_count_2"].lowest.tolist()
    assert (ALL_SAMPLES, HOURS_OF_DAY) == (everything.slice, stratum.hours)
    assert (Fit(class_shares={}), "", ()) == (parsed.fit, parsed.preprocessing, parsed.examples)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"format":3,"features":{}}',
        '{"format":2,"features":{}}',
        '{"format":1,"features":{}}',
        '{"format":1,"features":[]}',
        '{"format":1,"features":{"a":[1]}}',
        '{"format":1,"features":{"a":[1,NaN]}}',
        '{"format":1,"features":{"a":[1,true]}}',
        '{"format":1,"features":{"a":["x","y"]}}',
        '{"format":1,"features":{"a":3}}',
        '{"format":1,"features":{"</script>":[1,2]}}',
        '{"format":1,"features":{"class_count_x":[1,2]}}',
        '{"format":1,"features":{"embedding_1":[1,2]}}',
        '{"format":1,"features":{"a":[1,1e400]}}',
        '{"format":1,"features":{"a":[1,' + "9" * 400 + "]}}",
        '{"format":1,"features":{"a":[1,' + "9" * 5000 + "]}}",
        "[" * 100_000,
    ],
    ids=range(20),
)
def test_a_broken_reference_is_one_error_with_its_fix(content: str) -> None:
    """Not a traceback."""
    with pytest.raises(MonitorError, match=BROKEN):
        parse_summary(content, sample_count=2)


def test_a_reference_of_no_samples_is_broken() -> None:
    """Nothing could be compared with it."""
    with pytest.raises(MonitorError, match=BROKEN):
        parse_summary('{"format":1,"features":{"a":[]}}', sample_count=0)


def _group(**changes: object) -> dict[str, object]:
    slices = [
        {
            "slice": "",
            "strata": [
                {
                    "hours": [*range(24)],
                    "groups": [{**_GOOD_GROUP, **changes}],
                }
            ],
        }
    ]
    return {"slices": slices}


_GOOD_GROUP: dict[str, object] = {
    "of": write_array([0, 1], "u1"),
    "count": 2,
    "ranks": write_array([1, 2], "<i4"),
    "lowest": write_array([1, 2, 1, 2], "<f4"),
}
_TWO_STRATA = {"hours": [1], "groups": [_GOOD_GROUP]}
_SLICE = {"slice": "", "strata": [_TWO_STRATA]}
_NO_SLICES = (
    "camera=a",
    "a",
    "source=",
    "source=a b",
    "source=\x1b[2J",
    f"source={'a' * 65}",
    "client=https://i.test|line",
    "client=\n2030-01-01 alarm_changed",
    "client=2d711642b726b04",
    "client=2D711642B726B044",
)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "2"},
        {"more": 1},
        {"preprocessing": None},
        {"examples": [1]},
        {"examples": ["x" * 37]},
        {"covers_from": "yesterday"},
        {"covers_from": "2030-01-01T00:00:00"},
        {"class_ids": 1},
        {"class_ids": "é"},
        {"class_ids": "AQAAAA"},
        {"class_ids": write_array([1], "<i4")},
        {"class_ids": write_array([1, 1], "<i4")},
        {"class_ids": write_array([-1, 1], "<i4")},
        {"class_shares": write_array([0.5, np.nan], "<f8")},
        {"class_shares": write_array([0.5, 0.6], "<f8")},
        {"class_shares": write_array([0.5, 0.0], "<f8")},
        {"embedding": None},
        {"embedding": {}},
        {"features": ["noise"]},
        {"features": ["noise", "embedding_1"]},
        {"features": ["embedding_1", "</script>"]},
        {"features": ["embedding_1", "embedding_2"]},
        {"features": ["class_count_03", "noise"]},
        {"features": ["noise", "noise"]},
        {"features": [f"f{n:02}" for n in range(65)]},
        {"slices": []},
        {"slices": [{"slice": "source=a", "strata": [_TWO_STRATA]}]},
        *({"slices": [_SLICE, {**_SLICE, "slice": name}]} for name in _NO_SLICES),
        {"slices": [_SLICE, *({**_SLICE, "slice": f"source={n}"} for n in range(65))]},
        {"slices": [{"slice": "", "strata": []}]},
        {"slices": [{"slice": "", "strata": [_TWO_STRATA, _TWO_STRATA]}]},
        {"slices": [{"slice": "", "strata": [_TWO_STRATA]}] * 2},
        {"slices": [{"slice": "", "strata": [{**_TWO_STRATA, "hours": []}]}]},
        {"slices": [{"slice": "", "strata": [{**_TWO_STRATA, "hours": [24]}]}]},
        {"slices": [{"slice": "", "strata": [{**_TWO_STRATA, "hours": [True]}]}]},
        {"slices": [{"slice": "", "strata": [{**_TWO_STRATA, "groups": []}]}]},
        {"slices": [{"slice": "", "strata": [{**_TWO_STRATA, "groups": [_GOOD_GROUP] * 2}]}]},
        _group(of=write_array([0], "u1")),
        _group(of=write_array([0, 2], "u1")),
        _group(count=0),
        _group(count=3),
        _group(count=2.0),
        _group(ranks=write_array([1], "<i4")),
        _group(ranks=write_array([2, 2], "<i4")),
        _group(ranks=write_array([0, 2], "<i4")),
        _group(ranks=""),
        _group(lowest=write_array([1, 2, 1], "<f4")),
        _group(lowest=write_array([2, 1, 1, 2], "<f4")),
        _group(lowest=write_array([np.nan, 2, 1, 2], "<f4")),
        _group(lowest=write_array([1, np.inf, 1, 2], "<f4")),
        _group(highest=write_array([0, 2, 1, 2], "<f4")),
        _group(highest=write_array([1, 2], "<f4")),
        _group(other=1),
    ],
    ids=range(62),
)
def test_every_part_of_a_reference_is_checked(change: dict[str, object]) -> None:
    """What is relied on later is checked here."""
    good = json.loads(OLD) | _group()
    most = [_SLICE, *({**_SLICE, "slice": f"source={n}"} for n in range(63))]
    most.append({**_SLICE, "slice": "client=2d711642b726b044"})
    assert 65 == len(parse_summary(json.dumps(good | {"slices": most}), sample_count=2).slices)
    assert 2 == parse_summary(json.dumps(good), sample_count=2).sample_count
    with pytest.raises(MonitorError, match=BROKEN):
        parse_summary(json.dumps(good | change), sample_count=2)


def test_a_reference_that_nobody_wrote_so_large_is_not_read() -> None:
    """Twice what is written at most; what holds every value may be larger."""
    content = OLD + " " * (256 * 1024 - len(OLD))
    assert 2 == parse_summary(content, sample_count=2).sample_count
    with pytest.raises(MonitorError, match="more than 262144 bytes"):
        parse_summary(content + " ", sample_count=2)
    values = json.dumps({"format": 1, "features": {"noise": [1.0] * 100_000}})
    assert 100_000 == parse_summary(values, sample_count=100_000).sample_count
    with pytest.raises(MonitorError, match="more than 33554432 bytes"):
        parse_summary(values + " " * (1 << 25), sample_count=100_000)


@pytest.mark.parametrize(
    "change",
    [
        {"mean": ""},
        {"mean": write_array([1, np.nan], "<f4")},
        {"directions": write_array([1], "<f2")},
        {"directions": write_array([1, np.inf], "<f2")},
        {"scales": write_array([0], "<f4")},
        {"scales": write_array([-1], "<f4")},
        {"residual_scale": 0.0},
        {"residual_scale": 1},
        {"residual_scale": None},
        {"more": 1},
    ],
    ids=range(10),
)
def test_every_part_of_a_projection_is_checked(change: dict[str, object]) -> None:
    """A scale of 0 would make every sample infinitely far."""
    stored = json.loads(OLD)
    stored["embedding"] |= change
    with pytest.raises(MonitorError, match=BROKEN):
        parse_summary(json.dumps(stored), sample_count=2)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Only our own error leaves the parser."""
    with pytest.raises(MonitorError):
        parse_summary(text, sample_count=2)


@given(st.data(), st.binary(min_size=1, max_size=4))
def test_any_edit_is_read_or_refused(data: st.DataObject, edit: bytes) -> None:
    """Some bytes of the stored form are others; what is read is computed with without an error."""
    content = bytearray(OLD.encode())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at : at + len(edit)] = edit
    _read_and_use(content.decode("utf-8", "replace"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)


@given(st.sampled_from(sorted(json.loads(OLD))), JSON)
def test_any_value_in_a_member_is_read_or_refused(member: str, value: object) -> None:
    """Whatever type it has."""
    _read_and_use(json.dumps({**json.loads(OLD), member: value}))


@given(
    st.sampled_from(["of", "ranks", "lowest", "highest"]),
    st.binary(max_size=24),
    st.integers(-1, 3),
)
def test_any_array_is_read_or_refused(member: str, unverified: bytes, count: int) -> None:
    """And its numbers."""
    group = _group(**{member: base64.b64encode(unverified).decode("ascii"), "count": count})
    _read_and_use(json.dumps(json.loads(OLD) | group))


def _read_and_use(content: str) -> None:
    with suppress(MonitorError):
        parsed = parse_summary(content, sample_count=2)
        names = tuple(parsed.slices[0].strata[0].features)
        rows = [each.measurement for each in draw_samples(2, embedding=2)]
        table = columns(rows, fit=parsed.fit, names=names)
        lacking = np.isnan(table)
        assert not (lacking.any(axis=0) & ~lacking.all(axis=0)).any()
        assert not np.isposinf(table).any()
        dump_summary(parsed)
