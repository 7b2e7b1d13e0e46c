"""Runs `amphibase …` as a shell would, and shows what it runs."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

HERE = Path(__file__).parent


def amphibase(folder: Path, *arguments: str, **environment: str) -> str:
    """Run a command in a folder; return what it prints. Ends the script where it fails."""
    print("$ amphibase", *arguments)
    done = subprocess.run(
        [sys.executable, "-m", "amphibase", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(HERE), **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\nThe command ended with {done.returncode}")
    return done.stdout


@contextmanager
def local_supabase(
    folder: Path, migrations: Mapping[str, str] = MappingProxyType({})
) -> Iterator[dict[str, str]]:
    """Start a local Supabase with the application's tables; stop it after the block.

    Args:
        migrations: more of them, by the names of their files.

    Returns:
        Its address and keys, by the names of the environment variables of a move.
    """
    directory = folder / "supabase" / "migrations"
    directory.mkdir(parents=True)
    application = amphibase(folder, "supabase", "sql", "--app", "app:app")
    for name, text in {"20261201000000_application.sql": application, **migrations}.items():
        (directory / name).write_text(text)
    data = ("--data-dir", str(folder / "project"))
    started = json.loads(amphibase(folder, "supabase", "start", *data, "--port", "0", "-o", "json"))
    try:
        yield {
            "SUPABASE_URL": started["API_URL"],
            "SUPABASE_ANON_KEY": started["ANON_KEY"],
            "SUPABASE_SERVICE_KEY": started["SERVICE_ROLE_KEY"],
            "SUPABASE_JWT_SECRET": started["JWT_SECRET"],
            "SUPABASE_DB_URL": started["DB_URL"],
        }
    finally:
        amphibase(folder, "supabase", "stop", *data)
