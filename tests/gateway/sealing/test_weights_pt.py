"""What a `.pt` file says about its network."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.errors import Code, OperatorError
from gateway.sealing import weights_pt
from gateway.sealing.weights_pt import WeightsFacts, read_pt_facts


def network(**facts: Any) -> Any:
    """A loaded network that says this of itself."""
    stated: dict[str, Any] = {
        "task": "segment",
        "names": {0: "bolt", 1: "nut"},
        "args": {"imgsz": 320},
        "stride": SimpleNamespace(max=lambda: 32.0),
    }
    return SimpleNamespace(**(stated | facts))


def facts(monkeypatch: pytest.MonkeyPatch, **said: Any) -> WeightsFacts:
    """The facts of a network that says this of itself."""
    monkeypatch.setattr(weights_pt, "load_network", lambda _: network(**said))
    return read_pt_facts(b"weights")


def test_facts_are_those_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Task, names by class id, stride and the size it was trained for."""
    assert WeightsFacts("segment", ("bolt", "nut"), 32, (320, 320)) == facts(monkeypatch)


@pytest.mark.parametrize(
    ("stated", "task", "expected"),
    [
        (640, "detect", (640, 640)),
        ([480, 640], "detect", (480, 640)),
        (650, "detect", (672, 672)),
        (None, "detect", (640, 640)),
        (None, "classify", (224, 224)),
        (100_000, "detect", (640, 640)),
        (0, "detect", (640, 640)),
        ([1, 2, 3], "detect", (640, 640)),
        (True, "detect", (640, 640)),
    ],
)
def test_the_size_is_the_trained_one_rounded_up_to_the_stride(
    stated: object, task: str, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ultralytics rounds up, too; where nothing usable is said, its defaults count."""
    assert expected == facts(monkeypatch, args={"imgsz": stated}, task=task).input_size


def test_sides_are_multiples_of_32_whatever_a_classifier_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its stride is 1, and Ultralytics rounds to 32 all the same."""
    assert 32 == facts(monkeypatch, stride=SimpleNamespace(max=lambda: 1.0)).stride
    assert 64 == facts(monkeypatch, stride=SimpleNamespace(max=lambda: 64.0)).stride


@pytest.mark.parametrize("names", [["bolt", "nut"], ("bolt", "nut"), {1: "nut", 0: "bolt"}])
def test_names_come_in_the_order_of_class_ids(names: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a list or a mapping in any order."""
    assert ("bolt", "nut") == facts(monkeypatch, names=names).names


@pytest.mark.parametrize("names", [{}, [], {1: "nut"}, {0: "bolt", 2: "nut"}, [""], {0: 7}])
def test_names_with_gaps_are_refused(names: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class without a name could not be answered."""
    with pytest.raises(OperatorError, match="class names are not texts for 0, 1, 2") as caught:
        facts(monkeypatch, names=names)
    assert caught.value.code is Code.MODEL_UNSUPPORTED


def test_other_tasks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the tasks that are served."""
    with pytest.raises(OperatorError, match="'depth', there are detect, segment, pose, obb, clas"):
        facts(monkeypatch, task="depth")


@pytest.mark.needs_seal
def test_facts_are_read_from_the_bytes(pt_weights: Callable[[str], bytes]) -> None:
    """Of a file of the fewest classes."""
    assert WeightsFacts("pose", ("0",), 32, (128, 128)) == read_pt_facts(pt_weights("yolov8n-pose"))


@pytest.mark.parametrize(
    "said",
    [
        {"names": None},
        {"names": 7},
        {"stride": None},
        {"stride": SimpleNamespace(max=lambda: "wide")},
        {"stride": SimpleNamespace(max=lambda: float("inf"))},
        {"args": None},
    ],
)
def test_a_network_without_the_facts_is_refused(
    said: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever module the file holds, what it lacks is told in words."""
    with pytest.raises(OperatorError, match="it does not say what Ultralytics' own weights say"):
        facts(monkeypatch, **said)
