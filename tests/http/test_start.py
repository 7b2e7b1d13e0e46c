"""What an application's server logs of its start, whichever server it is."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import make_url
from starlette.types import Message

from amphibase import Amphibase, ConfigurationError, InvalidToken, Settings, Unavailable
from amphibase.errors import Forbidden, NotFound, StorageFull
from amphibase.sql.backend import SqlBackend

PORT_OF_NOBODY = 1
REFUSED = f"redis://ann:hidden@127.0.0.1:{PORT_OF_NOBODY}/2"


async def failure_of(app: FastAPI) -> str:
    """Start an application as a server does, and return what it reports of the failure."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    with contextlib.suppress(Exception):
        await app(scope, receive, send)
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    text: str = sent[0]["message"]
    return text


async def test_a_database_that_is_not_there_is_reported_in_one_line(tmp_path: Path) -> None:
    url = f"postgresql://ann:hidden@127.0.0.1:{PORT_OF_NOBODY}/app"
    settings = Settings(data_dir=tmp_path, database_url=url)
    line = await failure_of(Amphibase(settings).mount(FastAPI()))
    address = f"postgresql://ann@127.0.0.1:{PORT_OF_NOBODY}/app"
    assert f"(DATABASE_URL is {address}): connection failed: " in line
    assert "\n" not in line
    assert "hidden" not in line


async def test_a_server_that_asks_for_no_password_has_rejected_none(tmp_path: Path) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"postgresql://ann:hidden@127.0.0.1:{port}/app?sslmode=disable"
        settings = Settings(data_dir=tmp_path, database_url=url)
        line = await failure_of(Amphibase(settings).mount(FastAPI()))
    assert line.startswith("The database cannot be reached just now (DATABASE_URL is ")


@pytest.mark.parametrize(
    ("user", "password", "name"),
    [("postgres", "hidden", "postgres"), ("postgres", None, "missing"), ("ann", "hidden", "app")],
)
async def test_a_database_that_rejects_the_sign_in_is_not_called_unreachable(
    tmp_path: Path, postgres_url: str, user: str, password: str | None, name: str
) -> None:
    own = make_url(postgres_url)
    url = own.set(username=user, password=password or own.password, database=name)
    settings = Settings(data_dir=tmp_path, database_url=url.render_as_string(False))
    line = await failure_of(Amphibase(settings).mount(FastAPI()))
    address = f"postgresql://{user}@127.0.0.1:{own.port}/{name}"
    assert line.startswith(
        "The database rejected the sign-in; compare user, password and name in its URL "
        f"(DATABASE_URL is {address}): "
    )
    assert "hidden" not in line
    assert "cannot be reached" not in line


async def test_a_setting_that_is_wrong_is_reported_in_one_line(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    db = Amphibase(settings, requires_rls=True)
    line = await failure_of(db.mount(FastAPI()))
    assert line == (
        "RLS: this application requires row level security; set RLS=true and use Postgres"
    )


async def test_what_the_application_itself_raises_is_reported_with_its_traceback(
    tmp_path: Path,
) -> None:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        raise KeyError("mistake")
        yield

    app = Amphibase(Settings(data_dir=tmp_path)).mount(FastAPI(lifespan=lifespan))
    assert "Traceback" in await failure_of(app)


async def test_a_redis_that_is_not_there_is_reported_and_does_not_keep_the_rest_from_starting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(data_dir=tmp_path, rate_limit_url=REFUSED, messages_url=REFUSED)
    app = Amphibase(settings).mount(FastAPI())
    with caplog.at_level(logging.ERROR):
        async with app.router.lifespan_context(app):
            with pytest.raises(InvalidToken):
                await app.state.amphibase.state.backend.accounts.authenticate("none")
    messages, limits = (record.getMessage() for record in caplog.records)
    assert messages.startswith("The Redis of MESSAGES_URL cannot be reached just now: Error ")
    assert limits.startswith("Not ready: The rate limits cannot be checked just now (")
    assert f"RATE_LIMIT_URL is redis://127.0.0.1:{PORT_OF_NOBODY}/2): Error " in limits
    assert "hidden" not in messages + limits


async def test_a_store_of_files_that_is_not_there_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    settings = Settings(data_dir=tmp_path, files_url=f"file://{tmp_path}/file/below")
    app = Amphibase(settings).mount(FastAPI())
    async with app.router.lifespan_context(app):
        [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
        assert record.getMessage().startswith("Not ready: ")
        with pytest.raises(Unavailable):
            await app.state.amphibase.state.backend.check()


@pytest.mark.parametrize("error", [StorageFull, NotFound, Forbidden])
async def test_what_a_backend_rejects_is_reported_and_does_not_keep_the_rest_from_starting(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
) -> None:
    async def check(backend: object) -> None:
        raise error

    monkeypatch.setattr(SqlBackend, "check", check)
    app = Amphibase(Settings(data_dir=tmp_path)).mount(FastAPI())
    async with app.router.lifespan_context(app):
        [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
        assert record.getMessage().startswith("Not ready: ")


@pytest.mark.parametrize("error", [ConfigurationError("one line"), Unavailable("one line")])
async def test_an_expected_error_of_the_applications_own_start_is_one_line_too(
    tmp_path: Path, error: Exception
) -> None:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        raise error
        yield

    app = Amphibase(Settings(data_dir=tmp_path)).mount(FastAPI(lifespan=lifespan))
    assert (await failure_of(app)).startswith("one line")
