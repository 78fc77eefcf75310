"""Keys in a token, proved with SoftHSM2: what opens with them, what they refuse, and what a broken token says."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import KeyFileError, SealError
from gateway.sealing.container import ModelFacts
from gateway.sealing.kek_pkcs11 import Pkcs11Kek
from gateway.sealing.kek_specs import KekOpener, open_keks, parse_spec
from gateway.sealing.keys import Kek, KeyProvider
from gateway.sealing.pkcs11_uris import parse_pkcs11_uri
from gateway.sealing.sealed_model import open_model, seal_model
from gateway.sealing.signers import Signer
from tests.softhsm import PIN, SoftHsm

DEK = bytes(range(100, 132))


@pytest.fixture(scope="module")
def uri(softhsm: SoftHsm) -> str:
    """A KEK made by the gateway in the token gw."""
    named = softhsm.uri("gw", key="object=kek;id=%01")
    KekOpener().create(parse_spec(named), random=os.urandom)
    return named


@pytest.fixture
def token_kek(uri: str) -> KeyProvider:
    """That KEK, opened."""
    return open_keks([uri])[0]


@pytest.fixture
def session(softhsm: SoftHsm) -> Any:
    """A session that may write on the token other, as the vendor's tool would have it."""
    import pkcs11

    token = pkcs11.lib(str(softhsm.module)).get_token(token_label="other")
    with token.open(rw=True, user_pin=PIN) as opened:
        yield opened


@pytest.fixture
def foreign_key(session: Any) -> Callable[..., None]:
    """Makes a key in the token other, good but for what is given."""
    from pkcs11 import Attribute, KeyType, MechanismFlag

    def make(label: str, *, bits: int = 256, capabilities: Any = None, **attributes: bool) -> None:
        template = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
        template |= {Attribute[name]: value for name, value in attributes.items()}
        both = MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT
        session.generate_key(
            KeyType.AES,
            bits,
            label=label,
            store=True,
            capabilities=both if capabilities is None else capabilities,
            template=template,
        )

    return make


def fault_of(uri: str) -> str:
    """The message with which a key is not opened."""
    with pytest.raises(KeyFileError) as caught:
        open_keks([uri])
    return caught.value.message


def test_a_model_sealed_for_file_and_token_opens_with_either(
    token_kek: KeyProvider, kek: Kek, facts: ModelFacts, payload: Any, signer: Signer
) -> None:
    """The same weights, by one key alone each time."""
    sealed = seal_model(facts, payload, keks=[kek, token_kek], signer=signer, random=os.urandom)
    for one in (kek, token_kek):
        opened = open_model(
            sealed,
            name=facts.name,
            version=facts.version,
            keks=[one],
            trusted_signers=[signer.trusted],
        )
        assert opened.payload.weights == payload.weights


def test_the_key_never_leaves_the_token(uri: str, softhsm: SoftHsm, token_kek: KeyProvider) -> None:
    """Neither read nor wrapped by another key, and it says so itself."""
    import pkcs11

    token = pkcs11.lib(str(softhsm.module)).get_token(token_label="gw")
    with token.open(rw=True) as session:
        key = session.get_key(label="kek")
        with pytest.raises(pkcs11.AttributeSensitive):
            key[pkcs11.Attribute.VALUE]
        other = session.generate_key(pkcs11.KeyType.AES, 256, store=False)
        with pytest.raises(pkcs11.PKCS11Error):
            other.wrap_key(key, mechanism=pkcs11.Mechanism.AES_KEY_WRAP)
        assert key[pkcs11.Attribute.NEVER_EXTRACTABLE]
        assert key[pkcs11.Attribute.ALWAYS_SENSITIVE]


def test_the_id_is_the_keys_own(uri: str, softhsm: SoftHsm, token_kek: KeyProvider) -> None:
    """Stable, another for another key, and in the form that a file can carry."""
    assert token_kek.kek_id == open_keks([uri])[0].kek_id
    second = softhsm.uri("gw", key="object=second")
    assert KekOpener().create(parse_spec(second), random=os.urandom).kek_id != token_kek.kek_id
    assert len(bytes.fromhex(token_kek.kek_id)) == 8
    assert token_kek.algorithm == "PKCS11-AES-256-GCM"


def test_a_wrap_is_bound_to_purpose_and_context(token_kek: KeyProvider) -> None:
    """And to every bit of itself; the token stays usable after each refusal."""
    wrapped = token_kek.wrap(DEK, purpose=b"p", context=b"c", random=os.urandom)
    assert token_kek.unwrap(wrapped, purpose=b"p", context=b"c") == DEK
    changed = [bytes([wrapped[0] ^ 1]) + wrapped[1:], wrapped[:-1] + bytes([wrapped[-1] ^ 1])]
    cases = [(wrapped, b"q", b"c"), (wrapped, b"p", b"d"), *((one, b"p", b"c") for one in changed)]
    for unverified, purpose, context in cases:
        with pytest.raises(SealError) as caught:
            token_kek.unwrap(unverified, purpose=purpose, context=context)
        assert caught.value.reason == "unwrap"
    assert token_kek.unwrap(wrapped, purpose=b"p", context=b"c") == DEK


