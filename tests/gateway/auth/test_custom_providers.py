"""Third parties that the administration registers, and sign-in through them."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.gateway.auth.api import ANON, SERVICE, Api, rejection
from tests.gateway.auth.conftest import ServeAuth
from tests.gateway.auth.third_parties import query_of, sign_in, user_of
from tests.third_parties import APP, CLIENT, SECRET, ThirdParty, browse

from amphibase.gateway.auth import public_urls
from amphibase.gateway.auth.public_urls import check_address, check_public_url

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
        "attribute_mapping": {}, "custom_claims_allowlist": [], "authorization_params": {},
        "enabled": True, "email_optional": False, "skip_nonce_check": False, "issuer": "https://8.8.8.8",
        "created_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip


@pytest.mark.usefixtures("providers")
async def test_there_are_no_more_than_the_settings_allow(serve: ServeAuth) -> None:
    api = await serve(custom_oauth_max_providers=3)
    answers = [
        await api.post(PATH, {**OAUTH, "identifier": f"custom:{name}"}, token=SERVICE)
        for name in ("third", "fourth")
    ]
    assert answers[0].status_code == 201, answers[0].text
    assert rejection(answers[1]) == (400, "over_custom_provider_quota")


@pytest.mark.usefixtures("providers")
async def test_they_send_browsers_back_to_a_url_of_their_own(serve: ServeAuth) -> None:
    api = await serve(custom_oauth_external_url="https://login.example.com/auth/v1/")
    assert (await api.post(PATH, {**OAUTH, "identifier": "custom:third"}, token=SERVICE)).is_success
    begun = await api.get(f"/authorize?provider=custom:third&redirect_to={APP}")
    back = parse_qs(urlsplit(begun.headers["location"]).query)["redirect_uri"]
    assert back == ["https://login.example.com/auth/v1/callback"]


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
        ({**OAUTH, "token_url": "https://[2002:a00:1::1]"},
         "URL cannot resolve to private network addresses"),
        ({**OPENID, "issuer": "https://169.254.169.254"},
         "URL cannot resolve to link-local addresses"),
        ({**OAUTH, "userinfo_url": "https://100.100.100.200"},
         "URL cannot resolve to addresses that are not public"),
        ({**OAUTH, "userinfo_url": "https://[64:ff9b::a00:1]"},
         "URL cannot resolve to addresses that are not public"),
        ({**OPENID, "issuer": "https://nowhere.invalid"}, "Unable to resolve hostname"),
        (OPENID, "A custom OAuth provider with this identifier already exists"),
        ({**OAUTH, "custom_claims_allowlist": ["a", " "]},
         "custom_claims_allowlist entries must be non-empty strings"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_said_and_none_is_added(
    api: Api, body: dict[str, Any], message: str
) -> None:
    response = await api.post(PATH, body, token=SERVICE)
    assert (response.status_code, response.json()["message"]) == (400, message)
    assert api.rows("SELECT count(*) FROM auth.custom_oauth_providers") == [(2,)]


@pytest.mark.usefixtures("providers")
@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"issuer": "https://10.1.1.1"}, 400, "URL cannot resolve to private network addresses"),
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
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("custom:none", "custom provider custom:none not found"),
        ("custom:forge", "OAuth2 provider custom:forge missing required endpoints"),
        ("custom:off", "custom provider custom:off is disabled"),
        (
            "custom:sealed",
            "error decrypting client secret for provider custom:sealed: "
            "database decryption keys not configured",
        ),
    ],
)
async def test_nobody_signs_in_by_one_that_is_not_complete(
    api: Api, name: str, message: str
) -> None:
    api.rows(
        "INSERT INTO auth.custom_oauth_providers"
        " (provider_type, identifier, name, client_id, client_secret, enabled)"
        " VALUES ('oidc', 'custom:off', 'Off', 'app', 'hush', false),"
        """ ('oidc', 'custom:sealed', 'Sealed', 'app', '{"key_id": "k", "data": ""}', true)"""
    )
    response = await api.get(f"/authorize?provider={name}")
    assert rejection(response) == (400, "validation_failed")
    assert response.json()["message"] == f"Unsupported provider: {message}"
    assert (await api.get(f"{PATH}?type=saml", token=SERVICE)).status_code == 400


CHECKING = ("admin_custom_providers", "external.custom", "public_urls")
"""The modules that check URLs."""


async def anywhere(url: str) -> None:
    """Stands for the check of URLs: third parties of tests are on the loopback."""


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """All names lead to public addresses when they are checked."""
    for module in CHECKING:
        monkeypatch.setattr(f"amphibase.gateway.auth.{module}.check_public_url", anywhere)


@pytest.fixture
def loopback(resolved: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_urls, "check_address", lambda address: None)


@pytest.mark.usefixtures("resolved")
async def test_nothing_is_sent_to_a_private_address_that_a_name_leads_to_later(
    serve: ServeAuth, third_party: ThirdParty
) -> None:
    api = await serve(uri_allow_list=APP)
    api.rows("DELETE FROM auth.custom_oauth_providers")
    body = {**OPENID, "issuer": third_party.url, "client_id": CLIENT, "client_secret": SECRET}
    response = await api.post(PATH, body, token=SERVICE)
    assert response.json()["message"] == "URL cannot resolve to loopback addresses"
    columns = {**OAUTH, "token_url": f"{third_party.url}/token"}
    names, values = ", ".join(columns), ", ".join(f"'{value}'" for value in columns.values())
    api.rows(f"INSERT INTO auth.custom_oauth_providers ({names}) VALUES ({values})")
    begun = await api.get(f"/authorize?provider=custom:acme&redirect_to={APP}")
    state = query_of(begun)["state"]
    back = await api.get(f"/callback?code=any&state={state}")
    assert query_of(back)["error_description"] == "URL cannot resolve to loopback addresses"
    assert third_party.paths == []


@pytest.mark.usefixtures("loopback")
async def test_users_sign_in_by_one_of_openid_connect(
    serve: ServeAuth, third_party: ThirdParty
) -> None:
    api = await serve(uri_allow_list=APP)
    api.rows("DELETE FROM auth.custom_oauth_providers")
    third_party.user["groups"] = ["staff"]
    body = {
        **OPENID, "client_id": CLIENT, "client_secret": SECRET, "issuer": third_party.url,
        "scopes": ["email"], "authorization_params": {"prompt": "login"},
        "attribute_mapping": {"nickname": "name"}, "custom_claims_allowlist": ["groups", "none"],
    }  # fmt: skip
    created = await api.post(PATH, body, token=SERVICE)
    assert created.status_code == 201, created.text
    shown = created.json()
    assert list(shown) == [
        "id", "provider_type", "identifier", "name", "client_id", "acceptable_client_ids",
        "scopes", "pkce_enabled", "attribute_mapping", "custom_claims_allowlist",
        "authorization_params", "enabled", "email_optional", "issuer", "skip_nonce_check",
        "discovery_document", "created_at", "updated_at",
    ]  # fmt: skip
    assert shown["scopes"] == ["openid", "email"]
    assert shown["discovery_document"] == {
        "issuer": third_party.url,
        "authorization_endpoint": f"{third_party.url}/authorize",
        "token_endpoint": f"{third_party.url}/token",
        "jwks_uri": f"{third_party.url}/jwks",
    }
    assert api.rows("SELECT client_secret FROM auth.custom_oauth_providers") == [(SECRET,)]
    user = await user_of(api, await sign_in(api, name="custom:ACME"))
    assert third_party.requests[0]["prompt"] == "login"
    (identity,) = user["identities"]
    assert (identity["provider"], user["app_metadata"]["providers"]) == (
        "custom:acme",
        ["custom:acme"],
    )
    assert identity["identity_data"]["nickname"] == "Ann"
    assert identity["identity_data"]["custom_claims"] == {"groups": ["staff"]}
    body = {"provider": "custom:acme", "id_token": third_party.id_token()}
    session = (await api.post("/token?grant_type=id_token", body)).json()
    assert session["user"]["id"] == user["id"]
    third_party.issuer = "https://another.example"
    again = await api.put(f"{PATH}/custom:acme", {"issuer": third_party.url}, token=SERVICE)
    assert again.json()["message"].endswith(
        f'issuer mismatch, expected "{third_party.url}" got "https://another.example"'
    )


def check_other_than_loopback(address: str) -> None:
    if address != "127.0.0.1":
        check_address(address)


@pytest.mark.parametrize("name", ["token_endpoint", "jwks_uri"])
async def test_a_configuration_leads_to_no_private_network(
    serve: ServeAuth, third_party: ThirdParty, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async def check(url: str) -> None:
        if not url.startswith(third_party.url):
            await check_public_url(url)

    for module in CHECKING:
        monkeypatch.setattr(f"amphibase.gateway.auth.{module}.check_public_url", check)
    monkeypatch.setattr(public_urls, "check_address", check_other_than_loopback)
    api = await serve(uri_allow_list=APP)
    api.rows("DELETE FROM auth.custom_oauth_providers")
    third_party.metadata[name] = "https://169.254.169.254/"
    body = {**OPENID, "issuer": third_party.url, "client_id": CLIENT, "client_secret": SECRET}
    message = "URL cannot resolve to link-local addresses"
    assert (await api.post(PATH, body, token=SERVICE)).json()["message"] == message
    third_party.metadata.clear()
    assert (await api.post(PATH, body, token=SERVICE)).status_code == 201
    begun = await api.get(f"/authorize?provider=custom:acme&redirect_to={APP}")
    third_party.metadata[name] = "https://169.254.169.254/"
    back = await api.client.get(await browse(begun.headers["location"]))
    assert query_of(back)["error_description"] == message
    if name == "jwks_uri":  # which alone an ID token needs
        grant = {"provider": "custom:acme", "id_token": third_party.id_token()}
        response = await api.post("/token?grant_type=id_token", grant)
        assert (response.status_code, response.json()["message"]) == (400, message)
    third_party.metadata[name] = 5
    changed = await api.put(f"{PATH}/custom:acme", {"issuer": third_party.url}, token=SERVICE)
    assert changed.json()["message"].endswith(f"is missing required fields: {name}")


@pytest.mark.usefixtures("loopback")
@pytest.mark.parametrize("pkce", [True, False])
async def test_users_sign_in_by_one_of_oauth(
    serve: ServeAuth, third_party: ThirdParty, pkce: bool
) -> None:
    api = await serve(uri_allow_list=APP)
    api.rows("DELETE FROM auth.custom_oauth_providers")
    body = {
        **OAUTH, "client_id": CLIENT, "client_secret": "another", "scopes": ["profile"],
        "authorization_url": f"{third_party.url}/authorize",
        "token_url": f"{third_party.url}/token", "userinfo_url": f"{third_party.url}/me",
        "pkce_enabled": pkce,
    }  # fmt: skip
    third_party.pages = {"me": {"sub": "7", "email": "ann@example.com", "email_verified": True}}
    assert (await api.post(PATH, body, token=SERVICE)).status_code == 201
    changed = await api.put(f"{PATH}/custom:acme", {"client_secret": SECRET}, token=SERVICE)
    assert changed.status_code == 200
    begun = await api.get(f"/authorize?provider=custom:acme&redirect_to={APP}&scopes=email")
    asked = parse_qs(urlsplit(begun.headers["location"]).query)
    assert (asked["scope"], "code_challenge" in asked) == (["email"], pkce)
    user = await user_of(api, await api.client.get(await browse(begun.headers["location"])))
    assert (user["email"], user["identities"][0]["id"]) == ("ann@example.com", "7")
    del third_party.pages["me"]["sub"]
    assert query_of(await sign_in(api, name="custom:acme"))["error"] == "server_error"


@pytest.mark.parametrize(
    "private",
    [
        {"discovery_url": "https://127.0.0.2/configuration"},
        {"token_url": "https://127.0.0.2/token"},
        {"userinfo_url": "https://127.0.0.2/me"},
    ],
)
async def test_what_leads_to_a_private_network_since_it_was_registered_is_not_asked(
    api: Api, private: dict[str, str]
) -> None:
    api.rows("DELETE FROM auth.custom_oauth_providers")
    columns = {**(OPENID if "discovery_url" in private else OAUTH), **private}
    if "discovery_url" not in private:
        del columns["issuer"]
    values = ", ".join(f"'{value}'" for value in columns.values())
    api.rows(f"INSERT INTO auth.custom_oauth_providers ({', '.join(columns)}) VALUES ({values})")
    response = await api.get("/authorize?provider=custom:acme")
    assert rejection(response) == (400, "validation_failed")
    assert response.json()["message"] == "URL cannot resolve to loopback addresses"


@pytest.mark.usefixtures("loopback")
async def test_the_registration_decides_what_a_client_and_a_configuration_may_say(
    serve: ServeAuth, third_party: ThirdParty
) -> None:
    api = await serve(uri_allow_list=APP)
    api.rows("DELETE FROM auth.custom_oauth_providers")
    body = {
        **OPENID, "client_id": CLIENT, "client_secret": SECRET, "issuer": third_party.url,
        "authorization_params": {"prompt": "login"},
    }  # fmt: skip
    assert (await api.post(PATH, body, token=SERVICE)).status_code == 201
    path = (
        "/authorize?provider=custom:acme&prompt=none&State=x&code_verifier=y&CLIENT_SECRET=z&hd=a"
    )
    asked = parse_qs(urlsplit((await api.get(path)).headers["location"]).query)
    assert (asked["prompt"], asked["hd"]) == (["login"], ["a"])
    assert not {"State", "code_verifier", "CLIENT_SECRET"} & asked.keys()
    third_party.issuer = "https://another.example"
    assert rejection(await api.get(path)) == (500, "unexpected_failure")
