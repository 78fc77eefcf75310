"""What a principal may do: roles give permissions, and nothing else does.

Rules: denied by default; an unknown role gives nothing; a role written `role:model` counts for that
one model only. Pure: the decision depends on the arguments alone.

| role     | predict | models.read | models.write |
|----------|---------|-------------|--------------|
| client   | yes     | yes         |              |
| analyst  |         | yes         |              |
| auditor  |         | yes         |              |
| operator |         | yes         | yes          |
| metrics  |         |             |              |

Operators and auditors send no images: whoever may change the model or reads the audit log is not
the one who calls.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from gateway.errors import AuthzError, Code
from gateway.identity.principal import Principal


class Permission(StrEnum):
    """What code checks before it does something for a principal."""

    PREDICT = "predict"
    MODELS_READ = "models.read"
    MODELS_WRITE = "models.write"


class DecisionReason(StrEnum):
    """The reasons that an audit record may give for a decision."""

    GRANTED = "granted"
    NO_KNOWN_ROLE = "no_known_role"
    OTHER_MODEL = "other_model"
    NOT_PERMITTED = "not_permitted"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether something is allowed, and why."""

    allowed: bool
    reason: DecisionReason


Grants = Mapping[str, frozenset[Permission]]

DEFAULT_GRANTS: Grants = MappingProxyType(
    {
        "client": frozenset({Permission.PREDICT, Permission.MODELS_READ}),
        "analyst": frozenset({Permission.MODELS_READ}),
        "auditor": frozenset({Permission.MODELS_READ}),
        "operator": frozenset({Permission.MODELS_READ, Permission.MODELS_WRITE}),
        "metrics": frozenset(),
    }
)


def decide(
    principal: Principal,
    permission: Permission,
    model: str | None,
    *,
    grants: Grants = DEFAULT_GRANTS,
) -> Decision:
    """Whether a principal has a permission on a model; None stands for all models at once."""
    known = [role for role in principal.roles if role.partition(":")[0] in grants]
    if not known:
        return Decision(allowed=False, reason=DecisionReason.NO_KNOWN_ROLE)
    fitting = [role for role in known if _covers(role, model)]
    if not fitting:
        return Decision(allowed=False, reason=DecisionReason.OTHER_MODEL)
    if any(permission in grants[role.partition(":")[0]] for role in fitting):
        return Decision(allowed=True, reason=DecisionReason.GRANTED)
    return Decision(allowed=False, reason=DecisionReason.NOT_PERMITTED)


def require(
    principal: Principal,
    permission: Permission,
    model: str | None,
    *,
    grants: Grants = DEFAULT_GRANTS,
) -> None:
    """Return if the principal has the permission on the model.

    Raises AuthzError (AUTHZ_DENIED) with the DecisionReason as its reason otherwise.
    """
    decision = decide(principal, permission, model, grants=grants)
    if not decision.allowed:
        message = "your roles do not allow this: ask the operator for a role that does"
        raise AuthzError(Code.AUTHZ_DENIED, message, reason=decision.reason.value)


def _covers(role: str, model: str | None) -> bool:
    _, separator, only_model = role.partition(":")
    return not separator or only_model == model  # Never equal to None, all models at once.
