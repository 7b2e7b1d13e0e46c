"""Who a request is: its token, and the role that it acts as."""

import base64
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
from tests.gateway.rest.data_api import USER, DataApi, open_data_api


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        (None, "anon"),
        ({"sub": "x"}, "anon"),
        (USER, "authenticated"),
        ({"role": "service_role"}, "service_role"),
    ],
)
async def test_a_request_acts_as_the_role_of_its_token(
    api: DataApi, claims: dict[str, Any] | None, role: str
) -> None:
    assert await api.read("/rpc/setting?name=role", claims=claims) == role
    value = await api.read("/rpc/setting?name=request.jwt.claims", claims=claims)
    said = {**(claims or {}), "role": role}
    assert value == json.dumps(said, separators=(",", ":"), sort_keys=True)


def unsigned(header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    parts = (base64.urlsafe_b64encode(json.dumps(each).encode()) for each in (header, claims))
    return b".".join(part.rstrip(b"=") for part in parts).decode()


@pytest.mark.parametrize(
    ("authorization", "code", "message"),
    [
        ("Bearer ", "PGRST301", "Empty JWT is sent in Authorization header"),
        ("bearer a", "PGRST301", "Expected 3 parts in JWT; got 1"),
        ("Bearer a.b", "PGRST301", "Expected 3 parts in JWT; got 2"),
        ("Bearer a.b.c", "PGRST301", "JWT couldn't be decoded"),
        (f"Bearer {unsigned({'alg': 'HS256'}, USER)}.AAAA", "PGRST301",
         "No suitable key or wrong key type"),
        (f"Bearer {unsigned({'alg': 'none'}, USER)}.", "PGRST301",
         "Wrong or unsupported encoding algorithm"),
    ],
)  # fmt: skip
async def test_a_token_that_is_none_is_rejected(
    api: DataApi, authorization: str, code: str, message: str
) -> None:
    response = await api.request("GET /works", headers={"authorization": authorization})
    assert (response.status_code, response.json()["code"]) == (401, code)
    assert response.json()["message"] == message
    assert response.headers["www-authenticate"] == (
        f'Bearer error="invalid_token", error_description="{message}"'
    )


@pytest.mark.parametrize(
    "request_line", ["GET /a/b", "POST /", "PATCH /rpc/add", "GET /nowhere", "GET /works?order=("]
)
async def test_a_wrong_token_is_reported_before_a_wrong_request(
    api: DataApi, request_line: str
) -> None:
    response = await api.request(request_line, headers={"authorization": "Bearer a"})
    assert (response.status_code, response.json()["code"]) == (401, "PGRST301")


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"exp": -60}, "JWT expired"),
        ({"nbf": 60}, "JWT not yet valid"),
        ({"iat": 60}, "JWT issued at future"),
        ({"exp": -5, "nbf": 5, "iat": 5}, None),  # clocks differ
    ],
)
async def test_a_token_holds_for_its_time(
    api: DataApi, claims: dict[str, int], message: str | None
) -> None:
    now = int(time.time())
    claims = {name: now + difference for name, difference in claims.items()}
    response = await api.request("GET /works", claims={**USER, **claims})
    assert response.status_code == (401 if message else 200)
    if message:
        assert (response.json()["code"], response.json()["message"]) == ("PGRST303", message)


async def test_a_role_that_may_not_is_forbidden_and_nobody_is_asked_who_they_are(
    api: DataApi,
) -> None:
    response = await api.request("GET /vault", claims=USER)
    assert (response.status_code, response.json()["code"]) == (403, "42501")
    assert "www-authenticate" not in response.headers
    response = await api.request("GET /vault")
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")


async def test_a_role_that_there_is_not_is_rejected(api: DataApi) -> None:
    response = await api.request("GET /works", claims={"role": "nobody"})
    assert (response.status_code, response.json()["code"]) == (401, "22023")
    assert response.json()["message"] == 'role "nobody" does not exist'


async def test_where_nobody_may_be_unknown_a_token_is_needed(api: DataApi) -> None:
    async with open_data_api(api.url, db_anon_role=None) as closed:
        response = await closed.request("GET /works")
        assert (response.status_code, response.json()["code"]) == (401, "PGRST302")
        assert response.json()["message"] == "Anonymous access is disabled"
        assert response.headers["www-authenticate"] == "Bearer"
        assert (await closed.request("GET /works", claims=USER)).status_code == 200


@pytest.mark.parametrize(
    ("audience", "status"),
    [("here", 200), (["there", "here"], 200), ([], 200), (None, 200), ("there", 401),
     (["there"], 401), (5, 401)],
)  # fmt: skip
async def test_a_token_is_meant_for_an_audience(api: DataApi, audience: Any, status: int) -> None:
    async with open_data_api(api.url, jwt_aud="here") as strict:
        response = await strict.request("GET /works", claims={**USER, "aud": audience})
        assert response.status_code == status
        assert status == 200 or response.json()["code"] == "PGRST303"
        assert (await strict.request("GET /works", claims=USER)).status_code == 200


@pytest.mark.parametrize(
    ("path", "claims"),
    [
        (".app.roles[1]", {"app": {"roles": ["x", "service_role"]}}),
        ('."https://here/role".key', {"https://here/role": {"key": "service_role"}}),
        ('.roles[?(@ == "service_role")]', {"roles": ["x", "service_role"]}),
        ('.roles[?(@ != "x")]', {"roles": ["x", "service_role"]}),
        ('.roles[?(@ ^== "serv")]', {"roles": ["x", "service_role"]}),
        ('.roles[?(@ ==^ "role")]', {"roles": ["x", "service_role"]}),
        ('.roles[?(@ *== "ice_")]', {"roles": ["x", "service_role"]}),
        (".groups[0][1:]", {"groups": ["/service_role"]}),
        (".groups[0][1:-1]", {"groups": ["/service_role/"]}),
    ],
)
async def test_the_role_is_where_the_settings_say(
    api: DataApi, path: str, claims: dict[str, Any]
) -> None:
    async with open_data_api(api.url, jwt_role_claim_key=path) as there:
        assert await there.read("/rpc/setting?name=role", claims=claims) == "service_role"
        assert await there.read("/rpc/setting?name=role", claims={"roles": 1}) == "anon"
