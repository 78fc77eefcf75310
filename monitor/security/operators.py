"""What operators do when nobody is there, and what others try that only operators may.

Rules: who is denied an operator's action is told at once; who lacks the second factor, or whose token is refused
there, only when it goes on, since signing in again is what honest operators are asked for.
"""

from collections.abc import Sequence

from gateway.audit.events import Action, Outcome
from gateway.errors import Code
from monitor.hours import WorkingHours
from monitor.records import Rule
from monitor.security.bursts import Burst
from monitor.security.findings import Hit
from monitor.security.seen import SeenRecord

# Not KEYS_USE, which every start of a gateway is, nor what the gateway does by itself.
OPERATOR_ACTIONS = frozenset(
    {
        Action.MODELS_SEAL,
        Action.MODELS_PROMOTE,
        Action.MODELS_ROLLBACK,
        Action.MODELS_RETIRE,
        Action.MODELS_TRAFFIC,
        Action.KEYS_CREATE,
        Action.KEYS_ROTATE,
        Action.TOKENS_REVOKE,
        Action.TOKENS_RESTORE,
        Action.AUDIT_CREATE,
        Action.REFERENCE_MAKE,
    }
)
_NOT_SHOWN_TO_BE_ONE = frozenset({Code.AUTHN_STEP_UP, Code.AUTHN_INVALID, Code.AUTHN_MISSING})


class RefusedOperators:
    """Operator actions that were refused, by principal, or by address before there is one."""

    def __init__(self, *, denied: Burst | None, unproven: Burst | None) -> None:
        """denied: for want of a role; unproven: for want of a token or a second factor. None: not looked for."""
        self._denied = denied
        self._unproven = unproven

    def observe(self, record: SeenRecord) -> Sequence[Hit]:
        """What a refused record adds to."""
        if record.outcome != Outcome.REFUSED or record.action not in OPERATOR_ACTIONS:
            return ()
        key = record.principal or record.address or record.place.origin
        if record.code == Code.AUTHZ_DENIED:
            return () if self._denied is None else self._denied.add(key, record)
        if record.code in _NOT_SHOWN_TO_BE_ONE and self._unproven is not None:
            return self._unproven.add(key, record)
        return ()


class OffHours:
    """Operator actions outside the working hours, whether they succeeded or not."""

    def __init__(self, hours: WorkingHours, *, excepted_subjects: frozenset[str]) -> None:
        """excepted_subjects: who may work at any time, as automation does."""
        self._hours = hours
        self._excepted = excepted_subjects

    def observe(self, record: SeenRecord) -> Sequence[Hit]:
        """A hit for each record of such work; what was refused is told by its own rule."""
        if record.action not in OPERATOR_ACTIONS or record.outcome == Outcome.REFUSED:
            return ()
        if record.subject in self._excepted or self._hours.holds(record.at_seconds):
            return ()
        who = record.principal or record.place.origin
        words = f"{record.action} at {self._hours.local_time(record.at_seconds)}"
        return (
            Hit(
                Rule.OPERATOR_OFF_HOURS,
                who,
                record.at_seconds,
                record.at_seconds,
                1,
                words,
                (record.place,),
            ),
        )
