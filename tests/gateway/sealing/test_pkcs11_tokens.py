"""Tokens that fail in ways that SoftHSM2 never does: the last try for a PIN, a lost device, an exchanged key."""

import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.errors import KeyFileError
from gateway.sealing.pkcs11_tokens import TokenKey, Tokens, WrapRefusedError
from gateway.sealing.pkcs11_uris import Pkcs11Uri, parse_pkcs11_uri

pkcs11 = pytest.importorskip("pkcs11", reason="needs the pkcs11 extra")

NONCE = bytes(12)


class FakeKey:
    """An AES key in a fake token; `fault` is raised by whatever is done with it."""

    def __init__(self, token: "FakeToken") -> None:
        self.session = SimpleNamespace(token=token)
        self._token = token
        self._generation = token.generation

    def __getitem__(self, attribute: Any) -> object:
        return self._token.attributes[attribute]

    def encrypt(self, data: bytes, *, mechanism: Any, mechanism_param: Any) -> bytes:
        """AES-GCM, as the token does it."""
        self._check()
        aead = AESGCM(self._token.key)
        return aead.encrypt(mechanism_param.nonce, data, mechanism_param.aad)

    def decrypt(self, data: bytes, *, mechanism: Any, mechanism_param: Any) -> bytes:
        """The same back; a general error for whatever does not authenticate."""
        self._check()
        try:
            return AESGCM(self._token.key).decrypt(mechanism_param.nonce, data, mechanism_param.aad)
        except InvalidTag as exc:
            raise pkcs11.GeneralError from exc

    def _check(self) -> None:
        if self._token.fault is not None:
            raise self._token.fault
        if self._generation != self._token.generation:
            raise pkcs11.SessionHandleInvalid


@dataclass
class FakeToken:
    """A token with one key; every login is counted."""

    key: bytes = b"\x01" * 32
    flags: int = 0
    logins: int = 0
    generation: int = 0
    fault: Exception | None = None
    login_fault: Exception | None = None
    mechanisms: frozenset[int] = frozenset({pkcs11.Mechanism.AES_GCM})
    label: str = "t"
    serial: bytes = b"1"
    manufacturer_id: str = ""
    model: str = ""
    attributes: dict[Any, object] = field(
        default_factory=lambda: {
            pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.AES,
            pkcs11.Attribute.VALUE_LEN: 32,
            pkcs11.Attribute.SENSITIVE: True,
            pkcs11.Attribute.EXTRACTABLE: False,
            pkcs11.Attribute.ENCRYPT: True,
            pkcs11.Attribute.DECRYPT: True,
        }
    )

    @property
    def slot(self) -> Any:
        """Where the mechanisms are listed."""
        return SimpleNamespace(get_mechanisms=lambda: self.mechanisms)

    def open(self, *, user_pin: str | None = None) -> Any:
        """A session; with a PIN, a login too."""
        if user_pin is not None:
            self.logins += 1
            if self.login_fault is not None:
                raise self.login_fault
        return SimpleNamespace(get_objects=lambda _wanted: [FakeKey(self)], close=lambda: None)


@dataclass
class FakeLibrary:
    """A module with one token that may be gone until the module is initialised anew."""

    token: FakeToken
    is_lost: bool = False
    on_reinitialize: Callable[[], None] = lambda: None

    def get_tokens(self) -> list[FakeToken]:
        """The token, while it is there."""
        return [] if self.is_lost else [self.token]

    def reinitialize(self) -> None:
        """Find the device again."""
        self.is_lost = False
        self.on_reinitialize()

    def finalize(self) -> None:
        """Nothing to close."""


@pytest.fixture
def token() -> FakeToken:
    """A good token."""
    return FakeToken()


