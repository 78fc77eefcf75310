"""Keys inside PKCS #11 tokens: finding one, logging in, and encrypting with it; the home of python-pkcs11.

Rules:
- A key that a token lets out, or shows, is refused: it would only look like a key in hardware.
- A PIN that a token refused is not tried again by this process, and none is tried where one more wrong PIN would
  lock the token: a service that is restarted for ever must not.
- The library is told of no threads, and a login belongs to the whole process: one call at a time.
- A token that was reset, or a session that was closed, is opened again once; the key must then be the same.
- python-pkcs11 is imported inside functions only, so that a gateway without the `pkcs11` extra never misses it.
"""

import atexit
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from gateway.errors import Code, KeyFileError
from gateway.sealing.pkcs11_uris import Pkcs11Uri
from gateway.sealing.public_files import why_changeable, why_path_changeable

AES_256_KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16

# Whoever reads the PIN decides when: for a file, at each login.
ReadPin = Callable[[], str]

# The two together are encrypted at every opening: they show that the key answers, and that it is the same key.
_PROBE_NONCE = b"gatewatch id"
_PROBE_TEXT = b"gatewatch kek v1"

_ONE_CALL_AT_A_TIME: Final = threading.RLock()


class WrapRefusedError(Exception):
    """The token answers, but does not take these bytes as something that this key encrypted."""


class Tokens:
    """What this process knows of its tokens: which of them refused a PIN."""

    def __init__(self) -> None:
        self._refused: dict[bytes, KeyFileError] = {}

    def open_key(self, uri: Pkcs11Uri, *, read_pin: ReadPin) -> "TokenKey":
        """The key that a URI names, logged in and checked.

        Raises KeyFileError if the module, the token or the key is missing or another, the PIN is refused, or the key
        is not one of AES-256 that stays in the token.
        """
        return TokenKey(uri, tokens=self, read_pin=read_pin)

    def create_key(self, uri: Pkcs11Uri, *, read_pin: ReadPin) -> None:
        """Make a key of AES-256 in the token that never leaves it. Raises KeyFileError if there is one already."""
        library = _library(uri)
        with _ONE_CALL_AT_A_TIME:
            try:
                token = _find_token(library, uri)
                self.log_in(token, uri, read_pin=read_pin)
                with token.open(rw=True) as session:
                    _create(session, uri)
            except _pkcs11().PKCS11Error as exc:
                raise _invalid(uri, f"no key can be made in it ({type(exc).__name__})") from exc

    def log_in(self, token: Any, uri: Pkcs11Uri, *, read_pin: ReadPin) -> None:
        """Log this process in. Raises KeyFileError where the PIN is refused, was refused, or may not be tried."""
        pkcs11 = _pkcs11()
        if (refused := self._refused.get(token.serial)) is not None:
            raise refused
        _refuse_last_try(token, uri)
        try:
            # The session stays open to the end of the process: to close it would log out every key of this token.
            token.open(user_pin=read_pin())
        except pkcs11.UserAlreadyLoggedIn:
            # The login is the process's, so another key of this token brought it along.
            return
        except (
            pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange, pkcs11.PinLocked, pkcs11.PinExpired,
            pkcs11.UserPinNotInitialized,
        ) as exc:  # fmt: skip
            refused = _invalid(
                uri,
                f"the token refuses the PIN of {uri.pin_source} ({type(exc).__name__}), and this process does not "
                "try it again: correct the PIN, then start anew",
            )
            self._refused[token.serial] = refused
            raise refused from exc


