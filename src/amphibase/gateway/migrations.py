"""The roles, migrations and seeds of a project, applied and noted as the Supabase CLI does."""

import gzip
import hashlib
import os
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from glob import glob
from pathlib import Path

import psycopg
from psycopg import AsyncConnection

from amphibase.errors import ConfigurationError
from amphibase.gateway import extensions, vault
from amphibase.gateway.config_toml import ProjectConfig, read_config
from amphibase.gateway.migration_errors import describe_failure
from amphibase.gateway.project import ONE_AT_A_TIME, connected
from amphibase.gateway.sql_script import ScriptStatement, split
from amphibase.postgres import ServerNeeds
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.gateway")

FILE_NAME = re.compile(r"(\d+)_(.*)\.sql")
DEFAULT_SEED = "./seed.sql"
ROLES = "roles.sql"

_ALONE = re.compile(
    r"""
    (?: (?: create \s+ (?: unique \s+ )? | drop \s+ ) index \s+ concurrently
      | reindex \b .* \b concurrently | reindex \s+ (?: \( [^)]* \) \s* )? (?: database | system )
      | vacuum | alter \s+ system
      | (?: create | drop ) \s+ (?: database | tablespace | subscription )
    ) \b
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
"""Statements that Postgres runs outside a transaction alone."""

_FROM_STDIN = re.compile(r"copy\b .* \bfrom \s+ stdin\b", re.VERBOSE | re.IGNORECASE | re.DOTALL)

_ICU = re.compile(r"\bprovider\s*=\s*'?icu\b", re.IGNORECASE)

_OLD_INIT = re.compile(r"(\d{14})_init\.sql")
_OLD_INIT_ENDS = "20211209000000"
"""What the first versions of the CLI drew from a new project (`shouldSkip` in its
`pkg/migration/list.go`)."""

_TABLE_VERSION = re.compile(
    r'insert \s+ into \s+ "? (?: auth | storage ) "? \. "? amphibase_version \b',
    re.VERBOSE | re.IGNORECASE,
)
"""In a dump of another local project: this one's tables have the version that they were made in."""

_NOTES = """
CREATE SCHEMA IF NOT EXISTS supabase_migrations;
CREATE TABLE IF NOT EXISTS supabase_migrations.schema_migrations (
    version text PRIMARY KEY, statements text[], name text
);
CREATE TABLE IF NOT EXISTS supabase_migrations.seed_files (
    path text PRIMARY KEY, hash text NOT NULL
)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of `supabase/migrations`."""

    version: str
    name: str
    path: Path


async def apply(url: str, folder: Path, config: ProjectConfig | None = None) -> list[str]:
    """Apply the roles once, the migrations that wait, then each seed once.

    Before them the secrets of the vault are stored, which they may read.

    Each file is one transaction, but for the statements that cannot run in one: these run alone,
    and what stands before them in the file is committed first.

    Args:
        url: of the project's database, as its owner.
        folder: `supabase`, which need not exist.
        config: what its `config.toml` says; read from there by default.

    Returns:
        The names of the files that were applied.

    Raises:
        ConfigurationError: a file cannot be read or a statement failed; names the file and line
            and the server's message. The files before it stay applied.
        Unavailable: the server cannot be reached.
    """
    config = config or read_config(folder / "config.toml")
    migrations = _find_migrations(folder / "migrations") if config.applies_migrations else []
    roles, seeds = folder / ROLES, _find_seeds(folder, config.seeds)
    if not (migrations or seeds or roles.exists() or config.vault):
        return []
    done = []
    async with connected(url) as connection:
        await connection.execute(ONE_AT_A_TIME)
        await connection.execute(_NOTES.encode())
        await connection.commit()
        await vault.store(connection, config.vault)
        _check_version(connection, config.postgres_major)
        runner = _Runner(connection, await _available(connection), folder)
        if roles.exists() and await runner.run_once(roles):
            done.append(roles.name)
        cursor = await connection.execute(
            "SELECT version FROM supabase_migrations.schema_migrations"
        )
        applied = {version for (version,) in await cursor.fetchall()}
        for migration in migrations:
            if migration.version not in applied:
                await runner.migrate(migration)
                done.append(migration.path.name)
        for seed in seeds:
            if await runner.run_once(seed):
                done.append(_name_in(folder, seed))
    return done


def server_needs(folder: Path, config: ProjectConfig) -> ServerNeeds:
    """Return what the migrations need of the server: extensions that they make and it has to bring,
    ICU's collations, and the version that `config.toml` says.

    Args:
        folder: `supabase`, which need not exist.

    Raises:
        ConfigurationError: a file cannot be read.
    """
    brought = frozenset(
        name
        for name in _extensions_made_in(folder)
        if name not in extensions.PROVIDED and not extensions.is_dispensable(name)
    )
    scripts = map(_read, (folder / "migrations").glob("*.sql"))
    return ServerNeeds(brought, any(map(_ICU.search, scripts)), config.postgres_major)


def _extensions_made_in(folder: Path) -> Iterator[str]:
    for path in sorted((folder / "migrations").glob("*.sql")):
        script = _read(path)
        if "extension" in script.lower():
            for statement in split(script):
                yield from extensions.made_by(statement.text)


def _find_migrations(folder: Path) -> list[Migration]:
    found: dict[str, Migration] = {}
    paths = sorted(folder.glob("*.sql"))  # the CLI's order: by the name, not the number
    if paths and (first := _OLD_INIT.fullmatch(paths[0].name)) and first[1] < _OLD_INIT_ENDS:
        logger.warning(
            "%s is skipped, as by the CLI: before December 2021 the first migration was what a "
            "project has; rename it to apply it",
            paths.pop(0),
        )
    for path in paths:
        name = FILE_NAME.fullmatch(path.name)
        if name is None:
            logger.warning(
                "%s is skipped: a migration's name is its version and what it does, such as "
                "20260101120000_notes.sql",
                path,
            )
            continue
        migration = Migration(name[1], name[2], path)
        if (other := found.setdefault(migration.version, migration)) is not migration:
            raise ConfigurationError(
                f"{path} and {other.path.name} have the same version {migration.version}; "
                "give one of them another"
            )
    return list(found.values())


def _find_seeds(folder: Path, patterns: Sequence[str]) -> list[Path]:
    found: dict[Path, None] = {}
    for pattern in patterns:
        names = sorted(glob(str(folder / pattern), recursive=True))
        paths = [path for name in names for path in _scripts(Path(name))]
        if not paths and pattern != DEFAULT_SEED:
            logger.warning("db.seed.sql_paths: no file has a name like %s", pattern)
        found.update(dict.fromkeys(paths))
    return list(found)


def _scripts(path: Path) -> list[Path]:
    """Return the file, or the scripts in a folder and those within it, in their order."""
    if path.is_file():
        return [path]
    names = (each for each in path.rglob("*") if each.name.endswith((".sql", ".sql.gz")))
    return sorted(each for each in names if each.is_file())


def _name_in(folder: Path, path: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _check_version(connection: AsyncConnection, wanted: int) -> None:
    major = connection.info.server_version // 10000
    if major < wanted:
        logger.warning(
            "db.major_version is %d, and this server is Postgres %d: migrations that need the "
            "newer one fail; install it (pip install 'amphibase[postgres]') and start on a new "
            "folder with --data-dir, or name such a server with --database-url",
            wanted,
            major,
        )


async def _available(connection: AsyncConnection) -> Mapping[str, Collection[str]]:
    """Return the versions of the extensions that the server has, by their names."""
    cursor = await connection.execute(
        "SELECT name, array_agg(version) FROM pg_available_extension_versions GROUP BY name"
    )
    return dict(await cursor.fetchall())


class _Runner:
    def __init__(
        self, connection: AsyncConnection, available: Mapping[str, Collection[str]], folder: Path
    ) -> None:
        self._connection = connection
        self._available = available
        self._folder = folder
        self._named: set[str] = set()

    async def migrate(self, migration: Migration) -> None:
        statements = list(split(_read(migration.path)))
        await self._run(migration.path, statements)
        await self._connection.execute(
            "INSERT INTO supabase_migrations.schema_migrations (version, name, statements)"
            " VALUES (%s, %s, %s)",
            (migration.version, migration.name, [each.text for each in statements]),
        )
        await self._connection.commit()

    async def run_once(self, path: Path) -> bool:
        """Run a seed, or the file of roles, unless this database has had it."""
        name = f"{self._folder.name}/{_name_in(self._folder, path)}"
        cursor = await self._connection.execute(
            "SELECT true FROM supabase_migrations.seed_files WHERE path = %s", (name,)
        )
        if await cursor.fetchone():
            return False
        content = _read(path)
        await self._run(path, split(content))
        await self._connection.execute(
            "INSERT INTO supabase_migrations.seed_files (path, hash) VALUES (%s, %s)",
            (name, hashlib.sha256(content.encode()).hexdigest()),
        )
        await self._connection.commit()
        return True

    async def _run(self, path: Path, statements: Iterable[ScriptStatement]) -> None:
        # What one file sets for its session is nothing to the next.
        await self._connection.execute("RESET ALL")
        for written in statements:
            statement = self._prepared(path, written)
            if statement is None:
                continue
            try:
                if _ALONE.match(statement.text):
                    await self._run_alone(statement)
                elif path.name == ROLES:
                    await self._run_unless_there(statement)
                else:
                    await self._connection.execute(statement.text.encode())
            except psycopg.Error as error:
                raise ConfigurationError(
                    describe_failure(path, statement, error, self._skipped())
                ) from error

    async def _run_unless_there(self, statement: ScriptStatement) -> None:
        """Run a statement of the file of roles: another database of the server may have them."""
        with suppress(psycopg.errors.DuplicateObject):
            async with self._connection.transaction():
                await self._connection.execute(statement.text.encode())

    async def _run_alone(self, statement: ScriptStatement) -> None:
        await self._connection.commit()
        await self._connection.set_autocommit(True)
        try:
            await self._connection.execute(statement.text.encode())
        finally:
            await self._connection.set_autocommit(False)

    def _prepared(self, path: Path, statement: ScriptStatement) -> ScriptStatement | None:
        """Return what to run of a statement, None for nothing: a missing extension is skipped or
        an error."""
        if _TABLE_VERSION.match(statement.text):
            return None
        if _FROM_STDIN.match(statement.text):
            raise ConfigurationError(
                f"{path}:{statement.line}: only psql reads the rows that follow COPY … FROM stdin: "
                "dump them as INSERT (supabase db dump --data-only), or run psql -f on DB_URL"
            )
        skipped = partial(self._is_skipped, path, statement)
        name = extensions.named_in(statement.text)
        if name is None:
            return replace(statement, text=extensions.without(statement.text, skipped))
        if name in self._available:
            text = extensions.without_version(statement.text, self._available[name])
            if text != statement.text:
                logger.warning(
                    "%s:%d: the extension %s is made in the version that this server has",
                    path,
                    statement.line,
                    name,
                )
            return replace(statement, text=text)
        if skipped(name):
            return None
        major = self._connection.info.server_version // 10000
        raise ConfigurationError(
            f"{path}:{statement.line}: Postgres {major} here lacks the extension {name}; "
            f"{extensions.advice(name, major)}--database-url"
        )

    def _is_skipped(self, path: Path, statement: ScriptStatement, extension: str) -> bool:
        """Return whether a project does without an extension; a warning says so once."""
        if extension in self._available:
            return False
        if extension in extensions.PROVIDED:
            return True
        if not extensions.is_dispensable(extension):
            return False
        if extension not in self._named:
            self._named.add(extension)
            logger.warning(
                "%s:%d: the extension %s is skipped: this server lacks it",
                path,
                statement.line,
                extension,
            )
        return True

    def _skipped(self) -> list[str]:
        made = dict.fromkeys(_extensions_made_in(self._folder))
        there = extensions.PROVIDED.union(self._available)
        return [name for name in made if name not in there]


def _read(path: Path) -> str:
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8-sig") as file:
                return file.read()
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8 text") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise ConfigurationError(f"{path} is not compressed by gzip, or not whole") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
