"""Making keys: once, and whatever a crash left out."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.keys import load_ledger_signer
from gateway.audit.pseudonyms import load_pseudonyms
from gateway.commands.keys import (
    create_all,
    create_development_issuer,
    create_one,
    create_pseudonyms,
    marker_of,
    record_created,
)
from gateway.errors import KeyFileError, OperatorError
from gateway.identity.issue import load_signing_key, thumbprint
from gateway.identity.keysets import load_keyset
from gateway.sealing.keys import load_kek
from gateway.sealing.signers import load_signer, load_trusted_signer
from gateway.settings import GatewaySettings, read_settings


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def create(folder: Path) -> None:
    """What a development home gets."""
    create_all(folder)
    create_development_issuer(folder)


def test_everything_is_made_and_fits_together(tmp_path: Path) -> None:
    """The signer is trusted, the token key is in the set, secrets are their owner's alone."""
    create(tmp_path)
    load_kek(tmp_path / "kek")
    (public,) = (tmp_path / "signers").iterdir()
    assert load_trusted_signer(public).signer_id == load_signer(tmp_path / "signer.key").signer_id
    key_id = thumbprint(load_signing_key(tmp_path / "token.key").public_key())
    assert set(load_keyset((tmp_path / "jwks.json").read_bytes()).keys) == {key_id}
    assert "gateway" == load_ledger_signer(tmp_path / "ledger.key", origin="gateway").name
    for name in ("kek", "signer.key", "ledger.key", "token.key"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_production_gets_no_key_that_signs_tokens(tmp_path: Path) -> None:
    """Nor a key set that would make its tokens believed."""
    create_all(tmp_path)
    assert {"kek", "signer.key", "ledger.key", "signers"} == {
        path.name for path in tmp_path.iterdir()
    }


def test_a_development_key_is_marked(tmp_path: Path) -> None:
    """Also one of an earlier release, which had no mark; nothing else is changed then."""
    create_development_issuer(tmp_path)
    marker = marker_of(tmp_path / "token.key")
    assert tmp_path / "token.development" == marker
    before = contents(tmp_path)
    assert before.keys() == {"token.key", "jwks.json", "token.development"}
    marker.unlink()
    create_development_issuer(tmp_path)
    assert before == contents(tmp_path)


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    """A new KEK would make every sealed model unreadable."""
    create(tmp_path)
    before = contents(tmp_path)
    create(tmp_path)
    assert before == contents(tmp_path)


@pytest.mark.parametrize("name", ["kek", "signers", "jwks.json"])
def test_what_a_crash_left_out_is_made(tmp_path: Path, name: str) -> None:
    """The rest stays, and the public files belong to the keys that were there."""
    create(tmp_path)
    before = contents(tmp_path)
    missing = [path for path in before if path.startswith(name)]
    for path in missing:
        (tmp_path / path).unlink()
    create(tmp_path)
    after = contents(tmp_path)
    assert before.keys() == after.keys()
    changed = {path for path in before if before[path] != after[path]}
    assert changed == ({"kek"} if name == "kek" else set())


def test_a_key_set_of_ones_own_is_kept(tmp_path: Path) -> None:
    """It may be the identity provider's, or hold the next key as well."""
    (tmp_path / "jwks.json").write_bytes(b"from the identity provider")
    create(tmp_path)
    assert (tmp_path / "jwks.json").read_bytes() == b"from the identity provider"


def test_a_withdrawn_signer_is_not_trusted_again(tmp_path: Path) -> None:
    """Where others are trusted, a missing one is no crash's work."""
    create_all(tmp_path / "other")
    create_all(tmp_path / "own")
    (own,) = (tmp_path / "own" / "signers").iterdir()
    (other,) = (tmp_path / "other" / "signers").iterdir()
    own.unlink()
    other.rename(tmp_path / "own" / "signers" / other.name)
    create_all(tmp_path / "own")
    assert [file.name for file in (tmp_path / "own" / "signers").iterdir()] == [other.name]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """With the reason, not with a traceback."""
    (tmp_path / "file").touch()
    with pytest.raises(KeyFileError, match=r"cannot write .*/file/signers: Not a directory"):
        create_all(tmp_path / "file")
    with pytest.raises(KeyFileError, match=r"cannot write .*/file: File exists"):
        create_development_issuer(tmp_path / "file")


def test_the_signers_folder_is_closed_to_the_group_under_any_umask(tmp_path: Path) -> None:
    """Else the gateway would refuse what this command made."""
    before = os.umask(0o002)
    try:
        create_all(tmp_path / "keys")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "keys" / "signers").stat().st_mode) == 0o755


def test_one_kek_alone_can_be_made(tmp_path: Path) -> None:
    """Where its spec says, never over another, and nothing beside it."""
    kek_id = create_one(f"file:{tmp_path / 'next'}")
    assert load_kek(tmp_path / "next").kek_id == kek_id
    with pytest.raises(KeyFileError, match="never overwritten"):
        create_one(f"file:{tmp_path / 'next'}")
    assert [path.name for path in tmp_path.iterdir()] == ["next"]


def test_what_was_made_is_told_by_its_ids(tmp_path: Path) -> None:
    """Once: a second run makes nothing."""
    made = create_all(tmp_path)
    signer = load_signer(tmp_path / "signer.key").signer_id
    assert {
        "kek": load_kek(tmp_path / "kek").kek_id,
        "signer": signer,
        "ledger_key": str(tmp_path / "ledger.key"),
        "trusted_signer": signer,
    } == made
    assert {} == create_all(tmp_path)


def test_made_keys_are_on_record(
    settings: GatewaySettings, ledger: Callable[[], list[dict[str, Any]]]
) -> None:
    """By what they are and their ids, never by themselves."""
    record_created(settings, {"kek": "0123456789abcdef"})
    last = ledger()[-1]
    assert ("keys.create", "answered") == (last["action"], last["outcome"])
    assert "kek=0123456789abcdef" == last["detail"]


def test_nothing_made_is_nothing_recorded(
    settings: GatewaySettings, ledger: Callable[[], list[dict[str, Any]]]
) -> None:
    """The command was run again."""
    before = len(ledger())
    record_created(settings, {})
    assert before == len(ledger())


def test_keys_that_are_older_than_any_ledger_are_said_so(tmp_path: Path) -> None:
    """The first ones of a host."""
    settings = read_settings({}, database_url=f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(OperatorError, match="no database"):
        record_created(settings, {"kek": "0123456789abcdef"})


def test_a_key_for_pseudonyms_is_made_alone(tmp_path: Path) -> None:
    """Only when asked, and never over another, which would cut the records of one principal in two."""
    file = create_pseudonyms(tmp_path / "keys")
    assert load_pseudonyms(file, fields="subject").of("subject", "x")
    assert [file] == [*(tmp_path / "keys").iterdir()]
    with pytest.raises(KeyFileError, match="never overwritten"):
        create_pseudonyms(tmp_path / "keys")
