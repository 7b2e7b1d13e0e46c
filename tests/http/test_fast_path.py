"""The fast path serves what is requested most, and is left wherever anything else has a say."""

from typing import Any
from uuid import uuid4

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.models import Document, Post

from amphibase import Amphibase, Settings
from amphibase.testing.client import Client, open_client


@pytest.fixture
def framework(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests that the framework served, and not a fast endpoint."""
    answered: list[str] = []
    handle = APIRoute.handle

    async def noted(route: APIRoute, scope: Scope, receive: Receive, send: Send) -> None:
        answered.append(f"{scope['method']} {scope['path']}")
        await handle(route, scope, receive, send)

    monkeypatch.setattr(APIRoute, "handle", noted)
    return answered


@pytest.fixture
def db(settings: Settings) -> Amphibase:
    return Amphibase(settings)


@pytest.fixture
def app(db: Amphibase) -> FastAPI:
    app = db.mount(FastAPI())
    app.include_router(db.router(Post))
    app.include_router(db.router(Document))
    return app


@pytest.fixture
async def ann(client: Client) -> Client:
    return await client.as_user("ann@example.com")


def closed() -> None:
    raise HTTPException(418, "closed")


CLOSED = [Depends(closed)]


async def add_post(ann: Client, path: str = "/t_posts") -> str:
    """The path of a new row."""
    response = await ann.post(path, json={"title": "tea"})
    assert response.status_code == 201, response.text
    return str(response.headers["location"])


class TestFastPath:
    async def test_are_those_that_respond(self, ann: Client, framework: list[str]) -> None:
        post = await add_post(ann)
        framework.clear()
        for path in (post, "/t_posts", "/t_posts?title=eq.tea", "/users/me"):
            assert (await ann.get(path)).status_code == 200
        assert (await ann.get(f"/t_posts/{uuid4()}")).status_code == 404
        assert framework == []

    async def test_serves_nothing_where_it_is_switched_off(
        self, settings: Settings, framework: list[str]
    ) -> None:
        switched_off = Amphibase(settings.model_copy(update={"fast_path": False}))
        app = switched_off.mount(FastAPI())
        app.include_router(switched_off.router(Post))
        async with open_client(app) as client:
            ann = await client.as_user("ann@example.com")
            post = await add_post(ann)
            framework.clear()
            for path in (post, "/t_posts", "/users/me"):
                assert (await ann.get(path)).status_code == 200
            assert framework == [f"GET {post}", "GET /t_posts", "GET /users/me"]

    @pytest.mark.parametrize("rows", ["t_posts", "t_documents"])
    async def test_respond_as_the_documented_ones(
        self, app: FastAPI, ann: Client, framework: list[str], rows: str
    ) -> None:
        """To the byte and to the header, be it a row, a list or an error."""
        row = await add_post(ann, f"/{rows}")
        paths = (row, f"/{rows}", f"/{rows}/{uuid4()}", f"/{rows}?nothing=eq.1", "/users/me")
        fast = [await ann.get(path) for path in paths]
        app.dependency_overrides[closed] = closed  # of whatever: a test's word counts for all
        framework.clear()
        documented = [await ann.get(path) for path in paths]
        assert len(framework) == len(paths)
        for one, other in zip(fast, documented, strict=True):
            assert one.status_code == other.status_code
            here, there = one.headers.pop("x-request-id"), other.headers.pop("x-request-id")
            assert one.headers == other.headers
            assert one.text.replace(here, there) == other.text

    async def test_leave_bad_keys_to_the_framework(self, ann: Client, framework: list[str]) -> None:
        response = await ann.get("/t_posts/nonsense")
        assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "id")
        assert framework == ["GET /t_posts/nonsense"]

    @pytest.mark.parametrize("path", ["/t_posts", "/t_posts/1", "/users/me"])
    @pytest.mark.parametrize("method", ["HEAD", "PUT"])
    async def test_are_of_their_method_alone(self, ann: Client, path: str, method: str) -> None:
        response = await ann.request(method, path)
        assert response.status_code == 405
        assert "GET" in response.headers["allow"] or "PATCH" in response.headers["allow"]

    @pytest.mark.parametrize("where", ["application", "around", "inclusion", "router"])
    async def test_honour_dependencies(self, db: Amphibase, where: str) -> None:
        def of(place: str) -> list[Any]:
            return CLOSED if where == place else []

        app = db.mount(FastAPI(dependencies=of("application")))
        around = APIRouter(prefix="/api", dependencies=of("around"))
        around.include_router(db.router(Post, dependencies=of("router")))
        app.include_router(around, prefix="/v1", dependencies=of("inclusion"))
        async with open_client(app) as client:
            for path in ("/v1/api/t_posts", f"/v1/api/t_posts/{uuid4()}"):
                assert (await client.get(path)).status_code == 418
            signed_in = await client.as_user("ann@example.com")
            me = await signed_in.get("/users/me")
            assert me.status_code == (418 if where == "application" else 200)

    async def test_honour_each_inclusion_of_a_router(
        self, db: Amphibase, framework: list[str]
    ) -> None:
        """The same router may be open in one place and closed in another."""
        app, posts = db.mount(FastAPI()), db.router(Post)
        app.include_router(posts, prefix="/closed", dependencies=CLOSED)
        app.include_router(posts, prefix="/open")
        app.include_router(posts, prefix="/of/{whom}")
        async with open_client(app) as client:
            assert (await client.get("/closed/t_posts")).status_code == 418
            framework.clear()
            assert (await client.get("/open/t_posts")).status_code == 200
            assert framework == []
            assert (await client.get("/of/ann/t_posts")).status_code == 200
            assert framework == ["GET /of/ann/t_posts"]
            assert (await client.get("/t_posts")).status_code == 404

    async def test_come_after_routes_that_were_there_before(self, db: Amphibase) -> None:
        app = FastAPI()

        @app.get("/users/me")
        async def me() -> str:
            return "mine"

        db.mount(app)

        @app.get("/t_posts/{id}")
        async def post(id: str) -> str:
            return id

        app.include_router(db.router(Post))
        id = str(uuid4())
        async with open_client(app) as client:
            assert (await client.get("/users/me")).json() == "mine"
            assert (await client.get(f"/t_posts/{id}")).json() == id
            assert (await client.get("/t_posts")).json()["items"] == []

    async def test_come_after_routes_put_before_them(self, db: Amphibase) -> None:
        """The order of a router's own routes counts too."""
        app, posts = db.mount(FastAPI()), db.router(Post)

        @posts.get("/{id}")
        async def post(id: str) -> str:
            return id

        posts.routes.insert(0, posts.routes.pop())
        app.include_router(posts)
        id = str(uuid4())
        async with open_client(app) as client:
            assert (await client.get(f"/t_posts/{id}")).json() == id

    async def test_tell_the_middleware_which_route_it_was(self, db: Amphibase) -> None:
        """Metrics are kept by the route, not by the path."""
        app, served = FastAPI(), []

        @app.middleware("http")
        async def tell(request: Request, call_next: Any) -> Response:
            response: Response = await call_next(request)
            scope = request.scope
            served.append((scope["route"].path, scope["endpoint"].__name__, scope["path_params"]))
            return response

        db.mount(app).include_router(db.router(Post))
        id = str(uuid4())
        async with open_client(app) as client:
            await client.get(f"/t_posts/{id}")
            await client.get("/users/me")
        assert served == [("/t_posts/{id}", "get_row", {"id": id}), ("/users/me", "me", {})]

    async def test_are_found_below_another_application(
        self, app: FastAPI, framework: list[str]
    ) -> None:
        outer = FastAPI(lifespan=app.router.lifespan_context)
        outer.state.amphibase = app.state.amphibase
        outer.mount("/below", app)
        async with open_client(outer) as client:
            ann = await client.as_user("ann@example.com")
            framework.clear()
            assert (await ann.get("/below/t_posts")).status_code == 200
            assert (await ann.get("/below/users/me")).json()["email"] == "ann@example.com"
            assert framework == []

    async def test_leave_limits_of_the_body_to_the_framework(
        self, db: Amphibase, framework: list[str]
    ) -> None:
        app = db.mount(FastAPI())
        app.include_router(db.router(Post), max_body_size=10)
        async with open_client(app) as client:
            response = await client.request("GET", "/t_posts", content=b"x" * 11)
            assert response.status_code == 413

    async def test_leave_what_is_traced_to_the_framework(
        self, db: Amphibase, framework: list[str]
    ) -> None:
        """It names the route to the trace, and what it spends its time on."""

        class Traced:
            def __init__(self, app: ASGIApp) -> None:
                self.app = app

            async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
                scope["fastapi.telemetry"] = None
                await self.app(scope, receive, send)

        app = db.mount(FastAPI())
        app.add_middleware(Traced)
        app.include_router(db.router(Post))
        async with open_client(app) as client:
            assert (await client.get("/t_posts")).status_code == 200
        assert framework == ["GET /t_posts"]
