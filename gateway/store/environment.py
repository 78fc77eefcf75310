"""How both processes read their configuration: strictly, and with every mistake named at once."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from dotenv.parser import parse_stream
from pydantic import BaseModel, ConfigDict, ValidationError


class EnvironmentInvalidError(Exception):
    """The environment is wrong; the message lists every mistake, one a line."""


class StrictSettings(BaseModel):
    """Frozen settings from environment variables; names with the prefix that mean nothing are refused.

    Subclasses set `prefix`, and in `replaced` what to write for a setting that is no more. Files for secrets are named
    by settings, their content never is a setting.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
    prefix: ClassVar[str]
    replaced: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def read(cls, environment: Mapping[str, str], **overrides: Any) -> Self:
        """The settings that these variables give; overrides (the command line's) win.

        Raises EnvironmentInvalidError listing unknown names (with the nearest known ones) and bad values.
        """
        known = {cls.variable_name(field): field for field in cls.model_fields}
        own = {name: value for name, value in environment.items() if name.startswith(cls.prefix)}
        mistakes = [cls._unknown(name) for name in sorted(own.keys() - known.keys())]
        values = {known[name]: value for name, value in own.items() if name in known}
        try:
            settings = cls(**{**values, **overrides})
        except ValidationError as exc:
            mistakes += [cls._explain(error) for error in exc.errors()]
            raise EnvironmentInvalidError("\n".join(mistakes)) from exc
        if mistakes:
            raise EnvironmentInvalidError("\n".join(mistakes))
        return settings

    @classmethod
    def variable_name(cls, field: str) -> str:
        """The environment variable of one field."""
        return f"{cls.prefix}{field.upper()}"

    @classmethod
    def _unknown(cls, name: str) -> str:
        if name in cls.replaced:
            return f"{name}: no such setting any more; write {cls.replaced[name]}"
        # Without the prefix, which would make every name look like every other.
        fields = [field.upper() for field in cls.model_fields]
        near = difflib.get_close_matches(name.removeprefix(cls.prefix).upper(), fields, n=3)
        names = " or ".join(f"{cls.prefix}{field}" for field in near)
        hint = f"did you mean {names}?" if near else "see the README's configuration table"
        return f"{name}: no such setting; {hint}"

    @classmethod
    def _explain(cls, error: Any) -> str:
        if not error["loc"]:
            return f"{cls.prefix}*: {error['msg']}"
        field = str(error["loc"][0])
        # A database URL carries a password; what is not shown in a repr is not shown here.
        is_shown = field in cls.model_fields and cls.model_fields[field].repr
        got = f" (got {error['input']!r})" if is_shown else ""
        return f"{cls.variable_name(field)}: {error['msg']}{got}"


def read_environment(variables: Mapping[str, str], *, dotenv_file: Path) -> dict[str, str]:
    """The variables, and under them those of an optional .env file: a real variable wins.

    Raises EnvironmentInvalidError listing every line of the file that cannot be read and every name given twice.
    """
    return {**(_read_dotenv(dotenv_file) if dotenv_file.is_file() else {}), **variables}


def _read_dotenv(file: Path) -> dict[str, str]:
    # The library's own reader leaves out a line that it cannot read, and the setting would silently be the default.
    try:
        with file.open(encoding="utf-8") as opened:
            bindings = list(parse_stream(opened))
    except UnicodeDecodeError as exc:
        raise EnvironmentInvalidError(f"{file}: it is not UTF-8") from exc
    values: dict[str, str] = {}
    mistakes = []
    for binding in bindings:
        if binding.error:
            mistakes.append(f"{file} line {binding.original.line}: write NAME=value")
        elif binding.key in values:
            mistakes.append(f"{file} line {binding.original.line}: {binding.key} is given twice")
        elif binding.key is not None:
            values[binding.key] = binding.value or ""
    if mistakes:
        raise EnvironmentInvalidError("\n".join(mistakes))
    return values