@pytest.mark.parametrize("length", [0, 12, 59, 61])
def test_a_wrap_of_another_length_is_refused(token_kek: KeyProvider, length: int) -> None:
    """Before the token sees it."""
    with pytest.raises(SealError) as caught:
        token_kek.unwrap(bytes(length), purpose=b"p", context=b"c")
    assert caught.value.reason == "unwrap"


def test_a_good_wrap_of_something_longer_is_refused(token_kek: KeyProvider) -> None:
    """A data key has 32 bytes, whatever authenticates."""
    assert isinstance(token_kek, Pkcs11Kek)
    bound = b"p\0" + token_kek.kek_id.encode() + b"\0c"
    wrapped = bytes(12) + token_kek._key.encrypt(bytes(33), nonce=bytes(12), bound_data=bound)
    with pytest.raises(SealError):
        token_kek.unwrap(wrapped, purpose=b"p", context=b"c")


def test_mistakes_of_our_own_are_named(token_kek: KeyProvider) -> None:
    """Another length of the data key, and the nonce that only the id may use."""
    with pytest.raises(RuntimeError, match="internal: a data key"):
        token_kek.wrap(bytes(16), purpose=b"", context=b"", random=os.urandom)
    for nonce in (b"gatewatch id", bytes(11)):
        with pytest.raises(RuntimeError, match="internal: a nonce"):
            token_kek.wrap(DEK, purpose=b"", context=b"", random={12: nonce}.__getitem__)


def test_a_wrong_pin_is_tried_once(softhsm: SoftHsm) -> None:
    """A second try could lock the token; the PIN itself is not in the message."""
    wrong = softhsm.uri("refusing", pin="9999")
    opener = KekOpener()
    with pytest.raises(KeyFileError) as caught:
        opener.open(parse_spec(wrong))
    assert "refuses the PIN of file:" in caught.value.message
    assert "PinIncorrect" in caught.value.message
    (softhsm.folder / "pin-9999").unlink()
    # Without its file a second try would say so: none is made.
    with pytest.raises(KeyFileError, match="refuses the PIN"):
        opener.open(parse_spec(wrong))


def test_a_pin_of_a_variable(softhsm: SoftHsm, uri: str, token_kek: KeyProvider) -> None:
    """It is taken as a KEK's variable is."""
    named = uri.partition("pin-source=")[0] + "pin-source=env:HSM_PIN"
    (kek,) = open_keks([named], opener=KekOpener(take_variable={"HSM_PIN": PIN}.pop))
    assert kek.kek_id == token_kek.kek_id
    with pytest.raises(KeyFileError, match="HSM_PIN holds no PIN"):
        open_keks([named], opener=KekOpener(take_variable={"HSM_PIN": "1\n2"}.pop))
    with pytest.raises(KeyFileError, match="HSM_PIN holds no PIN: it is not UTF-8"):
        open_keks([named], opener=KekOpener(take_variable={"HSM_PIN": "\udcff"}.pop))


def test_a_pin_file_that_others_may_read_is_refused(softhsm: SoftHsm) -> None:
    """As every secret file."""
    named = softhsm.uri("refusing", pin="5555")
    (softhsm.folder / "pin-5555").chmod(0o640)
    assert "mode is 0640" in fault_of(named)


@pytest.mark.parametrize(
    ("token", "key", "fault"),
    [
        ("absent", "object=kek", "no such token is present"),
        ("gw;serial=1", "object=kek", "no such token is present"),
        ("gw;manufacturer=other", "object=kek", "no such token is present"),
        ("gw;model=other", "object=kek", "no such token is present"),
        ("twin", "object=kek", "more than one token is called so; add serial=NUMBER"),
        ("gw", "object=absent", "the token holds no such secret key; `gateway keys create --kek`"),
        ("gw", "object=kek;id=%02", "the token holds no such secret key"),
    ],
)
def test_what_is_missing_is_named(
    softhsm: SoftHsm, uri: str, token: str, key: str, fault: str
) -> None:
    """With the names that were looked for, and what to do."""
    message = fault_of(softhsm.uri(token, key=key))
    assert fault in message
    assert f"of token {token.partition(';')[0]!r}: " in message


def test_the_serial_alone_names_a_token(softhsm: SoftHsm, uri: str, token_kek: KeyProvider) -> None:
    """Labels can be alike, serial numbers are not."""
    import pkcs11

    serial = pkcs11.lib(str(softhsm.module)).get_token(token_label="gw").serial.decode()
    named = softhsm.uri("gw").replace("token=gw", f"serial={serial}").replace("=kek", "=kek;id=%01")
    assert open_keks([named])[0].kek_id == token_kek.kek_id


