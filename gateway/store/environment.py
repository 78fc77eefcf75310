"""How both processes read their configuration: strictly, and with every mistake named at once."""

import difflib
from collections.abc import Mapping
from typing import Any, Self

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class EnvironmentInvalidError(Exception):
    """The environment is wrong; the message lists every mistake, one a line."""


class StrictSettings(BaseSettings):
    """Frozen settings from environment variables and an optional .env; unknown names are refused.

    Subclasses set `env_prefix`. Files for secrets are named by settings, their content never is a setting.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_file=".env")

    @classmethod
    def read(cls, environment: Mapping[str, str], **overrides: Any) -> Self:
        """The settings of this process.

        environment: all variables, os.environ as a rule. overrides: values from the command line, which win.
        Raises EnvironmentInvalidError listing unknown names (with the nearest known ones) and bad values.
        """
        mistakes = cls._unknown_names(environment)
        try:
            settings = cls(**overrides)
        except ValidationError as exc:
            mistakes += [cls._explain(error) for error in exc.errors()]
            raise EnvironmentInvalidError("\n".join(mistakes)) from exc
        if mistakes:
            raise EnvironmentInvalidError("\n".join(mistakes))
        return settings

    @classmethod
    def variable_names(cls) -> list[str]:
        """Every variable this class reads, in the order of its fields."""
        prefix = cls.model_config["env_prefix"]
        return [f"{prefix}{name}".upper() for name in cls.model_fields]

    @classmethod
    def _unknown_names(cls, environment: Mapping[str, str]) -> list[str]:
        known = cls.variable_names()
        prefix = cls.model_config["env_prefix"]
        unknown = sorted(n for n in environment if n.startswith(prefix) and n not in known)
        return [_unknown(name, difflib.get_close_matches(name, known, n=3)) for name in unknown]

    @classmethod
    def _explain(cls, error: Any) -> str:
        field = ".".join(str(part) for part in error["loc"])
        return f"{cls.model_config['env_prefix']}{field.upper()}: {error['msg']} (got {error['input']!r})"


def _unknown(name: str, near: list[str]) -> str:
    hint = f"did you mean {' or '.join(near)}?" if near else "see the configuration table in the README"
    return f"{name}: no such setting; {hint}"
