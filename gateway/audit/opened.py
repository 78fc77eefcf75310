"""Opening a ledger to write to it: the key, the check that the ledger was begun, what witnesses saw of it."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import Engine

from gateway.audit.checkpoints import SignedCheckpoint
from gateway.audit.creation import verifier_of_ledger
from gateway.audit.history import LedgerHistory
from gateway.audit.keys import load_ledger_signer
from gateway.audit.notes import NoteSigner
from gateway.audit.outages import Outages
from gateway.audit.pseudonyms import preparation
from gateway.audit.signing import CheckpointSigner
from gateway.audit.witness_file import WitnessFile
from gateway.audit.witnesses import begin_missing_file, look_at_file, publish_quietly
from gateway.audit.writer import AuditLog
from gateway.errors import Code, LedgerError
from gateway.settings import GatewaySettings


def open_audit_log(
    engine: Engine,
    settings: GatewaySettings,
    *,
    outages: Callable[[], Outages] | None = None,
    on_checkpoint: Callable[[SignedCheckpoint], None] | None = None,
    begins_witness_file: bool = True,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> AuditLog:
    """The ledger that the settings name, open for writing.

    on_checkpoint: None to hand checkpoints to the witness file alone, from the writer's thread, as is good enough for
    a command. begins_witness_file: whether one that is missing is made. outages: opens what remembers outages, which
    the log then closes; None for a command, whose operator is told of each refusal. clock: UTC. Raises KeyFileError for
    its key or that of the pseudonyms, LedgerError if it was never begun, does not go on from what the witness file has,
    or what outages opens is missing, SettingsError if the witness file cannot be read.
    """
    signer = load_ledger_signer(settings.audit_key_file, origin=settings.audit_origin)
    require_begun(engine, signer)
    history = LedgerHistory(engine, signer.verifier)
    file, witnessed = look_at_file(settings, history)
    audit = AuditLog(
        engine=engine,
        signer=CheckpointSigner(signer, witnessed=witnessed),
        checkpoint_seconds=settings.audit_checkpoint_seconds,
        on_checkpoint=on_checkpoint or partial(_publish, file),
        prepare=preparation(settings),
        outages=None if outages is None else outages(),
        timeout_seconds=settings.audit_timeout_seconds,
    )
    if file is not None and not witnessed and begins_witness_file:
        begin_missing_file(audit, history, file, now=clock())
    return audit


def _publish(file: WitnessFile | None, signed: SignedCheckpoint) -> None:
    if file is not None:
        publish_quietly(file, signed)


def require_begun(
    engine: Engine,
    signer: NoteSigner,
    *,
    settings_prefix: str = "GATEWAY_",
    command: str = "gateway audit create",
) -> None:
    """Return if the ledger of this signer was begun with its key; nothing begins one by itself.

    settings_prefix, command: what the message names as settings and as what begins a ledger. Raises LedgerError.
    """
    begun_by = verifier_of_ledger(engine, signer.name)
    if begun_by is None:
        message = (
            f"this database has no ledger {signer.name}: run `{command}` once, or set "
            f"{settings_prefix}AUDIT_ORIGIN to the one that it has"
        )
        raise LedgerError(Code.LEDGER_BROKEN, message, reason="missing")
    if begun_by != signer.verifier.line():
        message = (
            f"the ledger {signer.name} was begun with another key than {settings_prefix}AUDIT_KEY_FILE has: "
            f"restore it, or set {settings_prefix}AUDIT_ORIGIN and run `{command}` to begin another ledger"
        )
        raise LedgerError(Code.LEDGER_BROKEN, message, reason="another key")
