"""The form of the policy file's tables, and words for whatever does not have it.

Rules: nothing is converted and nothing ignored; a mistake says where it is, what is wrong and what to write. What a
table means is said in policy_file.
"""

import difflib
import re
import reprlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
)

from gateway.identity.policy import Permission
from gateway.identity.roles import read_role
from gateway.identity.tokens import MAX_CLOCK_SKEW_SECONDS, MAX_ROLE_CHARACTERS, MAX_TEXT_CHARACTERS
from gateway.identity.wire import is_bounded_text

UNLIMITED = "unlimited"
ANY_AGE = "any"
MAX_PATH_MEMBERS = 8
MAX_AGE_MINUTES = 30 * 24 * 60

_MAX_SHOWN_CHARACTERS = 80
# What a sealed model can be called, and the two characters that stand for others.
_MODEL_PATTERN = re.compile(r"[a-z0-9._*?-]{1,63}")
_VERSION_PATTERN = re.compile(r"[0-9A-Za-z.+_*?-]{1,63}")
_ROLE_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
_RATE = re.compile(r"[1-9][0-9]{0,8}/(second|minute|hour|day)")
# It stands in a quoted text of a header, among others with spaces between (RFC 9470 section 3, RFC 6749 appendix A).
_ACR = re.compile(r"[!#-\[\]-~]{1,256}")

Form = TypeVar("Form", bound="StrictForm")


def check_url(url: str) -> str:
    """The same text. Raises ValueError unless it is an https URL that nothing can be hidden in."""
    parts = urlsplit(url)
    plain = url.isascii() and url.isprintable() and " " not in url
    if not (plain and parts.scheme == "https" and parts.hostname and parts.port != 0):
        raise ValueError("it must be an https:// URL, or whoever is on the way could swap the keys")
    if "@" in parts.netloc or "#" in url:
        raise ValueError("a URL here has no user, password or fragment; remove it")
    return url


def check_role_name(name: str) -> str:
    """The same text. Raises ValueError for what a role in a token could not name."""
    if not _ROLE_NAME.fullmatch(name):
        raise ValueError("a role's name has 1 to 64 characters from 0-9 A-Z a-z . _ - and no colon")
    return name


def near(name: str, known: Iterable[str]) -> str:
    """What may have been meant by a name that is none of the known ones."""
    names = list(known)
    found = difflib.get_close_matches(name.lower(), names, n=3)
    return f"did you mean {' or '.join(found)}?" if found else f"known are {', '.join(names)}"


