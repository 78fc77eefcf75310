"""What a principal may do: roles give permissions, and nothing else does.

Rules: denied by default; an unknown role gives nothing; every restriction must hold, whether the role has it here or
the token adds it (`role:model@version`, see roles). Pure: the decision depends on the arguments alone.

| role     | predict | models.read | models.write | audit.read | audit.prove |
|----------|---------|-------------|--------------|------------|-------------|
| client   | yes     | yes         |              |            | yes         |
| analyst  |         | yes         |              |            | yes         |
| auditor  |         | yes         |              | yes        | yes         |
| operator |         | yes         | yes          |            | yes         |
| metrics  |         |             |              |            |             |

Operators and auditors send no images: whoever may change the model or reads the audit log is not the one who calls. An
operator changes models only with a second factor that is at most 15 minutes old. Without audit.read, audit.prove is
good for the records of one's own calls.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TypeVar

from gateway.errors import AuthzError, Code
from gateway.identity.principal import Principal
from gateway.identity.roles import RoleText, fits, read_role
from gateway.identity.step_up import SecondFactor

_Limit = TypeVar("_Limit", str, int)

EVERYTHING = "*"
WINDOW_SECONDS: Mapping[str, int] = MappingProxyType(
    {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
)


class Permission(StrEnum):
    """What code checks before it does something for a principal."""

    PREDICT = "predict"
    MODELS_READ = "models.read"
    MODELS_WRITE = "models.write"
    AUDIT_READ = "audit.read"
    AUDIT_PROVE = "audit.prove"


class DecisionReason(StrEnum):
    """The reasons that an audit record may give for a decision."""

    GRANTED = "granted"
    NO_KNOWN_ROLE = "no_known_role"
    OTHER_MODEL = "other_model"
    OTHER_VERSION = "other_version"
    NOT_PERMITTED = "not_permitted"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether something is allowed, and why."""

    allowed: bool
    reason: DecisionReason


@dataclass(frozen=True, slots=True)
class RoleLimits:
    """How much a principal may ask; None is what the setting of that kind says.

    requests: "N/second", "N/minute", "N/hour" or "N/day"; empty is no limit. concurrency: calls at the same time, at
    least 1. daily_images: by UTC day; 0 is no limit.
    """

    requests: str | None = None
    concurrency: int | None = None
    daily_images: int | None = None


@dataclass(frozen=True, slots=True)
class Role:
    """What a role gives, and where; models and versions are patterns, None restricts nothing."""

    permissions: frozenset[Permission]
    models: tuple[str, ...] | None = None
    versions: tuple[str, ...] | None = None
    limits: RoleLimits = RoleLimits()


@dataclass(frozen=True, slots=True)
class Policy:
    """The roles that count, by name, and what else a permission asks for; no code can change it."""

    roles: Mapping[str, Role]
    second_factors: Mapping[Permission, SecondFactor]

    def __post_init__(self) -> None:
        """Keep copies that nobody can change."""
        object.__setattr__(self, "roles", MappingProxyType(dict(self.roles)))
        object.__setattr__(self, "second_factors", MappingProxyType(dict(self.second_factors)))


DEFAULT_POLICY = Policy(
    roles={
        "client": Role(
            frozenset({Permission.PREDICT, Permission.MODELS_READ, Permission.AUDIT_PROVE})
        ),
        "analyst": Role(frozenset({Permission.MODELS_READ, Permission.AUDIT_PROVE})),
        "auditor": Role(
            frozenset({Permission.MODELS_READ, Permission.AUDIT_READ, Permission.AUDIT_PROVE})
        ),
        "operator": Role(
            frozenset({Permission.MODELS_READ, Permission.MODELS_WRITE, Permission.AUDIT_PROVE})
        ),
        "metrics": Role(frozenset()),
    },
    second_factors={
        Permission.MODELS_WRITE: SecondFactor(
            # OpenID PAPE 1.0's name for it, which Auth0 uses, and RFC 8176's.
            acr=("http://schemas.openid.net/pape/policies/2007/06/multi-factor",),
            amr=frozenset({"mfa"}),
            max_age_seconds=15 * 60,
        )
    },
)

# Whoever was let make a call may prove it: a role for one model is enough, whichever the record is about.
_OF_NO_MODEL = frozenset({Permission.AUDIT_PROVE})