class TokenKey:
    """One key of AES-256 inside a token; safe to use from several threads."""

    def __init__(self, uri: Pkcs11Uri, *, tokens: Tokens, read_pin: ReadPin) -> None:
        """Open it at once. Raises KeyFileError as Tokens.open_key does."""
        self._uri = uri
        self._tokens = tokens
        self._read_pin = read_pin
        self._library = _library(uri)
        self._close: Callable[[], object] = lambda: None
        with _ONE_CALL_AT_A_TIME:
            try:
                self._key = self._connect()
                self._first_probe: Final = self._probe()
            except _pkcs11().PKCS11Error as exc:
                raise self._failed(exc) from exc

    @property
    def probe(self) -> bytes:
        """A fixed text encrypted under a fixed nonce: the same for the same key, and of no use to anybody else."""
        return self._first_probe

    def encrypt(self, plaintext: bytes, *, nonce: bytes, bound_data: bytes) -> bytes:
        """Ciphertext and tag of AES-256-GCM. nonce: 12 bytes, never twice. Raises KeyFileError if the token fails."""
        if len(nonce) != NONCE_BYTES or nonce == _PROBE_NONCE:
            raise RuntimeError("internal: a nonce has 12 bytes and is not the probe's")
        try:
            return self._call("encrypt", plaintext, nonce, bound_data)
        except WrapRefusedError as exc:
            raise self._failed(exc.__cause__ or exc) from exc

    def decrypt(self, unverified: bytes, *, nonce: bytes, bound_data: bytes) -> bytes:
        """The plaintext of ciphertext and tag.

        Raises WrapRefusedError if they do not authenticate, KeyFileError if the token fails.
        """
        return self._call("decrypt", unverified, nonce, bound_data)

    def _call(self, method: str, data: bytes, nonce: bytes, bound_data: bytes) -> bytes:
        error = _pkcs11().PKCS11Error
        with _ONE_CALL_AT_A_TIME:
            try:
                return _gcm(self._key, method, data, nonce, bound_data)
            except error as exc:
                # Tokens name no reason (SoftHSM2: "general error"): a token that still answers has refused the data.
                if self._answers():
                    raise WrapRefusedError from exc
            self._reconnect()
            try:
                return _gcm(self._key, method, data, nonce, bound_data)
            except error as exc:
                if self._answers():
                    raise WrapRefusedError from exc
                raise self._failed(exc) from exc

    def _reconnect(self) -> None:
        error = _pkcs11().PKCS11Error
        self._close()
        try:
            try:
                self._key = self._connect()
            except (error, KeyFileError):
                # A module that lost its device finds it again only after it was initialised anew.
                self._library.reinitialize()
                self._key = self._connect()
            is_same = self._probe() == self._first_probe
        except error as exc:
            raise self._failed(exc) from exc
        if not is_same:
            raise _invalid(self._uri, "it came back with another key than before; start anew")

    def _connect(self) -> Any:
        token = _find_token(self._library, self._uri)
        self._tokens.log_in(token, self._uri, read_pin=self._read_pin)
        session = token.open()
        self._close = weakref.finalize(self, _close_quietly, session)
        key = _find_key(session, self._uri)
        _check_key(key, self._uri)
        return key

    def _probe(self) -> bytes:
        return _gcm(self._key, "encrypt", _PROBE_TEXT, _PROBE_NONCE, b"")

    def _answers(self) -> bool:
        try:
            return self._probe() == self._first_probe
        except _pkcs11().PKCS11Error:
            return False

    def _failed(self, exc: BaseException) -> KeyFileError:
        what = (
            f"the token fails ({type(exc).__name__}); see that it is there and well, and start anew"
        )
        return _invalid(self._uri, what)


def _pkcs11() -> Any:
    try:
        import pkcs11
    except ImportError as exc:
        message = (
            "PKCS #11 keys need a library that is not installed: pip install 'gatewatch[pkcs11]'"
        )
        raise KeyFileError(Code.KEY_INVALID, message) from exc
    return pkcs11


def _library(uri: Pkcs11Uri) -> Any:
    pkcs11 = _pkcs11()
    try:
        fault = why_changeable(uri.module_path.stat(), safe_mode=0o755)
        fault = fault or why_path_changeable(uri.module_path)
    except OSError as exc:
        raise _invalid(
            uri, f"module {uri.module_path}: {exc.strerror}; correct module-path"
        ) from exc
    if fault is not None:
        # It gets the PIN, and runs in this process.
        raise _invalid(uri, f"module {uri.module_path} {fault}")
    with _ONE_CALL_AT_A_TIME:
        try:
            library = pkcs11.lib(str(uri.module_path))
        except pkcs11.PKCS11Error as exc:
            why = str(exc) or type(exc).__name__
            message = f"module {uri.module_path} cannot be loaded ({why}); name the vendor's module"
            raise _invalid(uri, message) from exc
    # Closes every session and logs out.
    atexit.register(_finish, library)
    return library


def _finish(library: Any) -> None:
    with _ONE_CALL_AT_A_TIME, suppress(_pkcs11().PKCS11Error):
        library.finalize()


def _find_token(library: Any, uri: Pkcs11Uri) -> Any:
    found = [token for token in library.get_tokens() if _is_named(token, uri)]
    if not found:
        raise _invalid(
            uri, "no such token is present; see that it is plugged in and what it is called"
        )
    if len(found) > 1:
        raise _invalid(uri, "more than one token is called so; add serial=NUMBER")
    return found[0]


