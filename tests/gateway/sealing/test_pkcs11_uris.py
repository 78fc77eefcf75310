"""PKCS #11 URIs: read strictly, written in one spelling, and never a PIN in a message."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import KeyFileError
from gateway.sealing.pkcs11_uris import Pkcs11Uri, parse_pkcs11_uri

QUERY = "?module-path=/lib/hsm.so&pin-source=file:/run/pin"

TEXTS = st.text(min_size=1, max_size=20).filter(str.isprintable)
MAYBE = st.none() | TEXTS


def fault_of(text: str) -> str:
    """The message that refuses a URI."""
    with pytest.raises(KeyFileError) as caught:
        parse_pkcs11_uri(text)
    return caught.value.message


def test_every_member_is_read() -> None:
    """Escapes are bytes, text is UTF-8, a comma may stand as it is."""
    uri = parse_pkcs11_uri(
        "pkcs11:token=The%20Token,1;serial=0042;manufacturer=A%C3%A9;model=M&M;object=kek;id=%01%ffk;"
        f"type=secret-key{QUERY}"
    )
    assert uri == Pkcs11Uri(
        token="The Token,1",
        serial="0042",
        manufacturer="Aé",
        model="M&M",
        label="kek",
        key_id=b"\x01\xffk",
        module_path=Path("/lib/hsm.so"),
        pin_source="file:/run/pin",
    )


def test_what_narrows_nothing_is_absent() -> None:
    """One name of the token and one of the key are enough; a bare path is a PIN file."""
    uri = parse_pkcs11_uri("pkcs11:serial=1;id=%07?pin-source=/run/pin&module-path=/m.so")
    assert (uri.token, uri.serial, uri.label, uri.key_id) == (None, "1", None, b"\x07")
    assert uri.pin_source == "file:/run/pin"


@given(TEXTS, MAYBE, MAYBE, MAYBE, MAYBE, st.binary(min_size=1, max_size=8))
def test_what_is_written_reads_again(
    token: str,
    serial: str | None,
    manufacturer: str | None,
    model: str | None,
    label: str | None,
    key_id: bytes,
) -> None:
    """Whatever labels hold, separators and percent signs too."""
    uri = Pkcs11Uri(
        token=token,
        serial=serial,
        manufacturer=manufacturer,
        model=model,
        label=label,
        key_id=key_id,
        module_path=Path("/opt/a b&c/m.so"),
        pin_source="env:HSM_PIN",
    )
    assert uri == parse_pkcs11_uri(str(uri))


@given(st.text(max_size=80))
def test_nothing_but_its_own_error_escapes(text: str) -> None:
    """Neither for any text nor for any text where attributes stand."""
    for candidate in (text, f"pkcs11:{text}", f"pkcs11:token=a;object={text}{QUERY}"):
        try:
            parsed = parse_pkcs11_uri(candidate)
        except KeyFileError:
            continue
        assert parsed == parse_pkcs11_uri(str(parsed))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("file:kek", "must begin with pkcs11:"),
        ("PKCS11:token=a;object=k" + QUERY, "must begin with pkcs11:"),
        ("pkcs11:", "names no token"),
        ("pkcs11:object=k" + QUERY, "names no token"),
        ("pkcs11:token=a" + QUERY, "names no key"),
        ("pkcs11:token=a;object=k;type=private" + QUERY, "type is not secret-key"),
        ("pkcs11:token=a;object=k", "names no module"),
        ("pkcs11:token=a;object=k?pin-source=file:/p", "names no module"),
        ("pkcs11:token=a;object=k?module-path=/m.so", "names no PIN"),
        ("pkcs11:token=a;object=k?module-path=m.so&pin-source=/p", "must be an absolute path"),
        ("pkcs11:token=a;object=k?module-path=/m.so&pin-source=p", "pin-source must be"),
        ("pkcs11:token=a;object=k?module-path=/m.so&pin-source=file:p", "pin-source must be"),
        ("pkcs11:token=a;object=k?module-path=/m.so&pin-source=|cat", "pin-source must be"),
        ("pkcs11:token=a;token=b;object=k" + QUERY, "token is given twice"),
        ("pkcs11:token=a;object=k" + QUERY + "&pin-source=/p", "pin-source is given twice"),
        ("pkcs11:token=a;object=k;slot-id=1" + QUERY, "slot-id is not known here"),
        ("pkcs11:token=a;object=k;x=1" + QUERY, "x is not known here: use token, serial"),
        ("pkcs11:token=a;object=k" + QUERY + "&x=1", "x is not known here: use module-path"),
        ("pkcs11:token=a;;object=k" + QUERY, "one of its parts is not known here"),
        ("pkcs11:token=a;object=" + QUERY, "object has no value"),
        ("pkcs11:token=a;object" + QUERY, "object has no value"),
        ("pkcs11:token=a b;object=k" + QUERY, "token has no value, or one with characters"),
        ("pkcs11:token=a%2;object=k" + QUERY, "token has no value, or one with characters"),
        ("pkcs11:token=a%gg;object=k" + QUERY, "token has no value, or one with characters"),
        ("pkcs11:token=é;object=k" + QUERY, "token has no value, or one with characters"),
        ("pkcs11:token=%ff;object=k" + QUERY, "token is not UTF-8"),
        ("pkcs11:token=%1b;object=k" + QUERY, "token has characters that cannot be printed"),
    ],
)
def test_what_is_wrong_is_said(text: str, fault: str) -> None:
    """One line a rule."""
    assert fault in fault_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "pkcs11:token=a;object=k?module-path=/m.so&pin-value=s3cret",
        "pkcs11:token=a;object=k;pin-value=s3cret" + QUERY,
        "pkcs11:token=a;object=k;s3cret" + QUERY,
        "pkcs11:token=a;object=s3cret%" + QUERY,
    ],
)
def test_a_pin_in_a_uri_is_refused_and_not_repeated(text: str) -> None:
    """Nor is anything else that stands where a value does."""
    assert "s3cret" not in fault_of(text)


def test_a_pin_in_a_uri_is_answered_with_where_it_belongs() -> None:
    """Cause and fix."""
    message = fault_of("pkcs11:token=a;object=k?module-path=/m.so&pin-value=1")
    assert "mode 0600 and write pin-source=file:/PATH in its place" in message
