"""Which models the settings let a gateway serve."""

import pytest

from gateway.errors import SettingsError
from gateway.models.names import is_model_name, is_model_version, served_names
from gateway.settings import read_settings


@pytest.mark.parametrize(
    ("text", "served"),
    [
        ("", ["conveyor"]),
        ("belt", ["belt", "conveyor"]),
        (" belt , gate,", ["belt", "conveyor", "gate"]),
        ("*", ["belt", "conveyor", "gate"]),
        ("belt,*", ["belt", "conveyor", "gate"]),
    ],
)
def test_the_default_is_served_and_what_is_named_besides(text: str, served: list[str]) -> None:
    """A star is every name there is."""
    names = served_names(read_settings({"GATEWAY_MODEL_NAMES": text}))
    assert [name for name in ("belt", "conveyor", "gate") if names.includes(name)] == served


@pytest.mark.parametrize("text", ["Belt", "be lt", "-", "../x", "a" * 64, "**"])
def test_what_cannot_be_a_name_is_refused(text: str) -> None:
    """By the setting's name."""
    with pytest.raises(SettingsError, match="GATEWAY_MODEL_NAMES: "):
        served_names(read_settings({"GATEWAY_MODEL_NAMES": text}))


def test_names_and_versions_are_those_of_sealed_models() -> None:
    """Nothing that could leave a folder or end a line."""
    assert is_model_name("belt.2_x-y")
    assert not any(map(is_model_name, ["", "..", "a/b", "a\n", "A", "a@1"]))
    assert is_model_version("2026.11+B-1")
    assert not any(map(is_model_version, ["", "..", "1/2", "1\n", "1@", "é"]))