# Of several roles, the one that came closest says why it was not enough.
_CLOSENESS = (
    DecisionReason.NO_KNOWN_ROLE,
    DecisionReason.OTHER_MODEL,
    DecisionReason.OTHER_VERSION,
    DecisionReason.NOT_PERMITTED,
)

Grants = Mapping[str, frozenset[Permission]]
DEFAULT_GRANTS: Grants = MappingProxyType(
    {name: role.permissions for name, role in DEFAULT_POLICY.roles.items()}
)


def decide(
    policy: Policy,
    principal: Principal,
    permission: Permission,
    model: str | None,
    version: str | None,
) -> Decision:
    """Whether a principal has a permission on a model's version.

    model None stands for all models at once, which only a role without restrictions covers. version None is one that is
    not known yet: what is denied is denied for every version, what is allowed must be asked again once it is known.
    Restrictions do not count for AUDIT_PROVE, which is about no model.
    """
    reason = DecisionReason.NO_KNOWN_ROLE
    for role, text in _known(policy, principal):
        of_role = _reason(role, text, permission, model, version)
        if of_role is DecisionReason.GRANTED:
            return Decision(allowed=True, reason=of_role)
        reason = max(reason, of_role, key=_CLOSENESS.index)
    return Decision(allowed=False, reason=reason)


def require(
    principal: Principal,
    permission: Permission,
    model: str | None,
    version: str | None,
    *,
    policy: Policy,
) -> None:
    """Return if the principal has the permission on the model's version, as decide says.

    Raises AuthzError (AUTHZ_DENIED) with the DecisionReason as its reason otherwise.
    """
    decision = decide(policy, principal, permission, model, version)
    if not decision.allowed:
        message = "your roles do not allow this: ask the operator for a role that does"
        raise AuthzError(Code.AUTHZ_DENIED, message, reason=decision.reason.value)


def limits_of(policy: Policy, principal: Principal) -> RoleLimits:
    """The most generous of each limit that a role of the principal names; None where none does."""
    limits = [role.limits for role, _ in _known(policy, principal)]
    if len(limits) == 1:
        return limits[0]
    return RoleLimits(
        requests=_most((limit.requests for limit in limits), _per_second),
        concurrency=_most((limit.concurrency for limit in limits), float),
        daily_images=_most((limit.daily_images for limit in limits), _budget),
    )


def _known(policy: Policy, principal: Principal) -> list[tuple[Role, RoleText]]:
    texts = map(read_role, principal.roles)
    return [(policy.roles[text.name], text) for text in texts if text.name in policy.roles]


def _reason(
    role: Role, text: RoleText, permission: Permission, model: str | None, version: str | None
) -> DecisionReason:
    if permission in _OF_NO_MODEL and permission in role.permissions:
        return DecisionReason.GRANTED
    if not (_is_among(role.models, model) and _is_among(_only(text.model), model)):
        return DecisionReason.OTHER_MODEL
    # All models at once are all their versions, too: then None is no open question.
    covers = _may_be_among if version is None and model is not None else _is_among
    if not (covers(role.versions, version) and covers(_only(text.version), version)):
        return DecisionReason.OTHER_VERSION
    if permission not in role.permissions:
        return DecisionReason.NOT_PERMITTED
    return DecisionReason.GRANTED


def _is_among(patterns: tuple[str, ...] | None, text: str | None) -> bool:
    if patterns is None or EVERYTHING in patterns:
        return True
    return text is not None and any(fits(pattern, text) for pattern in patterns)


def _may_be_among(patterns: tuple[str, ...] | None, _unknown: str | None) -> bool:
    # Some version fits every pattern but an empty one; whether one fits all of them is asked again once it is known.
    return patterns is None or any(patterns)


def _only(pattern: str | None) -> tuple[str, ...] | None:
    return None if pattern is None else (pattern,)


def _most(limits: Iterable[_Limit | None], generosity: Callable[[_Limit], float]) -> _Limit | None:
    return max((limit for limit in limits if limit is not None), key=generosity, default=None)


def _per_second(requests: str) -> float:
    count, _, window = requests.partition("/")
    return int(count) / WINDOW_SECONDS[window] if requests else math.inf


def _budget(daily_images: int) -> float:
    return daily_images or math.inf
