"""What differs between the machine a model was sealed on and this one, and what that means, in words."""

from collections.abc import Mapping
from dataclasses import dataclass

# Without one of these, bfloat16 is emulated or refused.
_BF16_FEATURES = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_INT8_FEATURES = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
_LIBRARIES_OF_ENGINE = {
    "openvino": ("openvino", "numpy", "opencv"),
    "onnxruntime": ("onnxruntime", "numpy", "opencv"),
    "ultralytics": ("ultralytics", "torch", "numpy", "opencv"),
}


@dataclass(frozen=True, slots=True)
class MachineDifference:
    """One difference; is_wrong means that answers will differ by more than the last digits, or that nothing runs."""

    text: str
    is_wrong: bool


def machine_differences(
    sealed_with: Mapping[str, str], here: Mapping[str, str], *, engine: str, precision: str
) -> list[MachineDifference]:
    """What is different here, the worst first; both sides as gateway.commands.made_with records them."""
    found = [
        *_preprocessing(sealed_with, here),
        *_engine(here, engine),
        *_libraries(sealed_with, here, engine),
        *_processor(sealed_with, here, precision),
    ]
    return sorted(found, key=lambda difference: not difference.is_wrong)


def _preprocessing(
    sealed_with: Mapping[str, str], here: Mapping[str, str]
) -> list[MachineDifference]:
    then, now = sealed_with.get("preprocessing"), here["preprocessing"]
    if then in (None, now):
        return []
    return [
        MachineDifference(
            f"images were prepared by {then!r} and are by {now!r}: seal the model again with this release",
            is_wrong=True,
        )
    ]


def _engine(here: Mapping[str, str], engine: str) -> list[MachineDifference]:
    library = _LIBRARIES_OF_ENGINE.get(engine, (engine,))[0]
    if library in here:
        return []
    text = f"the engine {engine} needs {library}, which is not installed: install the extra that brings it"
    return [MachineDifference(text, is_wrong=True)]


def _libraries(
    sealed_with: Mapping[str, str], here: Mapping[str, str], engine: str
) -> list[MachineDifference]:
    return [
        MachineDifference(
            f"sealed with {library} {sealed_with[library]}, here is {here[library]}: "
            "the last digits may differ; the golden set decides",
            is_wrong=False,
        )
        for library in _LIBRARIES_OF_ENGINE.get(engine, ())
        if library in sealed_with and library in here and sealed_with[library] != here[library]
    ]


def _processor(
    sealed_with: Mapping[str, str], here: Mapping[str, str], precision: str
) -> list[MachineDifference]:
    differences = []
    then, now = sealed_with.get("machine"), here["machine"]
    if then not in (None, now):
        differences.append(
            f"sealed on {then}, this is {now}: other kernels, the last digits differ"
        )
    before = set(sealed_with.get("processor", "").split()) - {"unknown"}
    features = set(here["processor"].split())
    lost = " ".join(sorted(before - features))
    gained = " ".join(sorted(features - before - {"unknown"})) if before else ""
    if lost:
        differences.append(f"this processor lacks {lost}: it is slower, and the last digits differ")
    if gained:
        differences.append(f"this processor also has {gained}: the last digits may differ")
    if precision == "bf16" and not features & _BF16_FEATURES:
        differences.append(
            "bf16 has no instructions on this processor: it is emulated or refused; seal in f32 for it"
        )
    if precision == "int8" and not features & _INT8_FEATURES:
        differences.append(
            "int8 has no fast instructions on this processor: f32 may be as fast, and is more accurate"
        )
    return [MachineDifference(text, is_wrong=False) for text in differences]
