"""What `gateway doctor` says of two machines."""

import pytest

from gateway.commands.machine_differences import MachineDifference, machine_differences

HERE = {
    "openvino": "2026.4.1",
    "numpy": "2.4.6",
    "opencv": "5.0.0",
    "machine": "x86_64",
    "processor": "avx2 avx512f avx512_bf16 avx512_vnni",
    "preprocessing": "letterbox",
}


def told(
    sealed_with: dict[str, str], here: dict[str, str] | None = None, precision: str = "f32"
) -> list[tuple[str, bool]]:
    """The differences, as pairs of text and is_wrong."""
    found = machine_differences(sealed_with, here or HERE, engine="openvino", precision=precision)
    assert all(isinstance(one, MachineDifference) for one in found)
    return [(one.text, one.is_wrong) for one in found]


def test_the_same_machine_differs_in_nothing() -> None:
    """So that a finding means something."""
    assert [] == told(HERE)


def test_other_preprocessing_is_wrong_and_comes_first() -> None:
    """Boxes would be others."""
    found = told(HERE | {"preprocessing": "stretched", "numpy": "2.3.0"})
    assert found == [
        (
            "images were prepared by 'stretched' and are by 'letterbox': "
            "seal the model again with this release",
            True,
        ),
        (
            "sealed with numpy 2.3.0, here is 2.4.6: the last digits may differ; the golden set decides",
            False,
        ),
    ]


def test_a_missing_engine_is_wrong() -> None:
    """Nothing runs without it."""
    here = {name: value for name, value in HERE.items() if name != "openvino"}
    ((text, is_wrong),) = told(HERE, here)
    assert is_wrong
    assert text.startswith("the engine openvino needs openvino, which is not installed")


@pytest.mark.parametrize(
    ("then", "now", "text"),
    [
        ("avx2 avx512f", "avx2", "this processor lacks avx512f: it is slower, and the last digits differ"),
        ("avx2", "avx2 fma", "this processor also has fma: the last digits may differ"),
        ("unknown", "avx2", None),
    ],
)  # fmt: skip
def test_features_lost_and_gained_are_named(then: str, now: str, text: str | None) -> None:
    """They choose the kernels."""
    found = told(HERE | {"processor": then}, HERE | {"processor": now})
    assert [text for text, _ in found] == ([] if text is None else [text])


def test_another_architecture_is_named() -> None:
    """With both names."""
    found = told(HERE | {"machine": "aarch64"})
    assert found == [
        ("sealed on aarch64, this is x86_64: other kernels, the last digits differ", False)
    ]


@pytest.mark.parametrize(
    ("precision", "words"),
    [("bf16", "bf16 has no instructions"), ("int8", "int8 has no fast instructions")],
)
def test_a_precision_without_instructions_is_named(precision: str, words: str) -> None:
    """It runs, or is refused, but is not what it was sealed for."""
    plain = HERE | {"processor": "avx2"}
    ((text, is_wrong),) = told(plain, plain, precision)
    assert text.startswith(words)
    assert not is_wrong
    assert [] == told(HERE, HERE, precision)


def test_a_model_sealed_without_facts_is_not_judged() -> None:
    """What was not recorded cannot differ."""
    assert [] == told({})
