"""`/admin/custom-providers`, as by a Supabase Auth without a key for secrets in the database."""

from typing import Any

import pytest
from tests.gateway.auth.api import ANON, SERVICE, Api, rejection
from tests.gateway.auth.conftest import ServeAuth

PATH = "/admin/custom-providers"
OPENID = {
    "provider_type": "oidc",
    "identifier": "custom:acme",
    "name": "Acme",
    "client_id": "app",
    "client_secret": "hush",
    "issuer": "https://8.8.8.8",
}
OAUTH = {
    **OPENID,
    "provider_type": "oauth2",
    "authorization_url": "https://8.8.8.8/a",
    "token_url": "https://8.8.8.8/t",
    "userinfo_url": "https://8.8.8.8/u",
}
ROWS = """
    DELETE FROM auth.custom_oauth_providers;
    INSERT INTO auth.custom_oauth_providers
        (provider_type, identifier, name, client_id, client_secret, scopes, issuer, created_at)
    VALUES ('oidc', 'custom:acme', 'Acme', 'app', 'sealed', '{openid}', 'https://8.8.8.8',
        '2026-01-01');
    INSERT INTO auth.custom_oauth_providers
        (provider_type, identifier, name, client_id, client_secret, authorization_url, created_at)
    VALUES ('oauth2', 'custom:forge', 'Forge', 'app', 'sealed', 'https://8.8.8.8/a', '2026-01-02')
"""


@pytest.fixture
def providers(api: Api) -> None:
    for statement in ROWS.split(";\n"):
        api.rows(statement)


@pytest.mark.usefixtures("providers")
async def test_providers_of_a_projects_data_are_shown_without_their_secret(api: Api) -> None:
    listed = (await api.get(PATH, token=SERVICE)).json()["providers"]
    assert [each["identifier"] for each in listed] == ["custom:forge", "custom:acme"]
    (acme,) = (await api.get(f"{PATH}?type=oidc", token=SERVICE)).json()["providers"]
    shown = (await api.get(f"{PATH}/custom:acme", token=SERVICE)).json()
    assert acme == shown
    assert {name: shown[name] for name in shown if name not in ("id", "updated_at")} == {
        "provider_type": "oidc", "identifier": "custom:acme", "name": "Acme", "client_id": "app",
        "acceptable_client_ids": [], "scopes": ["openid"], "pkce_enabled": True,
        "attribute_mapping": {}, "authorization_params": {}, "enabled": True,
        "email_optional": False, "skip_nonce_check": False, "issuer": "https://8.8.8.8",
        "created_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip


@pytest.mark.usefixtures("providers")
async def test_what_is_sent_is_changed_and_the_rest_stays(api: Api) -> None:
    body = {
        "name": "Other", "scopes": ["email"], "enabled": False, "attribute_mapping": {"a": "b"},
        "authorization_params": {"prompt": "none"}, "token_url": "http://ignored",
    }  # fmt: skip
    before = (await api.get(f"{PATH}/custom:acme", token=SERVICE)).json()
    changed = (await api.put(f"{PATH}/custom:acme", body, token=SERVICE)).json()
    expected = {**before, **body, "scopes": ["openid", "email"]}
    del expected["token_url"]
    assert changed.pop("updated_at") != expected.pop("updated_at")
    assert changed == expected
    deleted = await api.delete(f"{PATH}/custom:acme", token=SERVICE)
    assert (deleted.status_code, deleted.content) == (204, b"")
    for method in ("GET", "PUT", "DELETE"):
        missing = await api.call(method, f"{PATH}/custom:acme", {}, token=SERVICE)
        assert rejection(missing) == (404, "custom_provider_not_found")


@pytest.mark.usefixtures("providers")
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "provider_type must be either 'oauth2' or 'oidc'"),
        ({"provider_type": "oidc"}, "identifier is required"),
        ({**OPENID, "identifier": "acme"},
         "identifier must start with 'custom:' prefix, e.g. 'custom:acme'"),
        ({**OPENID, "client_secret": ""}, "client_secret is required"),
        ({**OPENID, "issuer": ""}, "issuer is required for OIDC providers"),
        ({**OAUTH, "token_url": ""}, "token_url is required for OAuth2 providers"),
        ({**OPENID, "authorization_params": {"state": "x"}},
         "Cannot override reserved OAuth parameter: state"),
        ({**OPENID, "authorization_params": {"x": 1}},
         'Authorization parameter "x" must be a string'),
        ({**OPENID, "attribute_mapping": {"role": "x"}},
         "Cannot map to protected system field: role"),
        ({**OPENID, "issuer": "http://8.8.8.8"}, "URL must use HTTPS"),
        ({**OPENID, "issuer": "https://"}, "URL must have a valid hostname"),
        ({**OPENID, "issuer": "https://[::1]"},
         "URL cannot point to localhost or loopback addresses"),
        ({**OPENID, "discovery_url": "https://a.localhost"},
         "URL cannot point to localhost or loopback addresses"),
        ({**OAUTH, "jwks_uri": "https://127.1.2.3"}, "URL cannot resolve to loopback addresses"),
        ({**OAUTH, "token_url": "https://10.0.0.1"},
         "URL cannot resolve to private network addresses"),
        ({**OAUTH, "token_url": "https://[::ffff:192.168.0.1]"},
         "URL cannot resolve to private network addresses"),
        ({**OPENID, "issuer": "https://169.254.169.254"},
         "URL cannot resolve to link-local addresses"),
        ({**OPENID, "issuer": "https://nowhere.invalid"}, "Unable to resolve hostname"),
        (OPENID, "A custom OAuth provider with this identifier already exists"),
        ({**OPENID, "identifier": "custom:new"},
         "Error encrypting custom OAuth provider client secret"),
        ({**OAUTH, "identifier": "custom:new"},
         "Error encrypting custom OAuth provider client secret"),
    ],
)  # fmt: skip
async def test_none_is_added_and_what_is_wrong_is_said_first(
    api: Api, body: dict[str, Any], message: str
) -> None:
    response = await api.post(PATH, body, token=SERVICE)
    assert response.json()["message"] == message
    assert response.status_code == (500 if message.startswith("Error encrypting") else 400)


