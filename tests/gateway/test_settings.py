"""The gateway's settings: every limit from both sides, and what is never shown."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.errors import Code, SettingsError
from gateway.settings import GatewaySettings, read_settings

LIMITS = [
    ("PORT", "0", "65535", "-1", "65536"),
    ("METRICS_PORT", "0", "65535", "-1", "65536"),
    ("MAX_CONNECTIONS", "1", "65536", "0", "65537"),
    ("MAX_CONNECTIONS_PER_ADDRESS", "1", "65536", "0", "65537"),
    ("HANDSHAKE_TIMEOUT_SECONDS", "0.001", "60", "0", "60.1"),
    ("HEADER_TIMEOUT_SECONDS", "0.001", "60", "0", "60.1"),
    ("IDLE_TIMEOUT_SECONDS", "0.001", "600", "0", "600.1"),
    ("WRITE_TIMEOUT_SECONDS", "0.001", "60", "0", "60.1"),
    ("JWKS_REFRESH_SECONDS", "10", "86400", "9.9", "86400.1"),
    ("JWKS_MAX_STALE_SECONDS", "60", "604800", "59.9", "604800.1"),
    ("DENY_LIST_MAX_AGE_SECONDS", "2", "3600", "1.9", "3600.1"),
    ("ADDRESS_CONCURRENCY", "1", "65536", "0", "65537"),
    ("PRINCIPAL_CONCURRENCY", "1", "65536", "0", "65537"),
    ("DAILY_IMAGES", "0", "9007199254740992", "-1", "9007199254740993"),
    ("MIN_BODY_BYTES_PER_SECOND", "0", "1073741824", "-1", "1073741825"),
    ("MAX_MODEL_BYTES", "1024", "17179869184", "1023", "17179869185"),
    ("TOKEN_MAX_LIFETIME_SECONDS", "60", "2592000", "59", "2592001"),
    ("TOKEN_CACHE_ENTRIES", "0", "1000000", "-1", "1000001"),
    ("WORKERS", "0", "256", "-1", "257"),
    ("QUEUE_SIZE", "1", "10000", "0", "10001"),
    ("INFER_TIMEOUT_SECONDS", "0.001", "600", "0", "600.1"),
    ("REQUEST_TIMEOUT_SECONDS", "0.001", "600", "0", "600.1"),
    ("MAX_BODY_BYTES", "1024", "1073741824", "1023", "1073741825"),
    ("BODY_TIMEOUT_SECONDS", "0.001", "600", "0", "600.1"),
    ("MAX_IMAGE_SIDE_PIXELS", "32", "65535", "31", "65536"),
    ("MAX_IMAGE_PIXELS", "1024", "1073741824", "1023", "1073741825"),
    ("SHUTDOWN_TIMEOUT_SECONDS", "1", "600", "0", "601"),
    ("AUDIT_TIMEOUT_SECONDS", "0.001", "60", "0", "60.1"),
    ("AUDIT_CHECKPOINT_SECONDS", "0.05", "60", "0.04", "60.1"),
    ("SAMPLE_RATE", "0", "1", "-0.1", "1.1"),
    ("SAMPLE_IMAGE_RATE", "0", "1", "-0.1", "1.1"),
    ("SAMPLE_KEEP_BELOW_CONFIDENCE", "0", "1", "-0.1", "1.1"),
    ("SAMPLE_QUEUE_BYTES", "1048576", "17179869184", "1048575", "17179869185"),
]


@pytest.mark.parametrize(("name", "lowest", "highest", "below", "above"), LIMITS)
def test_every_limit_from_both_sides(
    name: str, lowest: str, highest: str, below: str, above: str
) -> None:
    """Both ends belong to the range, one step outside is refused under the variable's name."""
    for inside in (lowest, highest):
        read_settings({f"GATEWAY_{name}": inside})
    for outside in (below, above):
        with pytest.raises(SettingsError, match=f"GATEWAY_{name}: Input should be"):
            read_settings({f"GATEWAY_{name}": outside})


def test_every_number_has_limits() -> None:
    """A new number is added to the list above."""
    numbers = {
        name.upper()
        for name, field in GatewaySettings.model_fields.items()
        if field.annotation in {int, float}
    }
    assert numbers == {name for name, *_ in LIMITS}


@pytest.mark.parametrize(
    "name", ["HOST", "METRICS_HOST", "ISSUER", "AUDIENCE", "MODEL_NAME", "DATABASE_URL"]
)
def test_empty_texts_are_refused(name: str) -> None:
    """An empty host would listen on every interface."""
    with pytest.raises(SettingsError, match=f"GATEWAY_{name}"):
        read_settings({f"GATEWAY_{name}": ""})


