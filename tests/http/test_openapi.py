"""The OpenAPI document against a real server: no request that fits it, or almost, makes it fail."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.schemas import OpenApiSchema
from tests.serving import serving

ADMIN = {"email": "root@example.com", "password": "correct horse battery"}
EXAMPLES = 25


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("server"), {"RATE_LIMITS": "off"}) as url:
        httpx.post(f"{url}/auth/sign-up", json=ADMIN).raise_for_status()
        yield url


@pytest.fixture(scope="module")
def api(server: str) -> OpenApiSchema:
    return schemathesis.openapi.from_url(f"{server}/openapi.json")


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_no_request_makes_the_server_fail(case: Any, server: str) -> None:
    answer = httpx.post(f"{server}/auth/sign-in", json=ADMIN)
    if answer.status_code == 401:  # the case before deleted the account
        answer = httpx.post(f"{server}/auth/sign-up", json=ADMIN)
    token = answer.json()["access_token"]
    response = case.call(base_url=server, headers={"Authorization": f"Bearer {token}"})
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        assert response.headers["content-type"] == ["application/problem+json"]
        assert response.json()["code"]
