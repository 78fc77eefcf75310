"""Which models a gateway serves: its default, and what the settings name besides."""

from dataclasses import dataclass

from gateway.errors import Code, OperatorError, SettingsError
from gateway.sealing.container import check_name_and_version
from gateway.settings import GatewaySettings

ALL = "*"


@dataclass(frozen=True, slots=True)
class ServedNames:
    """The default model's name, further ones, and whether every name that has a version in production is one."""

    default: str
    further: frozenset[str] = frozenset()
    is_all: bool = False

    def includes(self, name: str) -> bool:
        """Whether this gateway serves the model if it has a version in production."""
        return self.is_all or name == self.default or name in self.further


def served_names(settings: GatewaySettings) -> ServedNames:
    """What the settings say. Raises SettingsError for what cannot be a model's name."""
    parts = [part.strip() for part in settings.model_names.split(",") if part.strip()]
    further = [part for part in parts if part != ALL]
    for name in further:
        if not is_model_name(name):
            message = f"GATEWAY_MODEL_NAMES: {name!r} cannot be a model's name"
            raise SettingsError(Code.SETTINGS_INVALID, message)
    return ServedNames(settings.model_name, frozenset(further), is_all=ALL in parts)


def is_model_name(text: str) -> bool:
    """Whether a sealed model can have this name."""
    return _is_sealable(text, "1")


def is_model_version(text: str) -> bool:
    """Whether a sealed model can have this version."""
    return _is_sealable("a", text)


def _is_sealable(name: str, version: str) -> bool:
    try:
        check_name_and_version(name, version)
    except OperatorError:
        return False
    return True
