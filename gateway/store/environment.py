"""How both processes read their configuration: strictly, and with every mistake named at once."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, ValidationError


class EnvironmentInvalidError(Exception):
    """The environment is wrong; the message lists every mistake, one a line."""


class StrictSettings(BaseModel):
    """Frozen settings from environment variables; names with the prefix that mean nothing are refused.

    Subclasses set `prefix`. Files for secrets are named by settings, their content never is a setting.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
    prefix: ClassVar[str]

    @classmethod
    def read(cls, environment: Mapping[str, str], **overrides: Any) -> Self:
        """The settings that these variables give; overrides (the command line's) win.

        Raises EnvironmentInvalidError listing unknown names (with the nearest known ones) and bad values.
        """
        known = {cls.variable_name(field): field for field in cls.model_fields}
        own = {name: value for name, value in environment.items() if name.startswith(cls.prefix)}
        mistakes = [_unknown(name, known) for name in sorted(own.keys() - known.keys())]
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
    def _explain(cls, error: Any) -> str:
        if not error["loc"]:
            return f"{cls.prefix}*: {error['msg']}"
        field = str(error["loc"][0])
        # A database URL carries a password; what is not shown in a repr is not shown here.
        is_shown = field in cls.model_fields and cls.model_fields[field].repr
        got = f" (got {error['input']!r})" if is_shown else ""
        return f"{cls.variable_name(field)}: {error['msg']}{got}"


def read_environment(variables: Mapping[str, str], *, dotenv_file: Path) -> dict[str, str]:
    """The variables, and under them those of an optional .env file: a real variable wins."""
    from_file = dotenv_values(dotenv_file, interpolate=False) if dotenv_file.is_file() else {}
    return {**{name: value or "" for name, value in from_file.items()}, **variables}


def _unknown(name: str, known: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "see the README's configuration table"
    return f"{name}: no such setting; {hint}"
