"""Where Amphibase's routes are in an application, and which of them are there."""

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from tests.models import Note
from tests.outbox import messages

from amphibase import Amphibase, ConfigurationError, Settings
from amphibase.testing.client import open_client

ANN = {"email": "ann@example.com", "password": "correct horse battery"}
TUS = {"Tus-Resumable": "1.0.0", "Upload-Length": "3", "Upload-Metadata": "path YS50eHQ="}


@pytest.fixture
def settings(make_settings):  # type: ignore[no-untyped-def]
    return make_settings(public_url="https://app.example", email_confirmation="off")


def mounted(settings: Settings, prefix: str = "/api") -> FastAPI:
    db = Amphibase(settings)
    app = db.mount(FastAPI(), prefix=prefix)
    app.include_router(db.router(Note, prefix=f"{prefix}/notes"))
    return app


@pytest.mark.parametrize("root_path", ["", "/outer"])
async def test_everything_is_below_a_prefix(settings: Settings, root_path: str) -> None:
    """Also where a proxy passes on what is below a path of its own."""
    app = mounted(settings)
    async with open_client(app) as client:
        client._transport.root_path = root_path  # type: ignore[attr-defined]
        assert (await client.post("/auth/sign-up", json=ANN)).status_code == 404
        signed_up = await client.post("/api/auth/sign-up", json=ANN)
        token = {"Authorization": f"Bearer {signed_up.json()['access_token']}"}
        assert (await client.get("/api/users/me", headers=token)).status_code == 200
        assert (await client.get("/api/health/ready")).status_code == 200
        assert (await client.get("/api/.well-known/jwks.json")).status_code == 200

        added = await client.post("/api/notes", json={"title": "x", "stars": 1}, headers=token)
        location = added.headers["location"]
        assert location.startswith(f"{root_path}/api/notes/")
        assert (await client.get(location.removeprefix(root_path), headers=token)).is_success

        created = await client.post("/api/files/tus", headers=token | TUS)
        location = created.headers["location"]
        assert urlsplit(location).path.startswith(f"{root_path}/api/files/tus/")
        chunk = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        path = urlsplit(location).path.removeprefix(root_path)
        sent = await client.patch(path, content=b"ten", headers=token | TUS | chunk)
        assert sent.status_code in (200, 201, 204)
        if "content-location" in sent.headers:
            assert sent.headers["content-location"] == f"{root_path}/api/files/uploads/a.txt"

        body = {"bucket": "uploads", "path": "a.txt"}
        signed = await client.post("/api/files/sign", json=body, headers=token)
        url = signed.json()["url"]
        assert url.startswith("https://app.example/api/files/uploads/a.txt?token=")
        assert (await client.get(url.removeprefix("https://app.example"))).content == b"ten"


async def test_links_in_emails_lead_below_the_prefix(settings: Settings) -> None:
    app = mounted(settings.model_copy(update={"email_confirmation": "required"}))
    async with open_client(app) as client:
        await client.post("/api/auth/sign-up", json=ANN)
    text = messages(settings.data_dir)[0].get_content()
    (link,) = re.findall(r"https://app.example(/\S+)", text)
    async with open_client(mounted(settings)) as client:
        assert link.startswith("/api/auth/email/verify?token=")
        assert (await client.get(link)).status_code == 200


async def test_the_documentation_knows_the_prefix(settings: Settings) -> None:
    async with open_client(mounted(settings, "/api/v1")) as client:
        schema = (await client.get("/openapi.json")).json()
    assert "/api/v1/auth/token" in schema["paths"]
    scheme = schema["components"]["securitySchemes"]["OAuth2PasswordBearer"]
    assert scheme["flows"]["password"]["tokenUrl"] == "api/v1/auth/token"


async def test_parts_can_be_left_out(settings: Settings) -> None:
    app = Amphibase(settings).mount(FastAPI(), auth=False, files=False)

    @app.get("/auth/mine")
    async def mine() -> str:
        return "mine"

    async with open_client(app) as client:
        assert (await client.post("/auth/sign-up", json=ANN)).status_code == 404
        assert (await client.get("/files")).status_code == 404
        assert (await client.get("/users/me")).status_code == 401
        assert (await client.get("/auth/mine")).json() == "mine"


@pytest.mark.parametrize("prefix", ["api", "/api/", "/a b", "/{x}"])
def test_a_prefix_is_a_path(settings: Settings, prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="/api"):
        Amphibase(settings).mount(FastAPI(), prefix=prefix)


async def nothing() -> None: ...


def hidden_by_a_builtin_route(app: FastAPI, db: Amphibase) -> None:
    app.get("/users/extra")(nothing)


def hidden_in_a_router(app: FastAPI, db: Amphibase) -> None:
    router = APIRouter(prefix="/files")
    router.put("/mine/{name:path}")(nothing)
    app.include_router(router)


def hidden_by_a_ready_route(app: FastAPI, db: Amphibase) -> None:
    app.include_router(db.router(Note, prefix="/notes"))
    app.get("/notes/mine")(nothing)


@pytest.mark.parametrize(
    ("add", "path"),
    [
        (hidden_by_a_builtin_route, "GET /users/extra"),
        (hidden_in_a_router, "PUT /files/mine/{name:path}"),
        (hidden_by_a_ready_route, "GET /notes/mine"),
    ],
)
async def test_a_route_that_is_never_reached_is_an_error_at_start(
    tmp_path: Path, add: Callable[[FastAPI, Amphibase], None], path: str
) -> None:
    db = Amphibase(Settings(data_dir=tmp_path))
    app = db.mount(FastAPI())
    add(app, db)
    with pytest.raises(ConfigurationError) as caught:
        async with open_client(app):
            pass
    assert str(caught.value).startswith(f"{path} is never reached")


async def test_routes_that_are_reached_are_none(tmp_path: Path) -> None:
    db = Amphibase(Settings(data_dir=tmp_path))
    app = FastAPI()
    app.get("/users/before")(nothing)  # takes a path of ours, which was meant
    db.mount(app)
    app.include_router(db.router(Note, prefix="/notes"))
    app.post("/users/extra")(nothing)  # no such method of ours
    app.get("/usersextra")(nothing)
    app.get("/{name}/users")(nothing)

    @app.websocket("/users/live")
    async def live(websocket: WebSocket) -> None: ...

    async with open_client(app) as client:
        for method, route in (("GET", "/users/before"), ("POST", "/users/extra")):
            assert (await client.request(method, route)).status_code == 200
