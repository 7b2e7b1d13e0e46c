"""The private names of other libraries are still there, and used in one place each."""

import ast
import importlib
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI
from starlette.requests import Request

import amphibase
from amphibase.private_names.fastapi import inclusion, is_traced

PACKAGE = Path(amphibase.__file__).parent
FOLDER = PACKAGE / "private_names"
LIBRARIES = [path.stem for path in sorted(FOLDER.glob("[a-z]*.py"))]
UVICORN = [
    f"uvicorn.protocols.http.httptools_impl.HttpToolsProtocol.{name}"
    for name in (
        "connection_made", "connection_lost", "data_received", "on_message_begin",
        "on_headers_complete", "send_400_response", "handle_websocket_upgrade",
    )
]  # fmt: skip
"""What `server.py` overrides and calls."""
UVICORN_WEBSOCKETS = [
    f"uvicorn.protocols.websockets.websockets_sansio_impl.WebSocketsSansIOProtocol.{name}"
    for name in ("connection_made", "pause_writing", "resume_writing", "handle_connect")
]
"""What `gateway/websocket_protocol.py` overrides."""
UVICORN_RESPONSES = [
    f"uvicorn.protocols.http.httptools_impl.{name}"
    for name in ("STATUS_LINE", "RequestResponseCycle", "HttpToolsProtocol._start_asgi_task")
]
"""What `gateway/http_protocol.py` overrides and calls."""


def used() -> list[tuple[str, str]]:
    """Each private name, and where it is needed."""
    items = [
        (name, place)
        for library in LIBRARIES
        for name, place in importlib.import_module(
            f"amphibase.private_names.{library}"
        ).USED.items()
    ]
    return [
        *items,
        *[(name, "server.py") for name in UVICORN],
        *[(name, "gateway/websocket_protocol.py") for name in UVICORN_WEBSOCKETS],
        *[(name, "gateway/http_protocol.py") for name in UVICORN_RESPONSES],
    ]


def resolve(name: str) -> Any:
    """The object of a dotted name, whatever part of it is the module's."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            value = getattr(value, part)
        return value
    raise ImportError(name)


@pytest.mark.parametrize(("name", "place"), [each for each in used() if " " not in each[0]])
def test_a_private_name_is_there(name: str, place: str) -> None:
    library = name.partition(".")[0]
    if library == "aiosqlite" and name.endswith("._conn"):
        pytest.skip("a property of an open connection, which every test on SQLite opens")
    try:
        resolve(name)
    except (ImportError, AttributeError):
        pytest.fail(f"{library} {version(library)} has no {name}, which {place} needs")


@pytest.mark.parametrize("library", LIBRARIES)
def test_nothing_else_of_the_package_uses_it(library: str) -> None:
    names = importlib.import_module(f"amphibase.private_names.{library}").USED
    private = {name.rpartition(".")[2] for name in names if "._" in name}
    for path in PACKAGE.rglob("*.py"):
        if path.parent == FOLDER:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not str(node.module).startswith("amphibase"):
                assert not private & {alias.name for alias in node.names}, path
            if isinstance(node, ast.Attribute) and node.attr in private:
                own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                assert own, f"{path.relative_to(PACKAGE)}:{node.lineno} uses {node.attr}"


@pytest.mark.parametrize("library", [*LIBRARIES, "uvicorn"])
def test_its_versions_have_an_upper_bound(library: str) -> None:
    requirements = Path(__file__).parents[1].joinpath("pyproject.toml").read_text()
    bounds = re.findall(rf'"{library}(?:\[\w+\])?>=[\d.]+(,<[\d.]+)?"', requirements)
    assert bounds
    assert all(bounds), f"{library} may come in a version that lacks a private name"


async def test_fastapi_says_how_a_router_was_included() -> None:
    """Else the fast path serves nothing, or passes over a dependency."""
    inner, outer = APIRouter(prefix="/inner"), APIRouter(prefix="/outer")
    items: list[Any] = []

    @inner.get("/")
    def look(request: Request) -> None:
        items.append((inclusion(request.scope, inner), inclusion(request.scope, outer)))
        assert not is_traced(request.scope)

    async def guard() -> None: ...

    app = FastAPI(dependencies=[Depends(guard)])
    outer.include_router(inner, dependencies=[Depends(guard)])
    app.include_router(outer, prefix="/v1", dependencies=[Depends(guard)])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        assert (await client.get("/v1/outer/inner/")).status_code == 200
    [(of_inner, of_outer)] = items
    known = of_inner if of_inner is not None else of_outer
    assert known is not None
    assert of_inner is None or len(of_inner.dependencies) == 3
