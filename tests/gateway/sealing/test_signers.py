"""Signers and trusted keys: their files and what a signature proves."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gateway.errors import KeyFileError
from gateway.sealing.signers import (
    Signer,
    create_signer,
    load_signer,
    load_trusted_signer,
    write_trusted_signer,
)


def test_a_created_signer_loads_again(tmp_path: Path) -> None:
    """The private file holds the signer that was returned, for its owner alone."""
    created = create_signer(tmp_path / "signer.pem")
    assert created.signer_id == load_signer(tmp_path / "signer.pem").signer_id
    assert (tmp_path / "signer.pem").stat().st_mode & 0o7777 == 0o600


def test_a_written_public_key_is_trusted_again(tmp_path: Path, signer: Signer) -> None:
    """The public file holds the public half, readable by all."""
    write_trusted_signer(signer.trusted, tmp_path / "signer.pub")
    loaded = load_trusted_signer(tmp_path / "signer.pub")
    assert signer.signer_id == loaded.signer_id
    assert loaded.has_signed(b"m", unverified_signature=signer.sign(b"m"))
    assert (tmp_path / "signer.pub").stat().st_mode & 0o7777 == 0o644


def test_the_id_is_the_hash_of_the_public_key(signer: Signer) -> None:
    """The id of the seed 20 21 … 3f is known."""
    assert signer.signer_id == "24f6ed6acbfe1009c030d7ca567c33ca4830911498236b5561a6c82abec5de28"


def test_a_signature_is_for_one_message_and_one_signer(
    signer: Signer, other_signer: Signer
) -> None:
    """It proves nothing about another message or signer, and a short one is no signature."""
    signature = signer.sign(b"message")
    answers = [
        signer.trusted.has_signed(b"message", unverified_signature=signature),
        signer.trusted.has_signed(b"Message", unverified_signature=signature),
        other_signer.trusted.has_signed(b"message", unverified_signature=signature),
        signer.trusted.has_signed(b"message", unverified_signature=signature[:63]),
    ]
    assert answers == [True, False, False, False]


def test_creating_never_overwrites(tmp_path: Path, signer: Signer) -> None:
    """Neither half of an existing signer is replaced."""
    create_signer(tmp_path / "s")
    write_trusted_signer(signer.trusted, tmp_path / "t")
    before = [(tmp_path / name).read_bytes() for name in "st"]
    with pytest.raises(KeyFileError, match="exists and is never overwritten"):
        create_signer(tmp_path / "s")
    with pytest.raises(KeyFileError, match="exists and is never overwritten"):
        write_trusted_signer(signer.trusted, tmp_path / "t")
    assert before == [(tmp_path / name).read_bytes() for name in "st"]


def test_a_readable_private_key_is_refused(tmp_path: Path) -> None:
    """A signer that others can read signs nothing."""
    create_signer(tmp_path / "s")
    (tmp_path / "s").chmod(0o640)
    with pytest.raises(KeyFileError, match="its mode is 0640"):
        load_signer(tmp_path / "s")


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_changeable_public_key_is_refused(tmp_path: Path, signer: Signer, mode: int) -> None:
    """Whoever can change the file decides who is trusted."""
    write_trusted_signer(signer.trusted, tmp_path / "t")
    (tmp_path / "t").chmod(mode)
    with pytest.raises(KeyFileError, match="others may change it"):
        load_trusted_signer(tmp_path / "t")


def test_somebody_elses_public_key_is_refused(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trusted key belongs to this process's user or to root."""
    write_trusted_signer(signer.trusted, tmp_path / "t")
    monkeypatch.setattr("gateway.sealing.signers._ROOT", -1)
    monkeypatch.setattr(os, "geteuid", lambda: (tmp_path / "t").stat().st_uid + 1)
    with pytest.raises(KeyFileError, match="belongs to user"):
        load_trusted_signer(tmp_path / "t")


def test_roots_public_key_is_trusted(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trusted keys may be installed by root for a process that cannot change them."""
    write_trusted_signer(signer.trusted, tmp_path / "t")
    owner = (tmp_path / "t").stat().st_uid
    monkeypatch.setattr("gateway.sealing.signers._ROOT", owner)
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert signer.signer_id == load_trusted_signer(tmp_path / "t").signer_id


def test_other_private_keys_are_refused(tmp_path: Path, signer: Signer) -> None:
    """Another kind, a password, a public key and no key at all are refused."""
    curve = generate_private_key(SECP256R1())
    edwards = Ed25519PrivateKey.from_private_bytes(bytes(32))
    contents = [
        curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        edwards.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
        edwards.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        b"\xff\0",
    ]
    for number, content in enumerate(contents):
        path = tmp_path / str(number)
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(KeyFileError, match=r"holds (no unencrypted|a private key of another)"):
            load_signer(path)


def test_other_public_keys_are_refused(tmp_path: Path) -> None:
    """Another kind, a private key and no key at all are refused."""
    curve = generate_private_key(SECP256R1())
    contents = [
        curve.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        b"",
    ]
    for number, content in enumerate(contents):
        path = tmp_path / str(number)
        path.write_bytes(content)
        path.chmod(0o644)
        with pytest.raises(KeyFileError, match=r"holds (no Ed25519|a public key of another)"):
            load_trusted_signer(path)


def test_a_public_key_file_that_cannot_be_used_is_named(tmp_path: Path, signer: Signer) -> None:
    """Missing, no file, too long, or in a missing folder: the cause is in the message."""
    (tmp_path / "long").write_bytes(b"x" * 4097)
    (tmp_path / "long").chmod(0o644)
    for name, cause in (("no", "No such file"), (".", "not a regular file"), ("long", "too long")):
        with pytest.raises(KeyFileError, match=cause):
            load_trusted_signer(tmp_path / name)
    with pytest.raises(KeyFileError, match="cannot be created: No such file"):
        write_trusted_signer(signer.trusted, tmp_path / "no" / "t")
