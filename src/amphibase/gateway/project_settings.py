"""Where the classes of settings of the gateway find their values."""

from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
)

from amphibase.gateway.config_environment import settings_environment
from amphibase.gateway.config_toml import CONFIG, read_config
from amphibase.settings.loading import LoadedSettings, sources_in_use, variables


class ConfigTomlSource(PydanticBaseSettingsSource):
    """The values of `supabase/config.toml` for the fields of a class of settings."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        self._values = read_config().values

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        names = variables(self.settings_cls, field_name)
        value = next((self._values[name] for name in names if name in self._values), None)
        return value, field_name, False

    def __call__(self) -> dict[str, Any]:
        # By the names of the fields, so that a variable of the environment wins by any name.
        fields = self.settings_cls.model_fields
        values = {name: self.get_field_value(field, name)[0] for name, field in fields.items()}
        return {name: value for name, value in values.items() if value is not None}


class EnvironmentSettings(LoadedSettings):
    """Settings of the gateway that are read from the environment and `.env` alone."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        for source in (env_settings, dotenv_settings):
            # By its variables alone: PORT or DATABASE_URL, which fields are called too, are the
            # application's.
            source.config = {**source.config, "populate_by_name": False}
        if isinstance(dotenv_settings, DotEnvSettingsSource):
            dotenv_settings.dotenv_filtering = "only_existing"
        return init_settings, *sources_in_use(settings_cls, env_settings, dotenv_settings)


class ProjectSettings(EnvironmentSettings):
    """Settings that are read from the environment, `.env`, and `supabase/config.toml`."""

    @classmethod
    def key_of(cls, field: str) -> str | None:
        names = variables(cls, field)
        if any(settings_environment().get(name) for name in names):
            return None
        keys = read_config().keys
        return next((f"{CONFIG}: {keys[name]}" for name in names if name in keys), None)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource, **named: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        read = super().settings_customise_sources(settings_cls, *sources, **named)
        return *read, ConfigTomlSource(settings_cls)