@pytest.mark.usefixtures("providers")
@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"issuer": "https://10.1.1.1"}, 400, "URL cannot resolve to private network addresses"),
        ({"client_secret": "new"}, 500, "Error encrypting custom OAuth provider client secret"),
        ({"attribute_mapping": {"id": "x"}}, 400, "Cannot map to protected system field: id"),
    ],
)
async def test_a_change_that_is_rejected_changes_nothing(
    api: Api, body: dict[str, Any], status: int, message: str
) -> None:
    before = (await api.get(f"{PATH}/custom:acme", token=SERVICE)).json()
    response = await api.put(f"{PATH}/custom:acme", {"name": "Other", **body}, token=SERVICE)
    assert (response.status_code, response.json()["message"]) == (status, message)
    assert (await api.get(f"{PATH}/custom:acme", token=SERVICE)).json() == before


async def test_they_are_for_the_administration_and_may_be_switched_off(serve: ServeAuth) -> None:
    api = await serve(custom_oauth_enabled=False)
    for method, path in (
        ("GET", PATH),
        ("POST", PATH),
        ("PUT", f"{PATH}/x"),
        ("DELETE", f"{PATH}/x"),
    ):
        assert (await api.call(method, path, {}, token=ANON)).status_code == 403
        response = await api.call(method, path, {}, token=SERVICE)
        assert rejection(response) == (404, "feature_disabled")
        assert response.json()["message"] == "Custom OAuth providers are disabled"


@pytest.mark.usefixtures("providers")
async def test_nobody_signs_in_by_one(api: Api) -> None:
    response = await api.get("/authorize?provider=custom:acme")
    assert rejection(response) == (400, "validation_failed")
    assert (await api.get(f"{PATH}?type=saml", token=SERVICE)).status_code == 400