@pytest.fixture
def library(token: FakeToken, monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    """The module that every path loads."""
    library = FakeLibrary(token)
    monkeypatch.setattr(pkcs11, "lib", lambda _path: library)
    return library


@pytest.fixture
def uri(tmp_path: Path, library: FakeLibrary) -> Pkcs11Uri:
    """The key of the token."""
    (tmp_path / "m.so").touch(mode=0o644)
    return parse_pkcs11_uri(f"pkcs11:token=t;object=k?module-path={tmp_path}/m.so&pin-source=env:P")


def opened(uri: Pkcs11Uri, tokens: Tokens | None = None) -> TokenKey:
    """The key, logged in."""
    return (tokens or Tokens()).open_key(uri, read_pin=lambda: "1234")


def fault_of(uri: Pkcs11Uri, tokens: Tokens | None = None) -> str:
    """The message with which it is not opened."""
    with pytest.raises(KeyFileError) as caught:
        opened(uri, tokens)
    return caught.value.message


@pytest.mark.parametrize(
    ("flag", "fault"),
    [
        ("USER_PIN_FINAL_TRY", "one more wrong PIN would lock the token, so none is tried here"),
        ("USER_PIN_LOCKED", "the token's PIN is locked; unlock it with the vendor's tool"),
    ],
)
def test_no_pin_is_tried_where_it_could_lock_the_token(
    uri: Pkcs11Uri, token: FakeToken, flag: str, fault: str
) -> None:
    """A service that is started again and again must not."""
    token.flags = pkcs11.TokenFlag[flag]
    assert fault in fault_of(uri)
    assert token.logins == 0


@pytest.mark.parametrize("name", ["PinIncorrect", "PinLocked", "PinExpired", "PinLenRange"])
def test_a_refused_pin_is_never_tried_again(uri: Pkcs11Uri, token: FakeToken, name: str) -> None:
    """Not for another key of the same token either."""
    token.login_fault = getattr(pkcs11, name)()
    tokens = Tokens()
    for _ in range(3):
        assert f"refuses the PIN of env:P ({name})" in fault_of(uri, tokens)
    assert token.logins == 1


def test_a_pin_that_is_refused_after_a_reset_is_not_tried_again(
    uri: Pkcs11Uri, token: FakeToken
) -> None:
    """Nor by the second way of coming back, nor by the next call."""
    key = opened(uri)
    token.generation += 1
    token.login_fault = pkcs11.PinIncorrect()
    for _ in range(2):
        with pytest.raises(KeyFileError, match="refuses the PIN"):
            key.encrypt(b"x", nonce=NONCE, bound_data=b"")
    assert token.logins == 2


def test_a_token_without_the_mechanism_is_refused(uri: Pkcs11Uri, token: FakeToken) -> None:
    """By its name in the standard."""
    token.mechanisms = frozenset()
    assert "no AES-GCM (CKM_AES_GCM)" in fault_of(uri)


def test_a_token_that_fails_at_once_is_named(uri: Pkcs11Uri, token: FakeToken) -> None:
    """With the standard's name of the failure."""
    token.fault = pkcs11.MechanismParamInvalid()
    assert "the token fails (MechanismParamInvalid)" in fault_of(uri)


def test_a_device_that_was_lost_is_found_again(uri: Pkcs11Uri, library: FakeLibrary) -> None:
    """Some modules look for it only when they are initialised."""
    key = opened(uri)
    sealed = key.encrypt(b"x", nonce=NONCE, bound_data=b"b")
    library.token.generation += 1
    library.is_lost = True
    assert key.decrypt(sealed, nonce=NONCE, bound_data=b"b") == b"x"


def test_a_device_that_stays_lost_is_no_refused_wrap(uri: Pkcs11Uri, token: FakeToken) -> None:
    """A broken token must not look like a changed file."""
    key = opened(uri)
    sealed = key.encrypt(b"x", nonce=NONCE, bound_data=b"")
    token.fault = pkcs11.DeviceError()
    with pytest.raises(KeyFileError, match=r"the token fails \(DeviceError\)"):
        key.decrypt(sealed, nonce=NONCE, bound_data=b"")


def test_a_changed_wrap_is_no_broken_token(uri: Pkcs11Uri, token: FakeToken) -> None:
    """And costs no login."""
    key = opened(uri)
    sealed = key.encrypt(b"x", nonce=NONCE, bound_data=b"")
    with pytest.raises(WrapRefusedError):
        key.decrypt(sealed, nonce=NONCE, bound_data=b"other")
    assert token.logins == 1


def test_a_changed_wrap_after_a_reset_is_still_one(uri: Pkcs11Uri, token: FakeToken) -> None:
    """The reset does not hide it."""
    key = opened(uri)
    sealed = key.encrypt(b"x", nonce=NONCE, bound_data=b"")
    token.generation += 1
    with pytest.raises(WrapRefusedError):
        key.decrypt(sealed, nonce=NONCE, bound_data=b"other")
    assert token.logins == 2


def test_a_key_that_was_exchanged_is_not_used(uri: Pkcs11Uri, token: FakeToken) -> None:
    """What would be wrapped under it carries the id of the other."""
    key = opened(uri)
    token.generation += 1
    token.key = b"\x02" * 32
    with pytest.raises(KeyFileError, match="it came back with another key than before"):
        key.encrypt(b"x", nonce=NONCE, bound_data=b"")


def test_a_missing_library_names_the_extra(uri: Pkcs11Uri, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only whoever names a token needs it."""
    gc.collect()  # Sessions of tests before this one close by the library.
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    assert fault_of(uri).endswith("pip install 'gatewatch[pkcs11]'")


def test_a_module_in_a_folder_that_others_may_write_is_not_loaded(
    uri: Pkcs11Uri, tmp_path: Path
) -> None:
    """They could put one of their own in its place, which would get the PIN."""
    tmp_path.chmod(0o777)
    with pytest.raises(KeyFileError) as caught:
        opened(uri)
    assert f"module {tmp_path}/m.so in {tmp_path}, which can be changed" in caught.value.message
