"""A real OpenID provider as a process of its own, which signs access tokens and rotates its keys on demand."""

import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import httpx

from gateway.dev.certificates import create_certificates

ROOT = Path(__file__).resolve().parents[2]
RESOURCE = "https://gateway.example"

_PROGRAM = ROOT / "tests" / "system" / "oidc_provider" / "provider.mjs"
_FETCHED = ROOT / ".venv" / "oidc-provider"
_STOP_SECONDS = 30


class ProviderMissingError(Exception):
    """There is no OpenID provider here; the text says why."""


@dataclass(frozen=True, slots=True)
class OpenIdProvider:
    """A running provider. issuer: its https URL. ca_file: who vouches for it."""

    issuer: str
    ca_file: Path
    _input: IO[str]
    _output: IO[str]

    def client(self) -> httpx.Client:
        """A client that asks for tokens, as a camera would."""
        context = ssl.create_default_context(cafile=self.ca_file)
        return httpx.Client(base_url=self.issuer, verify=context, trust_env=False, timeout=30)

    def token(self, client_id: str, *, client: httpx.Client) -> str:
        """An access token of a client, by the grant client_credentials."""
        answer = client.post(
            "/token",
            data={"grant_type": "client_credentials", "resource": RESOURCE},
            auth=(client_id, f"{client_id}-secret"),
        )
        token: str = answer.raise_for_status().json()["access_token"]
        return token

    def rotate(self) -> str:
        """Sign with a new key from now on, keep the one before published, drop older ones; the new key's id."""
        self._input.write("rotate\n")
        self._input.flush()
        return self._output.readline().strip()


@contextmanager
def openid_provider(
    folder: Path, *, audience: str, claims: Mapping[str, Mapping[str, Any]]
) -> Iterator[OpenIdProvider]:
    """A provider with a certificate and a log in a folder, ended afterwards.

    claims: by client id, what the tokens of that client carry besides the claims of RFC 9068. Raises
    ProviderMissingError where it cannot be started.
    """
    node = shutil.which("node")
    if node is None or not (_FETCHED / "node_modules" / "oidc-provider").is_dir():
        raise ProviderMissingError("no OpenID provider: run scripts/oidc_provider.sh")
    create_certificates(folder / "certs", now=datetime.now(UTC))
    files = [str(folder / "certs" / name) for name in ("server.pem", "server.key")]
    with (
        (folder / "provider.log").open("wb") as log,
        subprocess.Popen(
            [node, str(_PROGRAM), str(_FETCHED), *files, audience, json.dumps(claims)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("internal: pipes were asked for")
        try:
            port = process.stdout.readline().strip()
            if not port:
                text = (folder / "provider.log").read_text(encoding="utf-8")
                raise ProviderMissingError(f"the OpenID provider does not start: {text}")
            ca_file = folder / "certs" / "ca.pem"
            issuer = f"https://127.0.0.1:{port}"
            yield OpenIdProvider(issuer, ca_file, process.stdin, process.stdout)
        finally:
            process.stdin.close()  # Its sign to end.
            process.wait(_STOP_SECONDS)
