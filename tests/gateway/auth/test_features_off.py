"""What Supabase's Auth has and this one leaves off."""

from uuid import uuid4

import pytest
from tests.gateway.auth.api import ANON, SERVICE, Api, rejection

OAUTH = (404, "feature_disabled", "OAuth server is disabled")
PASSKEYS = (404, "passkey_disabled", "Passkeys are disabled")
SCIM = (404, "feature_disabled", "SCIM server is disabled")


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/.well-known/oauth-authorization-server", OAUTH),
        ("POST", "/oauth/clients/register", OAUTH),
        ("POST", "/oauth/token", OAUTH),
        ("GET", "/oauth/userinfo", OAUTH),
        ("GET", "/admin/oauth/clients", OAUTH),
        ("DELETE", "/admin/oauth/clients/1", OAUTH),
        ("POST", "/passkeys/authentication/options", PASSKEYS),
        ("GET", "/passkeys", PASSKEYS),
        ("PATCH", "/passkeys/1", PASSKEYS),
        ("GET", "/scim/v2/Schemas", SCIM),
    ],
)
async def test_it_is_said_to_be_off(
    api: Api, method: str, path: str, expected: tuple[int, str, str]
) -> None:
    response = await api.call(method, path, token=SERVICE)
    assert (*rejection(response), response.json()["message"]) == expected


async def test_who_may_not_ask_is_told_so_first(api: Api) -> None:
    for path in ("/admin/oauth/clients", "/admin/oauth/clients/1"):
        assert (await api.get(path, token=ANON)).status_code == 403
    assert (await api.get("/user/oauth/grants")).status_code == 401
    token = (await api.sign_up())["access_token"]
    assert rejection(await api.get("/user/oauth/grants", token=token)) == OAUTH[:2]


async def test_a_user_has_no_passkeys(api: Api) -> None:
    user = (await api.create())["id"]
    assert (await api.get(f"/admin/users/{user}/passkeys", token=SERVICE)).json() == []
    missing = await api.get(f"/admin/users/{uuid4()}/passkeys", token=SERVICE)
    assert rejection(missing) == (404, "user_not_found")
