"""Taking findings in the ledgers as known: on record before it is done and after, by the account that does it."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Engine

from gateway.audit.events import Action, printable
from monitor.jobs.ledger import OwnLedger
from monitor.jobs.security_storing import acknowledge
from monitor.records import ABOUT_LEDGER, Finding, Rule

_MAX_WHY_CHARACTERS = 200


def record_acknowledgement(
    ledger: OwnLedger,
    engine: Engine,
    rule: Rule,
    key: str | None,
    *,
    watched: frozenset[Rule],
    why: str,
    now: datetime,
) -> Sequence[Finding]:
    """Close the open findings of a rule, or the one of a key; gives them.

    watched: the rules that are not switched off. Raises NotReadyError if there is none, LedgerUnavailableError if it
    cannot be recorded, and as OwnLedger.check does.
    """
    told = printable(why, max_characters=_MAX_WHY_CHARACTERS)
    said = f"acknowledged: {told}" if told else "acknowledged"
    with ledger.made(
        engine,
        Action.ALARM_CHANGE,
        model_name=ABOUT_LEDGER,
        model_version="",
        details={"alarm": rule.value, "why": told},
    ) as making:
        closed = acknowledge(engine, rule, key, watched=watched, why=said, now=now)
        # By their numbers: whom they are about stands in the records that they are about.
        making.add(findings=[str(finding.id) for finding in closed])
    return closed