def _is_named(token: Any, uri: Pkcs11Uri) -> bool:
    serial = token.serial.decode("utf-8", "replace").rstrip("\0 ")
    wanted = (uri.token, uri.serial, uri.manufacturer, uri.model)
    given = (token.label, serial, token.manufacturer_id, token.model)
    return all(w is None or w == g for w, g in zip(wanted, given, strict=True))


def _refuse_last_try(token: Any, uri: Pkcs11Uri) -> None:
    flags = _pkcs11().TokenFlag
    if token.flags & flags.USER_PIN_LOCKED:
        raise _invalid(uri, "the token's PIN is locked; unlock it with the vendor's tool")
    if token.flags & flags.USER_PIN_FINAL_TRY:
        message = (
            "one more wrong PIN would lock the token, so none is tried here: log in once with the vendor's tool, "
            "which takes the warning away"
        )
        raise _invalid(uri, message)


def _wanted(uri: Pkcs11Uri) -> dict[Any, Any]:
    pkcs11 = _pkcs11()
    wanted = {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY}
    if uri.label is not None:
        wanted[pkcs11.Attribute.LABEL] = uri.label
    if uri.key_id is not None:
        wanted[pkcs11.Attribute.ID] = uri.key_id
    return wanted


def _find_key(session: Any, uri: Pkcs11Uri) -> Any:
    found = list(session.get_objects(_wanted(uri)))
    if not found:
        message = "the token holds no such secret key; `gateway keys create --kek` makes one"
        raise _invalid(uri, message)
    if len(found) > 1:
        raise _invalid(uri, "the token holds more than one such key; add id=%XX")
    return found[0]


def _check_key(key: Any, uri: Pkcs11Uri) -> None:
    pkcs11 = _pkcs11()
    attribute = pkcs11.Attribute
    expected = {
        attribute.KEY_TYPE: (pkcs11.KeyType.AES, "is no AES key"),
        attribute.VALUE_LEN: (AES_256_KEY_BYTES, "is no key of 256 bits"),
        attribute.SENSITIVE: (True, "can be read out of the token (it is not sensitive)"),
        attribute.EXTRACTABLE: (False, "can be taken out of the token (it is extractable)"),
        attribute.ENCRYPT: (True, "may not encrypt"),
        attribute.DECRYPT: (True, "may not decrypt"),
    }
    for name, (value, fault) in expected.items():
        if key[name] != value:
            message = f"the key {fault}: make one with `gateway keys create --kek`"
            raise _invalid(uri, message)
    if pkcs11.Mechanism.AES_GCM not in key.session.token.slot.get_mechanisms():
        raise _invalid(uri, "the token has no AES-GCM (CKM_AES_GCM); take one that has")


def _create(session: Any, uri: Pkcs11Uri) -> None:
    pkcs11 = _pkcs11()
    if any(True for _ in session.get_objects(_wanted(uri))):
        raise _invalid(
            uri, "the token holds such a key already, and none is overwritten; name another"
        )
    session.generate_key(
        pkcs11.KeyType.AES,
        AES_256_KEY_BYTES * 8,
        id=uri.key_id,
        label=uri.label,
        store=True,
        capabilities=pkcs11.MechanismFlag.ENCRYPT | pkcs11.MechanismFlag.DECRYPT,
        template={
            pkcs11.Attribute.PRIVATE: True,
            pkcs11.Attribute.SENSITIVE: True,
            pkcs11.Attribute.EXTRACTABLE: False,
        },
    )


def _gcm(key: Any, method: str, data: bytes, nonce: bytes, bound_data: bytes) -> bytes:
    pkcs11 = _pkcs11()
    from pkcs11.mechanisms import GCMParams

    result: bytes = getattr(key, method)(
        data,
        mechanism=pkcs11.Mechanism.AES_GCM,
        mechanism_param=GCMParams(nonce, bound_data, TAG_BYTES * 8),
    )
    return result


def _close_quietly(session: Any) -> None:
    # An error says that it is gone already, with the token's reset.
    with _ONE_CALL_AT_A_TIME, suppress(_pkcs11().PKCS11Error):
        session.close()


def _invalid(uri: Pkcs11Uri, cause_and_fix: str) -> KeyFileError:
    named = uri.label or (uri.key_id or b"").hex()
    return KeyFileError(
        Code.KEY_INVALID, f"key {named!r} of token {uri.token or uri.serial!r}: {cause_and_fix}"
    )
