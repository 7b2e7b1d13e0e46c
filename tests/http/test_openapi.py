"""The OpenAPI document against a real server: no request that fits it, or almost, makes it fail."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.commands import run
from tests.serving import serving

CONFORMANCE = [
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]
ADMIN = {"email": "root@example.com", "password": "correct horse battery"}
FEW = 8
MANY = pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(1800)])
"""How many requests are tried of each operation."""

# Parts of resumable uploads are bytes like others.
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")


class Server:
    """A running server, and an administrator of it who is made anew when a request deletes them."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self._folder = folder
        self.token = self._new_token()

    def call(self, case: Any) -> Any:
        response = case.call(base_url=self.url, headers=self._headers())
        if response.status_code == 401 and not self._signed_in():
            self.token = self._new_token()
            response = case.call(base_url=self.url, headers=self._headers())
        return response

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def _signed_in(self) -> bool:
        return httpx.get(f"{self.url}/users/me", headers=self._headers()).status_code == 200

    def _new_token(self) -> str:
        response = httpx.post(f"{self.url}/auth/sign-in", json=ADMIN)
        if response.status_code == 401:
            create = ("users", "create", ADMIN["email"], "--admin")
            assert run(self._folder, {}, *create, input=ADMIN["password"]).returncode == 0
            response = httpx.post(f"{self.url}/auth/sign-in", json=ADMIN)
        token: str = response.json()["access_token"]
        return token


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, {"RATE_LIMITS": "off"}) as url:
        yield Server(url, folder)


@pytest.mark.parametrize("examples", [FEW, MANY])
def test_no_request_makes_the_server_fail(server: Server, examples: int) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) > 20
    for operation in operations:
        _check(operation, server, examples)


RECORDS = """
from fastapi import FastAPI
from tests.column_models import Kinds
from tests.models import Document, Post

from amphibase import Amphibase

db = Amphibase()
app = db.mount(FastAPI())
for model in (Post, Document, Kinds):
    app.include_router(db.router(model))
"""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.long)])
def records_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server with the ready routes of models of the tests."""
    url = request.getfixturevalue(f"{request.param}_url")
    (tmp_path / ".env").write_text(f"DATABASE_URL={url}\nRATE_LIMITS=off\n")
    (tmp_path / "main.py").write_text(RECORDS)
    with serving(tmp_path, {"PYTHONPATH": str(Path(__file__).parents[2])}, "main:app") as served:
        yield Server(served, tmp_path)


@pytest.mark.parametrize("examples", [FEW, MANY])
def test_no_request_makes_the_ready_routes_fail(records_server: Server, examples: int) -> None:
    schema = schemathesis.openapi.from_url(f"{records_server.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    records = [operation for operation in operations if operation.path.startswith("/t_")]
    assert len(records) == 3 * 5
    for operation in records:
        _check(operation, records_server, examples)


def _check(operation: Any, server: Server, examples: int) -> None:
    @given(case=operation.as_strategy())
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any) -> None:
        response = server.call(case)
        assert response.status_code < 500, response.text
        if response.status_code >= 400:
            assert response.headers["content-type"] == ["application/problem+json"]
            assert operation.method == "head" or response.json()["code"]
        case.validate_response(response, checks=CONFORMANCE)

    check()
