"""Everything the gateway process needs, read once from the environment.

Rules: one frozen object; every limit has its unit in the name and its reason beside it; secrets are files, named here
and never held here. The README's configuration table is checked against this class by a test.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from gateway.errors import Code, SettingsError
from gateway.store.environment import EnvironmentInvalidError, StrictSettings

Port = Annotated[int, Field(ge=0, le=65535)]
# An empty host would listen on every interface, and an unset variable in a compose file is an empty one.
Text = Annotated[str, Field(min_length=1)]
Ratio = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[str, Field(pattern=r"^([1-9][0-9]{0,8}/(second|minute|hour|day))?$")]
_PUBLIC_URL = (
    r"^(https://[A-Za-z0-9.\[\]:_-]+)?$"  # an origin: a path would be no part of what clients sign
)
_JWKS_URL = r"^(https://\S+|discover)?$"
_PERSONAL = r"(subject|client_id|address|certificate_thumbprint|proof_key_thumbprint)"
_PSEUDONYM_FIELDS = rf"^{_PERSONAL}(, ?{_PERSONAL})*$"
_HEADER_NAME = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{0,64}$"  # RFC 9110 section 5.1
_CLAIM_NAME = r"^[!-~]{0,128}$"
# What they carry must not be copied into samples, however little of it passes for a name.
_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "dpop"})
_QUOTA_STORE = r"^(memory|database|rediss?://\S+)$"


class GatewaySettings(StrictSettings):
    """The gateway's settings; each is the environment variable GATEWAY_<NAME>."""

    prefix: ClassVar[str] = "GATEWAY_"
    replaced: ClassVar[Mapping[str, str]] = {"GATEWAY_KEK_FILE": "GATEWAY_KEKS=file:PATH"}

    # Where it listens.
    host: Text = "127.0.0.1"
    port: Port = 8443
    metrics_host: Text = "127.0.0.1"
    metrics_port: Port = 9464
    tls_certificate_file: Path = Path("certs/server.pem")
    tls_key_file: Path = Path("certs/server.key")
    # Where callers reach it; nothing is ever taken from a Host header. Empty: https://HOST:PORT of the listener.
    public_url: Annotated[str, Field(pattern=_PUBLIC_URL)] = ""
    client_ca_file: str = ""
    client_certificates: Literal["none", "optional", "required"] = "none"

    # What a connection may cost before anything is known of who made it.
    max_connections: Annotated[int, Field(ge=1, le=65_536)] = 2_048
    max_connections_per_address: Annotated[int, Field(ge=1, le=65_536)] = 256
    handshake_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    header_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 8.0
    idle_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 8.0
    write_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 8.0

    # State.
    database_url: Annotated[str, Field(min_length=1, repr=False)] = "sqlite:///var/gatewatch.db"
    models_folder: Path = Path("var/models")
    max_model_bytes: Annotated[int, Field(ge=1024, le=1 << 34)] = 1 << 30
    # Not shown: a PIN that was put there by mistake would be.
    keks: Annotated[str, Field(min_length=1, repr=False)] = "file:var/keys/kek"
    trusted_signers_folder: Path = Path("var/keys/signers")

    # Who may call.
    issuer: Text = "https://gatewatch.localhost"
    audience: Text = "gatewatch"
    jwks_file: Path = Path("var/keys/jwks.json")
    jwks_url: Annotated[str, Field(pattern=_JWKS_URL)] = ""  # wins over the file
    jwks_ca_file: str = ""  # empty: the system's
    jwks_refresh_seconds: Annotated[float, Field(ge=10, le=86_400)] = 600.0
    # How long tokens are still checked by keys that can no longer be fetched: an identity provider's bad day.
    jwks_max_stale_seconds: Annotated[float, Field(ge=60, le=7 * 86_400)] = 21_600.0
    policy_file: str = ""
    # A deny list that was not read for longer refuses everybody: a revoked token must not pass meanwhile.
    deny_list_max_age_seconds: Annotated[float, Field(ge=2, le=3600)] = 30.0
    token_max_lifetime_seconds: Annotated[int, Field(ge=60, le=86400 * 30)] = 86400
    token_cache_entries: Annotated[int, Field(ge=0, le=1_000_000)] = 10_000

    # How much each may ask. "N/second", "N/minute", "N/hour" or "N/day"; empty is no limit.
    address_rate: Rate = "2000/second"
    address_failure_rate: Rate = "60/minute"  # refused credentials
    address_concurrency: Annotated[int, Field(ge=1, le=65_536)] = 256
    principal_rate: Rate = "1000/second"
    principal_concurrency: Annotated[int, Field(ge=1, le=65_536)] = 128
    daily_images: Annotated[int, Field(ge=0, le=1 << 53)] = (
        0  # a principal's, by UTC day; 0: no limit
    )
    # memory is each process's own; database and redis://HOST are shared by replicas. A URL may hold a password.
    quota_store: Annotated[str, Field(pattern=_QUOTA_STORE, repr=False)] = "memory"

    # The model. Which version runs is the registry's word, not a setting.
    model_name: Text = "conveyor"
    model_names: str = ""  # further models, e.g. "belt,gate"; "*" is every one in production
    image_sizes: str = ""  # further square sizes for dynamic models, e.g. "320,640"
    workers: Annotated[int, Field(ge=0, le=256)] = 0  # 0: one a core
    queue_size: Annotated[int, Field(ge=1, le=10_000)] = 64
    infer_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 30.0
    # Longer, and most callers have given up; the work would be for nobody.
    request_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 10.0

    # What a request may cost. 20 MiB holds any photograph a phone makes.
    max_body_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 20 * 1024 * 1024
    body_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 60.0
    min_body_bytes_per_second: Annotated[int, Field(ge=0, le=1 << 30)] = 8_192
    # An 8K frame; the worst image of that size costs a worker about a second and 370 MB, 100 MB once it is decoded.
    max_image_side_pixels: Annotated[int, Field(ge=32, le=65_535)] = 8_192
    max_image_pixels: Annotated[int, Field(ge=1024, le=1 << 30)] = 33_554_432
    shutdown_timeout_seconds: Annotated[int, Field(ge=1, le=600)] = 10

    # The ledger.
    audit_origin: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9./-]{0,126}$")] = "gateway"
    audit_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    audit_key_file: Path = Path("var/keys/ledger.key")
    # The longest that a record is durable and not yet covered by a signature.
    audit_checkpoint_seconds: Annotated[float, Field(ge=0.05, le=60)] = 1.0
    audit_emergency_file: Path = Path("var/emergency.audit")
    # A second place for checkpoints: another volume, another host.
    audit_witness_file: str = ""
    audit_witness_url: Annotated[str, Field(pattern=r"^(https://[^\s?#]+)?$")] = ""
    audit_witness_ca_file: str = ""
    # Personal fields become keyed hashes where a key is given.
    audit_pseudonym_key_file: str = ""
    audit_pseudonym_fields: Annotated[str, Field(pattern=_PSEUDONYM_FIELDS)] = (
        "subject,client_id,address"
    )

    # Samples. Images are the costly part, so few are kept unless asked for.
    sample_rate: Ratio = 1.0
    sample_image_rate: Ratio = 0.02
    sample_keep_below_confidence: Ratio = 0.0
    sample_queue_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 34)] = 256 * 1024 * 1024
    # Which camera a sample is of; empty is nobody's word. With a claim, which is signed, the header is not read.
    source_header: Annotated[str, Field(pattern=_HEADER_NAME)] = ""
    source_claim: Annotated[str, Field(pattern=_CLAIM_NAME)] = ""

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "GatewaySettings":
        """What one setting says and another undoes, somebody believes to be on."""
        if self.client_ca_file and self.client_certificates == "none":
            raise ValueError(
                "GATEWAY_CLIENT_CA_FILE is without effect while GATEWAY_CLIENT_CERTIFICATES is none: "
                "set it to optional or required"
            )
        if self.audit_witness_ca_file and not self.audit_witness_url:
            raise ValueError(
                "GATEWAY_AUDIT_WITNESS_CA_FILE is for a witness that is asked over HTTPS: set "
                "GATEWAY_AUDIT_WITNESS_URL, or leave it out"
            )
        if self.jwks_ca_file and not self.jwks_url:
            raise ValueError(
                "GATEWAY_JWKS_CA_FILE is for keys that are fetched: set GATEWAY_JWKS_URL, or leave it out"
            )
        if self.source_header.lower() in _SECRET_HEADERS:
            raise ValueError(
                "GATEWAY_SOURCE_HEADER names a header that carries credentials: name one of your own, such as X-Camera"
            )
        return self


def read_settings(environment: Mapping[str, str], **overrides: object) -> GatewaySettings:
    """The gateway's settings from the environment; command-line overrides win.

    Raises SettingsError listing every mistake at once.
    """
    try:
        return GatewaySettings.read(environment, **overrides)
    except EnvironmentInvalidError as exc:
        raise SettingsError(Code.SETTINGS_INVALID, f"the configuration is wrong:\n{exc}") from exc
