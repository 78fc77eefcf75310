"""Secrets in environment variables: read once, and gone afterwards."""

import os
import subprocess
import sys

import pytest

from gateway.errors import KeyFileError
from gateway.sealing.kek_environment import check_variable_name, take_variable

SECRET = "gatewatch-kek-v1:" + "5a" * 32


def test_a_variable_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second look finds nothing, and says why that may be."""
    monkeypatch.setenv("TEST_KEK", SECRET)
    assert take_variable("TEST_KEK") == SECRET
    assert "TEST_KEK" not in os.environ
    with pytest.raises(KeyFileError, match=r"env:TEST_KEK: .* not set .* read only once"):
        take_variable("TEST_KEK")


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compose file sets what it lacks to nothing."""
    monkeypatch.setenv("TEST_KEK", "")
    with pytest.raises(KeyFileError, match="not set"):
        take_variable("TEST_KEK")


def test_neither_children_nor_proc_see_it() -> None:
    """In a process that was started with it, as a service is."""
    code = (
        "import pathlib, subprocess\n"
        "from gateway.sealing.kek_environment import take_variable\n"
        "assert take_variable('TEST_KEK').startswith('gatewatch-kek-v1:')\n"
        "child = subprocess.run(['env'], capture_output=True, check=True).stdout\n"
        "print(b'5a5a' in child, b'5a5a' in pathlib.Path('/proc/self/environ').read_bytes())\n"
    )
    environment = {**os.environ, "TEST_KEK": SECRET}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("name", ["GATEWAY_KEK", "MONITOR_KEK"])
def test_names_of_settings_are_refused(name: str) -> None:
    """The strict settings would end every start for a name that they do not know."""
    with pytest.raises(KeyFileError, match=rf"env:{name}: .* give the variable another name"):
        check_variable_name(name)


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "A=B", "É", "A" * 129])
def test_what_is_no_name_is_refused(name: str) -> None:
    """As the operating system's shells would."""
    with pytest.raises(KeyFileError, match="needs the name of a variable"):
        check_variable_name(name)


@pytest.mark.parametrize("name", ["KEK", "_k1", "gateway_kek", "A" * 128])
def test_other_names_are_taken(name: str) -> None:
    """Settings are upper case."""
    check_variable_name(name)
