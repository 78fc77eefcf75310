"""One look at everything that a start needs: what is good, what is doubtful, what is broken, and what mends it.

Rules: nothing is changed and nothing is created, but for the records of KEKs that opened a model; each check stands
alone, so that one fault hides no other; a version is opened, compiled and asked for its golden set just as a start
would, and not without a ledger to record that in.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

from cryptography import x509
from rich.console import Console
from sqlalchemy import Engine

from gateway.api.tls import TlsFiles, tls_context
from gateway.audit.details import format_detail
from gateway.audit.events import Action, Outcome
from gateway.audit.opened import open_audit_log
from gateway.audit.writer import AuditLog
from gateway.commands.findings import Finding, Mark, attempt, broken, good
from gateway.commands.issuer_findings import issuer_findings
from gateway.commands.machine_differences import machine_differences
from gateway.commands.made_with import facts_of_machine
from gateway.commands.opening import (
    open_keks,
    open_trusted_signers,
    opened_store,
    operator_event,
    utc_now,
)
from gateway.commands.outage_findings import outage_finding
from gateway.commands.process_memory import MemoryProtection, protect_process
from gateway.errors import GatewayError
from gateway.models.loading import Loader, loader_of
from gateway.sealing.container import SealedHeader
from gateway.sealing.files import read_sealed_model
from gateway.sealing.keys import KeyProvider
from gateway.sealing.models_folder import find_unfinished
from gateway.sealing.private_folder import find_leftovers
from gateway.sealing.sealed_model import read_header
from gateway.sealing.signers import TrustedSigner
from gateway.settings import GatewaySettings
from gateway.store.queries.models import list_model_versions
from gateway.store.records import ModelVersion, Stage, Traffic

_WARN_BEFORE_DAYS = 14


def examine(settings: GatewaySettings, *, as_json: bool) -> None:
    """Print every finding; exits 1 if something is broken."""
    protection = protect_process()
    findings = []
    console = Console(stderr=True)
    with console.status("examining"):
        for finding in _examine(settings, protection):
            findings.append(finding)
            if not as_json:
                _show(finding)
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings]))
    if any(finding.mark is Mark.BROKEN for finding in findings):
        sys.exit(1)


def _show(finding: Finding) -> None:
    print(f"{finding.mark.value:8}  {finding.subject}: {finding.said}")


def _examine(settings: GatewaySettings, protection: MemoryProtection) -> Iterator[Finding]:
    yield good("settings", "read without mistakes")
    yield from _memory(protection)
    yield from _left_over(settings)
    yield _certificate(settings, utc_now())
    pair = attempt("TLS", lambda: tls_context(TlsFiles.of(settings)))
    yield pair if isinstance(pair, Finding) else good("TLS", "certificate, key and client CA load")
    yield from issuer_findings(settings)
    keks = attempt("keys", lambda: open_keks(settings))
    signers = attempt("trusted signers", lambda: open_trusted_signers(settings))
    yield from _of_keys(keks, signers)
    yield outage_finding(settings)
    try:
        with opened_store(settings) as store:
            yield good("database", "answers, with the tables of this release")
            yield from _of_store(settings, store, keks, signers)
    except GatewayError as exc:
        yield broken("database", exc)


def _of_store(
    settings: GatewaySettings,
    store: Engine,
    keks: list[KeyProvider] | Finding,
    signers: list[TrustedSigner] | Finding,
) -> Iterator[Finding]:
    # Who looks for a witness file that is gone must still find it gone.
    ledger = attempt(
        "ledger",
        lambda: open_audit_log(
            store, settings, on_checkpoint=lambda _signed: None, begins_witness_file=False
        ),
    )
    if isinstance(ledger, Finding):
        yield ledger
        yield Finding("models", Mark.DOUBTFUL, "not examined: the ledger comes first")
        return
    with closing(ledger):
        yield good("ledger", f"{ledger.origin} goes on from what was signed")
        yield from _witness_file(settings)
        yield from _of_models(settings, store, keks, signers, ledger)


def _witness_file(settings: GatewaySettings) -> Iterator[Finding]:
    file = settings.audit_witness_file
    if file and not Path(file).exists():
        said = f"there is no {file}: the next start begins it, and says so in the ledger"
        yield Finding("witness file", Mark.DOUBTFUL, said)


def _of_models(
    settings: GatewaySettings,
    store: Engine,
    keks: list[KeyProvider] | Finding,
    signers: list[TrustedSigner] | Finding,
    ledger: AuditLog,
) -> Iterator[Finding]:
    if isinstance(keks, Finding) or isinstance(signers, Finding):
        yield Finding("models", Mark.DOUBTFUL, "not examined: the keys come first")
    else:
        loader = loader_of(settings, keks=keks, trusted_signers=signers)
        yield from _models(settings, store, loader, ledger)


def _memory(protection: MemoryProtection) -> Iterator[Finding]:
    gaps = protection.gaps()
    if not gaps:
        yield good("memory", "weights are neither dumped nor swapped")
    for gap in gaps:
        yield Finding("memory", Mark.DOUBTFUL, gap)


def _left_over(settings: GatewaySettings) -> Iterator[Finding]:
    for folder in find_leftovers():
        said = (
            f"{folder} holds what a sealing that was killed had in the clear, weights perhaps: the next "
            "`gateway seal` overwrites and removes it"
        )
        yield Finding("plaintext", Mark.BROKEN, said)
    for file in find_unfinished(settings.models_folder):
        said = (
            f"the writing of {file} was cut short, and it may open with a KEK that is no longer wanted: "
            "`gateway keys rotate` removes it"
        )
        yield Finding("models folder", Mark.DOUBTFUL, said)


def _certificate(settings: GatewaySettings, now: datetime) -> Finding:
    subject = "TLS certificate"
    file = settings.tls_certificate_file
    try:
        end = x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc
    except OSError as exc:
        return Finding(subject, Mark.BROKEN, f"cannot read {file}: {exc.strerror}")
    except ValueError:
        return Finding(subject, Mark.BROKEN, f"{file} holds no certificate in PEM: replace it")
    said = f"valid until {end.date().isoformat()}"
    if end <= now:
        return Finding(subject, Mark.BROKEN, f"{said}, which is over: renew it")
    is_soon = (end - now).days < _WARN_BEFORE_DAYS
    return Finding(subject, Mark.DOUBTFUL if is_soon else Mark.GOOD, said)


def _of_keys(
    keks: list[KeyProvider] | Finding, signers: list[TrustedSigner] | Finding
) -> Iterator[Finding]:
    if isinstance(keks, Finding):
        yield keks
    else:
        for kek in keks:
            yield good(f"KEK {kek.kek_id}", f"opens, wraps with {kek.algorithm}")
    if isinstance(signers, Finding):
        yield signers
    else:
        for signer in signers:
            yield good("trusted signer", signer.signer_id)


def _models(
    settings: GatewaySettings, store: Engine, loader: Loader, ledger: AuditLog
) -> Iterator[Finding]:
    with store.connect() as connection:
        versions = list_model_versions(connection)
    used = [version for version in versions if _is_used(version)]
    if not any(version.name == settings.model_name for version in used):
        said = (
            f"no version of {settings.model_name!r} is in production: seal one (`gateway seal`) "
            "and promote it (`gateway models promote`)"
        )
        yield Finding("models", Mark.BROKEN, said)
    for version in used:
        yield from _model(version, settings, loader, ledger)


def _is_used(version: ModelVersion) -> bool:
    return version.stage is Stage.PRODUCTION or version.traffic is not Traffic.NONE


def _model(
    version: ModelVersion, settings: GatewaySettings, loader: Loader, ledger: AuditLog
) -> Iterator[Finding]:
    subject = version.label
    header = attempt(subject, lambda: _header(version, settings, loader))
    if isinstance(header, Finding):
        yield header
        return
    here = facts_of_machine(engine=header.engine)
    for difference in machine_differences(
        header.made_with, here, engine=header.engine, precision=header.precision
    ):
        mark = Mark.BROKEN if difference.is_wrong else Mark.DOUBTFUL
        yield Finding(subject, mark, difference.text)
    for gate, said in header.gates.items():
        is_passed = said.startswith("passed")
        yield Finding(subject, Mark.GOOD if is_passed else Mark.DOUBTFUL, f"{gate} {said}")
    yield _loaded(version, header, loader, ledger)


def _header(version: ModelVersion, settings: GatewaySettings, loader: Loader) -> SealedHeader:
    sealed = read_sealed_model(
        settings.models_folder,
        name=version.name,
        version=version.version,
        max_bytes=settings.max_model_bytes,
    )
    return read_header(sealed, trusted_signers=loader.trusted_signers)


def _loaded(
    version: ModelVersion, header: SealedHeader, loader: Loader, ledger: AuditLog
) -> Finding:
    def load() -> Finding:
        proved = loader.prove(version)
        detail = format_detail(kek=proved.kek_id, use="open-model")
        event = operator_event(
            Action.KEYS_USE,
            model_name=version.name,
            model_version=version.version,
            detail=detail,
        )
        ledger.append_blocking(replace(event, outcome=Outcome.ANSWERED))
        said = f"opens, runs on {header.engine} in {header.precision}, reproduces its golden set"
        return good(version.label, said)

    return attempt(version.label, load)
