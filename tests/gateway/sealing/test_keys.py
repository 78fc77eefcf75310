"""Key-encryption keys: their files, their ids, and wraps that open nowhere else."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, KeyFileError, SealError
from gateway.sealing.keys import Kek, KeyProvider, create_kek, load_kek

DEK = bytes(range(100, 132))
LINE = b"gatewatch-kek-v1:" + bytes(range(32)).hex().encode() + b"\n"


def write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    """A file with this content and mode."""
    path.write_bytes(content)
    path.chmod(mode)
    return path


def message_of(path: Path) -> str:
    """Why this file is refused."""
    with pytest.raises(KeyFileError) as caught:
        load_kek(path)
    assert Code.KEY_INVALID is caught.value.code
    return caught.value.message


def test_a_created_kek_loads_again(tmp_path: Path) -> None:
    """The file holds the key that was returned."""
    created = create_kek(tmp_path / "kek")
    loaded = load_kek(tmp_path / "kek")
    assert created.kek_id == loaded.kek_id
    wrapped = created.wrap(DEK, purpose=b"p", context=b"c", random=os.urandom)
    assert loaded.unwrap(wrapped, purpose=b"p", context=b"c") == DEK


def test_the_file_describes_itself_and_is_private(tmp_path: Path) -> None:
    """One line with a prefix, readable by its owner alone, whatever the umask."""
    create_kek(tmp_path / "kek", random=lambda n: bytes(range(n)))
    assert (tmp_path / "kek").read_bytes() == LINE
    assert (tmp_path / "kek").stat().st_mode & 0o7777 == 0o600


def test_two_created_keks_differ(tmp_path: Path) -> None:
    """Keys come from the operating system's randomness by default."""
    assert create_kek(tmp_path / "a").kek_id != create_kek(tmp_path / "b").kek_id


def test_creating_never_overwrites(tmp_path: Path) -> None:
    """An existing key survives, and the message says what to do."""
    create_kek(tmp_path / "kek", random=lambda n: bytes(range(n)))
    with pytest.raises(KeyFileError, match="it exists and is never overwritten"):
        create_kek(tmp_path / "kek")
    assert (tmp_path / "kek").read_bytes() == LINE
    assert [path.name for path in tmp_path.iterdir()] == ["kek"]


def test_creating_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """The cause is named."""
    with pytest.raises(KeyFileError, match="cannot be created: No such file"):
        create_kek(tmp_path / "no" / "kek")


def test_the_id_is_derived_from_the_key() -> None:
    """Equal keys have equal ids; the id of 00 01 … 1f is known."""
    assert Kek(key=bytes(range(32))).kek_id == "aece7635555912de"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o644])
def test_a_widely_readable_file_is_refused(tmp_path: Path, mode: int) -> None:
    """The message names the mode and the command that mends it."""
    message = message_of(write(tmp_path / "kek", LINE, mode))
    assert f"its mode is {mode:04o}" in message


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_file_loads(tmp_path: Path, mode: int) -> None:
    """0600 and stricter are fine."""
    assert Kek(key=bytes(range(32))).kek_id == load_kek(write(tmp_path / "k", LINE, mode)).kek_id


def test_somebody_elses_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another user can rewrite at will is no secret of ours."""
    path = write(tmp_path / "kek", LINE)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    assert "it belongs to user" in message_of(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """No key is made implicitly."""
    assert "it does not exist" in message_of(tmp_path / "kek")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        LINE[:-1],
        LINE + b"\n",
        LINE.upper(),
        LINE.replace(b"v1", b"v2"),
        b" " + LINE,
        LINE[17:],
        LINE.replace(b"00", b"0 ", 1),
        LINE.replace(b"1f", b"1F"),
        LINE[:-3] + b"\n",
        bytes(range(32)),
    ],
)
def test_every_other_content_is_refused(tmp_path: Path, content: bytes) -> None:
    """A key file has one spelling, and its content never appears in the message."""
    message = message_of(write(tmp_path / "kek", content))
    assert message.endswith(
        "/kek holds no KEK: restore it from a backup, for a new one opens nothing that this one sealed"
    )


@given(content=st.binary(min_size=1, max_size=120))
def test_arbitrary_contents_are_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """Only KeyFileError escapes."""
    assert "holds no KEK" in message_of(write(tmp_path_factory.getbasetemp() / "kek", content))


def test_a_wrap_is_bound_to_key_purpose_and_context(kek: Kek, other_kek: Kek) -> None:
    """It opens with all three and with nothing else."""
    wrapped = kek.wrap(DEK, purpose=b"p", context=b"c", random=bytes)
    assert kek.unwrap(wrapped, purpose=b"p", context=b"c") == DEK
    for key, purpose, context in ((other_kek, b"p", b"c"), (kek, b"q", b"c"), (kek, b"p", b"d")):
        with pytest.raises(SealError) as caught:
            key.unwrap(wrapped, purpose=purpose, context=context)
        assert caught.value.reason == "unwrap"


@given(st.binary(max_size=80))
def test_arbitrary_wraps_are_refused(unverified: bytes) -> None:
    """Only SealError escapes."""
    with pytest.raises(SealError):
        Kek(key=bytes(32)).unwrap(unverified, purpose=b"p", context=b"c")


def test_a_wrong_length_is_our_own_mistake(kek: Kek) -> None:
    """Neither a KEK nor a data key of another length is taken."""
    with pytest.raises(RuntimeError, match="internal: a KEK"):
        Kek(key=bytes(16))
    with pytest.raises(RuntimeError, match="internal: a data key"):
        kek.wrap(bytes(16), purpose=b"", context=b"", random=bytes)


def test_the_key_is_never_shown(kek: Kek) -> None:
    """A KEK in a log line shows no key, and it is one of the providers."""
    provider: KeyProvider = kek
    assert bytes(range(32)).hex() not in repr(provider)
    assert "00" * 4 not in repr(vars(kek))
