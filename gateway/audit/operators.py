"""Who runs a command on the host, as the operating system says it."""

import os
import pwd
from datetime import datetime

from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.pseudonyms import OPERATING_SYSTEM


def operating_system_event(action: Action, *, client_id: str, now: datetime) -> AuditEvent:
    """The first record of what a program of ours does here; client_id: its name. now: UTC."""
    return AuditEvent(
        action=action,
        outcome=Outcome.ADMITTED,
        recorded_at=now,
        issuer=OPERATING_SYSTEM,
        subject=account_name(),
        client_id=client_id,
    )


def account_name() -> str:
    """The account that runs this process, or its number where it has no name."""
    # Not getpass.getuser: that believes LOGNAME and USER, which whoever runs the command sets.
    user_id = os.getuid()
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)
