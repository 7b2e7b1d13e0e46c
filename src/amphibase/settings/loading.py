"""How settings are read: wrong values become lines that name what a person wrote."""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, AliasChoices, BeforeValidator, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from amphibase.errors import ConfigurationError


def _parts(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _networks(value: tuple[str, ...]) -> tuple[str, ...]:
    for network in value:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            raise ValueError("each entry must be an IP address or network") from None
    return value


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parts)]
"""Texts with commas between them."""

Networks = Annotated[CommaSeparated, AfterValidator(_networks)]
"""IP addresses and networks with commas between them."""

LIKENESS = 0.9
"""How like a setting's name another has to be: a letter that is missing, added or swapped."""


class LoadedSettings(BaseSettings):
    """The base of all settings."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
        defer_build=True,  # most are bases of others alone
    )

    @classmethod
    def key_of(cls, field: str) -> str | None:
        """Return the key of a file that a field is read from; None for a variable."""
        return None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the arguments, the environment and `.env` where they hold any setting, and a
        folder of secrets."""
        read = sources_in_use(settings_cls, env_settings, dotenv_settings)
        return init_settings, *read, file_secret_settings


Kind = TypeVar("Kind", bound=LoadedSettings)


def sources_in_use(
    kind: type[BaseSettings], *sources: PydanticBaseSettingsSource
) -> Iterator[PydanticBaseSettingsSource]:
    """Yield the sources that hold a variable of these settings: the others would search for each
    field in vain, which takes as long as all else that is done to read settings."""
    for source in sources:
        if not isinstance(source, EnvSettingsSource) or _holds_any(source, _names(kind)):
            yield source


def _holds_any(source: EnvSettingsSource, names: frozenset[str]) -> bool:
    if source.case_sensitive or source.env_nested_delimiter:  # of an application's own settings
        return True
    return not names.isdisjoint(source.env_vars)


@cache
def _names(kind: type[BaseSettings]) -> frozenset[str]:
    """All names that a source may have for a field, as sources spell them."""
    fields = kind.model_fields
    names = {name for field in fields for name in variables(kind, field)}
    return frozenset(name.lower() for name in names | fields.keys())


def check_lines(path: Path) -> None:
    """Raise ConfigurationError for a line of a file of variables that is none, such as one without
    its last quotation mark: the variable would be ignored."""
    if not path.is_file():
        return
    from dotenv.parser import parse_stream

    with suppress(OSError, UnicodeDecodeError), path.open(encoding="utf-8") as file:  # see `load`
        for line in parse_stream(file):
            if line.error:
                text = line.original.string  # with the empty lines before
                number = line.original.line + text[: -len(text.lstrip())].count("\n")
                raise ConfigurationError(
                    f"{path}: line {number} is not NAME=value, with a quotation mark "
                    "on both sides or none"
                )


def load(kind: type[Kind], **overrides: Any) -> Kind:
    """Read settings of any kind, as `load_settings` does.

    Args:
        overrides: values by field name that win over the environment.

    Raises:
        ConfigurationError: one line for each wrong value: the variable, the fault, an example; or
            an override is no setting.
    """
    for name in overrides:
        if name.lower() not in _names(kind):
            raise ConfigurationError(f"{name}: is no setting{_suggestion(name, kind)}")
    try:
        return kind(**overrides)
    except UnicodeDecodeError:
        raise ConfigurationError(".env: is not UTF-8 text") from None
    except OSError as error:
        raise ConfigurationError(f".env: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        lines = [_line(kind, each, overrides) for each in error.errors()]
        raise ConfigurationError("\n".join(lines)) from None


def nearest_setting(name: str, settings: Iterable[str]) -> str | None:
    """Return the setting that a variable was meant as, if its name is almost that."""
    return next(iter(get_close_matches(name, settings, 1, LIKENESS)), None)


def _suggestion(name: str, kind: type[BaseSettings]) -> str:
    meant = get_close_matches(name, kind.model_fields, 1)
    return f"; {meant[0]} is one" if meant else ""


def _line(kind: type[LoadedSettings], error: Any, overrides: Mapping[str, Any]) -> str:
    fault = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not error["loc"]:
        return str(fault)
    name = str(error["loc"][0])
    for field_name, field in kind.model_fields.items():
        names = variables(kind, field_name)
        if name == field_name and name not in overrides:
            key = kind.key_of(field_name)
            if key is not None:
                return f"{key}: {fault}"
        if name == field_name or name in names:
            # An override has the name of its field; the message names the variable.
            name = names[0] if name == field_name else name
            example = field.examples[0] if field.examples else None
            break
    else:
        example = None
    name = name.upper().removeprefix("AMPHIBASE_")
    return f"{name}: {fault}" + (f", for example {name}={example}" if example else "")


def variables(kind: type[BaseSettings], field: str) -> list[str]:
    """Return the environment variables that a field is read from; the first wins."""
    alias = kind.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return [str(each) for each in alias.choices]
    return [str(alias or f"{kind.model_config.get('env_prefix', '')}{field}".upper())]