def _matching(pattern: re.Pattern[str], must: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(must)
        return text

    return AfterValidator(check)


def _check_text(text: str) -> str:
    if not is_bounded_text(text, max_characters=MAX_TEXT_CHARACTERS):
        raise ValueError(f"write 1 to {MAX_TEXT_CHARACTERS} printable characters")
    return text


def _check_role_text(text: str, info: ValidationInfo) -> str:
    role = read_role(text)
    _check_known(role.name, info)
    if len(text) > MAX_ROLE_CHARACTERS:
        raise ValueError(f"a role has {MAX_ROLE_CHARACTERS} characters at most")
    if role.model is not None and not _MODEL_PATTERN.fullmatch(role.model):
        raise ValueError(f"after the colon, {_MODEL_RULE}")
    if role.version is not None and not _VERSION_PATTERN.fullmatch(role.version):
        raise ValueError(f"after the at sign, {_VERSION_RULE}")
    return text


def _check_known(name: str, info: ValidationInfo) -> str:
    known: Iterable[str] = (info.context or {}).get("roles", ())
    if name not in known:
        raise ValueError(f"there is no role {name!r}; {near(name, known)}")
    return name


def _check_true(value: bool) -> bool:  # noqa: FBT001  (pydantic calls it)
    if not value:
        raise ValueError("write true, or leave it out")
    return value


def _permission(value: Any) -> Any:
    if value not in tuple(Permission):
        raise ValueError(f"there is no such permission; {near(str(value), Permission)}")
    return Permission(value)


def _one_or_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _worded(word: str, stands_for: str | int) -> BeforeValidator:
    """Read a word as the value that the settings take for no limit: on its own it would look like none at all."""

    def read(value: Any) -> Any:
        if value == word:
            return stands_for
        if type(value) is type(stands_for) and value == stands_for:
            raise ValueError(f'write "{word}", or how much')
        return value

    return BeforeValidator(read)


def _check_rate(rate: str) -> str:
    if rate and not _RATE.fullmatch(rate):
        raise ValueError('write a rate as "100/second", per second, minute, hour or day')
    return rate


# In place of pydantic's words, which are about Python.
_WORDS: Mapping[str, str] = {
    "bool_type": "write true or false",
    "dict_type": "write a table",
    "int_type": "write a whole number, without quotes",
    "list_type": "write a list, in brackets",
    "string_type": "write a text, in quotes",
    "too_short": "name one at least, or leave it out",
    "too_long": f"name {MAX_PATH_MEMBERS} at most",
}
_MODEL_RULE = "a model's pattern has 1 to 63 characters from a-z 0-9 . _ - and * ? for others"
_VERSION_RULE = (
    "a version's pattern has 1 to 63 characters from 0-9 A-Z a-z . + _ - and * ? for others"
)
_ACR_RULE = (
    "an acr value has 1 to 256 printable ASCII characters without spaces, quotes and backslashes"
)

_Text = Annotated[str, AfterValidator(_check_text)]
_Path = Annotated[list[_Text], Field(min_length=1, max_length=MAX_PATH_MEMBERS)]


class StrictForm(BaseModel):
    """A table that is taken as it is written or not at all."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class IssuerForm(StrictForm):
    """One [[issuers]] table."""

    issuer: _Text
    audience: _Text
    jwks_file: _Text | None = None
    jwks_url: Annotated[str, AfterValidator(check_url)] | None = None
    discover: Annotated[bool, AfterValidator(_check_true)] = False
    ca_file: _Text | None = None
    max_lifetime_seconds: Annotated[int, Field(ge=60, le=30 * 86_400)] | None = None
    clock_skew_seconds: Annotated[int, Field(ge=0, le=MAX_CLOCK_SKEW_SECONDS)] = (
        MAX_CLOCK_SKEW_SECONDS
    )
    sender_constrained: bool = False
    roles_claim: Annotated[_Path, BeforeValidator(_one_or_list)] = ["roles"]
    roles_are: Literal["list", "space-separated"] = "list"
    role_map: dict[_Text, Annotated[str, AfterValidator(_check_role_text)]] | None = None
    keep_unmapped: bool = False
    allowed_roles: (
        Annotated[list[Annotated[str, AfterValidator(_check_known)]], Field(min_length=1)] | None
    ) = None


class RoleForm(StrictForm):
    """One [roles.NAME] table."""

    permissions: list[Annotated[Permission, BeforeValidator(_permission)]]
    models: (
        Annotated[list[Annotated[str, _matching(_MODEL_PATTERN, _MODEL_RULE)]], Field(min_length=1)]
        | None
    ) = None
    versions: (
        Annotated[
            list[Annotated[str, _matching(_VERSION_PATTERN, _VERSION_RULE)]], Field(min_length=1)
        ]
        | None
    ) = None
    requests: Annotated[str, _worded(UNLIMITED, ""), AfterValidator(_check_rate)] | None = None
    concurrency: Annotated[int, Field(ge=1, le=65_536)] | None = None
    daily_images: Annotated[int, _worded(UNLIMITED, 0), Field(ge=0, le=1 << 53)] | None = None


class SecondFactorForm(StrictForm):
    """One [second_factor."PERMISSION"] table; a list that is not named is not empty."""

    acr: list[Annotated[str, _matching(_ACR, _ACR_RULE)]] | None = None
    amr: list[_Text] | None = None
    max_age_minutes: Annotated[int, _worded(ANY_AGE, 0), Field(ge=0, le=MAX_AGE_MINUTES)] = 15


def read_form(
    form: type[Form], table: object, *, where: str, roles: Iterable[str], mistakes: list[str]
) -> Form | None:
    """A table of the file in its form; None after adding every mistake in it. roles: the names that there are."""
    if not isinstance(table, Mapping):
        mistakes.append(f"{where}: write a table here (got {_shown(table)})")
        return None
    try:
        return form.model_validate(table, context={"roles": tuple(roles)})
    except ValidationError as exc:
        mistakes += [_explain(form, where, error) for error in exc.errors(include_url=False)]
        return None


def unknown_members(table: Mapping[str, Any], known: Iterable[str], where: str) -> list[str]:
    """A mistake for each member that means nothing."""
    return [
        f"{where}{name}: there is no such member; {near(name, known)}"
        for name in table
        if name not in known
    ]


def _explain(form: type[BaseModel], where: str, error: Any) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])
    place = f"{where}: {path.removeprefix('.')}"
    match error["type"]:
        case "extra_forbidden":
            known = form.model_fields
            return f"{place}: there is no such member; {near(str(error['loc'][-1]), known)}"
        case "missing":
            return f"{place}: it is missing; write it"
        case "value_error":
            text = str(error["ctx"]["error"])
        case _:
            text = _WORDS.get(error["type"], str(error["msg"]))
    return f"{place}: {text} (got {_shown(error['input'])})"


def _shown(value: object) -> str:
    # A hostile or broken file can nest deeper than repr follows, and hold numbers that it does not write.
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother = (
        2,
        _MAX_SHOWN_CHARACTERS,
        _MAX_SHOWN_CHARACTERS,
    )
    try:
        return short.repr(value)
    except ValueError:
        return "a number that is too long"
