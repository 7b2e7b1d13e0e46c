"""The process behind `local_supabase`: a Postgres, and a gateway for each project that is open.

It reads one command a line, `["open"]` or `["close", url]`, and responds to `open` with the
project. It ends with its input.
"""

import asyncio
import itertools
import json
import logging
import os
import secrets
import shutil
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import uvicorn

from amphibase.gateway import project as database
from amphibase.gateway.build import WEBSOCKET_OPTIONS, Project, build
from amphibase.gateway.keys import ApiKeys, api_key
from amphibase.gateway.postgres import MINIMUM_MAJOR, SERVER_SETTINGS
from amphibase.gateway.service_roles import role_urls
from amphibase.postgres import Server as Postgres
from amphibase.postgres import start
from amphibase.server import KEEP_ALIVE_SECONDS, UvicornServer, loop_factory
from amphibase.testing.passwords import cheap_hashes
from amphibase.testing.supabase import LocalSupabase

GRACEFUL_SECONDS = 5
"""How long requests under way may take once a project is closed."""


@dataclass
class _Open:
    """A project that is served."""

    project: Project
    owner_url: str
    server: UvicornServer
    serving: "asyncio.Task[None]"

    async def stop(self) -> None:
        self.server.should_exit = True
        await self.serving

    async def close(self) -> None:
        await self.stop()
        await database.drop(self.owner_url)
        await asyncio.to_thread(shutil.rmtree, self.project.folder)


class _Projects:
    def __init__(self, folder: Path, template: str, password: str) -> None:
        self._folder = folder
        self._template = template
        self._password = password
        self._numbers = itertools.count(1)
        self._open: dict[str, _Open] = {}
        self._next = asyncio.create_task(self._make())

    async def open(self) -> LocalSupabase:
        opened = await self._next
        project = opened.project
        self._open[project.url] = opened
        self._next = asyncio.create_task(self._make())  # while the test runs
        keys = project.keys
        return LocalSupabase(
            url=project.url,
            anon_key=keys.anon,
            service_role_key=keys.service_role,
            publishable_key=keys.publishable or "",
            secret_key=keys.secret_key or "",
            jwt_secret=keys.secret,
            db_url=opened.owner_url,
            inbox_url=f"{project.url}/inbox",
        )

    async def close(self, url: str) -> None:
        await self._open.pop(url).close()

    async def close_all(self) -> None:
        """Stop all; their data goes with that of the server."""
        waiting = await self._next
        await asyncio.gather(waiting.stop(), *(each.stop() for each in self._open.values()))

    async def _make(self) -> _Open:
        number = next(self._numbers)
        owner_url = await database.copy(self._template, f"project_{number}")
        listener = socket.create_server(("127.0.0.1", 0))
        folder = self._folder / f"project_{number}"
        folder.mkdir()
        project = Project(
            roles=role_urls(owner_url, self._password),
            url=f"http://127.0.0.1:{listener.getsockname()[1]}",
            folder=folder,
            keys=_fresh_keys(),
        )
        ready = asyncio.Event()
        config = uvicorn.Config(
            build(project),
            log_config=None,
            access_log=False,
            lifespan="on",
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACEFUL_SECONDS,
            **WEBSOCKET_OPTIONS,
        )
        server = UvicornServer(config, ready.set, handles_signals=False)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await ready.wait()
        return _Open(project, owner_url, server, serving)


def _fresh_keys() -> ApiKeys:
    secret = secrets.token_urlsafe(32)
    return ApiKeys(
        secret=secret,
        anon=api_key(secret, "anon"),
        service_role=api_key(secret, "service_role"),
        publishable=f"sb_publishable_{secrets.token_urlsafe(24)}",
        secret_key=f"sb_secret_{secrets.token_urlsafe(24)}",
    )


async def _run(folder: Path, postgres: Postgres) -> None:
    password = secrets.token_urlsafe(24)
    template = postgres.create_database("template_of_projects")
    exposes_new_tables = os.environ.get("GATEWAY_AUTO_EXPOSE_NEW_TABLES", "").lower() == "true"
    await database.prepare(template, password, exposes_new_tables=exposes_new_tables)
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
    )
    projects = _Projects(folder, template, password)
    closing = set()
    while line := await commands.readline():
        word, *arguments = json.loads(line)
        if word == "open":
            print(json.dumps(asdict(await projects.open())), flush=True)
        else:
            task = asyncio.create_task(projects.close(*arguments))
            closing.add(task)
            task.add_done_callback(closing.discard)
    await asyncio.gather(*closing)
    await projects.close_all()


def main() -> None:
    """Serve projects until the input ends."""
    logging.basicConfig(level=logging.WARNING)
    with (
        cheap_hashes(),
        start(
            Path.cwd() / "postgres",
            fsync=False,
            settings=SERVER_SETTINGS,
            least=MINIMUM_MAJOR,
        ) as postgres,
        asyncio.Runner(loop_factory=loop_factory()) as runner,
    ):
        runner.run(_run(Path.cwd(), postgres))


if __name__ == "__main__":
    main()
