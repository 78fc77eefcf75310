"""The policy file: issuers, roles and second factors as an operator writes them, in TOML.

Rules:
- Taken whole or not at all; every mistake is named at once.
- What is named replaces its default, what is not keeps it: a file that only adds a role changes no other.
- An issuer beside others gives what it may give here, and its own words decide nothing else.

Nothing is read from disk; docs/policy.toml is an example with every member.
"""

import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.errors import Code, SettingsError
from gateway.identity.policy import DEFAULT_POLICY, Permission, Policy, Role, RoleLimits
from gateway.identity.policy_forms import (
    IssuerForm,
    RoleForm,
    SecondFactorForm,
    check_role_name,
    check_url,
    near,
    read_form,
    unknown_members,
)
from gateway.identity.roles import ClaimMapping, read_role
from gateway.identity.step_up import SecondFactor

MAX_POLICY_CHARACTERS = 1 << 20

_SECTIONS = ("issuers", "roles", "second_factor")
_KEY_SOURCES = ("jwks_file", "jwks_url", "discover")
_DEFAULTS = "defaults"
# What a permission asks for where its table does not say.
_USUAL_FACTOR = DEFAULT_POLICY.second_factors[Permission.MODELS_WRITE]


@dataclass(frozen=True, slots=True)
class IssuerConfig:
    """An issuer to trust, as configured.

    jwks_file, jwks_url, is_discovered: where its keys are; exactly one of them says it. ca_file: who vouches for the
    server of the keys; None is the system's authorities. max_lifetime_seconds: None is what the setting says.
    clock_skew_seconds: 0 to 60. is_sender_constrained: tokens must be bound to a certificate or a key.
    """

    issuer: str
    audience: str
    jwks_file: Path | None
    jwks_url: str | None
    is_discovered: bool
    ca_file: Path | None
    max_lifetime_seconds: int | None
    clock_skew_seconds: int
    is_sender_constrained: bool
    mapping: ClaimMapping


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """What the file says; warnings are what a careful operator would not have written, one sentence each."""

    policy: Policy
    issuers: tuple[IssuerConfig, ...]
    warnings: tuple[str, ...]


def read_policy(text: str) -> PolicyFile:
    """The content of a policy file; an empty one is DEFAULT_POLICY and no issuers.

    Raises SettingsError listing every mistake, one a line. Source of the syntax: TOML 1.0.
    """
    document = _parse(text)
    mistakes = unknown_members(document, _SECTIONS, "")
    roles = _read_roles(document.get("roles", {}), mistakes)
    second_factors = _read_second_factors(document.get("second_factor", {}), mistakes)
    issuers = _read_issuers(document.get("issuers", []), tuple(roles), mistakes)
    if mistakes:
        raise _wrong("\n".join(mistakes))
    policy = Policy(
        roles={name: role for name, role in roles.items() if role is not None},
        second_factors=second_factors,
    )
    return PolicyFile(policy, issuers, tuple(_warnings(policy, issuers)))


def _parse(text: str) -> dict[str, Any]:
    if len(text) > MAX_POLICY_CHARACTERS:
        raise _wrong(f"it has more than {MAX_POLICY_CHARACTERS} characters; name the policy file")
    try:
        return tomllib.loads(text)
    except ValueError as exc:  # TOMLDecodeError is one; a number that is too long is another.
        raise _wrong(f"it is not TOML: {exc}") from exc
    except RecursionError as exc:
        raise _wrong(
            "it is not TOML that anybody wrote: too many brackets inside each other"
        ) from exc


def _read_roles(section: Any, mistakes: list[str]) -> dict[str, Role | None]:
    """Every role there is, by name; None stands for one with mistakes."""
    if not isinstance(section, Mapping):
        mistakes.append("roles: write a table [roles.NAME] for each role")
        return dict(DEFAULT_POLICY.roles)
    named = {name: table for name, table in section.items() if name != _DEFAULTS}
    roles: dict[str, Role | None] = {}
    if _keeps_defaults(section, mistakes):
        roles |= DEFAULT_POLICY.roles
    for name, table in named.items():
        roles[name] = _read_role(name, table, mistakes)
    if not roles:
        mistakes.append("roles: with defaults = false nobody may do anything; write [roles.NAME]")
    return roles


def _keeps_defaults(section: Mapping[str, Any], mistakes: list[str]) -> bool:
    keeps = section.get(_DEFAULTS, True)
    if not isinstance(keeps, bool):
        mistakes.append("roles.defaults: write true or false")
        return True
    return keeps


def _read_role(name: str, table: Any, mistakes: list[str]) -> Role | None:
    where = f"[roles.{name}]"
    try:
        check_role_name(name)
    except ValueError as exc:
        mistakes.append(f"{where}: {exc}")
    if not isinstance(table, Mapping):
        mistakes.append(f"roles.{name}: write a table [roles.{name}]; only {_DEFAULTS} is no role")
        return None
    form = read_form(RoleForm, table, where=where, roles=(), mistakes=mistakes)
    if form is None:
        return None
    return Role(
        permissions=frozenset(form.permissions),
        models=None if form.models is None else tuple(form.models),
        versions=None if form.versions is None else tuple(form.versions),
        limits=RoleLimits(form.requests, form.concurrency, form.daily_images),
    )


