"""A gateway of its own for tests of the door: trusted issuers of the tests', client certificates, small limits."""

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from rich.console import Console

from gateway.dev.home import Layout, gateway_overrides, layout_of, prepare
from gateway.dev.plan import free_port
from gateway.settings import read_settings

START_TIMEOUT_SECONDS = 120
ISSUER = "https://issuer.example"


@dataclass(frozen=True, slots=True)
class Door:
    """A running gateway and its home."""

    layout: Layout
    port: int
    metrics_port: int
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        """Where it answers, which is its public URL too."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which commands work on this home."""
        return environment_of(self.layout)

    def client(self, certificate: str | None = None) -> httpx.Client:
        """A client that trusts the home's CA and shows the client certificate of this name, if any."""
        context = ssl.create_default_context(cafile=self.layout.ca_file)
        if certificate is not None:
            folder = self.layout.certificates
            context.load_cert_chain(folder / f"{certificate}.pem", folder / f"{certificate}.key")
        return httpx.Client(base_url=self.url, verify=context, timeout=30.0)

    def metric(self, name: str, **labels: str) -> float:
        """One sample of /metrics, 0 where there is none."""
        inside = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
        wanted = f"{name}{{{inside}}} " if inside else f"{name} "
        text = httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics").text
        lines = [line for line in text.splitlines() if line.startswith(wanted)]
        return float(lines[0].rpartition(" ")[2]) if lines else 0.0


def environment_of(layout: Layout) -> dict[str, str]:
    """The variables of a home's gateway, without those of its development issuer."""
    names = read_settings({}).variable_name
    chosen = {name: str(value) for name, value in gateway_overrides(layout).items()}
    del chosen["jwks_file"]
    return {names(name): value for name, value in chosen.items()}


def prepared_home(folder: Path) -> Layout:
    """A development home with a sealed demo model, without a drift reference."""
    layout = layout_of(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = read_settings({}, **gateway_overrides(layout))
    prepare(layout, settings, clock=lambda: datetime.now(UTC), console=Console(quiet=True))
    return layout


@contextmanager
def opened_door(layout: Layout, environment: Mapping[str, str]) -> Iterator[Door]:
    """A gateway process on this home, ended in order afterwards."""
    reader, writer = os.pipe()
    metrics_port = free_port()
    ports = {"GATEWAY_PORT": "0", "GATEWAY_METRICS_PORT": str(metrics_port)}
    log_file = layout.state / "door.log"
    command = [sys.executable, "-m", "gateway", "serve", "--ready-descriptor", str(writer)]
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment_of(layout), **ports, **environment},
            pass_fds=(writer,),
            stderr=log,
        )
    os.close(writer)
    try:
        with os.fdopen(reader) as ready:
            line = ready.readline()
        assert line, log_file.read_text(encoding="utf-8")
        yield Door(layout, int(line), metrics_port, process)
    finally:
        process.terminate()
        process.wait(START_TIMEOUT_SECONDS)


def write_policy(file: Path, key_sets: Mapping[str, Path], rest: str = "") -> None:
    """A policy file that trusts these issuers by key sets in files."""
    issuers = [
        f"[[issuers]]\nissuer = {json.dumps(issuer)}\naudience = 'gatewatch'\n"
        f"jwks_file = {json.dumps(str(path))}\nmax_lifetime_seconds = 3600\n"
        for issuer, path in key_sets.items()
    ]
    file.write_text("\n".join([*issuers, rest]), encoding="utf-8")
    file.chmod(0o644)


def write_client_certificates(folder: Path, names: list[str]) -> dict[str, x509.Certificate]:
    """Client certificates NAME.pem and NAME.key by a client CA of their own, client-ca.pem."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("client CA", ca_key, None, ca_key)
    (folder / "client-ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    made = {}
    for name in names:
        key = ec.generate_private_key(ec.SECP256R1())
        made[name] = _certificate(name, key, ca, ca_key)
        pem = made[name].public_bytes(serialization.Encoding.PEM)
        (folder / f"{name}.pem").write_bytes(pem)
        content = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        (folder / f"{name}.key").write_bytes(content)
        (folder / f"{name}.key").chmod(0o600)
    return made


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate | None,
    ca_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(ca.subject if ca else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca is None, path_length=None), critical=True)
        .add_extension(_usage(is_ca=ca is None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
    )
    if ca is not None:
        client = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(client, critical=False)
    return builder.sign(ca_key, hashes.SHA256())


def _usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )
