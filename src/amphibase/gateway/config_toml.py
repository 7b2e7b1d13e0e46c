"""`supabase/config.toml`, the settings of a project that the Supabase CLI reads.

Its values are read as the environment variables that the self-hosted services have for them, and
the environment and `.env` win over the file (https://supabase.com/docs/guides/local-development/cli/config).
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amphibase.errors import ConfigurationError
from amphibase.gateway.config_environment import referable_environment, settings_environment
from amphibase.gateway.config_names import (
    ALWAYS_ON,
    CLI_DEFAULTS,
    INVERTED,
    NAMES,
    NOT_HERE,
    PATTERNS,
    key_in_table,
)

SUPABASE = Path("supabase")
"""The folder of a project: its settings, migrations, seeds and functions."""

CONFIG = SUPABASE / "config.toml"

_ENVIRONMENT_VALUE = re.compile(r"env\(\s*(\w+)\s*\)")
_SIZE = re.compile(r"(\d+)\s*([KMGT]?)i?B?", re.IGNORECASE)
_UNITS = ("", "K", "M", "G", "T")

REQUIRED_CHARACTERS = {
    "": "",
    "letters_digits": "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:0123456789",
    "lower_upper_letters_digits": (
        "abcdefghijklmnopqrstuvwxyz:ABCDEFGHIJKLMNOPQRSTUVWXYZ:0123456789"
    ),
    "lower_upper_letters_digits_symbols": (
        "abcdefghijklmnopqrstuvwxyz:ABCDEFGHIJKLMNOPQRSTUVWXYZ:0123456789"
        ":!@#$%^&*()_+-=[]{};'\\\\:\"|<>?,./`~"
    ),
}
"""What `password_requirements` stands for, as Supabase Auth writes it: a colon ends a set."""


@dataclass(frozen=True, slots=True)
class BucketConfig:
    """A bucket that the project wants.

    Attributes:
        file_size_limit: in bytes; None where only Storage's own limits.
        objects: the folder whose files are uploaded into it.
    """

    name: str
    public: bool
    file_size_limit: int | None
    allowed_mime_types: tuple[str, ...]
    objects: Path | None


@dataclass(frozen=True, slots=True)
class ProjectConfig:
    """What `supabase/config.toml` says.

    Attributes:
        values: by the names of environment variables.
        keys: that have these values, by the same names; `key = env(NAME)` where that is not set.
        seeds: the patterns of the files that are sown, in order; relative to `supabase`.
        applies_migrations: whether the files in `supabase/migrations` are applied.
        postgres_major: the version that they are written for; 0 where it says none.
        vault: secrets by their names.
        unknown: the keys that have no effect here.
        unset: the variables that it refers to as `env(NAME)` and that are not set.
    """

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    keys: Mapping[str, str] = field(default_factory=dict)
    seeds: Sequence[str] = ("./seed.sql",)
    applies_migrations: bool = True
    postgres_major: int = 0
    vault: Mapping[str, str] = field(default_factory=dict, repr=False)
    buckets: Sequence[BucketConfig] = ()
    unknown: Sequence[str] = ()
    unset: Sequence[str] = ()


def read_config(path: Path | None = None) -> ProjectConfig:
    """Read the file; a project without one has the defaults.

    Args:
        path: `supabase/config.toml` in the current folder by default.

    Raises:
        ConfigurationError: it is not TOML, or a value is of another kind; one line.
    """
    path = path or CONFIG
    try:
        content = tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        return ProjectConfig()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # of TOML or of UTF-8
        raise ConfigurationError(f"{path}: is not TOML: {error}") from None
    return _Reader(path, settings_environment(), referable_environment(path.parent)).read(content)


def setting_name(variable: str, value: str | None = None) -> str:
    """Return what to call a setting in a message: by its key where the file sets it, or another
    key of a table for it alone, such as `auth.external.google`.

    Args:
        value: what it is, where an option of the command may say so.
    """
    config = read_config()
    if value is not None and config.values.get(variable) != value:
        return variable
    keys = config.keys
    key = keys.get(variable) or key_in_table(variable)
    if key is None or settings_environment().get(variable):
        return variable
    table = key.rpartition(".")[0]
    is_set = variable in keys or any(other.startswith(f"{table}.") for other in keys.values())
    return f"{CONFIG}: {key}" if is_set else variable


class _Reader:
    def __init__(
        self,
        path: Path,
        environment: Mapping[str, str | None],
        references: Mapping[str, str | None],
    ) -> None:
        self._path = path
        self._environment = environment
        self._references = references
        self._unset: dict[str, None] = {}

    def read(self, content: dict[str, Any]) -> ProjectConfig:
        buckets = self._table(content, "storage").pop("buckets", {})
        database = self._table(content, "db")
        seed, migrations = self._table(database, "seed"), self._table(database, "migrations")
        sows = self._is_on("db.seed.enabled", seed.pop("enabled", True))
        seeds = self._texts("db.seed.sql_paths", seed.pop("sql_paths", ["./seed.sql"]))
        applies = self._is_on("db.migrations.enabled", migrations.pop("enabled", True))
        major = database.pop("major_version", 0)
        if not isinstance(major, int):
            raise ConfigurationError(
                f"{self._path}: db.major_version must be a version of Postgres, such as 17"
            )
        vault = self._table(database, "vault")
        secrets = {name: self._secret(f"db.vault.{name}", value) for name, value in vault.items()}
        vault.clear()
        self._drop_what_is_off(content)
        values: dict[str, str] = {}
        keys: dict[str, str] = {}
        unknown: dict[str, None] = {}
        for key, value in _flat(content):
            if _is_not_here(key):
                continue
            text = self._text(key, value)
            name = _variable(key)
            if name is not None and value and not text:
                keys[name] = f"{key} = {value}"
            if text in ("", CLI_DEFAULTS.get(key)):
                continue
            if name is not None:
                values[name], keys[name] = text, key
            elif not _asks_for_nothing(key, text):
                unknown[_table_of(key)] = None
        unknown |= dict.fromkeys(self._buckets_of_others(content))
        return ProjectConfig(
            values=values,
            keys=keys,
            seeds=seeds if sows else (),
            applies_migrations=applies,
            postgres_major=major,
            vault={name: secret for name, secret in secrets.items() if secret},
            buckets=[self._bucket(name, table) for name, table in buckets.items()],
            unknown=tuple(unknown),
            unset=tuple(self._unset),
        )

    def _drop_what_is_off(self, content: dict[str, Any]) -> None:
        """Empty the tables that are off, by `enabled = false` or since they do not say `true`."""
        auth, database = self._table(content, "auth"), self._table(content, "db")
        tables = {
            "auth.captcha": auth.get("captcha"),
            "auth.passkey": auth.get("passkey"),
            "api.tls": self._table(content, "api").get("tls"),
            "db.pooler": database.get("pooler"),
            "db.network_restrictions": database.get("network_restrictions"),
            "storage.analytics": self._table(content, "storage").get("analytics"),
        }
        for parent in ("hook", "external", "third_party"):
            named = self._table(auth, parent).items()
            tables |= {f"auth.{parent}.{name}": table for name, table in named}
        providers = self._table(auth, "sms").items()
        tables |= {f"auth.sms.{name}": each for name, each in providers if name != "test_otp"}
        tables["auth.email.smtp"] = self._table(auth, "email").get("smtp")
        for key, table in tables.items():
            if not isinstance(table, dict):
                continue
            is_on = table.get("enabled", key == "auth.email.smtp")
            if not self._is_on(f"{key}.enabled", is_on):
                table.clear()
        if not auth.get("passkey"):
            auth.pop("webauthn", None)
        self._table(self._table(auth, "email"), "smtp").pop("enabled", None)  # its host says so
        # As the CLI does: emails that only the local inbox gets are not limited.
        if not auth["email"]["smtp"] and not self._environment.get("GOTRUE_SMTP_HOST"):
            self._table(auth, "rate_limit").pop("email_sent", None)

    def _buckets_of_others(self, content: dict[str, Any]) -> Iterator[str]:
        """Yield the tables of buckets that Storage has not: one may be named by its table alone."""
        storage = self._table(content, "storage")
        for name in ("analytics", "vector"):
            if self._table(self._table(storage, name), "buckets"):
                yield f"storage.{name}.buckets"

    def _table(self, content: dict[str, Any], name: str) -> dict[str, Any]:
        table = content.setdefault(name, {})
        if not isinstance(table, dict):
            raise ConfigurationError(f"{self._path}: {name} must be a table, [{name}]")
        return table

    def _bucket(self, name: str, table: Any) -> BucketConfig:
        key = f"storage.buckets.{name}"
        if not isinstance(table, dict):
            raise ConfigurationError(f"{self._path}: {key} must be a table, [{key}]")
        limit = table.get("file_size_limit")
        objects = table.get("objects_path")
        return BucketConfig(
            name,
            self._is_on(f"{key}.public", table.get("public", False)),
            None if limit is None else self._bytes(f"{key}.file_size_limit", limit),
            tuple(self._texts(f"{key}.allowed_mime_types", table.get("allowed_mime_types", []))),
            self._path.parent / self._resolved(str(objects)) if objects else None,
        )

    def _text(self, key: str, value: Any) -> str:
        """Write a value as an environment variable has it."""
        if key == "auth.signing_keys_path":
            return self._content(key, value)
        if key.endswith(".content_path") and _variable(key) is not None:
            # As in every example of the CLI: from the folder of the project, but of notifications
            # from that of this file.
            of_file = key.startswith("auth.email.notification.")
            return self._content(key, value, None if of_file else self._path.parent.parent)
        if key == "auth.password_requirements":
            return self._required_characters(key, value)
        if key.endswith("file_size_limit"):
            return str(self._bytes(key, value))
        if key in INVERTED:
            return "false" if self._is_on(key, value) else "true"
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, list):
            return ",".join(self._texts(key, value))
        if isinstance(value, dict):
            return ",".join(f"{name}:{self._resolved(str(each))}" for name, each in value.items())
        return self._resolved(str(value))

    def _texts(self, key: str, value: Any) -> list[str]:
        if not isinstance(value, list):
            raise ConfigurationError(f'{self._path}: {key} must be a list, such as ["a", "b"]')
        return [self._resolved(str(each)) for each in value]

    def _secret(self, key: str, value: Any) -> str:
        if not isinstance(value, str):
            raise ConfigurationError(f'{self._path}: {key} must be a text, such as "env(NAME)"')
        return self._resolved(value)

    def _is_on(self, key: str, value: Any) -> bool:
        text = self._resolved(str(value)).lower()
        if text not in ("true", "false"):
            raise ConfigurationError(f"{self._path}: {key} must be true or false")
        return text == "true"

    def _bytes(self, key: str, value: Any) -> int:
        size = _SIZE.fullmatch(self._resolved(str(value)))
        if size is None:
            raise ConfigurationError(f'{self._path}: {key} must be a size, such as "50MiB"')
        return int(size[1]) << 10 * _UNITS.index(size[2].upper())

    def _content(self, key: str, value: Any, folder: Path | None = None) -> str:
        """Read the file that a value names.

        Args:
            folder: that of `config.toml` by default.
        """
        path = (folder or self._path.parent) / self._resolved(str(value))
        try:
            return path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ConfigurationError(f"{self._path}: {key}: cannot read {path}: {reason}") from None

    def _required_characters(self, key: str, value: Any) -> str:
        name = self._resolved(str(value))
        if name not in REQUIRED_CHARACTERS:
            known = ", ".join(filter(None, REQUIRED_CHARACTERS))
            raise ConfigurationError(f"{self._path}: {key} must be one of {known}")
        return REQUIRED_CHARACTERS[name]

    def _resolved(self, value: str) -> str:
        reference = _ENVIRONMENT_VALUE.fullmatch(value.strip())
        if reference is None:
            return value
        if self._references.get(reference[1]) is None:
            self._unset[reference[1]] = None
        return self._references.get(reference[1]) or ""


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a table and those within it, with their dotted keys."""
    for name, value in table.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and _variable(key) is None:
            yield from _flat(value, f"{key}.")
        else:
            yield key, value


def _variable(key: str) -> str | None:
    """Return the environment variable that a key stands for."""
    if key in NAMES:
        return NAMES[key]
    for pattern, template in PATTERNS:
        if match := pattern.fullmatch(key):
            return match.expand(template).upper()
    return None


def _asks_for_nothing(key: str, text: str) -> bool:
    """Return whether a key switches off what is not here, or on what always is; `enabel_signup =
    false` does neither."""
    if key in ALWAYS_ON:
        return text == "true"
    return text == "false" and key.rpartition(".")[2].endswith("enabled")


def _is_not_here(key: str) -> bool:
    parts = key.split(".")
    return any(".".join(parts[:count]) in NOT_HERE for count in range(1, len(parts) + 1))


def _table_of(key: str) -> str:
    """Return what a key is named by in a warning: by its table, where a name is part of that."""
    parts = key.split(".")
    return ".".join(parts[:3] if parts[0] == "auth" else parts[:2])
