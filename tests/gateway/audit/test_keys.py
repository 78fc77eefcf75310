"""The key of a ledger: made once, private, and an Ed25519 key or none."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.audit.keys import create_ledger_key, load_cosigner, load_ledger_signer
from gateway.errors import KeyFileError, SettingsError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A key file."""
    file = tmp_path / "ledger.key"
    create_ledger_key(file, random=lambda size: b"\x07" * size)
    return file


def test_a_key_signs_in_the_name_of_its_origin(path: Path) -> None:
    """The same key, another name: another verifier."""
    signer, other = (load_ledger_signer(path, origin=name) for name in ("gateway", "other"))
    assert signer.verifier.line().startswith("gateway+")
    assert other.verifier.line().startswith("other+")
    assert signer.verifier.line().partition("+")[2] != other.verifier.line().partition("+")[2]


def test_a_key_cosigns_as_a_witness(path: Path) -> None:
    """For the monitor."""
    cosigner = load_cosigner(path, name="monitor")
    assert cosigner.verifier.name == "monitor"


def test_a_key_is_its_owners_alone_and_never_written_over(path: Path) -> None:
    """Whoever has it writes another history."""
    before = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(KeyFileError, match="it exists and is never overwritten"):
        create_ledger_key(path)
    assert before == path.read_bytes()


def test_keys_are_random(tmp_path: Path) -> None:
    """Without anything passed in."""
    for name in ("a", "b"):
        create_ledger_key(tmp_path / name)
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


def test_a_missing_key_is_told(tmp_path: Path) -> None:
    """By its path, with what makes one."""
    with pytest.raises(
        KeyFileError, match=r"no key .*absent.key: restore it .*`gateway keys create "
    ):
        load_ledger_signer(tmp_path / "absent.key", origin="gateway")


def test_a_key_that_others_can_read_is_refused(path: Path) -> None:
    """They could sign."""
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod it to 0600"):
        load_ledger_signer(path, origin="gateway")


def _other_key() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize("content", [b"text", _other_key()], ids=["text", "another kind"])
def test_what_is_no_such_key_is_refused(path: Path, content: bytes) -> None:
    """With what mends it, and without its content."""
    path.write_bytes(content)
    with pytest.raises(KeyFileError, match="holds no Ed25519 private key") as caught:
        load_ledger_signer(path, origin="gateway")
    assert "`gateway keys create`" in caught.value.message
    assert "text" not in caught.value.message


def test_an_origin_that_is_no_name_is_refused(path: Path) -> None:
    """It stands in every signature."""
    with pytest.raises(SettingsError):
        load_ledger_signer(path, origin="two words")
