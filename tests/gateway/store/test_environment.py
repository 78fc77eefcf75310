"""Reading configuration strictly, with a small settings class of its own."""

from pathlib import Path
from typing import Annotated, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from gateway.store.environment import EnvironmentInvalidError, StrictSettings, read_environment


class Settings(StrictSettings):
    """Two settings with limits and one without."""

    prefix: ClassVar[str] = "BELT_"

    speed: Annotated[int, Field(ge=1, le=9)] = 5
    rate: Annotated[float, Field(ge=0, le=1)] = 0.5
    folder: Path = Path("var")


def mistakes(environment: dict[str, str]) -> list[str]:
    """The lines that refuse this environment."""
    with pytest.raises(EnvironmentInvalidError) as caught:
        Settings.read(environment)
    return str(caught.value).splitlines()


def test_variables_become_typed_values() -> None:
    """Other programs' variables are passed over."""
    settings = Settings.read({"BELT_SPEED": "7", "BELT_FOLDER": "/srv", "HOME": "/", "SPEED": "x"})
    assert (settings.speed, settings.rate, settings.folder) == (7, 0.5, Path("/srv"))


def test_nothing_set_gives_the_defaults() -> None:
    """Every setting has one."""
    assert Settings.read({}) == Settings(speed=5, rate=0.5, folder=Path("var"))


def test_overrides_win() -> None:
    """The command line is nearer than the environment."""
    assert Settings.read({"BELT_SPEED": "7"}, speed=2).speed == 2


def test_all_mistakes_are_told_at_once() -> None:
    """Unknown names with the nearest known ones, and every bad value with what was given."""
    assert mistakes(
        {"BELT_SPED": "1", "BELT_SPEED": "10", "BELT_RATE": "much", "BELT_ZZZ": ""}
    ) == [
        "BELT_SPED: no such setting; did you mean BELT_SPEED?",
        "BELT_ZZZ: no such setting; see the README's configuration table",
        "BELT_SPEED: Input should be less than or equal to 9 (got '10')",
        "BELT_RATE: Input should be a valid number, unable to parse string as a number (got 'much')",
    ]


def test_an_unknown_name_alone_is_refused() -> None:
    """A misspelt name never passes as a default."""
    assert mistakes({"BELT_SPED": "1"}) == ["BELT_SPED: no such setting; did you mean BELT_SPEED?"]


def test_names_are_upper_case() -> None:
    """Variables that another case would hide are not found by chance."""
    assert mistakes({"BELT_speed": "1"}) == [
        "BELT_speed: no such setting; did you mean BELT_SPEED?"
    ]


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "", "0x1", "1e9"])
def test_no_number_slips_past_its_limits(text: str) -> None:
    """NaN is in no range."""
    assert len(mistakes({"BELT_RATE": text})) == 1


def test_settings_are_frozen() -> None:
    """Nothing changes them after the start."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings().speed = 3


def test_an_unknown_override_is_refused() -> None:
    """A programmer's slip is not passed over either."""
    with pytest.raises(EnvironmentInvalidError, match="BELT_SPED: Extra inputs"):
        Settings.read({}, sped=1)


def test_a_file_lies_under_the_variables(tmp_path: Path) -> None:
    """A real variable wins over the .env file; nothing in the file is expanded."""
    file = tmp_path / ".env"
    file.write_text(
        "# words\n\nBELT_SPEED=7\nexport BELT_RATE='0.25' # why\nBELT_FOLDER=${HOME}/x\n", "utf-8"
    )
    environment = read_environment({"BELT_SPEED": "8", "HOME": "/"}, dotenv_file=file)
    assert environment == {
        "BELT_SPEED": "8", "BELT_RATE": "0.25", "BELT_FOLDER": "${HOME}/x", "HOME": "/",
    }  # fmt: skip


def test_no_file_is_fine(tmp_path: Path) -> None:
    """The file is optional."""
    assert read_environment({"A": "1"}, dotenv_file=tmp_path / ".env") == {"A": "1"}


def test_a_name_without_a_value_is_empty(tmp_path: Path) -> None:
    """And so refused wherever an empty value is."""
    file = tmp_path / ".env"
    file.write_text("BELT_SPEED\n", "utf-8")
    assert read_environment({}, dotenv_file=file) == {"BELT_SPEED": ""}


def test_lines_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    """A line left out would silently leave the default; a name given twice leaves which one counts to chance."""
    file = tmp_path / ".env"
    file.write_text("BELT_SPEED 7\nBELT_RATE='0.5\nBELT_FOLDER=a\nBELT_FOLDER=b\n", "utf-8")
    with pytest.raises(EnvironmentInvalidError) as caught:
        read_environment({}, dotenv_file=file)
    assert str(caught.value).splitlines() == [
        f"{file} line 1: write NAME=value",
        f"{file} line 2: write NAME=value",
        f"{file} line 4: BELT_FOLDER is given twice",
    ]


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    """With its name, not with a traceback."""
    file = tmp_path / ".env"
    file.write_bytes(b"BELT_SPEED=\xff\n")
    with pytest.raises(EnvironmentInvalidError) as caught:
        read_environment({}, dotenv_file=file)
    assert str(caught.value) == f"{file}: it is not UTF-8"


@given(
    st.dictionaries(
        st.sampled_from(["BELT_SPEED", "BELT_RATE", "BELT_FOLDER"])
        | st.text().map("BELT_{}".format),
        st.text(),
    )
)
def test_any_environment_gives_settings_inside_the_limits_or_mistakes(
    environment: dict[str, str],
) -> None:
    """Nothing else is ever raised."""
    try:
        settings = Settings.read(environment)
    except EnvironmentInvalidError:
        return
    assert 1 <= settings.speed <= 9
    assert 0 <= settings.rate <= 1