def _read_second_factors(section: Any, mistakes: list[str]) -> dict[Permission, SecondFactor]:
    factors = dict(DEFAULT_POLICY.second_factors)
    if not isinstance(section, Mapping):
        mistakes.append('second_factor: write a table [second_factor."PERMISSION"]')
        return factors
    for name, table in section.items():
        if name not in tuple(Permission):
            hint = f"{near(name, Permission)} Write it in quotes"
            mistakes.append(f"[second_factor]: there is no permission {name!r}; {hint}")
        elif table is False:
            factors.pop(Permission(name), None)
        else:
            factor = _read_second_factor(f'[second_factor."{name}"]', table, mistakes)
            factors |= {} if factor is None else {Permission(name): factor}
    return factors


def _read_second_factor(where: str, table: Any, mistakes: list[str]) -> SecondFactor | None:
    form = read_form(SecondFactorForm, table, where=where, roles=(), mistakes=mistakes)
    if form is None:
        return None
    acr, amr = form.acr, form.amr
    if acr is None and amr is None:
        # A table that is only about the age must not take the factor away.
        acr, amr = list(_USUAL_FACTOR.acr), list(_USUAL_FACTOR.amr)
    if not acr and not amr:
        mistakes.append(
            f"{where}: it asks for nothing; name acr or amr, or write false in its place"
        )
        return None
    return SecondFactor(
        acr=tuple(acr or ()),
        amr=frozenset(amr or ()),
        max_age_seconds=form.max_age_minutes * 60 or None,
    )


def _read_issuers(
    section: Any, roles: tuple[str, ...], mistakes: list[str]
) -> tuple[IssuerConfig, ...]:
    if not isinstance(section, list):
        mistakes.append("issuers: write [[issuers]], with two brackets, before each issuer")
        return ()
    forms = []
    for number, table in enumerate(section, start=1):
        where = f"[[issuers]] number {number}"
        form = read_form(IssuerForm, table, where=where, roles=roles, mistakes=mistakes)
        found = _contradictions(table) if isinstance(table, Mapping) else []
        if form is not None:
            forms.append(form)
            found += _dead_mappings(form)
        mistakes += [f"{where}: {mistake}" for mistake in found]
    for issuer, count in Counter(form.issuer for form in forms).items():
        if count > 1:
            mistakes.append(f"[[issuers]]: {issuer} occurs {count} times; keep one")
    return tuple(map(_issuer, forms))


def _contradictions(table: Mapping[str, Any]) -> list[str]:
    """What no single member of an issuer can tell."""
    mistakes = []
    named = [member for member in _KEY_SOURCES if member in table]
    if len(named) != 1:
        got = " and ".join(named) or "none"
        mistakes.append(f"name one of jwks_file, jwks_url and discover = true (got {got})")
    if "ca_file" in table and "jwks_file" in table:
        mistakes.append("ca_file: keys in a file need no server; remove it")
    if "keep_unmapped" in table and "role_map" not in table:
        mistakes.append("keep_unmapped: without a role_map every name is kept; remove it")
    if "discover" in table:
        mistakes += _undiscoverable(table.get("issuer"))
    return mistakes


def _undiscoverable(issuer: Any) -> list[str]:
    try:
        if isinstance(issuer, str) and "?" in check_url(issuer):
            return ["issuer: discover = true needs one without a query (RFC 8414 section 2)"]
    except ValueError as exc:
        return [f"issuer: discover = true needs a URL: {exc}"]
    return []


def _dead_mappings(form: IssuerForm) -> list[str]:
    if form.allowed_roles is None or form.role_map is None:
        return []
    return [
        f"role_map.{theirs}: {ours} is outside of allowed_roles; allow it or remove the line"
        for theirs, ours in form.role_map.items()
        if read_role(ours).name not in form.allowed_roles
    ]


def _issuer(form: IssuerForm) -> IssuerConfig:
    allowed = form.allowed_roles
    return IssuerConfig(
        issuer=form.issuer,
        audience=form.audience,
        jwks_file=None if form.jwks_file is None else Path(form.jwks_file),
        jwks_url=form.jwks_url,
        is_discovered=form.discover,
        ca_file=None if form.ca_file is None else Path(form.ca_file),
        max_lifetime_seconds=form.max_lifetime_seconds,
        clock_skew_seconds=form.clock_skew_seconds,
        is_sender_constrained=form.sender_constrained,
        mapping=ClaimMapping(
            path=tuple(form.roles_claim),
            is_space_separated=form.roles_are == "space-separated",
            role_map=form.role_map,
            keep_unmapped=form.keep_unmapped,
            allowed_roles=None if allowed is None else frozenset(allowed),
        ),
    )


def _warnings(policy: Policy, issuers: tuple[IssuerConfig, ...]) -> list[str]:
    told = []
    for permission in DEFAULT_POLICY.second_factors:
        factor = policy.second_factors.get(permission)
        if factor is None:
            told.append(
                f"{permission.value} needs no second factor: a stolen token is enough for it"
            )
        elif factor.max_age_seconds is None:
            told.append(f"{permission.value} takes a second factor of any age: set max_age_minutes")
    if len(issuers) > 1:
        told += [
            f"{issuer.issuer} may give every role: name allowed_roles, or a role_map without keep_unmapped"
            for issuer in issuers
            if _may_give_all(issuer.mapping)
        ]
    return told


def _may_give_all(mapping: ClaimMapping) -> bool:
    return mapping.allowed_roles is None and (mapping.role_map is None or mapping.keep_unmapped)


def _wrong(mistakes: str) -> SettingsError:
    return SettingsError(
        Code.SETTINGS_INVALID, f"GATEWAY_POLICY_FILE: the policy is wrong:\n{mistakes}"
    )