@pytest.mark.parametrize(
    ("label", "wrong", "fault"),
    [
        ("extractable", {"EXTRACTABLE": True}, "can be taken out of the token"),
        ("readable", {"SENSITIVE": False}, "can be read out of the token"),
        ("short", {"bits": 128}, "is no key of 256 bits"),
        ("decrypts", {"capabilities": "DECRYPT"}, "may not encrypt"),
        ("encrypts", {"capabilities": "ENCRYPT"}, "may not decrypt"),
    ],
)
def test_a_key_that_is_not_fit_is_refused(
    softhsm: SoftHsm,
    foreign_key: Callable[..., None],
    label: str,
    wrong: dict[str, Any],
    fault: str,
) -> None:
    """However it came into the token."""
    from pkcs11 import MechanismFlag

    if "capabilities" in wrong:
        wrong = {"capabilities": MechanismFlag[wrong["capabilities"]]}
    foreign_key(label, **wrong)
    assert fault in fault_of(softhsm.uri("other", key=f"object={label}"))


def test_a_key_of_another_kind_is_refused(softhsm: SoftHsm, session: Any) -> None:
    """A secret key is not yet an AES key."""
    from pkcs11 import Attribute, KeyType

    session.generate_key(
        KeyType.GENERIC_SECRET,
        256,
        label="generic",
        store=True,
        template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
    )
    assert "is no AES key" in fault_of(softhsm.uri("other", key="object=generic"))


def test_two_keys_of_one_name_are_told_apart_by_id(
    softhsm: SoftHsm, foreign_key: Callable[..., None]
) -> None:
    """None is chosen by chance."""
    foreign_key("same")
    foreign_key("same")
    message = fault_of(softhsm.uri("other", key="object=same"))
    assert "holds more than one such key; add id=%XX" in message


def test_a_key_of_somebody_elses_making_serves(
    softhsm: SoftHsm, foreign_key: Callable[..., None]
) -> None:
    """If it is an AES-256 key that stays inside."""
    foreign_key("good")
    (kek,) = open_keks([softhsm.uri("other", key="object=good")])
    wrapped = kek.wrap(DEK, purpose=b"p", context=b"c", random=os.urandom)
    assert kek.unwrap(wrapped, purpose=b"p", context=b"c") == DEK


def test_no_key_is_made_over_another(softhsm: SoftHsm, uri: str) -> None:
    """A second one of that name would make the first ambiguous, and so useless."""
    with pytest.raises(KeyFileError, match="holds such a key already"):
        KekOpener().create(parse_spec(uri), random=os.urandom)


def test_a_module_that_is_none_is_named(tmp_path: Path, softhsm: SoftHsm) -> None:
    """Missing, no library, or open to changes by others, who would get the PIN."""
    named = softhsm.uri("gw")
    (tmp_path / "text.so").write_text("no library")
    (tmp_path / "text.so").chmod(0o755)
    faults = {"/absent.so": "No such file or directory; correct module-path"}
    faults[str(tmp_path / "text.so")] = "cannot be loaded (OS exception while loading"
    for path, fault in faults.items():
        assert fault in fault_of(named.replace(str(softhsm.module), path))
    (tmp_path / "text.so").chmod(0o777)
    message = fault_of(named.replace(str(softhsm.module), str(tmp_path / "text.so")))
    assert "can be changed by others; chmod it to 0755" in message


def test_a_token_that_was_reset_is_opened_again(softhsm: SoftHsm, token_kek: KeyProvider) -> None:
    """All sessions are gone then; the next call logs in anew."""
    import pkcs11

    wrapped = token_kek.wrap(DEK, purpose=b"p", context=b"c", random=os.urandom)
    pkcs11.lib(str(softhsm.module)).reinitialize()
    assert token_kek.unwrap(wrapped, purpose=b"p", context=b"c") == DEK
    pkcs11.lib(str(softhsm.module)).finalize()
    again = token_kek.wrap(DEK, purpose=b"p", context=b"c", random=os.urandom)
    assert token_kek.unwrap(again, purpose=b"p", context=b"c") == DEK


def test_two_keys_of_one_token_share_its_login(softhsm: SoftHsm, token_kek: KeyProvider) -> None:
    """And when one is let go, the other is not logged out."""
    named = softhsm.uri("gw", key="object=shared")
    shared = KekOpener().create(parse_spec(named), random=os.urandom)
    del shared
    wrapped = token_kek.wrap(DEK, purpose=b"p", context=b"c", random=os.urandom)
    assert token_kek.unwrap(wrapped, purpose=b"p", context=b"c") == DEK


def test_many_threads_use_one_key(token_kek: KeyProvider) -> None:
    """A session takes one operation at a time, whoever asks."""
    opened: list[bytes] = []

    def work() -> None:
        for _ in range(20):
            wrapped = token_kek.wrap(DEK, purpose=b"p", context=b"c", random=os.urandom)
            opened.append(token_kek.unwrap(wrapped, purpose=b"p", context=b"c"))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == [DEK] * 160


def test_nothing_secret_is_shown(uri: str, token_kek: KeyProvider) -> None:
    """Neither the provider nor the spec holds the PIN in what a log line would show."""
    assert PIN not in repr(vars(token_kek)).replace(f"pin-{PIN}", "")
    assert isinstance(token_kek, Pkcs11Kek)
    assert f"pin-{PIN}" in parse_pkcs11_uri(uri).pin_source