@pytest.mark.parametrize("origin", ["", "Gateway", "gate way", "gateway\n", "-x", "x" * 128, "é"])
def test_an_origin_that_is_no_name_is_refused(origin: str) -> None:
    """The ledger's name also stands in file names and notes."""
    with pytest.raises(SettingsError, match="GATEWAY_AUDIT_ORIGIN"):
        read_settings({"GATEWAY_AUDIT_ORIGIN": origin})


def test_all_mistakes_are_one_error() -> None:
    """Whoever configures sees them at once, with the code that commands print."""
    with pytest.raises(SettingsError) as caught:
        read_settings({"GATEWAY_PROT": "1", "GATEWAY_PORT": "x", "GATEWAY_SAMPLE_RATE": "nan"})
    assert caught.value.code is Code.SETTINGS_INVALID
    assert caught.value.message.splitlines() == [
        "the configuration is wrong:",
        "GATEWAY_PROT: no such setting; did you mean GATEWAY_PORT?",
        "GATEWAY_PORT: Input should be a valid integer, "
        "unable to parse string as an integer (got 'x')",
        "GATEWAY_SAMPLE_RATE: Input should be less than or equal to 1 (got 'nan')",
    ]


def test_listens_on_loopback_unless_told_otherwise() -> None:
    """Neither calls nor metrics are open to the network by default."""
    settings = read_settings({})
    assert (settings.host, settings.metrics_host) == ("127.0.0.1", "127.0.0.1")


def test_overrides_win() -> None:
    """What a command line says counts."""
    settings = read_settings({"GATEWAY_PORT": "1"}, port=2, models_folder=Path("m"))
    assert (settings.port, settings.models_folder) == (2, Path("m"))


def test_settings_are_frozen() -> None:
    """Nothing changes them after the start."""
    with pytest.raises(ValidationError, match="frozen"):
        read_settings({}).port = 1


def test_the_database_url_is_never_shown() -> None:
    """It may hold a password."""
    settings = read_settings({"GATEWAY_DATABASE_URL": "postgresql://u:secret@h/d"})
    assert "secret" not in repr(settings)


def test_a_setting_that_is_no_more_names_its_successor() -> None:
    """Nearest names would have been those of other files."""
    with pytest.raises(SettingsError, match=r"GATEWAY_KEK_FILE: .* write GATEWAY_KEKS=file:PATH"):
        read_settings({"GATEWAY_KEK_FILE": "var/keys/kek"})


def test_keks_are_never_shown() -> None:
    """A PIN that somebody put there by mistake stays out of logs."""
    assert "s3cret" not in repr(read_settings({"GATEWAY_KEKS": "pkcs11:?pin-value=s3cret"}))


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("PUBLIC_URL", "https://gateway.example:8443", "https://gateway.example/path"),
        ("PUBLIC_URL", "https://[2001:db8::1]", "http://gateway.example"),
        ("JWKS_URL", "https://issuer.example/jwks", "http://issuer.example/jwks"),
        ("JWKS_URL", "discover", "file:///etc/passwd"),
        ("ADDRESS_RATE", "10/second", "10 per second"),
        ("PRINCIPAL_RATE", "", "0/second"),
        ("ADDRESS_FAILURE_RATE", "5/minute", "5/fortnight"),
        ("QUOTA_STORE", "rediss://:secret@host/0", "memcached://host"),
        ("CLIENT_CERTIFICATES", "optional", "perhaps"),
        ("SOURCE_HEADER", "X-Camera", "X Camera"),
        ("SOURCE_HEADER", "", "X-Camera:"),
        ("SOURCE_CLAIM", "https://issuer.example/camera", "the camera"),
        ("SOURCE_CLAIM", "sub", "a" * 129),
        ("AUDIT_PSEUDONYM_FIELDS", "subject, proof_key_thumbprint", "subject,adress"),
        ("AUDIT_PSEUDONYM_FIELDS", "address", ""),
    ],
)
def test_a_text_has_one_form(name: str, good: str, bad: str) -> None:
    """What cannot be meant is refused under the variable's name."""
    read_settings({f"GATEWAY_{name}": good})
    with pytest.raises(SettingsError, match=f"GATEWAY_{name}"):
        read_settings({f"GATEWAY_{name}": bad})


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"CLIENT_CA_FILE": "ca.pem"}, "GATEWAY_CLIENT_CA_FILE is without effect while"),
        ({"JWKS_CA_FILE": "ca.pem"}, "GATEWAY_JWKS_CA_FILE is for keys that are fetched"),
        ({"SOURCE_HEADER": "authorization"}, "GATEWAY_SOURCE_HEADER names a header that carries"),
        ({"SOURCE_HEADER": "DPoP"}, "GATEWAY_SOURCE_HEADER names a header that carries"),
    ],
)
def test_a_setting_that_another_undoes_is_refused(variables: dict[str, str], said: str) -> None:
    """Somebody believes that it is on."""
    with pytest.raises(SettingsError, match=said):
        read_settings({f"GATEWAY_{name}": value for name, value in variables.items()})
