"""Reading what an ONNX file says about itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, OperatorError
from gateway.inference.engine import OnnxFacts, one_line, read_facts

METADATA = {
    "task": "detect",
    "stride": "32",
    "names": "{0: 'bolt', 1: 'nut'}",
    "imgsz": "[320, 640]",
}
INPUT = (1, 3, 320, 640)
RAW = (1, 6, 4200)


def why(
    metadata: dict[str, str],
    input_shape: tuple[int | None, ...] = INPUT,
    output_shape: tuple[int | None, ...] = RAW,
) -> str:
    """Why the model is refused."""
    with pytest.raises(OperatorError) as caught:
        read_facts(metadata, input_shape=input_shape, output_shape=output_shape)
    assert caught.value.code == Code.MODEL_UNSUPPORTED
    return caught.value.message.removeprefix("the model cannot be served: ")


def test_facts_of_a_static_detector() -> None:
    """Sizes come from the graph."""
    expected = OnnxFacts("detect", ("bolt", "nut"), 32, (320, 640), False, False, RAW)
    actual = read_facts(METADATA | {"imgsz": "nonsense"}, input_shape=INPUT, output_shape=RAW)
    assert expected == actual


def test_facts_of_a_dynamic_detector() -> None:
    """The size it was exported with comes from the metadata."""
    facts = read_facts(METADATA, input_shape=(None, 3, None, None), output_shape=(None, 6, None))
    assert (facts.is_dynamic, facts.input_size) == (True, (320, 640))


def test_an_end_to_end_head_is_told_by_its_shape() -> None:
    """Six numbers a row, as Ultralytics tells it."""
    assert read_facts(METADATA, input_shape=INPUT, output_shape=(1, 300, 6)).is_end_to_end


def test_missing_names_are_made_up_if_their_number_is_known() -> None:
    """A raw head has a row a class; an end-to-end head does not tell."""
    nameless = {key: value for key, value in METADATA.items() if key != "names"}
    facts = read_facts(nameless, input_shape=INPUT, output_shape=(1, 7, 4200))
    assert facts.class_names == ("class_0", "class_1", "class_2")
    assert "no class names" in why(nameless, output_shape=(1, 300, 6))
    assert "no class names" in why(nameless, output_shape=(1, None, 4200))


def test_files_without_metadata_are_refused() -> None:
    """A task that is not stated is not guessed."""
    assert why({}) == "it has no Ultralytics metadata: export it with `yolo export format=onnx`"


@pytest.mark.parametrize("task", ["segment", "pose", "obb", "classify", ""])
def test_other_tasks_are_refused(task: str) -> None:
    """Their heads carry more than boxes."""
    assert f"its task is {task!r}, only 'detect' is served" == why(METADATA | {"task": task})


@pytest.mark.parametrize("shape", [(1, 3, 320), (1, 1, 320, 640), (2, 3, 320, 640), ()])
def test_inputs_that_are_no_image_are_refused(shape: tuple[int, ...]) -> None:
    """One image of three channels at a time."""
    assert why(METADATA, input_shape=shape) == "its input is not one image of three channels"


@pytest.mark.parametrize("shape", [(1, 6), (4, 6, 4200), (1, 6, 20, 20), ()])
def test_outputs_that_are_no_head_are_refused(shape: tuple[int, ...]) -> None:
    """A table of boxes."""
    assert why(METADATA, output_shape=shape) == "its output is not a detection head"


@pytest.mark.parametrize(
    "names",
    [
        "",
        "['bolt', 'nut']",
        "{}",
        "{0: 'bolt'}",
        "{0: 'bolt', 2: 'nut'}",
        "{0: 'bolt', 1: 2}",
        "{0: 'bolt', 1: ''}",
        "{0: 'bolt', 1: 'nut', 2: 'gear'}",
        "__import__('os').abort()",
        "{0: 'bolt', 1: 'nut'",
        "(" * 5000,
        "9" * 300_000,
    ],
)
def test_names_that_are_not_one_for_each_class_are_refused(names: str) -> None:
    """They are read as a literal, never run."""
    assert "name" in why(METADATA | {"names": names})


@pytest.mark.parametrize("stride", ["", "0", "-32", "32.0", "3_2", " 32", "9999999"])
def test_strides_that_are_no_positive_integer_are_refused(stride: str) -> None:
    """Python's own int() would take some of these."""
    assert (
        why(METADATA | {"stride": stride}) == "the stride in its metadata is not a positive integer"
    )


@pytest.mark.parametrize(
    "imgsz", ["", "640", "[640]", "[640, '640']", "[640, 0]", "[True, 640]", "[640, 100000]", "{"]
)
def test_sizes_that_are_not_two_sides_are_refused(imgsz: str) -> None:
    """Only looked at where the graph does not say."""
    assert "imgsz" in why(METADATA | {"imgsz": imgsz}, input_shape=(1, 3, None, None))


@given(key=st.sampled_from(["task", "names", "imgsz", "stride"]), value=st.text(max_size=80))
def test_any_text_ends_in_facts_or_a_refusal(key: str, value: str) -> None:
    """No other exception leaves."""
    outcome = read_or_code(METADATA | {key: value})
    if isinstance(outcome, Code):
        assert outcome == Code.MODEL_UNSUPPORTED
    else:
        assert len(outcome.class_names) == 2


def read_or_code(metadata: dict[str, str]) -> OnnxFacts | Code:
    """The facts or the code of the refusal."""
    try:
        return read_facts(metadata, input_shape=(1, 3, None, None), output_shape=RAW)
    except OperatorError as exc:
        return exc.code


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("a\n\tb  c\x1b[2J", "a b c?[2J"),
        ("x" * 1000, "x" * 300),
        ("", ""),
    ],
)
def test_a_librarys_words_are_told_in_one_line(said: str, told: str) -> None:
    """They end in the log, where a line of theirs would look like one of ours."""
    assert told == one_line(said)
