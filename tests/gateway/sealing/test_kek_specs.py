"""How KEKs are named: the three kinds, lists of them, and what is refused."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import KeyFileError
from gateway.sealing.kek_specs import (
    EnvironmentSpec,
    FileSpec,
    KekOpener,
    open_keks,
    parse_spec,
    split_specs,
)
from gateway.sealing.keys import Kek, create_kek

LINE = "gatewatch-kek-v1:" + bytes(range(32)).hex()
URI = "pkcs11:token=a,b;object=k?module-path=/m.so&pin-source=file:/p"


def fault_of(*specs: str) -> str:
    """The message that refuses these specs."""
    with pytest.raises(KeyFileError) as caught:
        open_keks(specs)
    return caught.value.message


def test_each_kind_is_read() -> None:
    """And is written again as it was."""
    assert parse_spec("file:var/keys/kek") == FileSpec(Path("var/keys/kek"))
    assert parse_spec("env:KEK") == EnvironmentSpec("KEK")
    for text in ("file:/a b,c", "env:KEK", URI.replace("a,b", "a%2Cb")):
        assert text == str(parse_spec(text))


def test_a_comma_separates_only_before_another_spec() -> None:
    """Paths and URIs may hold commas; spaces after one are layout."""
    assert split_specs(f"file:/a,b/kek, env:KEK,{URI},file:c") == [
        "file:/a,b/kek",
        "env:KEK",
        URI,
        "file:c",
    ]


@given(st.text(max_size=60))
def test_nothing_but_its_own_error_escapes(text: str) -> None:
    """Whatever stands in the setting; and what is taken reads the same again."""
    for part in (*split_specs(text), f"file:{text}", f"env:{text}", f"pkcs11:{text}"):
        try:
            spec = parse_spec(part)
        except KeyFileError:
            continue
        assert spec == parse_spec(str(spec))


@pytest.mark.parametrize(
    "text", ["", "kek", "var/keys/kek", "file:", "FILE:kek", "tpm:0", " file:kek"]
)
def test_what_is_no_spec_is_refused(text: str) -> None:
    """With the three ways that there are."""
    assert "file:PATH, env:NAME or a pkcs11: URI" in fault_of(text)


@pytest.mark.parametrize("text", ["file:a\nb", "file:a\x1b[2J", "file:" + "a" * 4092])
def test_a_spec_is_short_and_printable(text: str) -> None:
    """It is shown in lists and messages."""
    assert "too long or holds characters" in fault_of(text)


def test_the_longest_spec_is_taken() -> None:
    """One character less than what is refused."""
    assert parse_spec("file:" + "a" * 4091) == FileSpec(Path("a" * 4091))


def test_keks_open_in_their_order(tmp_path: Path) -> None:
    """The first wraps what is new, so the order counts."""
    created = create_kek(tmp_path / "kek")
    keks = open_keks(
        ["env:KEK", f"file:{tmp_path / 'kek'}"], opener=KekOpener(take_variable={"KEK": LINE}.pop)
    )
    assert [kek.kek_id for kek in keks] == ["aece7635555912de", created.kek_id]


def test_a_variable_that_holds_no_kek_is_not_repeated() -> None:
    """Only its name is in the message; a line feed is not part of the value."""
    for value in ("s3cret", LINE + "\n", LINE.upper(), "\udcff"):
        with pytest.raises(KeyFileError) as caught:
            open_keks(["env:KEK"], opener=KekOpener(take_variable={"KEK": value}.pop))
        assert caught.value.message.startswith("the variable KEK holds no KEK: restore it")
        assert value not in caught.value.message


def test_no_kek_at_all_is_refused() -> None:
    """Rather than a gateway that opens nothing."""
    assert "no KEK is named" in fault_of()


def test_the_same_key_twice_is_refused(tmp_path: Path) -> None:
    """Under two names too; a file cannot be wrapped twice for one key."""
    create_kek(tmp_path / "a")
    create_kek(tmp_path / "c")
    (tmp_path / "b").touch(mode=0o600)
    (tmp_path / "b").write_bytes((tmp_path / "a").read_bytes())
    a, b, c = (f"file:{tmp_path / name}" for name in "abc")
    assert fault_of(a, c, b) == f"the same KEK is named more than once: {a}, {b}; name it once"


def test_nothing_is_opened_before_all_specs_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable is not spent on a list with a mistake."""
    monkeypatch.setenv("TEST_KEK", LINE)
    assert "file:PATH" in fault_of("env:TEST_KEK", "nonsense")
    assert os.environ["TEST_KEK"] == LINE


def test_the_variable_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no child inherits it."""
    monkeypatch.setenv("TEST_KEK", LINE)
    open_keks(["env:TEST_KEK"])
    assert "TEST_KEK" not in os.environ


def test_a_new_kek_is_made_in_a_file(tmp_path: Path) -> None:
    """Where the spec says, and never over another."""
    spec = FileSpec(tmp_path / "kek")
    made = KekOpener().create(spec, random=lambda n: bytes(range(n)))
    assert made.kek_id == Kek(key=bytes(range(32))).kek_id
    with pytest.raises(KeyFileError, match="never overwritten"):
        KekOpener().create(spec, random=os.urandom)


def test_no_kek_is_made_in_a_variable() -> None:
    """A command cannot set one of its caller; the message says how instead."""
    with pytest.raises(KeyFileError, match=r"env:KEK: .* --kek file:PATH"):
        KekOpener().create(EnvironmentSpec("KEK"), random=os.urandom)
